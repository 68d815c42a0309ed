"""Builtins that would need the value of a run-time number or tensor, made to keep it run-time."""

from __future__ import annotations

import builtins
import collections
import contextlib
import copy
import dataclasses
import functools
import itertools
import math
import operator
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any

import torch

from oarlock.capture.convert import arithmetic, cursors, streams
from oarlock.capture.convert.attributes import delattr_, getattr_, hasattr_, setattr_, vars_
from oarlock.capture.convert.handlers import suppressing
from oarlock.capture.convert.iterating import (
    all_,
    any_,
    enumerate_,
    filter_,
    iter_,
    list_,
    map_,
    next_,
    range_,
    reduce_,
    reversed_,
    sum_,
    tuple_,
    zip_,
)
from oarlock.capture.convert.numeric import (
    MATH,
    NUMBERS,
    abs_,
    bool_,
    complex_,
    divmod_,
    float_,
    index,
    int_,
    not_,
    pow_,
    prod,
    round_,
)
from oarlock.capture.convert.ordering import extreme, sorted_
from oarlock.capture.convert.sequences import (
    is_run_time_sequence,
    item,
    length,
    own_items,
)
from oarlock.capture.convert.state import Text
from oarlock.capture.convert.texts import chr_, format_, ord_, repr_, str_
from oarlock.capture.convert.tracing import is_table, tracer
from oarlock.capture.convert.truth import (
    contains,
    here,
    is_run_time,
    own,
    select,
    special,
)


def len_(items: Any) -> Any:
    active = tracer()
    if active is not None:
        active.uses(items)
    if is_run_time_sequence(items):
        return length(items)
    if isinstance(items, Text):
        return items.asked(len)
    if is_run_time(items) and not isinstance(items, torch.Tensor):
        return tracer().length(items)
    method = special(items, "__len__")
    return len(items) if method is None else method(items)


def print_(*args: Any, **options: Any) -> None:
    active = tracer()
    if active is not None:
        active.print_(args, options)
    else:
        print(*args, **options)


def isinstance_(x: Any, kinds: Any) -> Any:
    """A number of the run is of the Python type that it stands for; one of two types is asked then."""
    active, found = tracer(), isinstance(x, kinds)
    if active is None:
        return found
    if hasattr(type(x), "run_time_deque"):
        return issubclass(collections.deque, kinds)
    if not is_run_time(x):
        active.code.instance(x, kinds, found)
        return found
    if active.is_of_two_types(x):
        return active.number(isinstance, (x, kinds), True, True)
    if hasattr(type(x), "run_time_tuple"):
        return issubclass(tuple, kinds)
    if is_table(x):
        return issubclass(x.kind, kinds)
    return found or (isinstance(x, NUMBERS) and issubclass(active.type_of(x), kinds))


def type_(*args: Any, **options: Any) -> Any:
    active = tracer()
    if active is None or len(args) != 1 or options:
        return type(*args, **options)
    kinds = active.types_of(args[0])
    return _first_type(active, args[0], kinds) if kinds else active.type_of(args[0])


def _first_type(active: Any, x: Any, kinds: list[type]) -> Any:
    """The type of ``x``, which is one of some at run time."""
    kind, *rest = kinds
    if not rest:
        return kind
    test = active.number(is_exactly, (x, kind), True, True)
    return select(test, lambda: kind, lambda: _first_type(active, x, rest), here())


def is_exactly(x: Any, kind: type) -> bool:
    return type(x) is kind


_BY_NAME: dict[str, Any] = {
    "len": len_,
    "any": any_,
    "all": all_,
    "sum": sum_,
    "max": extreme("max"),
    "min": extreme("min"),
    "sorted": sorted_,
    "divmod": divmod_,
    "pow": pow_,
    "round": round_,
    "abs": abs_,
    "print": print_,
    "next": next_,
    "iter": iter_,
    "repr": repr_,
    "chr": chr_,
    "ord": ord_,
    "format": format_,
    "bin": lambda x: format_(x, "#b") if is_run_time(x) else bin(x),
    "oct": lambda x: format_(x, "#o") if is_run_time(x) else oct(x),
    "hex": lambda x: format_(x, "#x") if is_run_time(x) else hex(x),
    "hasattr": hasattr_,
    "isinstance": isinstance_,
    "getattr": getattr_,
    "setattr": setattr_,
    "vars": vars_,
    "delattr": delattr_,
}


def replace_(owner: Any, **changes: Any) -> Any:
    from oarlock.capture.convert.calls import call

    active = tracer()
    if active is not None and active.is_choice(owner):
        return active.each(owner, lambda x: replace_(x, **changes))
    if active is None or not _is_plainly_made(owner, changes):
        return dataclasses.replace(owner, **changes)
    kept = {f.name: getattr_(owner, f.name) for f in dataclasses.fields(owner) if f.init}
    return call(type(owner))(**{**kept, **changes})


def _is_plainly_made(owner: Any, changes: dict[str, Any]) -> bool:
    """Its fields are all that ``replace`` hands on, and ``changes`` may hold them."""
    fields = getattr(type(owner), "__dataclass_fields__", {}).values()
    kinds = [f._field_type for f in fields]
    wrong = [f for f in fields if f.name in changes and not f.init]
    return bool(kinds) and dataclasses._FIELD_INITVAR not in kinds and not wrong  # type: ignore[attr-defined]


def _copier(plain: Callable[..., Any], name: str) -> Callable[..., Any]:
    """A function of the module copy, which a class may define in Python."""

    def made(x: Any, *memo: Any) -> Any:
        from oarlock.capture.convert.calls import reading

        method = own(x, name)
        if method is None:
            return reading(plain)(x, *memo)
        return method(x) if plain is copy.copy else method(x, *(memo or ({},)))

    return made


FUNCTIONS: dict[Any, Any] = {
    dataclasses.replace: replace_,
    copy.copy: _copier(copy.copy, "__copy__"),
    copy.deepcopy: _copier(copy.deepcopy, "__deepcopy__"),
}


def _cmp_to_key(mycmp: Any) -> Any:
    from oarlock.capture.convert.calls import converted_function

    if tracer() is None:
        return functools.cmp_to_key(mycmp)
    return converted_function(streams.cmp_to_key)(mycmp)


_BUILTINS: dict[int, Any] = {
    **{id(getattr(builtins, name)): f for name, f in _BY_NAME.items()},
    **{id(getattr(math, name)): f for name, f in MATH.items()},
    id(math.prod): prod,
    id(functools.reduce): reduce_,
    id(functools.cmp_to_key): _cmp_to_key,
    **{id(op): f for op, f in arithmetic.FUNCTIONS.items()},
    id(operator.index): index,
    id(operator.getitem): item,
    id(operator.not_): not_,
    id(operator.truth): bool_,
    id(operator.contains): lambda items, x: contains(x, items),
}


def _made(x: Any) -> Any:
    """A function, converted; anything else as it is."""
    from oarlock.capture.convert.calls import call

    return call(x) if isinstance(x, (FunctionType, MethodType)) else x


def _stream(function: Any) -> Callable[..., Any]:
    """One of ``streams``, converted, for finite items."""
    plain = getattr(itertools, function.__name__)

    def stream(*args: Any, **options: Any) -> Any:
        from oarlock.capture.convert.calls import converted_function, items_of, iterated

        endless = (itertools.count, itertools.cycle, itertools.repeat)
        if function is streams.chain and any(isinstance(x, cursors.Stream) for x in args):
            return cursors.Chain(list(map(cursors.source, args)))
        if tracer() is None or any(isinstance(x, endless) for x in args):
            return plain(*args, **options)
        noticing = tracer().noticing
        if function.__code__ in noticing.codes and function in streams.IN_TURN:
            return items_of(streams.IN_TURN[function], True)(*args, **options)
        if function.__code__ in noticing.codes:
            return plain(*map(_made, args), **{k: _made(v) for k, v in options.items()})
        with noticing.ahead(function.__code__) as given:
            items = converted_function(function)(*map(own_items, args), **options)
        return iterated(items, given)

    return stream


def _islice(items: Any, *bounds: Any) -> Any:
    if not isinstance(items, cursors.Stream):
        return itertools.islice(items, *bounds)
    span = slice(*bounds)
    return cursors.Slice(items, span.start or 0, span.stop, span.step or 1)


def _pairwise(items: Any) -> Any:
    if not is_run_time_sequence(items):
        return itertools.pairwise(items)
    return _stream(streams.pairwise)(items)


TYPES: dict[Any, Any] = {
    itertools.pairwise: _pairwise,
    itertools.islice: _islice,
    **{
        getattr(itertools, f.__name__): _stream(f)
        for f in (
            streams.takewhile,
            streams.dropwhile,
            streams.filterfalse,
            streams.accumulate,
            streams.starmap,
            streams.groupby,
            streams.chain,
        )
    },
    int: int_,
    float: float_,
    bool: bool_,
    complex: complex_,
    range: range_,
    enumerate: enumerate_,
    zip: zip_,
    reversed: reversed_,
    map: map_,
    filter: filter_,
    list: list_,
    tuple: tuple_,
    str: str_,
    type: type_,
    contextlib.suppress: suppressing,
}


def replacement(function: Any) -> Any:
    return _BUILTINS.get(id(function))
