"""Python arithmetic on numbers known at run time, in both worlds."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable
from typing import Any

from oarlock.capture.convert.handlers import is_decided, open_handlers
from oarlock.capture.tape.lines import user_line
from oarlock.capture.tape.numbers import Number
from oarlock.errors import UnsupportedError

_NO_DATA = (ZeroDivisionError, OverflowError, ValueError)


def differing(value: Any, seen: tuple[Any, Any]) -> Any:
    """Another value that was seen."""
    return next((x for x in reversed(seen) if x != value), value + 1)


def in_both_worlds(op: Callable[..., Any], args: tuple, is_data: bool) -> tuple[Any, Any]:
    """The result for the values of both worlds."""

    def at(world: str, number: Any = None) -> Any:
        plain = [getattr(x, world) if isinstance(x, Number) else x for x in args]
        if number is not None:
            pairs = zip(args, plain)
            plain = [
                type(p)(number) if isinstance(x, Number) and x.is_data else p for x, p in pairs
            ]
        return op(*plain)

    try:
        first = at("hint")
    except _NO_DATA as error:
        first = _elsewhere(error, at, op, args, is_data)
    try:
        second = at("other")
    except _NO_DATA as error:
        second = first
        if not is_data:
            _refuse_caught(error, args)
    if op is operator.sub and type(first) is int and first <= 0 and all(map(_is_of_data, args)):
        return 2, 3  # a length, as of a slice between the two (worlds.opened)
    return first, second if type(second) is type(first) else first


def _elsewhere(
    error: Exception, at: Callable[..., Any], op: Callable[..., Any], args: tuple, is_data: bool
) -> Any:
    """The value of the other world, or one for other numbers, where the code goes on without this
    error: a decision may keep what fails here from running, and at run time it fails by itself."""
    if is_data:
        with contextlib.suppress(*_NO_DATA):
            return at("hint", 1)
    _refuse_caught(error, args)
    with contextlib.suppress(*_NO_DATA):
        return at("other")
    plain = [type(x.hint)(1) if isinstance(x, Number) else x for x in args]
    try:
        return op(*plain)
    except _NO_DATA:
        raise error from None


def _refuse_caught(error: Exception, args: tuple) -> None:
    """Raises: UnsupportedError where code goes on after an error that comes for some sizes only."""
    of_sizes = any(isinstance(x, Number) and not x.is_data for x in args)
    if of_sizes and open_handlers(error) is not None and not is_decided(args):
        raise UnsupportedError(
            f"{user_line()}: {type(error).__name__} comes for some sizes or numbers, and is caught "
            f"({error}); decide with `if` on what it depends on"
        ) from error


def _is_of_data(x: Any) -> bool:
    return isinstance(x, Number) and x.is_data
