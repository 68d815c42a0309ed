"""Values that are one of several Python objects: texts, modules, functions, nothing."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from oarlock.capture.convert.state import Undefined
from oarlock.capture.lowering.kinds import Either, Maybe, Truth, is_symbolic, kind_of
from oarlock.capture.lowering.scalars import DTYPES
from oarlock.capture.tape import runtime
from oarlock.ir import Value, bool_, f64, i64

_NO_OBJECTS = (torch.Tensor, Maybe, Either, Truth, bool, int, float, tuple, list)


@dataclass(frozen=True, eq=False)
class Pick:
    """The one of ``options`` at ``place``, i64[]."""

    place: Value
    options: tuple[Any, ...]


def is_object(x: Any) -> bool:
    """Nothing, a Python object, or one of several; a tensor, number or sequence is none."""
    return isinstance(x, Pick) or not (
        isinstance(x, _NO_OBJECTS) or is_symbolic(x) or hasattr(x, "stacks")
    )


def are_objects(*values: Any) -> bool:
    """One of several objects, not all of them nothing."""
    nothing = (x is None or isinstance(x, Undefined) for x in values)
    return all(map(is_object, values)) and not all(nothing)


def same(a: Any, b: Any) -> bool:
    """Two options are one."""
    both = type(a) is type(b)
    return a is b or (both and isinstance(a, Undefined)) or (both and type(a) is str and a == b)


def options_of(values: Iterable[Any]) -> tuple[Any, ...]:
    """All objects that some values may be, each once."""
    found: list[Any] = []
    for x in values:
        for option in x.options if isinstance(x, Pick) else (x,):
            if not any(same(option, other) for other in found):
                found.append(option)
    return tuple(found)


def place_of(r: Any, x: Any, options: Sequence[Any]) -> Value:
    """Where ``x`` is among ``options``, in the innermost graph."""
    own = x.options if isinstance(x, Pick) else (x,)
    places = [next(i for i, o in enumerate(options) if same(o, mine)) for mine in own]
    if not isinstance(x, Pick):
        return r.b.const(places[0], i64)
    if places == list(range(len(places))):
        return r.b.frame.local(x.place)
    return _chosen(r, r.b.frame.local(x.place), places, i64)


def _chosen(r: Any, place: Value, values: Sequence[Any], dtype: Any) -> Value:
    """The constant of ``values`` at ``place``."""
    found = r.b.const(values[-1], dtype)
    for i, value in reversed(list(enumerate(values[:-1]))):
        found = r.b.where(r.b.eq(place, i), r.b.const(value, dtype), found)
    return found


def _any(r: Any, tests: Sequence[Value]) -> Value:
    if not tests:
        return r.b.const(False, bool_)
    return functools.reduce(r.b.bit_or, tests)


def apply(r: Any, func: Callable[..., Any], args: Sequence[Any]) -> Any:
    """``func(*args)``, where some arguments are one of several objects and the rest is known.

    Raises: NotImplementedError where the rest is known at run time only.
    """
    if func in (runtime.bound, runtime.attribute):
        return _expect(r, func, args)
    picks = [x for x in args if isinstance(x, Pick)]
    if any(isinstance(x, (torch.Tensor, Maybe, Either)) or is_symbolic(x) for x in args):
        raise NotImplementedError("a call with one of several objects, which data decide")
    ways, results = [], []
    for places in itertools.product(*(range(len(p.options)) for p in picks)):
        chosen = iter([p.options[i] for p, i in zip(picks, places)])
        ways.append(functools.reduce(
            r.b.bit_and, [r.b.eq(r.b.frame.local(p.place), i) for p, i in zip(picks, places)]
        ))  # fmt: skip
        results.append(func(*(next(chosen) if isinstance(x, Pick) else x for x in args)))
    return _one_of(r, ways, results)


def _one_of(r: Any, ways: Sequence[Value], results: Sequence[Any]) -> Any:
    """The result of the way that is taken."""
    if all(isinstance(x, bool) for x in results):
        if len(set(results)) == 1:
            return results[0]
        return Truth(_any(r, [way for way, x in zip(ways, results) if x]))
    if all(isinstance(x, (int, float)) for x in results):
        dtype = f64 if any(kind_of(x) is float for x in results) else DTYPES[int]
        number = r.b.const(results[-1], dtype)
        for way, x in zip(ways[:-1], results):
            number = r.b.where(way, r.b.const(x, dtype), number)
        return r.scalars.number(number)
    options = options_of(results)
    if len(options) == 1:
        return options[0]
    places = [next(i for i, o in enumerate(options) if same(o, x)) for x in results]
    place = r.b.const(places[-1], i64)
    for way, x in zip(ways[:-1], places):
        place = r.b.where(way, r.b.const(x, i64), place)
    return Pick(place, options)


def _expect(r: Any, func: Callable[..., Any], args: Sequence[Any]) -> None:
    """An assertion that a variable or attribute has a value."""
    pick, *names = args
    for i, option in enumerate(pick.options):
        try:
            func(option, *names)
        except (AttributeError, UnboundLocalError) as error:
            good = r.b.ne(r.b.frame.local(pick.place), i)
            r.b.assert_(good, message=str(error), kind=type(error).__name__)
