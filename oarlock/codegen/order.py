"""Run groups early where that frees memory: what a group reads last weighs more than what it writes.

A program's order keeps what the end needs alive: the gradient of a layer, until the norm of all
gradients is taken, only for the sum over its rows.  From the order given, a group whose operands are
there moves forward as soon as it leaves less memory in use than before.  Stores to outputs stay
behind the reads of the inputs whose memory the caller may give for them, see ``Buffers.shareable``,
and behind where a run may end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from oarlock.codegen.fuse import Group
from oarlock.ir.graph import Graph, Value


def order(groups: Sequence[Group], graph: Graph) -> list[Group]:
    """``groups``, which respect what they read, in an order that does too."""
    groups = _ends_first(groups)
    if not all(isinstance(v.type.bytes, int) for g in groups for v in g.writes):
        return list(groups)
    return _Order(groups, graph).run()


def _is_end(group: Group) -> bool:
    """A run may end there."""
    node = group.anchor
    return node is not None and (node.op.ends_run or node.name == "aten_call")


def _ends_first(groups: Sequence[Group]) -> list[Group]:
    """``groups`` where those that end a run, and what they read, come before the others."""
    writer = {v: g for g in groups for v in g.writes}
    wanted = {g for g in groups if _is_end(g)}
    for g in reversed(groups):
        if g in wanted:
            wanted |= {writer[v] for v in g.reads if v in writer}
    return [*(g for g in groups if g in wanted), *(g for g in groups if g not in wanted)]


class _Order:
    def __init__(self, groups: Sequence[Group], graph: Graph) -> None:
        self.groups, self.graph = groups, graph
        self.memory: dict[Value, Value] = {}  # of views that groups store: what they are views of
        self.readers: dict[Value, set[Group]] = {}  # that have not run
        self.held: set[Value] = {*graph.inputs, *graph.outputs}  # by the caller
        for g in groups:
            if g.kind == "alias":
                self.memory[g.writes[0]] = self._memory(g.reads[0])
        self.reads = {g: set(map(self._memory, g.reads)) for g in groups}
        for g, values in self.reads.items():
            for v in values:
                self.readers.setdefault(v, set()).add(g)
        self.held |= set(map(self._memory, self.held))
        self.waits = self._waits()
        self.followers: dict[Group, list[Group]] = {g: [] for g in groups}
        for g, earlier in self.waits.items():
            for e in earlier:
                self.followers[e].append(g)

    def _memory(self, value: Value) -> Value:
        return self.memory.get(value, value)

    def _waits(self) -> dict[Group, set[Group]]:
        """Which groups must run before each."""
        writer = {v: g for g in self.groups for v in g.writes}
        waits: dict[Group, set[Group]] = {}
        ends: set[Group] = set()
        for g in self.groups:
            ends |= {g} if _is_end(g) else set()
            waits[g] = {writer[v] for v in g.reads if v in writer}
            stored = [v for v in g.writes if v in self.held]
            for v in self._shared(g, stored):
                waits[g] |= {r for r in self.readers.get(v, ()) if r in waits}
            waits[g] |= ends if stored else set()
            waits[g].discard(g)
        return waits

    def _shared(self, g: Group, stored: Iterable[Value]) -> set[Value]:
        """Inputs whose memory may become that of what ``g`` stores: those it reads, else all."""
        found: set[Value] = set()
        for v in stored:
            alike = [x for x in self.graph.inputs if x.type == v.type]
            found.update([x for x in alike if x in self.reads[g]] or alike)
        return found

    def run(self) -> list[Group]:
        """See ``order``."""
        done: dict[Group, None] = {}
        open_ = {g: len(earlier) for g, earlier in self.waits.items()}
        for first in self.groups:
            due = [first]
            while due:
                g = due.pop()
                if g in done or open_[g]:
                    continue
                done[g] = None
                due += self._after(g, open_, done)
        assert len(done) == len(self.groups), "groups depend on each other"
        return list(done)

    def _after(self, g: Group, open_: dict[Group, int], done: dict[Group, None]) -> list[Group]:
        """Groups that free memory when they run now that ``g`` has, the best last."""
        touched: dict[Group, None] = {}
        for v in self.reads[g]:
            self.readers[v].discard(g)
            if len(self.readers[v]) == 1:
                touched |= dict.fromkeys(self.readers[v])
        for follower in self.followers[g]:
            open_[follower] -= 1
            touched[follower] = None
        ready = [t for t in touched if not open_[t] and t not in done and self._freed(t) > 0]
        return sorted(ready, key=self._freed)

    def _freed(self, g: Group) -> int:
        """Bytes that are in use before and not after; a view takes and frees none, and is no step."""
        if g.kind == "alias":
            return 1
        dying = (v for v in self.reads[g] - self.held if len(self.readers[v]) == 1)
        return _bytes(v for v in dying if self._is_stored(v)) - _bytes(
            v for v in g.writes if v not in self.held
        )

    def _is_stored(self, value: Value) -> bool:
        return value.producer is not None and value.producer.name != "param"


def _bytes(values: Iterable[Value]) -> int:
    total = 0
    for v in values:
        size = v.type.bytes
        assert isinstance(size, int)
        total += size
    return total
