"""A loop whose number of trips is known at run time: traced until the types of what it carries stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from oarlock.capture.convert.state import State, Undefined
from oarlock.capture.tape.counts import Counts
from oarlock.capture.tape.join import (
    Joiner,
    JoinRefused,
    Leaf,
    Many,
    Same,
    holds_run_time,
    identity,
    is_textual,
    item_of,
    leaves_inside,
    leaves_of,
    options,
)
from oarlock.capture.tape.journal import MISSING, put
from oarlock.capture.tape.nodes import Block, Val, While
from oarlock.capture.tape.numbers import Number
from oarlock.capture.tape.raising import raised_in
from oarlock.errors import OarlockError

if TYPE_CHECKING:
    from oarlock.capture.tape.control import Contents, Control

ATTEMPTS = 16
TYPES = (
    "what the loop carries gets another type, those inside it as well; give each variable the same "
    "dtype, number of axes and structure before the loop and after each trip"
)


class Loop:
    """One loop being traced.

    ``joints``: of each variable, what it is over all iterations; ``held``: of each changed object.
    """

    def __init__(
        self, control: Control, test: Callable[[], Any], body: Callable[[], Any], state: State,
        before: tuple, number: int, trips: Any = None, may_peel: bool = False,
    ) -> None:  # fmt: skip
        self.control, self.tracer = control, control.tracer
        self.test, self.body, self.state, self.before = test, body, state, before
        self.number, self.may_peel = number, may_peel
        self.counts = Counts(self.tracer.lists, trips)
        self.where = control.where(state)
        self.joiner = Joiner(self.tracer.val, may_grow=True, outside=self.tracer.objects)
        self.joints: list[Any] = [self.first(x) for x in before]
        self.held: dict[int, tuple[Any, Any, Any]] = {}  # id: object, content before, joint
        self.merged = self.tracer.merged.now()
        self.unsure: dict[int, Any] = {}  # gradients that are there from some trip on
        self.grads: Any = None
        self.born: dict[int, Any] = {}  # objects that the last attempt has made

    def first(self, x: Any) -> Any:
        """Variables that a loop assigns: run-time values from the start."""
        if isinstance(x, torch.Tensor):
            return self.joiner.tensors(x, x)
        if isinstance(x, Number):
            leaf = self.joiner.numbers(x, x)
            leaf.b = x.other
            return leaf
        return Same(x)

    def trace(self) -> None:
        for attempt in range(ATTEMPTS):
            self.known = len(self.tracer.lists.learned)
            with self.control.repeated(self.state, attempt, TYPES):
                node, after, contents = self.attempt()
            stays = self.widen(node, after, contents, attempt)
            if stays:
                self.finish(node, after, contents)
                return
        names = [n for n, j in zip(self.state.names, self.joints) if isinstance(j, Leaf)]
        raise JoinRefused(
            f"{self.where}: the types of loop variables do not settle: {', '.join(names)}; give each "
            f"the same dtype and number of axes before the loop and after each trip"
        )

    def attempt(self) -> tuple[While, tuple | None, Contents]:
        """Trace test and body once with stand-ins for what the loop carries."""
        tracer, state = self.tracer, self.state
        outer = tracer.block
        tracer.merged.back(self.merged)
        node = While([], [], Block(outer), Block(outer), [], self.where)
        frame, way = tracer.journal.open(), tracer.graded.open()
        mark = tracer.machinery.mark()
        tracer.graded.unsure |= self.unsure
        try:
            for obj, _, _ in self.held.values():
                tracer.journal.touch(obj)
            for name, joint in zip(state.names, self.joints):
                for leaf in leaves_of(joint):
                    self.parameter(node, leaf, name)
            for obj, _, joint in self.held.values():
                for name, leaf in leaves_inside(obj, joint):
                    self.parameter(node, leaf, name)
            tracer.merged.event += 1
            state.set(tuple(map(self.control.value, self.joints)))
            for obj, _, joint in self.held.values():
                put(obj, self.control.value(joint))
            after = self.once(node)
            tracer.machinery.settle(mark, self.where)
            return node, after, frame.contents()
        finally:
            self.born = dict(frame.born)
            frame.restore()
            tracer.journal.close(frame)
            tracer.graded.close(way)
            self.grads = way
            state.set(self.before)

    def once(self, node: While) -> tuple | None:
        tracer, block = self.tracer, node.cond
        try:
            with tracer.into(node.cond):
                truth = tracer.truth(self.test())
                node.cond.results.append(truth)
            block = node.body
            with tracer.into(node.body):
                self.body()
        except OarlockError:
            raise
        except Exception as error:
            raised_in(tracer, error, self.where, block)
            return None
        return self.state.get()

    def parameter(self, node: While, leaf: Leaf, name: str) -> None:
        if self.may_peel and leaf.kind == "any" and any(map(holds_run_time, leaf.parts)):
            raise JoinRefused(
                f"{self.where}: {name} is a container from some trip on; make it before the loop"
            )
        if self.may_peel and self.tracer.block is self.tracer.root and _is_promoted(leaf):
            raise JoinRefused(f"{self.where}: {name} has another dtype from some trip on")
        val = Val(self.tracer.block, None, name)
        node.params.append(val)
        node.init.append(self.tracer.noted(leaf.parts[0]))
        node.names.append(name)
        leaf.out, leaf.loop = val, self.number  # type: ignore[attr-defined]

    def widen(self, node: While, after: tuple | None, contents: Contents, attempt: int) -> bool:
        """Join what an iteration leaves into what the loop carries; whether all stays."""
        tracer = self.tracer
        grown = tracer.lists.grow(contents, None, {k: (o, b) for k, (o, b) in self.olds(contents)})
        stays = not grown and not tracer.lists.have_learned(self.known, node.cond, node.body)
        stays &= not self.counts.forget(node)
        stays &= not self.tell_grads()
        joints, held = list(self.joints), dict(self.held)
        if after is not None:
            for i, (x, y) in enumerate(zip(self.before, after)):
                joints[i] = self.combine(self.joints[i], self.joiner.join(x, y), attempt)
                stays &= same_type(self.joints[i], joints[i])
        for key, (obj, now) in contents.items():
            if grown and isinstance(obj, list):
                continue
            before = self.held[key][1] if key in self.held else self.start(obj)
            new = self.content_joint(obj, before, now)
            old = self.held[key][2] if key in self.held else None
            joint = self.combine(old, new, attempt)
            stays &= same_type(old, joint) if old is not None else not list(leaves_of(joint))
            held[key] = (obj, before, joint)
        if stays:
            self.tie(joints, held)
        else:
            self.joints, self.held = joints, held
        return stays

    def tell_grads(self) -> bool:
        """Whether another trip may find gradients there, or gone, that the first one did not."""
        graded = self.tracer.graded
        before, known = dict(graded.unsure), set(self.unsure)
        graded.join(self.grads, type(self.grads)(before, self.grads.depth))
        self.unsure |= {k: (x, None) for k, (x, _) in graded.unsure.items() if k not in before}
        return bool(self.unsure.keys() - known)

    def tie(self, joints: list[Any], held: dict[int, Any]) -> None:
        """Let what the loop leaves need the gradients of its last iteration."""
        old = [*self.joints, *(self.held[k][2] for k in self.held)]
        new = [*joints, *(held[k][2] for k in self.held)]
        for p, q in zip(old, new):
            _tie(p, q)

    def olds(self, contents: Contents) -> Any:
        return [(key, (obj, self.start(obj))) for key, (obj, _) in contents.items()]

    def start(self, obj: Any) -> Any:
        """What an object held before the loop (it holds that now)."""
        from oarlock.capture.tape.journal import content

        return content(obj)

    def content_joint(self, obj: Any, before: Any, now: Any) -> Any:
        return self.control.join_contents(self.joiner.join, obj, before, now, self.state)

    def combine(self, old: Any, new: Any, attempt: int) -> Any:
        """The joint of all iterations so far."""
        if old is None or (isinstance(old, Same) and not isinstance(new, Same)):
            return new
        if isinstance(old, Leaf) and isinstance(new, Same):
            return old
        if isinstance(old, Many) and isinstance(new, Many) and old.keys == new.keys:
            items = [self.combine(p, q, attempt) for p, q in zip(old.items, new.items)]
            return Many(new.like, new.keys, items, new.parts)
        if isinstance(old, Leaf) and isinstance(new, Leaf):
            return wider(old, new, attempt)
        return new

    def finish(self, node: While, after: tuple | None, contents: Contents) -> None:
        """Append the loop; its variables hold what they hold after any number of trips."""
        tracer = self.tracer
        joints = [*self.joints, *(j for _, _, j in self.held.values())]
        if not node.body.raises and not node.cond.raises and after is not None:
            last = [*after, *(contents[k][1] for k in self.held)]
            with tracer.into(node.body):
                for joint, value in zip(joints, last):
                    node.body.results += [tracer.noted(v) for v in self.parts(joint, value)]
        tracer.block.nodes.append(node)
        self.counts.settle(node, tracer.block)
        self.control.born = self.born
        tracer.merged.event += 1
        self.state.set(tuple(map(self.control.value, self.joints)))
        self.control.born = {}
        for obj, _, joint in self.held.values():
            tracer.journal.record(obj)
            put(obj, self.control.value(joint))

    def parts(self, joint: Any, value: Any) -> list[Any]:
        """What an iteration leaves in each leaf of ``joint``."""
        if isinstance(joint, Leaf):
            return [value]
        if isinstance(joint, Many):
            found: list[Any] = []
            for key, item in zip(joint.keys, joint.items):
                missing = isinstance(value, dict) and key not in value
                inner = Undefined(str(key)) if missing else item_of(value, key)
                found += self.parts(item, inner)
            return found
        return []


def _tie(mine: Any, last: Any) -> None:
    """What ``last`` is joined of is what ``mine`` is."""
    if type(mine) is not type(last) or isinstance(mine, Same):
        return
    mine.parts = last.parts
    if isinstance(mine, Many):
        for p, q in zip(mine.items, last.items):
            _tie(p, q)


def _is_promoted(leaf: Leaf) -> bool:
    parts = leaf.parts
    if leaf.kind != "tensor" or not all(isinstance(x, torch.Tensor) for x in parts):
        return False
    with torch._C.DisableTorchFunction():
        return parts[0].dtype != parts[1].dtype


TEXTS = 6  # of which a text in a loop may be one, before it is a text of the run


def wider(old: Leaf, new: Leaf, attempt: int) -> Leaf:
    if old.kind == new.kind == "any":
        known = {identity(x) for part in new.parts for x in options(part)}
        new.more = tuple(x for x in old.options() if identity(x) not in known)
        if len(new.options()) <= TEXTS or not all(map(is_textual, new.options())):
            new.loose |= old.loose
            return new
        new.kind, new.a = "text", ""
    if {old.kind, new.kind} == {"any", "text"} and all(map(is_textual, (*old.parts, *new.parts))):
        return Leaf("text", new.parts, "", loose=old.loose | new.loose)
    if old.kind != new.kind:
        kinds = {old.kind, new.kind}
        keep = old if old.kind == "tensor" else new
        keep.loose |= {"number"} if kinds == {"tensor", "number"} else {"rank"}
        keep.parts = (new.parts[0], new.parts[1])
        return keep
    new.loose |= old.loose
    new.grad |= old.grad
    if old.kind == "list":
        new.item = _wider_item(old.item, new.item, attempt)
    if old.kind == "tensor":
        new.dims |= old.dims
        if old.dtype != new.dtype and old.dtype and new.dtype:
            new.dtype = torch.promote_types(old.dtype, new.dtype)
        if len(old.a) == len(new.a):
            new.b = tuple(p if i in old.dims else q for i, (p, q) in enumerate(zip(old.b, new.b)))
    elif old.kind == "number" and attempt > 1 and type(old.b) is type(new.b):
        new.b = old.b
    return new


def _wider_item(old: Any, new: Any, attempt: int) -> Any:
    if isinstance(old, Leaf) and isinstance(new, Leaf):
        return wider(old, new, attempt)
    if isinstance(old, Many) and isinstance(new, Many) and old.keys == new.keys:
        items = [_wider_item(p, q, attempt) for p, q in zip(old.items, new.items)]
        return Many(new.like, new.keys, items)
    return old if new is None else new


def same_type(old: Any, new: Any) -> bool:
    if type(old) is not type(new):
        return False
    if isinstance(new, Leaf):
        return old.type_key() == new.type_key() and same_type(old.item, new.item)
    if isinstance(new, Many):
        same = old.keys == new.keys and len(old.items) == len(new.items)
        return same and all(same_type(p, q) for p, q in zip(old.items, new.items))
    return True


__all__ = ["MISSING", "Loop"]
