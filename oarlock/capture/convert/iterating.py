"""Builtins that go over items, where the items or their number are known at run time."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Iterator
from types import GeneratorType
from typing import Any

import torch

from oarlock.capture.convert import cursors, streams
from oarlock.capture.convert.arithmetic import binary
from oarlock.capture.convert.numeric import bool_, int_
from oarlock.capture.convert.sequences import (
    Mapped,
    Range,
    at_index,
    is_run_time_sequence,
    length,
    loop,
    own_items,
)
from oarlock.capture.convert.stepped import entered, next_of_object
from oarlock.capture.convert.tracing import tracer
from oarlock.capture.convert.truth import (
    as_number,
    here,
    is_run_time,
    junction,
    negated,
    own,
    own_truth,
    refuse_here,
    select,
    truth,
)


def range_(*args: Any) -> Any:
    if not any(map(is_run_time, args)):
        return range(*args)
    found = [int_(a) if isinstance(a, torch.Tensor) else a for a in args]
    return Range(0, found[0]) if len(found) == 1 else Range(*found)


def iter_(items: Any, *end: Any) -> Any:
    if tracer() is None or end:
        return iter(items, *end)
    items = entered(items)
    if isinstance(items, cursors.Stream) or is_run_time_sequence(items):
        return cursors.source(items)
    return iter(items)


def stream_of(items: Any, last: Any) -> cursors.Stream:
    """What a loop goes over that is inside of another one; ``last``: what it went over before, which
    only it has: that begins anew, so that each trip of the outer loop finds one object."""
    items = entered(items)
    made = cursors.source(items)
    if type(made) is not cursors.Cursor or made is items:
        return made
    if type(last) is not cursors.Cursor or not last.is_private or last.by != made.by:
        made.is_private = True
        return made
    last.changed("items", made.items)
    last.changed("place", made.place)
    return last


def enumerate_(items: Any, start: Any = 0) -> Any:
    items = entered(items)
    if isinstance(items, cursors.Stream):
        return cursors.Enumerate(items, start)
    items = own_items(items)
    if is_run_time_sequence(items) or is_run_time(start):
        if is_run_time_sequence(items):
            return Mapped(lambda i, x: (start + i, x), (items,))
        return ((start + i, x) for i, x in enumerate(items))
    return enumerate(items, start)


def zip_(*items: Any, **options: Any) -> Any:
    items = tuple(map(entered, items))
    if not options and _any_stream(items):
        return cursors.Zip(list(map(cursors.source, items)))
    items = tuple(map(own_items, items))
    if any(map(is_run_time_sequence, items)):
        sources = [
            x if hasattr(x, "__getitem__") or is_run_time_sequence(x) else list(x) for x in items
        ]
        return Mapped(lambda _, *found: found, tuple(sources))
    return zip(*items, **options)


def _any_stream(items: tuple[Any, ...]) -> bool:
    return any(isinstance(x, cursors.Stream) for x in items)


def reversed_(items: Any) -> Any:
    method = own(items, "__reversed__")
    if method is not None:
        return method(items)
    if is_run_time_sequence(items):
        return Mapped(lambda _, x: x, (items,), backwards=True)
    if tracer() is not None:
        tracer().uses(items)
        if own(items, "__getitem__") and (count := own(items, "__len__")):
            return cursors.Cursor(items, count(items) - 1, -1)
    return reversed(items)


def map_(function: Any, *items: Any) -> Any:
    from oarlock.capture.convert.calls import call

    made = call(function)
    items = tuple(map(entered, items))
    if _any_stream(items):
        return cursors.Zip(list(map(cursors.source, items)), made)
    items = tuple(map(own_items, items))
    if any(map(is_run_time_sequence, items)):
        return Mapped(lambda _, *found: made(*found), items)
    return map(made, *items)


def filter_(function: Any, items: Any) -> Any:
    from oarlock.capture.convert.calls import call, items_of, iterated

    if tracer() is None:
        return filter(function if function is None else call(function), items)
    made = own_truth if function is None else call(function)
    noticing = tracer().noticing
    if _kept.__code__ in noticing.codes:
        return items_of(streams.filter_in_turn, True)(function, items)
    with noticing.ahead(_kept.__code__) as given:
        found = _kept(made, items)
    return iterated(found, given)


def _kept(made: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """The items for which ``made`` holds; a list that grows at run time where it decides then."""
    cell = [tracer().list_([])]
    items = own_items(items)
    if is_run_time_sequence(items):
        each_item(items, lambda item: _keep(made, item, cell), cell)
    else:
        for item in items:
            _keep(made, item, cell)
    return cell[0]


def _keep(made: Callable[[Any], Any], item: Any, cell: list[Any]) -> None:
    """Append ``item`` to the list in ``cell`` where ``made`` holds for it."""

    def keep() -> None:
        tracer().journal.touch(cell[0])
        cell[0].append(item)

    test = own_truth(made(item))
    if is_run_time(test):
        tracer().if_(truth(test), keep, lambda: None, here().with_cell("kept", cell))
    elif test:
        keep()


def reduce_(function: Any, items: Any, *initial: Any) -> Any:
    from oarlock.capture.convert.calls import call

    made, items = call(function), own_items(items)
    if not is_run_time_sequence(items):
        return functools.reduce(made, items, *initial)
    if initial:
        return _folded(made, items, initial[0], 0)
    return select(
        length(items) > 0,
        lambda: _folded(made, items, at_index(items, 0), 1),
        lambda: functools.reduce(made, []),
        here(),
    )


def _folded(made: Callable[[Any, Any], Any], items: Any, first: Any, start: int) -> Any:
    cell = [first]

    def step(item: Any) -> None:
        cell[0] = made(cell[0], item)

    loop(items, step, None, here().with_cell("value", cell), start)
    return cell[0]


def sum_(items: Any, /, start: Any = 0) -> Any:
    if tracer() is None:
        return sum(items, start)
    items = own_items(items)
    if not is_run_time_sequence(items):
        found = list(items)
        if not any(own(x, "__add__") or own(x, "__radd__") for x in (start, *found)):
            return sum(found, start)
        return functools.reduce(functools.partial(binary, "+"), found, start)
    cell = [start]

    def add(item: Any) -> None:
        cell[0] = binary("+", cell[0], item)

    each_item(items, add, cell)
    return cell[0]


def each_item(items: Any, body: Callable[[Any], None], cell: list[Any]) -> None:
    loop(items, body, None, here().with_cell("value", cell))


def any_(items: Any) -> Any:
    items = own_items(items)
    is_run = is_run_time_sequence(items)
    return _one_of(items, True) if is_run else as_number(_some(iter(items), True))


def all_(items: Any) -> Any:
    items = own_items(items)
    is_run = is_run_time_sequence(items)
    return _one_of(items, False) if is_run else as_number(_some(iter(items), False))


def _one_of(items: Any, found: bool) -> Any:
    """``_some`` of a sequence of run-time length: a loop that ends at the first that decides."""
    cell: list[Any] = [not found]

    def look(item: Any) -> None:
        cell[0] = bool_(item)

    def stop() -> Any:
        return cell[0] if found or not is_run_time(cell[0]) else negated(cell[0])

    loop(items, look, stop, here().with_cell("found", cell))
    return cell[0]


def _some(items: Any, found: bool) -> bool | Any:
    """``any`` (found: True) or ``all`` (False); later items are asked for only if needed."""
    for item in map(own_truth, items):
        if is_run_time(item):
            return junction(item, (lambda: _some(items, found),), found, here(), True)
        if bool(item) is found:
            return found
    return not found


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

        each_item(args[0], add, [found])
        return found
    return active.list_(list(*args))


def tuple_(*args: Any) -> Any:
    args = tuple(map(own_items, args)) if tracer() is not None else args
    if args and is_run_time_sequence(args[0]):
        found = args[0] if isinstance(args[0], list) else list_(*args)
        if is_run_time_sequence(found):
            return tracer().lists.spread(tuple, [found])
        return tuple(found)
    return tuple(*args)


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


def is_held_iterator(items: Any, holders: int) -> bool:
    """Whether somebody but the caller, who calls that, and ``holders`` holds this iterator."""
    return isinstance(items, Iterator) and sys.getrefcount(items) > _ONE_HOLDER + 1 + holders


def _starts_anew(items: Any) -> bool:
    """An iterator over a container, or of a generator that reads no iterator of somebody else."""
    if isinstance(items, GeneratorType):
        return all(count <= _ONE_READER and _starts_anew(x) for x, count in _read(items))
    return type(items) in _OF_CONTAINERS


def _is_spent(items: Any) -> bool:
    """A list of the run that code goes through once."""
    return isinstance(items, list) and hasattr(items, "is_iterator")


def next_(items: Any, *default: Any) -> Any:
    active = tracer()
    if active is not None and (isinstance(items, cursors.Stream) or _is_spent(items)):
        return cursors.next_of(cursors.source(items), *default)
    if own(items, "__next__") is not None:
        return next_of_object(items, default)
    is_new = sys.getrefcount(items) <= _ONE_HOLDER and _starts_anew(items)  # not an old one's next
    if active is not None and active.is_branching() and not is_new:
        refuse_here(
            "next() of an iterator on one path of a decision on data",
            "index a list, or take the item before the decision",
        )
    return next(items, *default)
