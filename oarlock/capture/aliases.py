"""Tensors that share memory: every view is derived from its base, every write goes through to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from oarlock.ir import Builder, Node, Size, Value, i64
from oarlock.ops.shape import full_slice


@dataclass(eq=False)
class Memory:
    """What a storage holds: ``version`` counts the writes; ``source`` says whose memory it is."""

    version: int = 0
    source: str = ""
    writes: list[str] = field(default_factory=list)
    tied: list[str] = field(default_factory=list)  # results of branches that may be this memory


@dataclass(eq=False)
class View:
    """A tensor: the base of its memory, or ``derive(parent)``, refreshed after a write elsewhere."""

    memory: Memory
    value: Value
    parent: View | None = None
    derive: Callable[[Value], Value] | None = None
    seen: int = 0
    origin_value: Value | None = None  # of the parent when ``value`` was derived
    is_written: bool = False  # ``value`` is what was written, not derived

    def read(self) -> Value:
        """The value now."""
        if self.seen != self.memory.version and self.parent is not None:
            assert self.derive is not None
            self.origin_value = self.parent.read()
            self.value = self.derive(self.origin_value)
            self.seen, self.is_written = self.memory.version, False
        return self.value

    def derived(self) -> Value:
        """The value now, as the parent shows it."""
        current = self.read()
        if not self.is_written:
            return current
        assert self.derive is not None and self.origin_value is not None
        return self.derive(self.origin_value)

    def write(self, b: Builder, value: Value) -> None:
        """Make ``value`` what this view shows: in its base, so in every other view of it.

        Raises: NotImplementedError for a view whose elements cannot be told apart in its base.
        """
        if self.memory.tied:
            raise NotImplementedError(
                f"an update of a tensor that {self.memory.tied[0]} may hand on, or not; clone it there"
            )
        changed: list[tuple[View, Value]] = []
        view: View | None = self
        while view is not None:
            changed.append((view, value))
            if view.parent is not None:
                current = view.derived()
                assert view.origin_value is not None
                value = put_back(b, current, view.origin_value, value)
            view = view.parent
        self.memory.version += 1
        for view, value in changed:
            view.value, view.seen, view.is_written = value, self.memory.version, True
        for child, (_, value) in pairwise(changed):
            child[0].origin_value = value


def put_back(b: Builder, shown: Value, whole: Value, new: Value) -> Value:
    """``whole`` where the elements that ``shown`` shows of it are replaced by ``new``."""
    path: list[Node] = []
    at, here = shown, b.local(whole)
    while at is not whole and at is not here:
        node = at.producer
        if node is None or node.name not in _INVERSE or not _is_one_view(node):
            how = "by its own" if node is None else f"by {node.name}"
            raise NotImplementedError(f"an update in place of a view that is made {how}")
        path.append(node)
        at = node.inputs[0]
    for node in path:
        new = _INVERSE[node.name](b, node, new)
    return new


def _is_one_view(node: Node) -> bool:
    return len(node.inputs) == 1 or (node.name == "take" and node.inputs[1].rank == 0)


def _take(b: Builder, node: Node, new: Value) -> Value:
    whole, index = node.inputs
    axis = node.op.axis % whole.rank
    part = b.reshape(new, shape=(*whole.shape[:axis], 1, *whole.shape[axis + 1 :]))
    return b.put(whole, b.reshape(index, shape=(1,)), part, axis=axis)


def _reshape(b: Builder, node: Node, new: Value) -> Value:
    return b.reshape(new, shape=node.inputs[0].shape)


def _refine(b: Builder, node: Node, new: Value) -> Value:
    return b.refine(new, shape=node.inputs[0].shape)


def _transpose(b: Builder, node: Node, new: Value) -> Value:
    perm = node.op.perm
    return b.transpose(new, perm=tuple(perm.index(i) for i in range(len(perm))))


def _flip(b: Builder, node: Node, new: Value) -> Value:
    return b.flip(new, axes=node.op.axes)


def _broadcast(b: Builder, node: Node, new: Value) -> Value:
    if node.inputs[0].type != new.type:
        raise NotImplementedError("an update in place of an expanded view; clone it first")
    return new


def _slice(b: Builder, node: Node, new: Value) -> Value:
    op = node.op
    spans = list(zip(op.starts, op.stops, op.steps))
    return _unslice(b, node.inputs[0], new, spans, 0)


def _unslice(b: Builder, whole: Value, new: Value, spans: list, axis: int) -> Value:
    """Axes before ``axis`` are done: cut this one, put ``new`` into the part, the part back."""
    while axis < len(spans) and spans[axis] == (0, whole.shape[axis], 1):
        axis += 1
    if axis == len(spans):
        return new
    start, stop, step = spans[axis]
    part = b.slice(whole, **full_slice(whole.type, axis, start, stop, step))
    part = _unslice(b, part, new, spans, axis + 1)
    if step != 1:
        places = b.mul(b.iota(size=part.shape[axis], dtype=i64), step)
        places = b.add(places, b.cast(b.size(dim=start), dtype=i64)) if start != 0 else places
        return b.put(whole, places, part, axis=axis)
    pieces = [_cut(b, whole, axis, 0, start), part, _cut(b, whole, axis, stop, whole.shape[axis])]
    kept = [piece for piece in pieces if piece is not None]
    return kept[0] if len(kept) == 1 else b.concat(*kept, axis=axis)


def _cut(b: Builder, x: Value, axis: int, start: Size, stop: Size) -> Value | None:
    if start == stop:
        return None
    return b.slice(x, **full_slice(x.type, axis, start, stop))


_INVERSE: dict[str, Callable[[Builder, Node, Value], Value]] = {
    "reshape": _reshape,
    "refine": _refine,
    "transpose": _transpose,
    "flip": _flip,
    "broadcast_to": _broadcast,
    "slice": _slice,
    "take": _take,
}
