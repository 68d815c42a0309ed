"""The tracer that records now, if any."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import local
from typing import Any

_STATE = local()


def active() -> Any:
    """The ``Tracer`` of this thread, or None."""
    return getattr(_STATE, "tracer", None)


@contextmanager
def activated(tracer: Any) -> Iterator[None]:
    """Make ``tracer`` the active one; None: run plain Python."""
    before = active()
    _STATE.tracer = tracer
    try:
        yield
    finally:
        _STATE.tracer = before
