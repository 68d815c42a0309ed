"""Sequences whose length is known at run time: ranges, zips, tensors, lists that a loop filled."""

from __future__ import annotations

import collections
import gc
import operator
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from oarlock.capture.convert.handlers import expected
from oarlock.capture.convert.state import State, Text
from oarlock.capture.convert.tracing import at_key, is_proxy, is_table, tracer
from oarlock.capture.convert.truth import (
    here,
    is_run_time,
    negated,
    number,
    refuse_here,
    select,
    special,
    truth,
)


def is_run_time_sequence(items: Any) -> bool:
    """Whether a loop over it runs a number of times that only its tape knows."""
    active = tracer()
    if active is None or type(items) in (list, tuple, str, range):
        return False
    active.uses(items)
    if isinstance(items, torch.Tensor):
        return items.dim() > 0 and is_run_time(items.shape[0])
    return is_proxy(items)


def own_items(items: Any) -> Any:
    """What an object's own ``__iter__`` gives, converted; any other value as it is."""
    from oarlock.capture.convert.stepped import entered

    active = tracer()
    if active is not None:
        active.uses(items)
    if hasattr(type(items), "is_stream"):
        return items.rest() if is_run_time(items.more()) else items
    if is_table(items):
        return items.in_order()
    if active is None or type(items) in _PLAIN or is_proxy(items):
        return items
    items = entered(items)
    is_ended = hasattr(type(items), "is_stream") and is_run_time(items.more())
    return items.rest() if is_ended else items


_PLAIN = (list, tuple, dict, set, str, range)


def spread(is_tuple: bool, parts: tuple[tuple[bool, Any], ...]) -> Any:
    """The list or tuple of items and of unpacked sequences."""
    active = tracer()
    pieces: list[Any] = []
    for is_many, value in parts:
        value = own_items(value) if is_many else value
        if is_many and is_run_time_sequence(value):
            pieces.append(_listed(value))
        elif pieces and type(pieces[-1]) is list:
            pieces[-1] += value if is_many else (value,)
        else:
            pieces.append([*value] if is_many else [value])
    if all(type(x) is list for x in pieces):
        items = [x for piece in pieces for x in piece]
        return tuple(items) if is_tuple else (items if active is None else active.list_(items))
    return active.lists.spread(tuple if is_tuple else list, pieces)


def _listed(value: Any) -> Any:
    from oarlock.capture.convert.builtin_calls import TYPES

    return value if isinstance(value, list) else TYPES[list](value)


def length(items: Any) -> Any:
    """``len(items)``, symbolic where it must be."""
    if isinstance(items, torch.Tensor) and items.dim():
        return items.shape[0]
    return items.run_time_length() if is_proxy(items) else len(items)


def at_index(items: Any, index: Any) -> Any:
    if type(items) is range and is_run_time(index):
        items = Range(items.start, items.stop, items.step)
    return items.run_time_item(index) if is_proxy(items) else item(items, index)


def first_items(items: Any, count: int) -> list[Any]:
    """The items of a sequence of run-time length, which must have ``count`` of them."""

    def require(fits: Any, message: str) -> None:
        def fail() -> None:
            raise ValueError(message)

        if is_run_time(fits):
            tracer().if_(truth(fits), lambda: None, fail, here())
        elif not fits:
            fail()

    found = length(items)
    for n in range(count):
        require(found != n, f"not enough values to unpack (expected {count}, got {n})")
    require(found <= count, f"too many values to unpack (expected {count})")
    return [at_index(items, i) for i in range(count)]


def range_length(start: int, stop: int, step: int) -> int:
    return len(range(start, stop, step))


def _are_equal(*ends: int) -> bool:
    """Two ranges, by their starts, stops and steps."""
    return range(*ends[:3]) == range(*ends[3:])


@dataclass(eq=False)
class Range:
    """``range`` of symbolic numbers."""

    start: Any
    stop: Any
    step: Any = 1

    def run_time_length(self) -> Any:
        if is_run_time(self.step):
            return tracer().compute(range_length, self.start, self.stop, self.step)
        step = self.step
        if step == 0:
            raise ValueError("range() arg 3 must not be zero")
        span = self.stop - self.start if step > 0 else self.start - self.stop
        return tracer().compute(max, 0, (span + abs(step) - 1) // abs(step))

    def run_time_item(self, index: Any) -> Any:
        return self.start + index * self.step

    def __eq__(self, other: Any) -> Any:
        if not isinstance(other, (Range, range)):
            return NotImplemented
        ends = [getattr(x, name) for x in (self, other) for name in ("start", "stop", "step")]
        return tracer().compute(_are_equal, *ends)

    def __ne__(self, other: Any) -> Any:
        found = self.__eq__(other)
        return found if found is NotImplemented else tracer().compute(operator.not_, found)

    __hash__ = None  # type: ignore[assignment]

    def __iter__(self) -> Any:
        return _no_iterator()


@dataclass
class Mapped:
    """A function of the items of sequences: ``enumerate``, ``zip``, ``map``, ``reversed``."""

    function: Callable[..., Any]
    sources: tuple[Any, ...]
    backwards: bool = False

    def run_time_length(self) -> Any:
        total = length(self.sources[0])
        for other in self.sources[1:]:
            total = tracer().compute(min, total, length(other))
        return total

    def run_time_item(self, index: Any) -> Any:
        place = self.run_time_length() - 1 - index if self.backwards else index
        return self.function(index, *(at_index(s, place) for s in self.sources))

    def __iter__(self) -> Any:
        return _no_iterator()


def lists_below(items: Any, depth: int = 4) -> list[Any]:
    """The lists of a trace that a plain iterator goes over."""
    if isinstance(items, list):
        return [items] if hasattr(type(items), "run_time_length") else []
    if not depth or not isinstance(items, Iterator):
        return []
    inner = gc.get_referents(items)
    beside = [y for x in inner if type(x) is tuple for y in x if isinstance(y, Iterator)]  # of zip
    return [x for one in (*inner, *beside) for x in lists_below(one, depth - 1)]


def still_plain(lists: list[Any]) -> None:
    """Raises: UnsupportedError where data decide how long one of them is now."""
    if any(map(is_run_time_sequence, lists)):
        refuse_here(
            "data decide how long a list is that a loop goes over, by enumerate, zip or the like",
            "loop over the list itself, and count in the loop",
        )


def checked_items(items: Any, lists: list[Any]) -> Iterator[Any]:
    """Each of ``items``, as long as ``lists`` are plain."""
    for x in items:
        yield x
        still_plain(lists)


def _no_iterator() -> Any:
    return refuse_here(
        "a sequence of run-time length is read outside of a for loop",
        "loop over it, or stack it to a tensor",
    )


class Rounds:
    """The items of a plain loop, which a trace may go through more than once from some round on."""

    def __init__(self, items: Any) -> None:
        self.held: Any = items if isinstance(items, (list, tuple, range)) else []
        self.source = None if self.held is items else iter(items)

    def items(self, place: int = 0, is_early: bool = False) -> Iterator[Any]:
        """``is_early``: data decide whether the code asks for them."""
        while place < len(self.held) or self.source is not None:
            if place == len(self.held):
                try:
                    self.held.append(self.taken(is_early))
                except StopIteration:
                    return
            yield self.held[place]
            place += 1

    def taken(self, is_early: bool) -> Any:
        """The next item.  Raises: StopIteration; UnsupportedError where others could notice."""
        seen: list[bool] = []
        with tracer().noticing.watching(seen) if is_early else nullcontext():
            found = next(self.source)  # type: ignore[arg-type]
        if seen and seen[0]:
            refuse_here(
                "an iterator that draws, updates or changes something as it goes on, in a loop that "
                "data end",
                "loop over places, and do in the loop what the iterator does",
            )
        return found


UNROLLED = 8  # rounds of a plain loop after one that may be its last


def is_long(items: Any, start: int) -> bool:
    """Whether the rest of a plain loop is better a loop of the tape than written out."""
    if type(items) is range or (isinstance(items, torch.Tensor) and items.dim()):
        return len(items) - start > UNROLLED
    return False


def loop(
    items: Any, body: Callable[[Any], None], stop: Any, state: State, start: int = 0,
    halted: Any = False,
) -> None:  # fmt: skip
    """``for item in items[start:]`` as a ``while`` over an index, unless ``halted``."""
    total = length(items)
    index: list[Any] = [start]
    go: list[Any] = [total > start]
    if is_run_time(halted):
        more = go[0]
        go[0] = select(negated(halted), lambda: more, lambda: False, _stateless(state))
    if type(items) is range:
        items = Range(items.start, items.stop, items.step)
    elif isinstance(items, torch.Tensor) and items.requires_grad and is_run_time(total):
        items = items.unbind(0)  # its gradient adds up as that of Python's own loop

    def round_() -> None:
        body(at_index(items, index[0]))
        index[0] = index[0] + 1
        more = index[0] < (length(items) if isinstance(items, list) else total)
        halt = False if stop is None else stop()
        if is_run_time(halt):
            go[0] = select(negated(halt), lambda: more, lambda: False, _stateless(state))
        else:
            go[0] = more if not halt else False

    carried = state.with_cell("index", index).with_cell("go on", go)
    is_whole = stop is None and start == 0
    tracer().while_(lambda: go[0], round_, carried, total if is_whole else None)


def _stateless(state: State) -> State:
    return State((), tuple, lambda _: None, state.where)  # type: ignore[arg-type]


def _ends(key: Any) -> tuple[Any, ...]:
    return (key.start, key.stop, key.step) if type(key) is slice else (key,)


def item(owner: Any, key: Any) -> Any:
    """``owner[key]``; a run-time key of a plain sequence picks by a chain of comparisons."""
    active = tracer()
    if active is None:
        return owner[key]
    if isinstance(owner, torch.Tensor):
        key = _with_numbers(key)
        return active.indexed(owner, key) if _has_rows(key) else owner[key]
    kind = type(owner)
    if is_table(owner):
        return owner[key]
    if isinstance(owner, dict) and not active.is_symbolic(key):
        active.uses(owner, key)
    else:
        active.uses(owner)
    if isinstance(owner, dict):
        active.journal.keyed(key)
    if kind is Text:
        return owner.changed(operator.getitem, key)
    if kind is str and any(map(is_run_time, _ends(key))):
        return active.texts.made(operator.getitem, owner, key)
    if active.is_choice(key):
        return active.each(key, lambda k: item(owner, k))
    method = None if kind in _PLAIN else special(owner, "__getitem__")
    if method is not None:
        return method(owner, key)
    is_inside = expected(owner, key)
    if isinstance(key, Text) and isinstance(owner, (dict, torch.nn.ModuleDict)):
        return _look_up(owner, key, is_inside)
    if is_run_time(key) and not is_proxy(owner):
        if isinstance(owner, (list, tuple, torch.nn.ModuleList, torch.nn.ParameterList)):
            if hasattr(owner, "site"):
                active.tables.follow(owner)
            with at_key(owner):
                return _pick(owner, key, is_inside)
        if isinstance(owner, (dict, torch.nn.ModuleDict)) and not isinstance(key, torch.Tensor):
            return _look_up(owner, key, is_inside)
    if type(key) is slice and type(owner) in (tuple, list):
        key = _with_numbers(key)
        if any(map(is_run_time, _ends(key))):
            return active.lists.derived(operator.getitem, (owner, key), [owner])
    if hasattr(kind, "__missing__"):
        active.journal.touch(owner)
    with at_key(owner):
        value = owner[key]
    active.code.item(owner, key, value)
    if (kind is list or isinstance(owner, dict)) and hasattr(active, "read_item"):
        return active.read_item(owner, key, value)
    return value


def _with_numbers(key: Any) -> Any:
    """A key whose slices end at numbers of the run, where they end at tensors of one element."""
    if type(key) is tuple:
        return tuple(map(_with_numbers, key))
    if type(key) is not slice:
        return key
    parts = (key.start, key.stop, key.step)
    return slice(*(_number(x) if isinstance(x, torch.Tensor) else x for x in parts))


def _has_rows(key: Any) -> bool:
    """Lists of run-time length are in a key, which torch would take apart."""
    return any(isinstance(x, list) and is_proxy(x) for x in (key if type(key) is tuple else (key,)))


def _number(x: torch.Tensor) -> Any:
    return x if x.dtype.is_floating_point or x.dim() else number(x)


def _pick(owner: Any, key: Any, is_inside: bool = False) -> Any:
    """``owner[key]``; is_inside: the code has decided that there is such an item."""
    if isinstance(key, torch.Tensor):
        if key.dtype.is_floating_point or key.numel() != 1:
            return owner[operator.index(key)]
        key = key.reshape(()).item()
    count = len(owner)

    def from_(place: int) -> Any:
        if place == count:
            kind = "list" if isinstance(owner, list) else type(owner).__name__
            raise IndexError(f"{kind} index out of range")
        if is_inside and place == count - 1:
            return owner[place]
        hit = (key == place) | (key == place - count)
        return select(truth(hit), lambda: owner[place], lambda: from_(place + 1), here())

    return from_(0)


def value_at(keys: tuple, values: tuple, key: Any, counts: bool = False) -> Any:
    """Of a dict of numbers; ``counts``: of a Counter.  Raises: KeyError."""
    for known, value in zip(keys, values):
        if key == known:
            return value
    if counts:
        return 0
    raise KeyError(key)


def is_plain_table(owner: Any, key: Any) -> bool:
    """Numbers by number, asked with one of the call that is not computed from data."""
    values = list(owner.values())
    return (
        not getattr(key, "is_data", True)
        and (type(owner) in (dict, collections.Counter))
        and all(type(x) in (int, float) for x in (*owner, *values))
        and len(set(map(type, values))) == 1
    )


def _look_up(owner: Any, key: Any, is_inside: bool = False) -> Any:
    if isinstance(owner, dict) and is_plain_table(owner, key):
        values = tuple(owner.values())
        return tracer().number(
            value_at,
            (tuple(owner), values, key, type(owner) is collections.Counter),
            values[0],
            False,
        )
    if hasattr(type(owner), "__missing__"):
        with at_key(owner):
            refuse_here(
                f"data decide a key of a {type(owner).__name__}, which makes what is missing",
                "make it in the function",
            )
    is_text = isinstance(key, str)
    keys = [k for k in owner if k is not None and isinstance(k, str) is is_text]

    def from_(place: int) -> Any:
        if place == len(keys):
            raise KeyError(key)
        name = keys[place]
        if is_inside and place == len(keys) - 1:
            return owner[name]
        return select(truth(key == name), lambda: owner[name], lambda: from_(place + 1), here())

    return from_(0)


def set_item(owner: Any, key: Any, value: Any) -> None:
    """``owner[key] = value``"""
    from oarlock.capture.convert.calls import report_change

    active = tracer()
    if active is not None and active.is_choice(key):
        active.each(key, lambda k: set_item(owner, k, value))
        return
    if active is not None and active.is_choice(owner):
        active.each(owner, lambda x: set_item(x, key, value))
        return
    if is_table(owner):
        owner[key] = value
        return
    if isinstance(owner, dict) and isinstance(key, (torch.SymInt, torch.SymFloat)):
        with at_key(owner):
            key = active.concrete(key, "a key of a dict") if is_run_time(key) else key
    if active is not None:
        report_change(active, owner)
        if isinstance(owner, dict) and type(key) in (str, int, float):
            active.wrote(owner, key, value)
    if isinstance(owner, list) and is_run_time(key):
        if isinstance(key, torch.Tensor):
            key = key.reshape(()).item()
        if is_proxy(owner):
            owner[key] = value
            return
        count = len(owner)
        for place in range(count):
            hit = truth((key == place) | (key == place - count))
            owner[place] = select(hit, lambda: value, lambda p=place: owner[p], here())
        return
    if tracer() is not None:
        tracer().code.changes(owner)
    method = special(owner, "__setitem__") if tracer() is not None else None
    if method is not None:
        method(owner, key, value)
    else:
        key = _with_numbers(key)
        if isinstance(owner, torch.Tensor) and active is not None and _has_rows(key):
            active.indexed(owner, key, value)
        else:
            with at_key(owner):
                owner[key] = value


def del_item(owner: Any, key: Any) -> None:
    """``del owner[key]``"""
    if isinstance(owner, list) and isinstance(key, torch.Tensor) and is_run_time(key):
        key = key.reshape(()).item()
    with at_key(owner):
        del owner[_with_numbers(key)]
