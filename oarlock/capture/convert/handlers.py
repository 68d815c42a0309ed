"""Which ``try`` statements of converted code are open: would one of them catch an error?"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from typing import Any

from oarlock.errors import CompilerBug, UnsupportedError

_local = threading.local()


class Steering(BaseException):
    """What a trace raises through the user's code to go another way: no handler of theirs sees it."""


class Endless(Exception):
    """A call of a function in itself, whose result is not known yet: its way ends here."""


STEERING = (Steering, Endless, UnsupportedError, CompilerBug)


class handling:
    """Around the body of a ``try``: its handlers, and where it stands."""

    __slots__ = ("ends", "frame", "types", "where")

    def __init__(self, types: Callable[[], tuple[Any, ...]], ends: bool = False) -> None:
        """Args: ends: what it catches goes no further out."""
        self.types, self.ends = types, ends
        frame = sys._getframe(1)
        self.where = (frame.f_code.co_filename, frame.f_lineno)
        self.frame: Any = frame

    def __enter__(self) -> None:
        _stack().append(self)

    def __exit__(self, *_: Any) -> None:
        _stack().pop()
        self.frame = None


class suppressing(contextlib.suppress):
    """``contextlib.suppress`` that counts as an open ``try``."""

    def __enter__(self) -> None:
        self.handler = handling(lambda: self._exceptions, True)
        self.handler.__enter__()

    def __exit__(self, *error: Any) -> Any:
        self.handler.__exit__()
        return not isinstance(error[1], STEERING) and super().__exit__(*error)


def _stack() -> list[handling]:
    if not hasattr(_local, "stack"):
        _local.stack = []
    return _local.stack


def expect(*operands: Any) -> None:
    """The code has decided that the operation on these does not fail, and goes on with it."""
    _local.expected = tuple(map(id, operands))


def expected(*operands: Any) -> bool:
    """Whether the operation that runs now is the one that was told of last."""
    found = getattr(_local, "expected", None) == tuple(map(id, operands))
    if found:
        _local.expected = None
    return found


def is_decided(operands: tuple[Any, ...]) -> bool:
    """Whether the code has decided that an operation on these does not fail."""
    found = getattr(_local, "expected", None) or ()
    return bool(operands) and found[-len(operands) :] == tuple(map(id, operands))


def depth() -> int:
    """How many handlers are open; a tracer notes it where a branch begins."""
    return len(_stack())


def catching(error: BaseException) -> list[handling]:
    """The open handlers that ``error`` would reach, the innermost first."""
    found = []
    for handler in reversed(_stack()):
        if isinstance(error, handler.types()):
            found.append(handler)
            if handler.ends:
                break
    return found


def seen_by() -> tuple[Any, ...]:
    """Classes of the errors that reach an open handler."""
    return tuple([kind for handler in _stack() for kind in handler.types()])


def open_handlers(error: BaseException) -> tuple[str, int] | None:
    """Where the innermost open ``try`` stands that would catch ``error``; None if there is none."""
    found = catching(error)
    return found[0].where if found else None
