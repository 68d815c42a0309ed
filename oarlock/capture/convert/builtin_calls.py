"""Builtins that would need the value of a run-time number or tensor, made to keep it run-time."""

from __future__ import annotations

import builtins
import contextlib
import dataclasses
import functools
import itertools
import math
import operator
import re
import string
import sys
from collections.abc import Callable, Iterable, Iterator
from types import GeneratorType
from typing import Any

import torch

from oarlock.capture.convert import streams
from oarlock.capture.convert.attributes import delattr_, getattr_, hasattr_, setattr_, vars_
from oarlock.capture.convert.handlers import suppressing
from oarlock.capture.convert.sequences import (
    Mapped,
    Range,
    is_run_time_sequence,
    length,
    own_items,
)
from oarlock.capture.convert.spelling import spelled
from oarlock.capture.convert.state import Text
from oarlock.capture.convert.tracing import tracer
from oarlock.capture.convert.truth import (
    as_number,
    compare_items,
    contains,
    here,
    is_run_time,
    junction,
    negated,
    refuse_here,
    select,
    special,
    truth,
)

_NUMBERS = (torch.SymInt, torch.SymFloat, torch.SymBool)


def number(value: Any) -> Any:
    """A run-time tensor of one element as a run-time number."""
    return value.item() if isinstance(value, torch.Tensor) else value


def int_(*args: Any, **options: Any) -> Any:
    if len(args) == 1 and is_run_time(args[0]):
        found = number(args[0])
        return tracer().compute(int, found) if not isinstance(found, (int, torch.SymInt)) else found
    return int(*args, **options)


def float_(*args: Any) -> Any:
    if len(args) == 1 and is_run_time(args[0]):
        found = number(args[0])
        return tracer().compute(float, found) if not isinstance(found, torch.SymFloat) else found
    return float(*args)


def bool_(*args: Any) -> Any:
    if len(args) == 1 and is_run_time(args[0]):
        found = truth(args[0])
        return found.item() if isinstance(found, torch.Tensor) else found
    return bool(*args)


def complex_(*args: Any, **options: Any) -> Any:
    if any(map(is_run_time, (*args, *options.values()))):
        refuse_here("complex() of a run-time value", "use torch.complex of two tensors")
    return complex(*args, **options)


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


def range_(*args: Any) -> Any:
    if not any(map(is_run_time, args)):
        return range(*args)
    found = [int_(a) if isinstance(a, torch.Tensor) else a for a in args]
    return Range(0, found[0]) if len(found) == 1 else Range(*found)


def enumerate_(items: Any, start: Any = 0) -> Any:
    if is_run_time_sequence(items) or is_run_time(start):
        if is_run_time_sequence(items):
            return Mapped(lambda i, x: (start + i, x), (items,))
        return ((start + i, x) for i, x in enumerate(items))
    return enumerate(items, start)


def zip_(*items: Any, **options: Any) -> Any:
    if any(map(is_run_time_sequence, items)):
        sources = [
            x if hasattr(x, "__getitem__") or is_run_time_sequence(x) else list(x) for x in items
        ]
        return Mapped(lambda _, *found: found, tuple(sources))
    return zip(*items, **options)


def reversed_(items: Any) -> Any:
    if is_run_time_sequence(items):
        return Mapped(lambda _, x: x, (items,), backwards=True)
    if tracer() is not None:
        tracer().uses(items)
    return reversed(items)


def map_(function: Any, *items: Any) -> Any:
    from oarlock.capture.convert.calls import call

    made = call(function)
    if any(map(is_run_time_sequence, items)):
        return Mapped(lambda _, *found: made(*found), items)
    return map(made, *items)


def filter_(function: Any, items: Any) -> Any:
    from oarlock.capture.convert.calls import call

    if tracer() is None:
        return filter(function if function is None else call(function), items)
    made = (lambda x: x) if function is None else call(function)
    return _kept(made, items)


def _kept(made: Callable[[Any], Any], items: Iterable[Any]) -> Any:
    """The items for which ``made`` holds; a list that grows at run time where it decides then."""
    cell = [tracer().list_([])]
    if is_run_time_sequence(items):
        _each(items, lambda item: _keep(made, item, cell), cell)
        return cell[0]
    for item in items:
        _keep(made, item, cell)
    return iter(cell[0]) if type(cell[0]) is list else cell[0]


def _keep(made: Callable[[Any], Any], item: Any, cell: list[Any]) -> None:
    """Append ``item`` to the list in ``cell`` where ``made`` holds for it."""

    def keep() -> None:
        tracer().journal.touch(cell[0])
        cell[0].append(item)

    test = made(item)
    if is_run_time(test):
        tracer().if_(truth(test), keep, lambda: None, here().with_cell("kept", cell))
    elif test:
        keep()


def reduce_(function: Any, items: Any, *initial: Any) -> Any:
    from oarlock.capture.convert.calls import call

    return functools.reduce(call(function), items, *initial)


def sum_(items: Any, /, start: Any = 0) -> Any:
    if not is_run_time_sequence(items):
        return sum(items, start)
    cell = [start]

    def add(item: Any) -> None:
        cell[0] = cell[0] + item

    _each(items, add, cell)
    return cell[0]


def _each(items: Any, body: Callable[[Any], None], cell: list[Any]) -> None:
    from oarlock.capture.convert.sequences import loop

    loop(items, body, None, here().with_cell("value", cell))


def any_(items: Any) -> Any:
    is_run = is_run_time_sequence(items)
    return _one_of(items, True) if is_run else as_number(_some(iter(items), True))


def all_(items: Any) -> Any:
    is_run = is_run_time_sequence(items)
    return _one_of(items, False) if is_run else as_number(_some(iter(items), False))


def _one_of(items: Any, found: bool) -> Any:
    """``_some`` of a sequence of run-time length: a loop that ends at the first that decides."""
    from oarlock.capture.convert.sequences import loop

    cell: list[Any] = [not found]

    def look(item: Any) -> None:
        cell[0] = bool_(item)

    def stop() -> Any:
        return cell[0] if found or not is_run_time(cell[0]) else negated(cell[0])

    loop(items, look, stop, here().with_cell("found", cell))
    return cell[0]


def _some(items: Any, found: bool) -> bool | Any:
    """``any`` (found: True) or ``all`` (False); later items are asked for only if needed."""
    for item in items:
        if is_run_time(item):
            return junction(item, (lambda: _some(items, found),), found, here(), True)
        if bool(item) is found:
            return found
    return not found


def _extreme(name: str) -> Callable[..., Any]:
    plain: Callable[..., Any] = getattr(builtins, name)
    better = operator.gt if name == "max" else operator.lt

    def extreme(*args: Any, key: Any = None, **options: Any) -> Any:
        if tracer() is None:
            return plain(*args, **({"key": key} if key is not None else {}), **options)
        if len(args) == 1 and is_run_time_sequence(args[0]):
            return _extreme_of_run(name, better, args[0], key, options)
        items = list(args[0]) if len(args) == 1 else list(args)
        from oarlock.capture.convert.calls import call

        keys = items if key is None else [call(key)(x) for x in items]
        if not items or not any(map(is_run_time, keys)):
            if key is None:
                return plain(items, **options)
            return items[keys.index(plain(keys))] if items else plain(items, **options)
        if len(items) == 1:
            return items[0]
        if all(not isinstance(k, torch.Tensor) for k in keys) and key is None:
            return tracer().compute(plain, *items)
        return _fold(better, items, keys)

    return extreme


def _extreme_of_run(
    name: str, better: Callable[..., Any], items: Any, key: Any, options: dict[str, Any]
) -> Any:
    """The best item of a sequence of run-time length, by a loop over it."""
    from oarlock.capture.convert.calls import call
    from oarlock.capture.convert.sequences import at_index, loop

    def without_items() -> Any:
        if "default" in options:
            return options["default"]
        return getattr(builtins, name)([])

    def found() -> Any:
        rank = (lambda x: x) if key is None else call(key)
        best = [at_index(items, 0)]
        at_best = [rank(best[0])]

        def look(item: Any) -> None:
            rank_of_item = rank(item)
            wins = truth(better(rank_of_item, at_best[0]))
            best[0] = select(wins, lambda: item, lambda: best[0], here())
            at_best[0] = select(wins, lambda: rank_of_item, lambda: at_best[0], here())

        state = here().with_cell("best", best).with_cell("rank", at_best)
        loop(items, look, None, state, 1)
        return best[0]

    return select(length(items) > 0, found, without_items, here())


def _fold(better: Callable[..., Any], items: list[Any], keys: list[Any]) -> Any:
    best, at_best = items[0], keys[0]
    for item, key in zip(items[1:], keys[1:]):
        wins = better(key, at_best)
        if not is_run_time(wins):
            best, at_best = (item, key) if wins else (best, at_best)
            continue
        old, old_key = best, at_best
        best = select(wins, lambda i=item: i, lambda o=old: o, here())
        at_best = (
            best if keys is items else select(wins, lambda k=key: k, lambda o=old_key: o, here())
        )
    return best


def sorted_(items: Any, *, key: Any = None, reverse: Any = False) -> Any:
    if tracer() is None:
        return sorted(items, key=key, reverse=reverse)
    from oarlock.capture.convert.calls import call

    if is_run_time_sequence(items):
        if key is not None:
            refuse_here(
                "sorted() of a sequence of run-time length by a key",
                "sort the keys: stack them, and index by torch.argsort",
            )
        return tracer().ordered(list_(items), bool(reverse))
    items = list(items)
    keys = items if key is None else [call(key)(x) for x in items]
    if any(map(_holds_run_time, keys)):
        return _insertion_sort(items, keys, reverse)
    places = sorted(range(len(items)), key=keys.__getitem__, reverse=reverse)
    return tracer().list_([items[i] for i in places])


def _holds_run_time(key: Any) -> bool:
    return any(map(is_run_time, key)) if isinstance(key, (tuple, list)) else is_run_time(key)


def _insertion_sort(items: list[Any], keys: list[Any], reverse: bool) -> Any:
    """A stable sorting network of exchanges of neighbours: the places stay, values choose."""
    pairs = list(zip(keys, items))
    for end in range(len(pairs) - 1, 0, -1):
        for i in range(end):
            pairs[i : i + 2] = _ordered(*pairs[i], *pairs[i + 1], reverse)
    return tracer().list_([item for _, item in pairs])


def _ordered(ka: Any, a: Any, kb: Any, b: Any, reverse: bool) -> list[tuple[Any, Any]]:
    """Two neighbours and their keys in order."""
    first, second = (ka, kb) if reverse else (kb, ka)
    if isinstance(ka, (tuple, list)):
        swap = compare_items(operator.lt, list(first), list(second))
    else:
        swap = first < second
    if not is_run_time(swap):
        return [(kb, b), (ka, a)] if swap else [(ka, a), (kb, b)]
    low = select(swap, lambda: kb, lambda: ka, here())
    high = select(swap, lambda: ka, lambda: kb, here())
    if a is ka and b is kb:
        return [(low, low), (high, high)]
    first = select(swap, lambda: b, lambda: a, here())
    return [(low, first), (high, select(swap, lambda: a, lambda: b, here()))]


def divmod_(a: Any, b: Any) -> Any:
    is_tensor = isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor)
    is_plain = not (is_run_time(a) or is_run_time(b))
    return divmod(a, b) if is_plain or is_tensor else (a // b, a % b)


def pow_(base: Any, exponent: Any, mod: Any = None) -> Any:
    if mod is None:
        return base**exponent
    values = (base, exponent, mod)
    return tracer().compute(pow, *values) if any(map(is_run_time, values)) else pow(*values)


def round_(value: Any, *digits: Any) -> Any:
    if isinstance(value, _NUMBERS) and is_run_time(value):
        return tracer().compute(round, value, *digits)
    return round(value, *digits)


def abs_(value: Any) -> Any:
    return (
        tracer().compute(abs, value)
        if isinstance(value, _NUMBERS) and is_run_time(value)
        else abs(value)
    )


def list_(*args: Any) -> list[Any]:
    active = tracer()
    if active is None:
        return list(*args)
    args = tuple(map(own_items, args))
    if args and isinstance(args[0], list) and is_run_time_sequence(args[0]):
        return active.lists.spread(list, [args[0]])
    if args and is_run_time_sequence(args[0]):
        found = active.list_([])

        def add(item: Any) -> None:
            active.journal.touch(found)
            found.append(item)

        _each(args[0], add, [found])
        return found
    return active.list_(list(*args))


def tuple_(*args: Any) -> Any:
    if args and is_run_time_sequence(args[0]):
        found = args[0] if isinstance(args[0], list) else list_(*args)
        if is_run_time_sequence(found):
            return tracer().lists.spread(tuple, [found])
        return tuple(found)
    return tuple(*args)


def print_(*args: Any, **options: Any) -> None:
    active = tracer()
    if active is not None:
        active.print_(args, options)
    else:
        print(*args, **options)


def str_(*args: Any, **options: Any) -> Any:
    if len(args) == 1 and (is_run_time(args[0]) or isinstance(args[0], Text)):
        return args[0] if isinstance(args[0], Text) else Text.of(((args[0], "s", ""),))
    found = spelled(args[0]) if len(args) == 1 and not options else None
    return str(*args, **options) if found is None else found


def repr_(value: Any) -> str:
    found = spelled(value, "r")
    return repr(value) if found is None else found


def format_(value: Any, spec: str = "") -> str:
    if is_run_time(value):
        return Text.of(((value, "", spec),))
    found = spelled(value) if not spec else None
    return format(value, spec) if found is None else found


def format_text(text: str, *args: Any, **names: Any) -> str:
    """``text.format(...)`` of run-time values."""
    if not any(is_run_time(x) or isinstance(x, Text) for x in (*args, *names.values())):
        return text.format(*args, **names)
    parts: list[Any] = []
    place = itertools.count()
    formatter = string.Formatter()
    for literal, field, spec, conversion in formatter.parse(text):
        if literal:
            parts.append(literal)
        if field is not None:
            name = str(next(place)) if field == "" else field
            value, _ = formatter.get_field(name, args, names)
            parts.append((value, conversion or "", (spec or "").format(*args, **names)))
    return Text.of(tuple(parts))


def percent_parts(text: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The parts of ``text % values``; ``%s`` and ``%r`` as conversions, numbers as formats."""
    parts: list[Any] = []
    rest = list(values)
    end = 0
    for found in re.finditer(r"%(?P<flags>[-+ #0]*[\d]*(?:\.\d+)?)(?P<kind>[sdrifgeEGxXo%])", text):
        parts.append(text[end : found.start()])
        end = found.end()
        if found["kind"] == "%":
            parts.append("%")
            continue
        kind, flags = found["kind"], found["flags"]
        if kind in "sr":
            value = rest.pop(0)
            found_text = None if flags or is_run_time(value) else spelled(value, kind.strip("s"))
            one = (value, kind, flags and f">{flags}")
            parts.append(one if found_text is None else (found_text, "", ""))
        else:
            value = rest.pop(0)
            whole = int_(value) if kind in "di" else float_(value) if kind in "fgeEG" else value
            parts.append((whole, "", flags + ("d" if kind == "i" else kind)))
    return tuple(p for p in (*parts, text[end:]) if p != "")


def join_text(separator: str, items: Iterable[Any]) -> str:
    found = list(items)
    if not any(isinstance(x, Text) for x in found):
        return separator.join(found)
    parts: list[Any] = []
    for i, x in enumerate(found):
        parts += [separator] if i and separator else []
        parts += x.parts if isinstance(x, Text) else [x]
    return Text.of(tuple(parts))


def not_(value: Any) -> Any:
    return as_number(negated(value)) if is_run_time(value) else not value


_OF_CONTAINERS = tuple(type(iter(x)) for x in ([], (), {}, {}.values(), {}.items(), set()))


def _holders(items: Any) -> int:
    return sys.getrefcount(items)


def _read(items: GeneratorType) -> list[tuple[Any, int]]:
    """The iterators in the variables of a generator, and how many references each has."""
    table = dict(items.gi_frame.f_locals) if items.gi_frame is not None else {}
    names = [name for name in table if isinstance(table[name], Iterator)]
    return [(table[name], sys.getrefcount(table[name])) for name in names]


_ONE_HOLDER = _holders(iter([]))
_ONE_READER = _read(x for x in iter([]))[0][1]


def _starts_anew(items: Any) -> bool:
    """An iterator over a container, or of a generator that reads no iterator of somebody else."""
    if isinstance(items, GeneratorType):
        return all(count <= _ONE_READER and _starts_anew(x) for x, count in _read(items))
    return type(items) in _OF_CONTAINERS


def next_(items: Any, *default: Any) -> Any:
    active = tracer()
    is_new = sys.getrefcount(items) <= _ONE_HOLDER and _starts_anew(items)  # not an old one's next
    if active is not None and active.is_branching() and not is_new:
        refuse_here(
            "next() of an iterator on one path of a decision on data",
            "index a list, or take the item before the decision",
        )
    return next(items, *default)


def isinstance_(x: Any, kinds: Any) -> Any:
    """A number of the run is of the Python type that it stands for; one of two types is asked then."""
    active, found = tracer(), isinstance(x, kinds)
    if active is None or not is_run_time(x):
        return found
    if active.is_of_two_types(x):
        return active.number(isinstance, (x, kinds), True, True)
    if hasattr(x, "run_time_tuple"):
        return issubclass(tuple, kinds)
    return found or (isinstance(x, _NUMBERS) and issubclass(active.type_of(x), kinds))


def type_(*args: Any, **options: Any) -> Any:
    active = tracer()
    if active is None or len(args) != 1 or options:
        return type(*args, **options)
    return active.type_of(args[0])


def numeric(function: Any) -> Callable[..., Any]:
    """A pure function of numbers, computed at run time where an argument is a run-time value."""

    def compute(*args: Any, **options: Any) -> Any:
        if not any(map(is_run_time, args)):
            return function(*args, **options)
        return tracer().compute(function, *map(number, args))

    return compute


_math: dict[str, Any] = {
    name: numeric(f)
    for name, f in vars(math).items()
    if callable(f) and name not in ("frexp", "modf", "fsum", "prod", "sumprod", "dist")
}


def prod(items: Any, *, start: Any = 1) -> Any:
    found = list(items)
    if not any(map(is_run_time, found)):
        return math.prod(found, start=start)
    return functools.reduce(operator.mul, found, start)


_BY_NAME: dict[str, Any] = {
    "len": len_,
    "any": any_,
    "all": all_,
    "sum": sum_,
    "max": _extreme("max"),
    "min": _extreme("min"),
    "sorted": sorted_,
    "divmod": divmod_,
    "pow": pow_,
    "round": round_,
    "abs": abs_,
    "print": print_,
    "next": next_,
    "repr": repr_,
    "format": format_,
    "hasattr": hasattr_,
    "isinstance": isinstance_,
    "getattr": getattr_,
    "setattr": setattr_,
    "vars": vars_,
    "delattr": delattr_,
}


def replace_(owner: Any, **changes: Any) -> Any:
    active = tracer()
    if active is not None and active.is_choice(owner):
        return active.each(owner, lambda x: replace_(x, **changes))
    return dataclasses.replace(owner, **changes)


FUNCTIONS: dict[Any, Any] = {dataclasses.replace: replace_}
_BUILTINS: dict[int, Any] = {
    **{id(getattr(builtins, name)): f for name, f in _BY_NAME.items()},
    **{id(getattr(math, name)): f for name, f in _math.items()},
    id(math.prod): prod,
    id(functools.reduce): reduce_,
    id(operator.not_): not_,
    id(operator.truth): bool_,
    id(operator.contains): lambda items, x: contains(x, items),
}


def _stream(function: Any) -> Callable[..., Any]:
    """One of ``streams``, converted, for finite items."""
    plain = getattr(itertools, function.__name__)

    def stream(*args: Any, **options: Any) -> Any:
        from oarlock.capture.convert.calls import converted_function, iterated

        endless = (itertools.count, itertools.cycle, itertools.repeat)
        if tracer() is None or any(isinstance(x, endless) for x in args):
            return plain(*args, **options)
        return iterated(converted_function(function)(*args, **options))

    return stream


TYPES: dict[Any, Any] = {
    **{
        getattr(itertools, f.__name__): _stream(f)
        for f in (
            streams.takewhile,
            streams.dropwhile,
            streams.filterfalse,
            streams.accumulate,
            streams.starmap,
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
