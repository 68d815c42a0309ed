"""Truth of run-time values, and choices between values by it."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any, NoReturn

import torch

from oarlock.capture.convert.data_classes import written
from oarlock.capture.convert.problems import NotConvertible, Problem
from oarlock.capture.convert.state import State, Text, Undefined
from oarlock.capture.convert.tracing import at_key, is_proxy, is_table, tracer

Thunk = Callable[[], Any]
_PLAIN = frozenset(
    {bool, int, float, str, list, tuple, dict, set, type(None), range, type, complex}
)
_HERE = __file__.rpartition("/")[0]


def is_run_time(value: Any) -> bool:
    """Whether a tracer is active and the value is known only when its tape runs."""
    if type(value) in _PLAIN:
        return False
    active = tracer()
    return active is not None and active.is_symbolic(value)


def truth(value: Any) -> Any:
    """The truth of a run-time value: a SymBool, or a bool tensor of no axes."""
    if isinstance(value, torch.Tensor):
        return _truth_of_tensor(value)
    if isinstance(value, bool):
        return value
    if tracer().may_be_none(value):
        return tracer().number(bool, (value,), True, True)
    if isinstance(value, torch.SymBool):
        return value
    if is_proxy(value):
        return value.run_time_length() != 0
    if tracer().is_choice(value):
        return tracer().truth_of(value)
    return value != 0


def _truth_of_tensor(value: torch.Tensor) -> torch.Tensor:
    if tracer().is_of_two_types(value):  # it may have no size
        return tracer().number(bool, (value,), True, True)
    count = value.numel()
    if isinstance(count, int) and count != 1:
        what = "more than one value" if count else "no values"
        raise RuntimeError(f"Boolean value of Tensor with {what} is ambiguous")
    if not isinstance(count, int):
        return tracer().number(bool, (value,), True, True)
    if value.dim():
        value = value.reshape(())
    return value if value.dtype is torch.bool else value != 0


def own_truth(value: Any) -> Any:
    """An object's own ``__bool__``, converted; any other value as it is."""
    if type(value) in _PLAIN or tracer() is None:
        return value
    if isinstance(value, Text):
        return value.asked(bool)
    method = special(value, "__bool__")
    if method is None and not hasattr(type(value), "__bool__"):
        method = special(value, "__len__")
    return value if method is None else method(value)


def truth_of(value: Any) -> Any:
    """``bool(value)``"""
    found = own_truth(value)
    return truth(found) if is_run_time(found) else bool(found)


def special(owner: Any, name: str) -> Any:
    """A special method that the class of a user's object defines in Python, converted; or None."""
    from oarlock.capture.convert.convert import converted_or_same

    if isinstance(owner, (torch.Tensor, torch.SymInt, torch.SymFloat)):
        return None
    method = getattr(type(owner), name, None)
    if type(method) is not FunctionType:
        return None
    method = written(type(owner), name, method)
    made = converted_or_same(method)
    if made is method:
        return None
    active = tracer()
    if active is None:
        return made
    active.code.method(type(owner), name)
    return active.code.runs(method, made)


def own(owner: Any, name: str) -> Any:
    """``special`` while a trace runs, for what is no plain value."""
    return None if type(owner) in _PLAIN or tracer() is None else special(owner, name)


def negated(value: Any) -> Any:
    """``not value`` for a run-time value."""
    found = truth(value)
    if isinstance(found, torch.Tensor):
        return torch.logical_not(found)
    return tracer().compute(operator.not_, found) if is_run_time(found) else not found


def as_number(value: Any) -> Any:
    """A truth as Python has it, which is no tensor."""
    if not isinstance(value, torch.Tensor) or not is_run_time(value):
        return value
    if tracer().is_of_two_types(value):
        return tracer().number(bool, (value,), True, True)
    return value.item()


def number(value: Any) -> Any:
    """A run-time tensor of one element, which may be a number on some way, as a run-time number."""
    if not isinstance(value, torch.Tensor):
        return value
    active = tracer()
    if active is None or not active.is_of_two_types(value):
        return value.item()
    hint = True if value.dtype == torch.bool else 0.5 if value.dtype.is_floating_point else 1
    found = active.number(plain, (value,), hint, True)
    found.val.loose |= {"type"}
    return found


def plain(value: Any) -> Any:
    return value.item() if isinstance(value, torch.Tensor) else value


def select(test: Any, then: Thunk, orelse: Thunk, state: State) -> Any:
    """``then() if test else orelse()``"""
    if not is_run_time(test):
        return then() if test else orelse()
    cell: list[Any] = [Undefined("value")]

    def put(thunk: Thunk) -> Thunk:
        def run() -> None:
            cell[0] = thunk()

        return run

    tracer().if_(truth(test), put(then), put(orelse), state.with_cell("value", cell))
    return cell[0]


def junction(value: Any, rest: tuple, stop: bool, state: State, as_truth: bool) -> Any:
    """``and`` (stop at False) or ``or`` (stop at True); later operands are evaluated only if needed."""
    while rest:
        test = own_truth(value)
        if is_run_time(test):
            return _choice(test, value, rest, stop, state, as_truth)
        if bool(test) is stop:
            return test if as_truth else value
        value, rest = rest[0](), rest[1:]
    if not as_truth:
        return value
    value = own_truth(value)
    return truth(value) if is_run_time(value) else bool(value)


def _choice(test: Any, value: Any, rest: tuple, stop: bool, state: State, as_truth: bool) -> Any:
    def more() -> Any:
        return junction(rest[0](), rest[1:], stop, state, as_truth)

    def done() -> Any:
        return stop if as_truth else value

    return select(test, done, more, state) if stop else select(test, more, done, state)


def contains(item: Any, items: Any) -> Any:
    """``item in items``"""
    active = tracer()
    if active is None:
        return item in items
    if is_table(items):
        return items.has(item)
    with at_key(items):
        return _contains(active, item, items)


def _contains(active: Any, item: Any, items: Any) -> Any:
    if active.is_choice(items):
        return active.each(items, lambda x: contains(item, x))
    active.journal.used(items)
    active.journal.keyed(item)
    active.code.has(items, item)
    if isinstance(items, torch.Tensor):
        return (
            (items == item).any()
            if active.is_symbolic(items) or is_run_time(item)
            else item in items
        )
    if isinstance(items, range) and is_run_time(item):
        return _in_range(item, items)
    if is_proxy(items):
        if not isinstance(items, list):
            refuse_here("`in` of a sequence of run-time length", "loop over it and compare")
        return active.number(holds, (items, item), True, True)
    if isinstance(items, Text) or (isinstance(items, str) and isinstance(item, Text)):
        return active.number(holds, (items, item), True, True)
    method = special(items, "__contains__")
    if method is not None:
        return method(items, item)
    if isinstance(items, dict) and not _is_known_later(item):
        active.uses(items, item)
        missing = item in items and active.is_missing(dict.__getitem__(items, item))
        return item in items if missing is False else negated(missing)
    active.uses(items)
    by_value = isinstance(items, (list, tuple, set, frozenset, dict)) and _is_known_later(item)
    is_known = by_value and not getattr(item, "is_data", True)
    if (
        is_known
        and isinstance(items, (set, frozenset, dict))
        and all(type(x) is int for x in items)
    ):
        return active.compute(holds, tuple(items), item)
    from oarlock.capture.convert.arithmetic import compare, is_told
    from oarlock.capture.convert.sequences import own_items

    if by_value or (isinstance(items, (list, tuple)) and (is_told(items) or is_told(item))):
        return any_of(lambda x=x: x is item or compare("==", x, item) for x in items)
    found = own_items(items)
    if found is not items and not is_proxy(found):
        return any_of(lambda x=x: x is item or compare("==", x, item) for x in found)
    return item in items


def _is_known_later(x: Any) -> bool:
    return isinstance(x, Text) or is_run_time(x)


def holds(items: Any, item: Any) -> bool:
    return item in items


def _in_range(item: Any, items: range) -> Any:
    low, high = sorted((items.start, items.stop - (1 if items.step > 0 else -1)))
    tests = (
        lambda: item >= low,
        lambda: item <= high,
        lambda: (item - items.start) % items.step == 0,
    )
    if not items:
        return False
    return junction(tests[0](), tests[1:], False, here(), True)


def any_of(tests: Any) -> Any:
    """Whether one of these thunks gives a true value; stops there."""
    tests = list(tests)
    return junction(tests[0](), tuple(tests[1:]), True, here(), True) if tests else False


def here() -> State:
    """No variables, at the line of the user's code that is running."""
    return State((), tuple, lambda _: None, user_line())  # type: ignore[arg-type]


def user_line() -> tuple[str, int]:
    """File and line of the innermost frame that is not of this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_HERE):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


def refuse_here(reason: str, rewrite: str) -> NoReturn:
    """Raises: NotConvertible at the user's line."""
    raise NotConvertible(Problem(user_line(), reason, rewrite))
