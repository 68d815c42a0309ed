"""Operators and comparisons of objects of the user, whose classes define them in Python."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import torch

from oarlock.capture.convert.tracing import tracer
from oarlock.capture.convert.truth import (
    as_number,
    here,
    is_run_time,
    negated,
    number,
    own_truth,
    select,
    special,
)

_UPDATES: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.iadd,
    "-": operator.isub,
    "*": operator.imul,
    "/": operator.itruediv,
    "//": operator.ifloordiv,
    "%": operator.imod,
    "**": operator.ipow,
    "@": operator.imatmul,
    "<<": operator.ilshift,
    ">>": operator.irshift,
    "&": operator.iand,
    "|": operator.ior,
    "^": operator.ixor,
}
_NAMES = {sign: op.__name__[1:] for sign, op in _UPDATES.items()}
_PLAIN: dict[str, Callable[[Any, Any], Any]] = {
    sign: getattr(operator, f"__{name}__") for sign, name in _NAMES.items()
}
COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "is": operator.is_,
    "is not": operator.is_not,
}
_REFLECTED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_UNARY = ("neg", "pos", "invert", "abs")
_ROWS = (list, tuple)
_NATIVE = (torch.Tensor, int, float, str, bool)


def binary(sign: str, left: Any, right: Any) -> Any:
    """``left sign right``"""
    if tracer() is None or (type(left) in _NATIVE and type(right) in _NATIVE):
        return _PLAIN[sign](left, right)
    if sign == "*" and (found := _repeated(left, right)) is not None:
        return found
    found = _by_objects(functools.partial(binary, sign), left, right)
    if found is not NotImplemented:
        return found
    name = _NAMES[sign]
    forward, reflected = special(left, f"__{name}__"), special(right, f"__r{name}__")
    if forward is None and reflected is None:
        return _PLAIN[sign](left, right)
    ways = [
        lambda: _try(forward, f"__{name}__", left, right),
        lambda: _try(reflected, f"__r{name}__", right, left),
    ]
    found = _first(ways, left, right, reflected)
    return _PLAIN[sign](left, right) if found is NotImplemented else found  # the error of Python


def _by_objects(do: Callable[..., Any], *operands: Any) -> Any:
    """``do(*operands)``, apart for each of the user's objects that an operand is one of; else
    NotImplemented."""
    active = tracer()
    at = next((i for i, x in enumerate(operands) if active.is_one_of_objects(x)), None)
    if at is None:
        return NotImplemented
    return active.each(operands[at], lambda y: do(*operands[:at], y, *operands[at + 1 :]))


def divided(left: Any, right: Any) -> Any:
    """``divmod(left, right)`` by what their classes define in Python; else NotImplemented."""
    forward, reflected = (special(*x) for x in ((left, "__divmod__"), (right, "__rdivmod__")))
    if tracer() is None or (forward is None and reflected is None):
        return NotImplemented
    ways = [
        lambda: _try(forward, "__divmod__", left, right),
        lambda: _try(reflected, "__rdivmod__", right, left),
    ]
    return _first(ways, left, right, reflected)


def _first(ways: list[Callable[[], Any]], left: Any, right: Any, reflected: Any) -> Any:
    """What the first of two operands that knows an operator says; a subclass on the right is first."""
    if type(left) is not type(right) and isinstance(right, type(left)) and reflected is not None:
        ways.reverse()
    for way in ways:
        found = way()
        if found is not NotImplemented:
            return found
    return NotImplemented


def compared(sign: str, left: Any, right: Any) -> Any:
    """``left sign right``"""
    if sign not in _REFLECTED or (type(left) in _NATIVE and type(right) in _NATIVE):
        return COMPARISONS[sign](left, right)
    found = by_methods(sign, left, right)
    if found is not NotImplemented:
        return found
    if sign in ("==", "!=") and (left is None or right is None):
        return _with_nothing(sign, left if right is None else right)
    return COMPARISONS[sign](left, right)


def _with_nothing(sign: str, value: Any) -> Any:
    """``value == None`` or ``value != None``"""
    if not is_run_time(value):
        return COMPARISONS[sign](value, None)
    found = tracer().is_(value, None)
    if sign == "==":
        return found
    return as_number(negated(found)) if is_run_time(found) else not found


def by_methods(sign: str, left: Any, right: Any) -> Any:
    """``left sign right`` by what their classes define in Python; NotImplemented where none does."""
    if tracer() is None:
        return NotImplemented
    found = _by_objects(functools.partial(compared, sign), left, right)
    if found is not NotImplemented:
        return found
    other = _REFLECTED[sign]
    forward, reflected = _comparison(left, sign), _comparison(right, other)
    if forward is None and reflected is None:
        return NotImplemented
    ways = [
        lambda: _try(forward, _method(sign), left, right),
        lambda: _try(reflected, _method(other), right, left),
    ]
    return _first(ways, left, right, reflected)


def _method(sign: str) -> str:
    return f"__{COMPARISONS[sign].__name__}__"


def _comparison(owner: Any, sign: str) -> Any:
    """The method for a comparison; ``!=`` is what ``==`` is not where the class does not tell."""
    method = special(owner, _method(sign))
    if method is None and sign == "!=" and type(owner).__ne__ is object.__ne__:
        equal = special(owner, "__eq__")
        return equal and (lambda a, b: _inverted(equal(a, b)))
    return method


def _inverted(found: Any) -> Any:
    if found is NotImplemented:
        return found
    found = own_truth(found)
    return as_number(negated(found)) if is_run_time(found) else not found


def compare(sign: str, left: Any, right: Any) -> Any:
    """``left sign right``; tuples, lists and dicts by items where one is compared at run time."""
    if tracer() is None or type(left) in _NATIVE:
        return compared(sign, left, right)
    if sign in _REFLECTED and are_rows(left, right) and (is_told(left) or is_told(right)):
        return compare_items(sign, list(left), list(right))
    is_equality = sign in ("==", "!=") and type(left) is dict is type(right)
    if is_equality and (is_told(left) or is_told(right)):
        return _compare_dicts(sign, left, right)
    return compared(sign, left, right)


def _compare_dicts(sign: str, left: dict[Any, Any], right: dict[Any, Any]) -> Any:
    for x in (left, right):
        tracer().uses(x)
    if left.keys() != right.keys():
        return sign == "!="
    return compare_items(sign, list(left.values()), [right[key] for key in left])


def are_rows(*values: Any) -> bool:
    """Lists, or tuples, whose lengths are known."""
    kinds = {
        list if isinstance(x, list) else tuple if isinstance(x, tuple) else None for x in values
    }
    return len(kinds) == 1 and None not in kinds and not any(map(is_run_time, values))


def is_told(x: Any) -> bool:
    """A value of the run, or one whose class compares it in Python, is it or inside."""
    return _any_inside(x, lambda y: is_run_time(y) or _compares(y))


def is_told_by_class(x: Any) -> bool:
    """One whose class compares it in Python is it or inside."""
    return _any_inside(x, _compares)


def _any_inside(x: Any, test: Callable[[Any], bool]) -> bool:
    if isinstance(x, _ROWS) and not is_run_time(x):
        return any(_any_inside(y, test) for y in x)
    if type(x) is dict:
        return any(_any_inside(y, test) for y in x.values())
    return test(x)


def _compares(x: Any) -> bool:
    if is_run_time(x):
        active = tracer()
        return active.is_one_of_objects(x) and any(map(_compares, active.options(x)))
    return special(x, "__eq__") is not None or special(x, "__lt__") is not None


def _same(a: Any, b: Any) -> Any:
    if is_run_time(a) or is_run_time(b):
        return compared("==", a, b)
    return a is b or own_truth(compare("==", a, b))


def compare_items(sign: str, left: list[Any], right: list[Any]) -> Any:
    """Two sequences, as Python compares them: by the first items that differ."""
    for a, b in zip(left, right):
        same = _same(a, b)
        if not is_run_time(same) and same:
            left, right = left[1:], right[1:]
            continue

        def last(a: Any = a, b: Any = b) -> Any:
            return sign == "!=" if sign in ("==", "!=") else compare(sign, a, b)

        def rest(left: list[Any] = left[1:], right: list[Any] = right[1:]) -> Any:
            return compare_items(sign, left, right)

        return select(same, rest, last, here())
    return COMPARISONS[sign](len(left), len(right))


def _repeated(left: Any, right: Any) -> Any:
    """A text or tuple, as often as a number of the run says; None for other values."""
    for items, times in ((left, right), (right, left)):
        if type(items) not in (str, tuple) or not is_run_time(times):
            continue
        times = number(times)
        if isinstance(times, torch.SymBool):
            times = tracer().compute(int, times)
        if not isinstance(times, torch.SymInt):
            return None
        if isinstance(items, str):
            return tracer().texts.made(operator.mul, items, times)
        return tracer().lists.spread(tuple, [tracer().list_(items) * times])
    return None


def _try(method: Any, name: str, owner: Any, other: Any) -> Any:
    if method is not None:
        return method(owner, other)
    native = getattr(type(owner), name, None)
    return NotImplemented if native is None else native(owner, other)


def unary(name: str, value: Any) -> Any:
    """``-value``, ``+value`` or ``~value``, by the name of the operator."""
    if tracer() is None or type(value) in _NATIVE:
        return getattr(operator, name)(value)
    found = _by_objects(functools.partial(unary, name), value)
    if found is not NotImplemented:
        return found
    method = special(value, name)
    return getattr(operator, name)(value) if method is None else method(value)


def update(sign: str, value: Any, other: Any) -> Any:
    """``value sign= other``"""
    active = tracer()
    if active is None:
        return _UPDATES[sign](value, other)
    if type(value) not in _NATIVE:
        active.code.changes(value)
        method = special(value, f"__i{_NAMES[sign]}__")
        found = NotImplemented if method is None else method(value, other)
        if found is not NotImplemented:
            return found
        if special(value, f"__{_NAMES[sign]}__") is not None:
            return binary(sign, value, other)
    return active.update(_UPDATES[sign], value, other)


FUNCTIONS: dict[Any, Callable[..., Any]] = {
    **{op: functools.partial(binary, sign) for sign, op in _PLAIN.items()},
    **{op: functools.partial(update, sign) for sign, op in _UPDATES.items()},
    **{COMPARISONS[sign]: functools.partial(compare, sign) for sign in _REFLECTED},
    **{getattr(operator, name): functools.partial(unary, f"__{name}__") for name in _UNARY},
}
