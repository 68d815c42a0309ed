"""Operators on objects of the user, whose classes define them in Python."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch

from oarlock.capture.convert.tracing import tracer
from oarlock.capture.convert.truth import is_run_time, number, special

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
_NATIVE = (torch.Tensor, int, float, str, bool)


def binary(sign: str, left: Any, right: Any) -> Any:
    """``left sign right``"""
    if tracer() is None or (type(left) in _NATIVE and type(right) in _NATIVE):
        return _PLAIN[sign](left, right)
    if sign == "*" and (found := _repeated(left, right)) is not None:
        return found
    name = _NAMES[sign]
    forward, reflected = special(left, f"__{name}__"), special(right, f"__r{name}__")
    if forward is None and reflected is None:
        return _PLAIN[sign](left, right)
    ways = [
        lambda: _try(forward, f"__{name}__", left, right),
        lambda: _try(reflected, f"__r{name}__", right, left),
    ]
    if type(left) is not type(right) and isinstance(right, type(left)) and reflected is not None:
        ways.reverse()
    for way in ways:
        found = way()
        if found is not NotImplemented:
            return found
    return _PLAIN[sign](left, right)  # raises the error of Python


def _repeated(left: Any, right: Any) -> Any:
    """A text or tuple, as often as a number of the run says; None for other values."""
    for items, times in ((left, right), (right, left)):
        if type(items) not in (str, tuple) or not is_run_time(times):
            continue
        times = number(times)
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
    method = None if tracer() is None or type(value) in _NATIVE else special(value, name)
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
