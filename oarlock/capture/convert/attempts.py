"""Calls inside ``try`` of functions that raise as data decide: what they give tells that they failed.

``try: y = f(x)`` / ``except E: h`` becomes ``try: t = attempt(f)(x)`` / ``if caught(t, E): raise ...`` /
``y = value_of(t)``: a ``raise`` below a decision of this function, which ``raises`` makes a jump.  The
function called gives an ``Outcome`` in place of raising, where a trace has found that it must.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import Any

import torch

from oarlock.capture.convert.state import Undefined
from oarlock.capture.convert.tracing import tracer
from oarlock.capture.convert.truth import any_of, here, is_run_time, junction, refuse_here, select

Thunk = Callable[[], Any]


@dataclass(eq=False)
class Outcome:
    """What a call gives, or why it fails.

    Args: value: where it does not; failures: for each place that raises, whether it has, and the
        ``pieces`` of the error.
    """

    value: Thunk
    failures: tuple[tuple[Any, Thunk], ...]


def outcome(value: Thunk, *failures: tuple[Any, Thunk]) -> Any:
    """What a function gives at its end, of whose failures some may have happened."""
    for has_failed, pieces in failures:
        if not is_run_time(has_failed) and has_failed:
            raise rebuilt(pieces())
    failures = tuple(x for x in failures if is_run_time(x[0]))
    return Outcome(value, failures) if failures else value()


def fails_always(*failures: tuple[Any, Thunk]) -> Any:
    """What a function gives at its end that has failed on every way."""
    *others, (_, last) = [x for x in failures if is_run_time(x[0]) or x[0]]
    if not others:
        raise rebuilt(last())
    return Outcome(lambda: None, (*others, (True, last)))


def has_failed(found: Any) -> bool:
    """Whether data decide if a call has failed."""
    return isinstance(found, Outcome)


def value_of(found: Any) -> Any:
    return found.value() if isinstance(found, Outcome) else found


# errors in pieces, which variables can carry


def pieces_of(error: Any, cause: Any = None) -> tuple[Any, ...]:
    """The pieces of an error: its class, arguments, attributes and cause."""
    if isinstance(error, type):
        error = error()
    if cause is not None:
        error.__cause__ = cause() if isinstance(cause, type) else cause
    if not isinstance(error, BaseException) or any(
        "__slots__" in vars(c) for c in type(error).__mro__
    ):
        refuse_here("an error of two classes, or with __slots__, is raised", "raise a new one")
    pieces = type(error), error.args, dict(vars(error))
    return pieces if error.__cause__ is None else (*pieces, pieces_of(error.__cause__))


def rebuilt(pieces: tuple[Any, ...] | None) -> Any:
    """An error of these pieces, one of several where data decide its class; any error for None, where
    nobody looks at it."""
    if pieces is None:
        return Exception()
    kind, args, attributes, *cause = pieces
    kinds = _classes(kind)
    if len(kinds) > 1:
        of_kind = lambda x: rebuilt((x if x in kinds else kinds[0], *pieces[1:]))  # noqa: E731
        return tracer().each(kind, of_kind)
    (kind,), args, attributes = kinds, _filled(args), _filled(attributes)
    made = kind.__new__(kind, *args)
    native = next(c for c in kind.__mro__ if c.__module__ == "builtins")
    native.__init__(made, *args)
    vars(made).update(attributes)
    if cause:
        made.__cause__ = rebuilt(cause[0])
    return made


def _filled(x: Any) -> Any:
    """Arguments or attributes, of which there are none on the ways where there is an error."""
    active = tracer()
    every = active.options(x) if active.is_choice(x) else [x]
    known = [y for y in every if not isinstance(y, Undefined)]
    return known[0] if known and not any(known) else x


# handlers


def _catches(kind: type, types: tuple[Any, ...], place: int) -> bool:
    """Whether the handler at ``place`` is the first for an error; -1: whether none is."""
    first = next((i for i, t in enumerate(types) if issubclass(kind, t)), -1)
    return first == place


def _caught(found: Any, types: tuple[Any, ...], place: int) -> list[tuple[Any, Thunk]]:
    return [x for x in found.failures if _may_catch(x[1]()[0], types, place) is not False]


def _may_catch(kind: Any, types: tuple[Any, ...], place: int) -> Any:
    found = {_catches(one, types, place) for one in _classes(kind)}
    if len(found) == 1:
        return found.pop()
    is_class = lambda one: isinstance(one, type) and _catches(one, types, place)  # noqa: E731
    return tracer().each(kind, is_class)


def _classes(kind: Any) -> list[type]:
    """Those that the class of an error may be; where it failed it is one."""
    every = tracer().options(kind) if tracer().is_choice(kind) else [kind]
    return [x for x in every if isinstance(x, type)]


def caught(found: Outcome, types: tuple[Any, ...], place: int) -> Any:
    """Whether a call has failed by an error for which the handler at ``place`` is the first."""

    def test(failed: Any, pieces: Thunk) -> Any:
        catches = _may_catch(pieces()[0], types, place)
        return junction(failed, (lambda: catches,), False, here(), True)

    each = _caught(found, types, place)
    return any_of(lambda x=x: test(*x) for x in each)


def pieces(found: Outcome, types: tuple[Any, ...], place: int) -> tuple[Any, ...]:
    """Of the error that the handler at ``place`` catches."""
    *first, (_, last) = _caught(found, types, place)
    for failed, one in reversed(first):
        last = functools.partial(select, failed, one, last, here())
    return last()


class Thrown(Exception):
    """Carries one of several errors to a handler."""

    def __init__(self, held: Any) -> None:
        super().__init__()
        self.held = held


def one_error(error: Any) -> Any:
    """An error, or class of it, of which data do not decide the class."""
    if tracer() is not None and tracer().is_choice(error):
        refuse_here("data decide the class of an error that is raised", "raise each by itself")
    return error() if isinstance(error, type) else error


def thrown(error: Any) -> BaseException:
    """What to raise for ``error``."""
    return error if isinstance(error, BaseException) else Thrown(error)


def held_error(error: BaseException) -> Any:
    """What a handler gets for what was raised."""
    return error.held if isinstance(error, Thrown) else error


def matches(error: BaseException, types: tuple[Any, ...]) -> bool:
    return any(isinstance(error, t) for t in types)


# calls


def attempt(function: Any) -> Any:
    """What to call in place of ``function`` inside ``try``: it may give an ``Outcome``."""
    from oarlock.capture.convert.calls import call

    active = tracer()
    if active is None or not active.failing.codes:
        return call(function)
    if function is next:
        return _attempt_next
    made = _attempted(active, function)
    return call(function) if made is None else made


def _attempted(active: Any, function: Any) -> Any:
    from oarlock.capture.convert.calls import call_of
    from oarlock.capture.convert.modules import is_hooked, with_forward

    if isinstance(function, functools.partial):
        made = _attempted(active, function.func)
        return made and functools.partial(made, *function.args, **function.keywords)
    if isinstance(function, FunctionType):
        return failing_form(active, function)
    if isinstance(function, MethodType) and isinstance(function.__func__, FunctionType):
        made = failing_form(active, function.__func__)
        return made and MethodType(made, function.__self__)
    if isinstance(function, torch.nn.Module):
        forward = type(function).forward
        is_own = type(forward) is FunctionType and "forward" not in vars(function)
        if (
            not is_own
            or is_hooked(function)
            or call_of(type(function)) is not call_of(torch.nn.Module)
        ):
            return None
        made = failing_form(active, forward)
        return made and functools.partial(with_forward, function, MethodType(made, function))
    if isinstance(function, type):
        return _constructor(active, function)
    method = call_of(type(function))
    if not isinstance(method, FunctionType):
        return None
    made = failing_form(active, method)
    return made and MethodType(made, function)


def _constructor(active: Any, cls: type) -> Any:
    from oarlock.capture.convert.calls import new

    init = cls.__init__
    is_plain = type(cls) is type and cls.__new__ is object.__new__
    if not is_plain or type(init) is not FunctionType:
        return None
    made = failing_form(active, init)
    if made is None:
        return None

    def construct(*args: Any, **options: Any) -> Any:
        found = new(cls.__new__(cls))
        end = made(found, *args, **options)
        return Outcome(lambda: found, end.failures) if isinstance(end, Outcome) else found

    return construct


def failing_form(active: Any, function: FunctionType, is_asked: bool = False) -> Any:
    """``function``, converted to give an ``Outcome`` where it raises as data decide; None where it
    can't be, or no trace has found that it does."""
    from oarlock.capture.convert.calls import followed
    from oarlock.capture.convert.convert import converted_or_same, failing_form_of

    plain = converted_or_same(function)
    if not is_asked and plain.__code__ not in active.failing.codes:
        return None
    if plain.__code__ in active.recursive.codes:
        return None
    made = failing_form_of(function)
    return None if made is None else followed(function, plain, made)


def attempt_item(owner: Any, key: Any) -> Any:
    """``owner[key]``, or an ``Outcome``."""
    from oarlock.capture.convert.sequences import item

    active = tracer()
    method = getattr(type(owner), "__getitem__", None)
    if active is not None and active.failing.codes and type(method) is FunctionType:
        made = failing_form(active, method)
        if made is not None:
            return made(owner, key)
    return item(owner, key)


def _attempt_next(items: Any, *default: Any) -> Any:
    from oarlock.capture.convert.iterating import next_

    method = getattr(type(items), "__next__", None)
    made = failing_form(tracer(), method) if type(method) is FunctionType else None
    return next_(items, *default) if made is None or default else made(items)
