"""Numbers known at run time in Python's own conversions and arithmetic."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import torch

from oarlock.capture.convert import arithmetic
from oarlock.capture.convert.state import Text
from oarlock.capture.convert.tracing import tracer
from oarlock.capture.convert.truth import (
    as_number,
    is_run_time,
    negated,
    number,
    own,
    own_truth,
    refuse_here,
    truth,
)

NUMBERS = (torch.SymInt, torch.SymFloat, torch.SymBool)


def int_(*args: Any, **options: Any) -> Any:
    if len(args) == 1 and is_run_time(args[0]):
        found = number(args[0])
        is_it = isinstance(found, (int, torch.SymInt)) and not tracer().types_of(found)
        return found if is_it else tracer().compute(int, found)
    if args and isinstance(args[0], Text) and tracer() is not None:
        return tracer().number(int, (*args, *options.values()), 1, True)
    method = _converter(args, "__int__", "__index__")
    return int(*args, **options) if method is None else method(*args)


def _converter(args: tuple, *names: str) -> Any:
    """The method of a user's object that makes it a number."""
    found = (own(args[0], name) for name in names) if len(args) == 1 else ()
    return next((method for method in found if method is not None), None)


def index(value: Any) -> Any:
    """``operator.index(value)``"""
    method = own(value, "__index__")
    return operator.index(value) if method is None else method(value)


def float_(*args: Any) -> Any:
    if len(args) == 1 and is_run_time(args[0]):
        found = number(args[0])
        is_it = isinstance(found, torch.SymFloat) and not tracer().types_of(found)
        return found if is_it else tracer().compute(float, found)
    if args and isinstance(args[0], Text) and tracer() is not None:
        return tracer().number(float, args, 1.5, True)
    method = _converter(args, "__float__", "__index__")
    return float(*args) if method is None else float_(method(*args))


def bool_(*args: Any) -> Any:
    args = tuple(map(own_truth, args))
    if len(args) == 1 and is_run_time(args[0]):
        found = truth(args[0])
        return found.item() if isinstance(found, torch.Tensor) else found
    return bool(*args)


def complex_(*args: Any, **options: Any) -> Any:
    if any(map(is_run_time, (*args, *options.values()))):
        refuse_here("complex() of a run-time value", "use torch.complex of two tensors")
    return complex(*args, **options)


def divmod_(a: Any, b: Any) -> Any:
    is_tensor = isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor)
    found = arithmetic.divided(a, b)
    if found is not NotImplemented:
        return found
    is_plain = not (is_run_time(a) or is_run_time(b))
    return divmod(a, b) if is_plain or is_tensor else (a // b, a % b)


def pow_(base: Any, exponent: Any, mod: Any = None) -> Any:
    if mod is None:
        return arithmetic.binary("**", base, exponent)
    method = own(base, "__pow__")
    if method is not None:
        return method(base, exponent, mod)
    values = (base, exponent, mod)
    return tracer().compute(pow, *values) if any(map(is_run_time, values)) else pow(*values)


def round_(value: Any, *digits: Any) -> Any:
    if isinstance(value, NUMBERS) and is_run_time(value):
        return tracer().compute(round, value, *digits)
    method = own(value, "__round__")
    return round(value, *digits) if method is None else method(value, *digits)


def abs_(value: Any) -> Any:
    if isinstance(value, NUMBERS) and is_run_time(value):
        return tracer().compute(abs, value)
    return arithmetic.unary("__abs__", value)


def not_(value: Any) -> Any:
    value = own_truth(value)
    return as_number(negated(value)) if is_run_time(value) else not value


def numeric(function: Any) -> Callable[..., Any]:
    """A pure function of numbers, computed at run time where an argument is a run-time value."""
    whole = f"__{function.__name__}__" if function in (math.floor, math.ceil, math.trunc) else ""

    def compute(*args: Any, **options: Any) -> Any:
        if not any(map(is_run_time, args)):
            method = own(args[0], whole) if args and whole else None
            return function(*args, **options) if method is None else method(*args)
        return tracer().compute(function, *map(number, args))

    return compute


MATH: dict[str, Any] = {
    name: numeric(f)
    for name, f in vars(math).items()
    if callable(f) and name not in ("frexp", "modf", "fsum", "prod", "sumprod", "dist")
}


def prod(items: Any, *, start: Any = 1) -> Any:
    found = list(items)
    if not any(map(is_run_time, found)):
        return math.prod(found, start=start)
    return functools.reduce(operator.mul, found, start)
