"""Copies of objects with other attributes."""

from __future__ import annotations

import copy
from typing import Any


def rebuilt(like: Any, values: dict[str, Any]) -> Any:
    """A copy of object ``like`` with other attributes."""
    new = copy.copy(like)
    for name, value in values.items():
        object.__setattr__(new, name, value)
    return new
