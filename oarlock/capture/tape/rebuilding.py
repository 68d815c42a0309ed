"""Copies of objects with other attributes."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

from oarlock.capture.slots import attributes_of


def own_attributes(x: dict[Any, Any]) -> dict[str, Any]:
    """What an object of a subclass of dict holds beside its items; some show items as attributes."""
    held = attributes_of(x)
    return {k: v for k, v in held.items() if k not in x or dict.__getitem__(x, k) is not v}


def refilled(like: dict[Any, Any], items: dict[Any, Any], own: dict[str, Any]) -> Any:
    """A copy of an object of a subclass of dict with other items, and attributes beside them."""
    new = copy.copy(like)
    shown = [key for key in attributes_of(like) if key in items and key not in own]
    for key, value in items.items():
        plain(new).__setitem__(new, key, value)
    for name, value in (own | {key: items[key] for key in shown}).items():
        object.__setattr__(new, name, value)
    return new


def plain(x: dict[Any, Any]) -> type[dict[Any, Any]]:
    """The class whose methods reach the items themselves, whatever the class of ``x`` overrides."""
    return OrderedDict if isinstance(x, OrderedDict) else dict


def rebuilt(like: Any, values: dict[str, Any]) -> Any:
    """A copy of object ``like`` with other attributes."""
    new = copy.copy(like)
    for name, value in values.items():
        object.__setattr__(new, name, value)
    return new
