"""Iterators that variables hold, while a trace records: how far they are is an attribute of an object.

Python's own iterators keep their place where no tracer sees it.  One that outlives the expression that
makes it becomes a ``Stream``: branches and loops on data then carry its place as any other number.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from types import GeneratorType
from typing import Any

import torch

from oarlock.capture.convert.handlers import expected
from oarlock.capture.convert.sequences import Mapped, at_index, is_run_time_sequence, length
from oarlock.capture.convert.state import State
from oarlock.capture.convert.tracing import is_proxy, tracer
from oarlock.capture.convert.truth import here, is_run_time, negated, refuse_here, select, truth

WRITTEN = 8  # items that a place of the run picks from by comparisons


class Stream:
    """An iterator: ``more()`` tells whether there is an item, ``take()`` gives it."""

    is_stream = True

    def __new__(cls, *_: Any) -> Stream:
        found, active = object.__new__(cls), tracer()
        if active is not None:
            active.noticing.made(found)
        return found

    def more(self) -> Any:
        raise NotImplementedError

    def take(self) -> Any:
        raise NotImplementedError

    def stop(self) -> None:
        """What the last attempt takes from other iterators."""

    def ends(self) -> Any:
        """Whether ``next`` raises StopIteration; the code decides on that now."""
        more = self.more()
        return negated(more) if is_run_time(more) else not more

    def changed(self, name: str, value: Any) -> None:
        tracer().journal.touch(self)
        setattr(self, name, value)

    def __iter__(self) -> Iterator[Any]:
        while True:
            more = self.more()
            if is_run_time(more):
                refuse_here(
                    "an iterator whose place data decide is read to its end by code that is not "
                    "converted",
                    "make a list of it, `list(it)`",
                )
            if not more:
                self.stop()
                return
            yield self.take()

    def __next__(self) -> Any:
        for x in self:
            return x
        raise StopIteration

    def rest(self) -> Any:
        """The items that are left, in a list."""
        cell = [tracer().list_([])]

        def add(item: Any) -> None:
            tracer().journal.touch(cell[0])
            cell[0].append(item)

        rounds(self, add, None, here().with_cell("items", cell))
        return cell[0]


class Cursor(Stream):
    """Over a sequence."""

    is_private = False  # only one loop has it

    def __init__(self, items: Any, place: Any = 0, by: int = 1) -> None:
        self.items, self.place, self.by = items, place, by

    def more(self) -> Any:
        return self.place < length(self.items) if self.by > 0 else self.place >= 0

    def rest(self) -> Any:
        is_whole = type(self.place) is int and self.place == 0 and self.by > 0
        if not is_whole or not isinstance(self.items, list) or not is_proxy(self.items):
            return super().rest()
        tracer().noticing.look(self.items)
        self.changed("place", length(self.items))
        return tracer().lists.spread(list, [self.items])

    def take(self) -> Any:
        place = self.place
        tracer().noticing.look(self.items)
        self.changed("place", place + self.by)
        items = self.items
        if is_run_time(place) and not is_proxy(items) and len(items) > WRITTEN:
            items = tracer().lists.spread(tuple, [items])
        return at_index(items, place)


class Listed(Cursor):
    """A generator whose items are known: it does nothing with what is sent."""

    def send(self, value: Any) -> Any:
        if value is not None and type(self.place) is int and self.place == 0:
            raise TypeError("can't send non-None value to a just-started generator")
        return next_of(self)

    def close(self) -> None:
        self.changed("place", length(self.items))

    def throw(self, error: Any, *_: Any) -> Any:
        self.close()
        raise error


class Count(Stream):
    def __init__(self, start: Any = 0, step: Any = 1) -> None:
        self.value, self.step = start, step

    def more(self) -> Any:
        return True

    def take(self) -> Any:
        found = self.value
        self.changed("value", found + self.step)
        return found


class Cycle(Cursor):
    """Over a list without end."""

    def more(self) -> Any:
        return length(self.items) > 0

    def take(self) -> Any:
        found = super().take()
        self.place = self.place % length(self.items)
        return found


class Repeat(Stream):
    def __init__(self, value: Any, count: Any = None) -> None:
        self.value, self.count = value, count

    def more(self) -> Any:
        return self.count is None or self.count > 0

    def take(self) -> Any:
        if self.count is not None:
            self.changed("count", self.count - 1)
        return self.value


class Zip(Stream):
    """``zip``, and with a function ``map``."""

    def __init__(self, sources: list[Stream], function: Callable[..., Any] | None = None) -> None:
        self.sources, self.function = sources, function

    def more(self) -> Any:
        return _all(self.sources)

    def take(self) -> Any:
        found = tuple(s.take() for s in self.sources)
        return found if self.function is None else self.function(*found)

    def stop(self) -> None:
        for source in self.sources[:-1]:
            more = source.more()
            if is_run_time(more):
                tracer().if_(truth(more), source.take, source.stop, here())
            elif not more:
                return
            else:
                source.take()


def _all(sources: list[Stream]) -> Any:
    """Whether each has an item more."""
    found: Any = True
    for source in sources:
        more = source.more()
        if found is True:
            found = more
        elif is_run_time(found):
            found = select(found, lambda more=more: more, lambda: False, here())
        if found is False:
            return False
    return found


class Enumerate(Stream):
    def __init__(self, source: Stream, start: Any = 0) -> None:
        self.source, self.number = source, start

    def more(self) -> Any:
        return self.source.more()

    def take(self) -> Any:
        found = self.number, self.source.take()
        self.changed("number", self.number + 1)
        return found

    def stop(self) -> None:
        self.source.stop()


class Slice(Stream):
    """``itertools.islice``"""

    def __init__(self, source: Stream, start: int, stop: int | None, step: int) -> None:
        self.source, self.left, self.skip, self.step = source, None, start, step
        if stop is not None:
            self.left = max(0, -((start - stop) // step))
            self.skip = start if self.left else max(start, stop)

    def more(self) -> Any:
        if self.left is not None and not is_run_time(self.left) and not self.left:
            return False
        self.skipped()
        more = self.source.more()
        if self.left is None:
            return more
        left = self.left > 0
        if is_run_time(left):
            return select(left, lambda: more, lambda: False, here())
        return more if left else False

    def skipped(self) -> None:
        """Pass over what comes before the next item."""
        while not is_run_time(self.skip) and self.skip > 0:
            more = self.source.more()
            if is_run_time(more):
                tracer().if_(truth(more), self.source.take, _nothing, here())
            elif more:
                self.source.take()
            self.changed("skip", self.skip - 1)

    def take(self) -> Any:
        found = self.source.take()
        self.changed("skip", self.step - 1)
        if self.left is not None:
            self.changed("left", self.left - 1)
        return found


class Chain(Stream):
    def __init__(self, sources: list[Stream]) -> None:
        self.sources = sources

    def more(self) -> Any:
        found: Any = False
        for source in reversed(self.sources):
            more = source.more()
            if is_run_time(more):
                found = select(more, lambda: True, lambda found=found: found, here())
            else:
                found = True if more else found
        return found

    def take(self) -> Any:
        return self.first(self.sources)

    def first(self, sources: list[Stream]) -> Any:
        more = sources[0].more() if len(sources) > 1 else True
        if is_run_time(more):
            return select(more, sources[0].take, lambda: self.first(sources[1:]), here())
        return sources[0].take() if more else self.first(sources[1:])


class Ready(Stream):
    """Goes on, by ``go_on``, before it tells whether it has more."""

    is_ready: Any = False
    has: Any = False

    def more(self) -> Any:
        if is_run_time(self.is_ready):
            tracer().if_(truth(self.is_ready), _nothing, self.go_on, here())
        elif not self.is_ready:
            self.go_on()
        return self.has

    def go_on(self) -> None:
        raise NotImplementedError


class Native(Ready):
    """Over what others notice that it goes on: one item at a time."""

    def __init__(self, items: Any) -> None:
        self.items, self.item = iter(items), None
        self.is_ready, self.has = False, False

    def go_on(self) -> None:
        if tracer().is_branching():
            refuse_here(
                "an iterator that draws, updates or changes something as it goes on, where data decide",
                "loop over places, and do in the loop what the iterator does",
            )
        found = [*itertools.islice(self.items, 1)]
        self.changed("has", bool(found))
        self.changed("item", found[0] if found else None)
        self.changed("is_ready", True)

    def take(self) -> Any:
        self.changed("is_ready", False)
        return self.item


class Resumed(Ready):
    """A generator whose function goes on by ``step(sent)``, which tells whether ``item()`` is there."""

    def __init__(self, step: Callable[[Any], Any], item: Callable[[], Any]) -> None:
        self.step, self.item = step, item
        self.is_ready, self.has = False, False

    def go_on(self, sent: Any = None) -> None:
        has = self.step(sent)
        self.changed("has", has)
        self.changed("is_ready", True)

    def take(self) -> Any:
        self.changed("is_ready", False)
        return self.item()

    def send(self, value: Any) -> Any:
        self.go_on(value)
        return next_of(self)

    def close(self) -> None:
        self.changed("has", False)
        self.changed("is_ready", True)


def unsent(value: Any) -> None:
    """``value`` is sent to a generator that is inside another one."""
    if value is not None:
        refuse_here(
            "send() to a generator that yields from another one, which runs one item at a time",
            "loop over the inner one and yield its items",
        )


def _nothing() -> None:
    pass


def next_of(items: Stream, *default: Any) -> Any:
    """``next(items, *default)``"""
    more = items.more()
    if not is_run_time(more):
        if more:
            return items.take()
        items.stop()
        if default:
            return default[0]
        raise StopIteration
    if not default and expected(next, items):  # the code has decided that there is an item
        return items.take()

    def none() -> Any:
        items.stop()
        if default:
            return default[0]
        raise StopIteration

    return select(more, items.take, none, here())


def rounds(
    items: Stream, body: Callable[[Any], None], stop: Callable[[], Any] | None, state: State
) -> None:
    """``for item in items``"""
    while True:
        more = items.more()
        if is_run_time(more):
            return _loop(items, truth(more), body, stop, state)
        if not more:
            return items.stop()
        body(items.take())
        halt = False if stop is None else stop()
        if is_run_time(halt):
            rest = lambda: rounds(items, body, stop, state)  # noqa: E731
            return tracer().if_(truth(halt), _nothing, rest, state)
        if halt:
            return None


def _loop(items: Stream, more: Any, body: Any, stop: Any, state: State) -> None:
    go = [more]

    def round_() -> None:
        body(items.take())
        halt = False if stop is None else stop()
        if is_run_time(halt):
            go[0] = select(negated(halt), lambda: truth(items.more()), lambda: False, here())
        else:
            more = False if halt else items.more()
            go[0] = truth(more) if is_run_time(more) else more

    tracer().while_(lambda: go[0], round_, state.with_cell("go on", go))


# streams of Python's own iterators

_VALUES = frozenset({torch.Tensor, int, float, bool, str, list, tuple, dict, type(None)})

_FROM_START = tuple(
    type(iter(x)) for x in ([], (), range(0), "", {}, {}.values(), {}.items(), set())
)


def in_turn(left: Iterator[Any], turn: Callable[[], None]) -> Iterator[Any]:
    """What is left of the items that a generator has given ahead; ``turn``: before each, and the end."""
    while True:
        turn()
        try:
            x = next(left)
        except StopIteration:
            return
        yield x


def held(x: Any) -> Any:
    """What a variable holds of an iterator that an expression has made."""
    if type(x) in _VALUES or tracer() is None:
        return x
    if isinstance(x, list) and getattr(x, "is_iterator", False):
        return Listed(x)
    found = None if isinstance(x, torch.Tensor) else stream(x)
    return x if found is None else found


def source(x: Any) -> Stream:
    """The stream of anything that can be iterated over."""
    found = stream(x)
    if found is not None:
        return found
    if isinstance(x, torch.Tensor):
        x = x.unbind(0)
    if isinstance(x, (list, tuple, range, str)) or is_run_time_sequence(x):
        return Cursor(x)
    noticing = tracer().noticing
    if source.__code__ in noticing.codes:
        return Native(x)
    with noticing.ahead(source.__code__) as given:
        items = tracer().list_(list(x))
    items.given = given
    return Cursor(items)


def stream(x: Any) -> Stream | None:
    """The stream that goes on where iterator ``x`` is; None for anything else."""
    kind = type(x)
    if isinstance(x, Stream):
        return x
    if isinstance(x, Mapped):
        return Cursor(x)
    if kind is GeneratorType:
        return _of_generator(x)
    make = _MAKERS.get(kind)
    if make is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            made: Any = x.__reduce__()
        except TypeError:  # it has none
            return None
    is_strict = kind is zip and len(made) > 2
    return None if is_strict else make(*made[1], *made[2:])


def _of_generator(x: GeneratorType) -> Stream | None:
    """What ``iterated`` makes of a list; other generators keep their frames."""
    frame = x.gi_frame
    if frame is None or frame.f_code.co_name not in ("<genexpr>", "in_turn") or x.gi_running:
        return None
    inner = frame.f_locals.get(".0") or frame.f_locals.get("left")
    is_ours = frame.f_code.co_filename.startswith(_HERE)
    found = stream(inner) if is_ours else None
    return Listed(found.items, found.place) if isinstance(found, Cursor) else None


_HERE = __file__.rpartition("/")[0]


def _sources(items: Any) -> list[Stream]:
    return [source(x) for x in items]


def _enumerated(items: Any, start: int) -> Stream:
    return Enumerate(source(items), start)


def _sliced(
    items: Any, start: int = 0, stop: int | None = None, step: int = 1, done: int = 0
) -> Stream:
    return Slice(source(items), start - done, stop if stop is None else stop - done, step)


def _cycled(items: Any, state: Any) -> Stream:
    return Cycle([*state[0], *items], len(state[0]))


def _reversed(items: Any, place: int = -1) -> Stream:
    return Cursor(items, place, -1)


_MAKERS: dict[type, Callable[..., Stream]] = {
    **{kind: lambda items, place=0: Cursor(_whole(items), place) for kind in _FROM_START},
    type(reversed([])): _reversed,
    reversed: _reversed,
    zip: lambda *items: Zip(_sources(items)),
    map: lambda function, *items: Zip(_sources(items), function),
    enumerate: _enumerated,
    itertools.count: Count,
    itertools.islice: _sliced,
    itertools.cycle: _cycled,
    itertools.repeat: Repeat,
}


def _whole(items: Any) -> Any:
    return items if isinstance(items, (list, tuple, range, str)) else list(items)
