"""Dicts and sets whose keys are known at run time.

A dict of a trace is an ordinary one as long as its keys are.  Where data decide a key, the capture is
repeated with a dict of the run in its place from where the code makes it: each of its methods is a call
on the tape, on a real dict in the replay.
"""

from __future__ import annotations

import operator
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Set
from typing import TYPE_CHECKING, Any

import torch

from oarlock.capture.convert.handlers import Steering
from oarlock.capture.convert.truth import here, holds, select
from oarlock.capture.tape import runtime
from oarlock.capture.tape.items import loosely
from oarlock.capture.tape.join import holds_run_time
from oarlock.capture.tape.nodes import Val, leaves
from oarlock.capture.tape.numbers import Number
from oarlock.capture.tape.run_list import RunList
from oarlock.errors import UnsupportedError

if TYPE_CHECKING:
    from oarlock.capture.tape.tracer import Tracer

KINDS = (dict, set, OrderedDict, defaultdict, Counter)
LENGTH = 2  # a sample
Site = tuple[str, int]


class Follow(Steering):
    """Containers made at ``sites`` must be of the run."""

    def __init__(self, sites: frozenset[Site]) -> None:
        super().__init__(sites)
        self.sites = sites


class RunTable:
    """A dict or set of the run."""

    is_run_table = True

    def __init__(self, tracer: Tracer, kind: type, factory: Any = None) -> None:
        self.tracer, self.kind, self.factory = tracer, kind, factory
        self.val = Val(tracer.block, self)
        self.held = tracer.lists.holder(self.val)  # its keys
        self.values_held = tracer.lists.holder(self.val)

    # ---- what Python asks of any container

    def run_time_length(self) -> Any:
        return self.tracer.number(len, (self.val,), LENGTH, True)

    def run_time_item(self, index: Any) -> Any:
        return self.in_order()[index]

    def has(self, key: Any) -> Any:
        self.check(key)
        found = self.tracer.number(holds, (self.val, key), True, True)
        found.other = False
        return found

    def __iter__(self) -> Any:
        return iter(self.in_order())

    def __len__(self) -> int:
        return self.tracer.concrete(self.run_time_length(), "the length of a dict or set")

    __hash__ = None  # type: ignore[assignment]

    def __getitem__(self, key: Any) -> Any:
        if self.factory is not None:
            self.setdefault(key, self.factory)
        elif self.kind is Counter:
            return self.get(key, 0)
        return self.drawn(operator.getitem, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.learn(key, value)
        self.emit(operator.setitem, key, value)

    def __delitem__(self, key: Any) -> None:
        self.check(key)
        self.emit(operator.delitem, key)

    # ---- dicts

    def get(self, key: Any, default: Any = None) -> Any:
        return select(
            self.has(key), lambda: self.drawn(operator.getitem, key), lambda: default, here()
        )

    def setdefault(self, key: Any, value: Any = None) -> Any:
        from oarlock.capture.convert.calls import call

        def fill() -> None:
            made = call(value)() if value is not None and value is self.factory else value
            self.learn(key, made)
            self.emit(operator.setitem, key, made)

        self.tracer.if_(self.has(key), lambda: None, fill, here())
        return self.drawn(operator.getitem, key)

    def pop(self, *key: Any) -> Any:
        if self.kind is set:
            return self.tracer.lists.call(self.held, set.pop, (), self.held.item)
        if len(key) == 1:
            return self.drawn(dict.pop, *key)
        return select(
            self.has(key[0]), lambda: self.drawn(dict.pop, key[0]), lambda: key[1], here()
        )

    def popitem(self, last: bool = True) -> Any:
        joint = loosely(self.tracer, self.pair())
        return self.tracer.lists.call(self.values_held, runtime.popitem, (last,), joint)

    def in_order(self) -> RunList:
        return self.view(runtime.items_of, self.held)

    def keys(self) -> RunKeys:
        found: Any = self.in_order()
        found.__class__ = RunKeys
        return found

    def values(self) -> RunList:
        return self.view(runtime.values_of, self.values_held)

    def items(self) -> RunList:
        return self.pairs(runtime.pairs_of)

    def most_common(self, *n: Any) -> RunList:
        return self.pairs(Counter.most_common, *n)

    def elements(self) -> RunList:
        return self.view(runtime.elements_of, self.held)

    def total(self) -> Any:
        return self.tracer.number(Counter.total, (self.val,), LENGTH, True)

    def move_to_end(self, key: Any, last: bool = True) -> None:
        self.emit(OrderedDict.move_to_end, key, last)

    # ---- sets

    def add(self, key: Any) -> None:
        self.learn(key)
        self.emit(set.add, key)

    def discard(self, key: Any) -> None:
        self.check(key)
        self.emit(set.discard, key)

    def remove(self, key: Any) -> None:
        self.check(key)
        self.emit(set.remove, key)

    def issubset(self, other: Any) -> Any:
        return self.tracer.number(set.issubset, (self.val, other), True, True)

    def issuperset(self, other: Any) -> Any:
        return self.tracer.number(set.issuperset, (self.val, other), True, True)

    def isdisjoint(self, other: Any) -> Any:
        return self.tracer.number(set.isdisjoint, (self.val, other), True, True)

    # ---- both

    def clear(self) -> None:
        self.emit(self.kind.clear)

    def copy(self) -> RunTable:
        return self.joined(runtime.copy_of)

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> RunTable:
        memo[id(self)] = found = self.joined(runtime.deep_copied)
        return found

    def update(self, *others: Any, **named: Any) -> None:
        for other in (*others, *([named] if named else [])):
            self.learn_all(other)
            self.emit(self.kind.update, other)

    def joined(self, op: Callable[..., Any], *others: Any, is_reflected: bool = False) -> RunTable:
        """A new table of this kind that ``op`` gives."""
        found = self.tracer.tables.new(self.kind, self.factory)
        for other in (self, *others):
            found.learn_all(other)
        args = (*others, self.val) if is_reflected else (self.val, *others)
        self.tracer.emit(op, args, {}, found.val)
        return found

    # ---- what it holds

    def emit(self, op: Callable[..., Any], *args: Any) -> None:
        self.tracer.emit(op, (self.val, *args), {}, None)

    def check(self, key: Any) -> None:
        if any(isinstance(x, torch.Tensor) for x in leaves(key)):
            raise UnsupportedError(
                f"{self.tracer.where()}: a tensor is a key of a dict or set whose keys data decide; "
                f"take its number, `int(t)`"
            )

    def learn(self, key: Any, *value: Any) -> None:
        self.check(key)
        self.tracer.lists.learn(self.held, key)
        for x in value:
            self.tracer.tables.inside(x)
            self.tracer.lists.learn(self.values_held, x)
            self.tracer.merged.noted(self.values_held, [x])

    def learn_all(self, other: Any) -> None:
        """It may hold what ``other`` holds."""
        if isinstance(other, RunTable):
            for mine, its in ((self.held, other.held), (self.values_held, other.values_held)):
                self.tracer.lists.learn_all(mine, its)
                if its.item is not None:
                    self.tracer.merged.derived(mine, its)
        elif isinstance(other, RunList) and other.val is not None:
            if other.item is not None:
                self.learn_one(self.tracer.sample_of(other.item))
        elif isinstance(other, dict):
            for key, value in other.items():
                self.learn(key, value)
        else:
            for x in other:
                self.learn_one(x)

    def learn_one(self, x: Any) -> None:
        """An item of what a set, a dict or a counter is made of."""
        if self.kind is set:
            self.learn(x)
        elif self.kind is Counter:
            self.learn(x, self.counted())
        else:
            self.learn(*x)

    def counted(self) -> Any:
        number = self.tracer.number(runtime.same, (1,), 1, True)
        number.other = 2
        return number

    def drawn(self, op: Callable[..., Any], *args: Any) -> Any:
        self.check(args)
        if self.values_held.item is None:
            raise KeyError(*args)
        return self.tracer.lists.call(self.values_held, op, args, self.values_held.item)

    def view(self, op: Callable[..., Any], source: RunList) -> RunList:
        return self.tracer.lists.derived(op, (self.val,), [source])

    def pair(self) -> tuple[Any, Any]:
        held = (self.held.item, self.values_held.item)
        if None in held:
            raise KeyError("popitem(): dictionary is empty")
        return self.tracer.sample_of(held[0]), self.tracer.sample_of(held[1])

    def pairs(self, op: Callable[..., Any], *args: Any) -> RunList:
        found = self.tracer.lists.derived(op, (self.val, *args), [])
        found.lengths = None
        if self.held.item is not None:
            self.tracer.lists.learn(found, self.pair())
            self.tracer.merged.derived(found, self.values_held)
        return found


class RunKeys(RunList):
    """The keys of a table: a set to operators, in order to loops."""

    def as_set(self) -> RunTable:
        return self.tracer.tables.build(set, None, self, False)

    def isdisjoint(self, other: Any) -> Any:
        return self.as_set().isdisjoint(other)


def _of_set(name: str) -> Callable[..., Any]:
    return lambda self, other: getattr(self.as_set(), name)(other)


def _binary(name: str, is_reflected: bool) -> Callable[..., Any]:
    op = getattr(operator, f"{name}_" if name in ("or", "and") else name)

    def run(self: RunTable, other: Any) -> Any:
        return self.joined(op, other, is_reflected=is_reflected)

    return run


def _in_place(name: str) -> Callable[..., Any]:
    op = getattr(operator, f"i{name}")

    def run(self: RunTable, other: Any) -> RunTable:
        self.learn_all(other)
        self.emit(op, other)
        return self

    return run


def _comparison(name: str) -> Callable[..., Any]:
    op = getattr(operator, name)

    def run(self: RunTable, other: Any) -> Any:
        if not isinstance(other, (RunTable, dict, Set)):
            return NotImplemented
        return self.tracer.number(op, (self.val, other), True, True)

    return run


def _updating(name: str) -> Callable[..., Any]:
    def run(self: RunTable, *others: Any) -> None:
        for other in others:
            self.learn_all(other)
        self.emit(getattr(self.kind, name), *others)

    return run


def _named(name: str) -> Callable[..., Any]:
    return lambda self, *others: self.joined(getattr(self.kind, name), *others)


for _name in ("or", "and", "sub", "xor", "add"):
    setattr(RunTable, f"__{_name}__", _binary(_name, False))
    setattr(RunTable, f"__r{_name}__", _binary(_name, True))
    setattr(RunTable, f"__i{_name}__", _in_place(_name))
for _name in ("or", "and", "sub", "xor"):
    setattr(RunKeys, f"__{_name}__", _of_set(f"__{_name}__"))
    setattr(RunKeys, f"__r{_name}__", _of_set(f"__r{_name}__"))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(RunTable, f"__{_name}__", _comparison(_name))
    setattr(RunKeys, f"__{_name}__", _of_set(f"__{_name}__"))
for _name in ("union", "intersection", "difference", "symmetric_difference"):
    setattr(RunTable, _name, _named(_name))
for _name in ("intersection", "difference", "symmetric_difference"):
    setattr(RunTable, f"{_name}_update", _updating(f"{_name}_update"))
RunTable.subtract = _updating("subtract")  # type: ignore[attr-defined]


class Tables:
    """The dicts and sets of a trace.  ``sites``: lines whose dicts and sets are of the run."""

    def __init__(self, tracer: Tracer, sites: frozenset[Site]) -> None:
        self.tracer, self.sites = tracer, sites
        self.places: dict[int, tuple[Any, Site]] = {}  # where ordinary ones are made

    def new(self, kind: type, factory: Any = None) -> RunTable:
        found = RunTable(self.tracer, kind, factory)
        self.tracer.journal.create(found)
        return found

    def site(self) -> Site:
        where = self.tracer.where()
        return where.file, where.line

    def made(self, x: Any) -> Any:
        """What stands for a dict or set that the code has just made."""
        if type(x) not in (*KINDS, deque):
            return x
        site = self.site()
        if site not in self.sites:
            self.places[id(x)] = (x, site)
            return x
        if isinstance(x, deque):
            return self.tracer.lists.new_deque(list(x), x.maxlen)
        is_dict = isinstance(x, dict)
        rows = [(k, v) for k, v in dict.items(x)] if is_dict else list(x)
        return self.build(type(x), getattr(x, "default_factory", None), rows, is_dict)

    def build(self, kind: type, factory: Any, rows: Any, is_pairs: bool) -> RunTable:
        """``kind(rows)``; ``is_pairs``: the rows are keys with values."""
        found = self.new(kind, factory)
        if is_pairs and kind is Counter:
            for key, value in rows:
                found.learn(key, value)
        else:
            found.learn_all(rows)
        self.tracer.emit(runtime.table, (kind, factory, rows, is_pairs), {}, found.val)
        return found

    kinds = KINDS

    def is_of_run(self, kind: type, rows: Any) -> bool:
        """Data decide the keys of ``kind(rows)``."""
        if isinstance(rows, RunTable) or (isinstance(rows, RunList) and rows.val is not None):
            return True
        if isinstance(rows, (list, tuple)):
            is_pairs = kind not in (set, Counter)
            return any(self.is_key(x[0] if is_pairs and type(x) is tuple else x) for x in rows)
        return False

    def is_key(self, x: Any) -> bool:
        """A key that data decide."""
        numbers = [n for n in leaves(x) if isinstance(n, Number)]
        return any(n.is_data and n.val.id not in self.tracer.control.made for n in numbers)

    def blame(self, refusal: Any, owner: Any) -> None:
        """``refusal`` would not be if ``owner`` were a table of the run."""
        if id(owner) in self.places:
            refusal.sites |= {self.places[id(owner)][1]}
        elif isinstance(owner, RunList) and owner.site is not None:
            refusal.sites |= {owner.site}

    def follow(self, owner: RunList) -> None:
        """Data pick one of the lists in ``owner``, which may change.  Raises: Follow."""
        items = [x for x in list.__iter__(owner) if isinstance(x, RunList) and x.source is None]
        if not items or owner.site is None or owner.site in self.sites:
            return
        sizes = {list.__len__(x) for x in items}
        if 0 in sizes or len(sizes) > 1 or any(map(holds_run_time, items)):
            raise Follow(frozenset([owner.site]))

    def refollow(self, inner: RunList) -> None:
        """``inner`` must be of the run from where it is made.  Raises: Follow, UnsupportedError."""
        if inner.site is not None and inner.site not in self.sites:
            raise Follow(frozenset([inner.site]))
        raise UnsupportedError(
            f"{self.tracer.where()}: a list that is one of several, as data decide, is in two "
            f"containers; make it where it is put"
        )

    def one_of(self, leaf: Any, val: Val) -> RunTable:
        """What the code holds for one of several tables."""
        like = leaf.parts[0]
        found = RunTable(self.tracer, like.kind, like.factory)
        found.val = found.held.val = found.values_held.val = val
        found.held.cell, found.values_held.cell = like.held.items, like.values_held.items
        self.tracer.journal.create(found)
        return found

    def unify(self, a: RunTable, b: RunTable) -> None:
        """Two tables may be one."""
        self.tracer.lists.unify(a.held.items, b.held.items)
        self.tracer.lists.unify(a.values_held.items, b.values_held.items)

    def inside(self, x: Any) -> None:
        """``x`` becomes a value of a table: a container in it must be of the run.  Raises:
        UnsupportedError."""
        for one in x if isinstance(x, tuple) else (x,):
            is_open = type(one) in KINDS and (type(one) is not dict or not one)
            if is_open and id(one) in self.places:
                refusal = UnsupportedError(
                    f"{self.tracer.where()}: a {type(one).__name__} is in a container whose keys data "
                    f"decide; make it in the function"
                )
                self.blame(refusal, one)
                raise refusal
