"""The tracer that records now, if any."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import local
from typing import Any

_STATE = local()


class Captured:
    """A static function: what it holds is no state of the user's code."""


def active() -> Any:
    """The ``Tracer`` of this thread, or None."""
    return getattr(_STATE, "tracer", None)


def is_plain() -> bool:
    """What runs in this thread now is eager code that a tape is compared with."""
    return getattr(_STATE, "is_plain", False)


@contextmanager
def plainly() -> Iterator[None]:
    """Let static functions inside run as plain Python."""
    before = is_plain()
    _STATE.is_plain = True
    try:
        yield
    finally:
        _STATE.is_plain = before


@contextmanager
def activated(tracer: Any) -> Iterator[None]:
    """Make ``tracer`` the active one; None: run plain Python."""
    before = active()
    _STATE.tracer = tracer
    try:
        yield
    finally:
        _STATE.tracer = before
