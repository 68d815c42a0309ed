"""The lists of a trace whose length is known at run time."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from oarlock.capture.tape import runtime
from oarlock.capture.tape.items import merged, of_one, outs_of
from oarlock.capture.tape.join import Joiner, Leaf, leaves_of
from oarlock.capture.tape.loops import same_type
from oarlock.capture.tape.nodes import Block, Call, Val, blocks_of, leaves
from oarlock.capture.tape.run_deque import RunDeque
from oarlock.capture.tape.run_list import LENGTHS, Items, RunList, RunTuple, is_run
from oarlock.errors import UnsupportedError

if TYPE_CHECKING:
    from oarlock.capture.tape.tracer import Tracer


STEPS: dict[Any, int] = {list.append: 1, list.insert: 1, list.pop: -1, operator.getitem: 0,
                         operator.setitem: 0, list.reverse: 0}  # fmt: skip


def list_of(*items: Any) -> list[Any]:
    return list(items)


class Lists:
    """The run-time lists of a trace."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.learned: list[
            Block | None
        ] = []  # homes of lists whose items got another type, in order
        self.all: list[RunList] = []

    def new(self, items: Any = (), kind: type[RunList] = RunList) -> RunList:
        found = kind(items)
        found.tracer = self.tracer
        self.all.append(found)
        self.tracer.journal.create(found)
        found.born = Val(self.tracer.block, found)
        self.shadowed(list_of, tuple(list.__iter__(found)), found.born, found)
        found.site = self.tracer.tables.site()
        if found.site in self.tracer.tables.sites:
            count = list.__len__(found)
            found.items.is_deep = True
            self.materialise(found, [])
            found.home, found.lengths = self.tracer.block, (count, count)
        return found

    def new_deque(self, items: Any, maxlen: int | None) -> RunList:
        """A deque of the run."""
        is_run_time = is_run(items)
        found = self.new([] if is_run_time else items, RunDeque)
        found.maxlen = maxlen  # type: ignore[attr-defined]
        if is_run_time:
            found.extend(items)
        return found

    def run(self, lengths: Any, is_data: bool) -> RunList:
        """A list that a call of the run gives."""
        found = RunList()
        found.tracer = self.tracer
        found.val = found.born = Val(self.tracer.block, found)
        self.all.append(found)
        found.home, found.lengths = self.tracer.block, None if is_data else tuple(lengths)
        return found

    def outer(self, items: list[Any], source: Any, observed: Any = None) -> RunList:
        """The stand-in of a list that exists before the call."""
        found = RunList(items)
        found.tracer, found.source, found.observed = self.tracer, source, observed
        found.born = Val(self.tracer.root, found, str(source))
        return found

    def shadow(self, obj: RunList, op: Any, args: tuple) -> None:
        """Record what happens to a list, in case that it becomes one of the run later."""
        self.shadowed(op, (obj.born, *args), None, obj)

    def shadowed(self, op: Any, args: tuple, outs: Any, obj: RunList) -> None:
        tracer = self.tracer
        obj.changed = where = tracer.where()
        call = Call(op, tracer.noted(args), {}, outs, where, left=tracer.progress.before())
        call.shadow = obj  # type: ignore[attr-defined]
        tracer.merged.noted(obj, args)
        tracer.block.nodes.append(call)

    def grow(self, a: Any, b: Any, old: Any) -> bool:
        """Make run-time lists of those whose length two paths leave different; whether there were."""
        grown = False
        for key, (obj, before) in old.items():
            if not isinstance(obj, list) or is_run(obj):
                continue
            x = a.get(key, (obj, before))[1]
            y = before if b is None else b.get(key, (obj, before))[1]
            if len(x) != len(y):
                self.materialise(obj, [*x, *y])
                grown = True
        return grown

    def materialise(self, obj: Any, seen: list[Any]) -> None:
        """From here on ``obj`` is a list of the run; ``seen``: items that it will hold."""
        tracer = self.tracer
        if not isinstance(obj, RunList):
            raise UnsupportedError(
                f"{tracer.where()}: a list from outside the function grows where data decides; "
                f"build a new list in the function and extend the other one once, after it"
            )
        items = list.copy(obj)
        for x in [*items, *seen]:  # refused before the list is another
            of_one(Joiner(tracer.val), x, obj.changed or tracer.where())
        obj.val = obj.born
        if obj.source is not None:
            tracer.inputs.add(obj.val, obj.source, obj)
            tracer.merged.are_objects_told = True
        list.clear(obj)
        for x in [*items, *seen]:
            self.learn(obj, x)
        tracer.merged.grown(obj)
        tracer.objects.places.pop(id(obj), None)

    def learn(self, obj: RunList, x: Any) -> None:
        """``obj`` may hold ``x``."""
        joiner, where = Joiner(self.tracer.val, outside=self.tracer.objects), self.tracer.where()
        if obj.items.is_deep:
            self.deepen(x)
        new = of_one(joiner, x, where) if obj.item is None else merged(joiner, obj.item, x, where)
        if obj.item is None or not same_type(obj.item, new):
            self.learned.append(obj.items.home)
        obj.item = new

    def deepen(self, x: Any) -> None:
        """Lists in ``x`` are of the run from now on, and so are lists in them.

        Raises: Follow where one is in another list already, which holds a copy of it at run time.
        """
        for inner in leaves(x):
            if not isinstance(inner, RunList) or (inner.items.is_deep and inner.val is not None):
                continue
            if inner.val is None and self.tracer.merged.is_noted(inner):
                self.tracer.tables.refollow(inner)
            inner.items.is_deep = True
            if inner.val is None:
                self.tracer.journal.touch(inner)
                self.materialise(inner, [])

    def holder(self, val: Val) -> RunList:
        """What knows the items of a container that is no list."""
        found = RunList()
        found.tracer, found.val, found.born = self.tracer, val, val
        found.items.is_deep = True
        self.all.append(found)
        return found

    def unify(self, a: Items, b: Items) -> None:
        """Lists with items ``a`` and lists with items ``b`` may be one list."""
        a, b = a.root(), b.root()
        if a is b:
            return
        joint, home = b.joint, b.home
        b.next, a.is_deep = a, a.is_deep or b.is_deep
        if joint is not None:
            known = RunList()
            known.tracer, known.cell = self.tracer, a
            self.learn(known, self.tracer.sample_of(joint))
        if not same_type(joint, a.joint):
            self.learned.append(home)
        if a.home is not None and home is not None and a.home.is_within(home):
            a.home = home

    def have_learned(self, since: int, *inside: Block) -> bool:
        """Whether items of lists that were made outside of these blocks got another type since
        ``learned`` was so long."""
        homes = [home for home in self.learned[since:] if home is not None]
        return any(not any(home.is_within(b) for b in inside) for home in homes)

    def length(self, obj: RunList) -> Any:
        obj.used()
        if obj.val is None:
            return list.__len__(obj)
        if obj.lengths is None:
            return self.tracer.number(len, (obj.val,), LENGTHS[0], True)
        found = self.tracer.number(len, (obj.val,), obj.lengths[0], False)
        found.other = obj.lengths[1]
        return found

    def get(self, obj: RunList, index: Any) -> Any:
        if obj.val is None:
            return list.__getitem__(obj, self.tracer.concrete(index, "an index"))
        if isinstance(index, slice):
            return self.derived(operator.getitem, (obj.val, index), [obj])
        return self.call(obj, operator.getitem, (index,), obj.item)

    def call(self, obj: RunList, op: Any, args: tuple, result: Any) -> Any:
        """A call on the list whose result is an item, or None."""
        tracer = self.tracer
        if result is None:
            raise IndexError("list index out of range")
        for leaf in leaves_of(result):
            leaf.out = Val(tracer.block, None)  # type: ignore[attr-defined]
        outs = outs_of(result)
        obj.used()
        self.count(obj, op)
        tracer.emit(op, (obj.val, *args), {}, outs)
        made = tracer.control.value(result)
        tracer.merged.drawn(obj, made, op is list.pop)
        return made

    def content(self, x: Any, parts: list[Any]) -> Any:
        """The items of a run-time value that is a container such as each of ``parts``."""
        joiner, where = Joiner(self.tracer.val, outside=self.tracer.objects), self.tracer.where()
        joint = of_one(joiner, parts[0], where)
        for part in parts[1:]:
            joint = merged(joiner, joint, part, where)
        for leaf in leaves_of(joint):
            leaf.out = Val(self.tracer.block, None)  # type: ignore[attr-defined]
        self.tracer.emit(runtime.same, (x,), {}, outs_of(joint))
        return self.tracer.control.value(joint)

    def put(self, obj: RunList, op: Any, args: tuple, x: Any) -> None:
        self.learn(obj, x)
        self.count(obj, op)
        self.tracer.emit(op, (obj.val, *args, x), {}, None)
        self.tracer.merged.noted(obj, [x])

    def count(self, obj: RunList, op: Any) -> None:
        """Keep account of the lengths through ``op``."""
        step = STEPS.get(op)
        if step is None or obj.lengths is None or obj.home is not self.tracer.block:
            obj.lengths = None
        else:
            obj.lengths = (obj.lengths[0] + step, obj.lengths[1] + step)

    def extend(self, obj: RunList, items: RunList) -> None:
        if obj.val is None:
            self.materialise(obj, [])
        items.used()
        self.learn_all(obj, items)
        self.count(obj, list.extend)
        self.tracer.emit(list.extend, (obj.val, items), {}, None)
        self.tracer.merged.derived(obj, items)

    def replace(self, obj: RunList, index: slice, items: Any) -> None:
        """``obj[index] = items``"""
        self.learn_all(obj, items)
        obj.lengths = None
        self.tracer.emit(operator.setitem, (obj.val, index, items), {}, None)
        if is_run(items):
            self.tracer.merged.derived(obj, items)
        else:
            self.tracer.merged.noted(obj, list(items))

    def learn_all(self, obj: RunList, items: Any) -> None:
        if is_run(items):
            if items.item is not None:
                self.learn(obj, self.tracer.sample_of(items.item))
        else:
            for x in items:
                self.learn(obj, x)

    def joined(self, a: Any, b: Any) -> RunList:
        return self.derived(operator.add, (a, b), [a, b])

    def spread(self, kind: type, parts: list[Any]) -> RunList:
        """A list or tuple of the items of several."""
        return self.derived(runtime.spread, (kind, *parts), parts)

    def one_of(self, leaf: Leaf, val: Val) -> RunList:
        """What the code holds for one of two lists, or tuples, of different lengths."""
        found = {tuple: RunTuple, list: RunList}.get(leaf.a, RunDeque)()
        found.tracer, found.val, found.born = self.tracer, val, val
        if leaf.cell is not None:
            found.cell = leaf.cell
        else:
            found.item = leaf.item
        self.all.append(found)
        self.tracer.journal.create(found)
        for part in leaf.parts:
            if isinstance(part, RunList):
                self.tracer.merged.derived(found, part)
            elif isinstance(part, (list, tuple)):
                self.tracer.merged.noted(found, list(part))
        return found

    def prune(self, block: Any) -> None:
        """Drop what was recorded of lists that stayed ordinary."""
        block.nodes[:] = [n for n in block.nodes if not _is_idle(n)]
        for node in block.nodes:
            for inner in blocks_of(node):
                if inner is not None:
                    self.prune(inner)

    def derived(self, op: Any, args: tuple, sources: list[Any]) -> RunList:
        """A new run-time list with the items of others."""
        if op is operator.mul:
            sources = [list.copy(sources[0]) if sources[0].val is None else sources[0]]
        is_tuple = tuple in args or (
            list not in args and any(isinstance(x, (tuple, RunTuple)) for x in sources)
        )
        found = RunTuple() if is_tuple else RunList()
        found.tracer = self.tracer
        found.val = found.born = Val(self.tracer.block, found)
        self.tracer.emit(op, args, {}, found.val)
        self.tracer.journal.create(found)
        for source in sources:
            self.learn_all(found, source)
            if isinstance(source, RunList):
                self.tracer.merged.derived(found, source)
            else:
                self.tracer.merged.noted(found, source)
        self.all.append(found)
        found.home, found.lengths = self.tracer.block, _lengths(op, args, sources)
        return found


def _is_idle(node: Any) -> bool:
    lists = getattr(node, "shadows", None) or [getattr(node, "shadow", None)]
    return lists[0] is not None and all(x.val is None for x in lists)


def _lengths(op: Any, args: tuple, sources: list[Any]) -> tuple[int, int] | None:
    """How long a list is that is made of others."""
    known = [x.lengths if is_run(x) else (len(x),) * 2 for x in sources]
    is_whole = op is operator.getitem and args[1] in (slice(None), slice(None, None, -1))
    if None in known or not (op in (operator.add, runtime.spread, runtime.ordered) or is_whole):
        return None
    return sum(a for a, _ in known), sum(b for _, b in known)
