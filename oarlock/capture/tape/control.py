"""Branches and loops whose test is known at run time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import CellType
from typing import TYPE_CHECKING, Any, NoReturn

import torch

from oarlock.capture.convert.handlers import Steering
from oarlock.capture.convert.state import State, Undefined
from oarlock.capture.tape.ambience import ambient, restore_modes
from oarlock.capture.tape.choice import absent, present
from oarlock.capture.tape.effort import of
from oarlock.capture.tape.forks import ForkNeeded
from oarlock.capture.tape.join import (
    Joiner,
    JoinRefused,
    Leaf,
    Many,
    Same,
    keys_of,
    leaves_inside,
    leaves_of,
)
from oarlock.capture.tape.journal import HOOKS, MISSING, NUMBERS, content, put
from oarlock.capture.tape.merged import is_changeable
from oarlock.capture.tape.nodes import UNREAD, Block, Check, Fork, If, Val, Where
from oarlock.capture.tape.numbers import Number
from oarlock.capture.tape.raising import raised_in
from oarlock.capture.tape.rebuilding import own_attributes, rebuilt, refilled
from oarlock.capture.tape.recursion import look_for
from oarlock.capture.tape.refusals import is_known
from oarlock.errors import CompilerBug, OarlockError, UnsupportedError

if TYPE_CHECKING:
    from oarlock.capture.tape.tracer import Tracer

ATTEMPTS = 16
PEELED = 2  # first trips of a loop that may leave other structures than the rest
FORKS = 2  # on a way: after them lists of two lengths are one of a length known at run time
SHALLOW = 16  # decisions inside each other before recursion is looked for
LENGTHS = (
    "its ways leave lists of other lengths, those of decisions inside it as well; build the lists of "
    "both ways alike"
)
DEPTH = 60  # Python allows 100 levels of indentation
_OPTIMIZERS = os.path.dirname(torch.optim.__file__)
Contents = dict[int, tuple[Any, Any]]


class NeedsConstant(Steering):
    """Code in a loop needs a number that the loop changes as a plain Python number."""

    sites: frozenset[tuple[str, int]] = frozenset()

    def __init__(self, loops: frozenset[int], refusal: str) -> None:
        self.loops, self.refusal = loops, refusal
        super().__init__(refusal)


class TooDeep(UnsupportedError):
    """Decisions on data inside each other without end."""


def of_choice(error: Exception) -> bool:
    """The error comes from what stands for one of two objects."""
    return "Choice" in str(error) or "<one of " in str(error)


@dataclass
class Path:
    """A traced branch or body: its block, what it left in the variables and changed objects."""

    block: Block
    values: tuple[Any, ...]
    contents: Contents
    grads: Any
    error: Exception | None = None
    born: dict[int, Any] = field(default_factory=dict)


def _is_of_tensors(x: Any) -> bool:
    """Tensors, numbers, texts and None, in tuples."""
    if type(x) is tuple:
        return all(map(_is_of_tensors, x))
    return x is None or isinstance(x, (torch.Tensor, Number)) or type(x) in (bool, int, float, str)


def _is_setting(test: Any, state: State) -> bool:
    """Code of an optimizer decides on its settings, and both worlds take one way."""
    if not isinstance(test, Number) or test.is_data or bool(test.hint) != bool(test.other):
        return False
    file = state.where[0]
    return file.startswith(_OPTIMIZERS) and not file.endswith("lr_scheduler.py")


def _is_below(obj: Any, name: Any) -> bool:
    """The class of ``obj`` has an attribute ``name``, which is seen where the object has none."""
    if isinstance(obj, (dict, CellType)) or not isinstance(name, str):
        return False
    return any(name in vars(cls) for cls in type(obj).__mro__)


class Control:
    """Traces branches and loops for a tracer."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.loops = 0
        self.decisions: dict[int, bool] = {}
        self.decided = 0
        self.taken: list[ForkNeeded] = []  # those not among them that fork
        self.number: int | None = None  # the outermost decision that is being traced
        self.born: dict[int, Any] = {}  # objects that the paths have made which are joined now
        self.loose: int | None = None  # the last decision whose ways join loosely
        self.made: dict[int, int] = {}  # the outermost decision behind a joined value
        self.running: set[int] = set()  # loops that are being traced

    def where(self, state: State) -> Where:
        """The line of a statement, with those that it is called from."""
        found, (file, line) = self.tracer.where(), state.where
        return found._replace(line=line) if found.file == file else Where(file, line)

    # ---- branches

    def if_(self, test: Any, then: Callable, orelse: Callable, state: State) -> None:
        truth = self.tracer.truth(test)
        if not isinstance(truth, Val):
            (then if truth else orelse)()
        elif _is_setting(test, state):
            self.assume(test, truth, then, orelse, CompilerBug("the worlds differ"))
        elif self.tracer.block is self.tracer.root:
            self.outermost(test, truth, then, orelse, state)
        else:
            self.inner(test, truth, then, orelse, state)

    def inner(self, test: Any, truth: Val, then: Callable, orelse: Callable, state: State) -> None:
        """A decision inside another one or a loop; one that an outermost decision has settled
        already is no decision on the ways of that one."""
        try:
            self.both(test, truth, then, orelse, state)
        except UnsupportedError as refusal:
            if self.passed(refusal, then, orelse):
                return
            origin = self.made.get(truth.id)
            need = refusal if origin is None else ForkNeeded(origin, refusal)
            self.assume(test, truth, then, orelse, need)

    def passed(self, refusal: UnsupportedError, *ways: Callable[[], Any]) -> bool:
        """Go on after a construct whose refusal is reported, by a way that runs.  Raises: TooDeep."""
        if isinstance(refusal, TooDeep) and not is_known(refusal, self.tracer.reported):
            raise refusal
        if not is_known(refusal, self.tracer.reported):
            return False
        for way in ways:
            try:
                way()
                break
            except UnsupportedError as again:
                if not is_known(again, self.tracer.reported):
                    raise
        return True

    def assume(
        self, test: Any, truth: Val, then: Callable, orelse: Callable, refusal: BaseException
    ) -> None:
        """Take the way that both worlds take; calls that would take the other get a tape of their own.

        Raises: refusal, where there is no such way.
        """
        if not isinstance(test, Number) or test.is_data or bool(test.hint) != bool(test.other):
            raise refusal
        way, where = bool(test.hint), self.tracer.where()
        self.tracer.block.nodes.append(Check(truth, way, "a decision on sizes", where))
        (then if way else orelse)()

    def outermost(
        self, test: Any, truth: Val, then: Callable, orelse: Callable, state: State
    ) -> None:
        """A decision that no other one is around: both ways, or the one that is forced."""
        number, self.decided = self.decided, self.decided + 1
        way = self.decisions.get(number)
        if way is not None:
            self.tracer.block.nodes.append(Fork(truth, self.where(state)))
            (then if way else orelse)()
            return
        self.number = number
        lists, merged = len(self.tracer.lists.all), self.tracer.merged.now()
        before = self.mark(lists)
        try:
            self.both(test, truth, then, orelse, state)
        except UnsupportedError as refusal:
            self.number = None
            if self.passed(refusal, then, orelse):
                return
            need = ForkNeeded(self.made.get(truth.id, number), refusal)
            if isinstance(refusal, JoinRefused) and need.number == number:
                if number < max(self.decisions, default=-1) or self.mark(lists) != before:
                    raise need from refusal
                self.tracer.merged.back(merged)
                self.taken.append(need)
                self.tracer.block.nodes.append(Fork(truth, self.where(state)))
                then()
                return
            self.assume(test, truth, then, orelse, need)
            return
        finally:
            self.number = None
        node = self.tracer.block.nodes[-1]
        if isinstance(node, If):
            if any(out.loose for out in node.outs):
                self.loose = number
            self.made |= {out.id: self.made.get(truth.id, number) for out in node.outs}

    def fork(self, truth: Val, where: Where, refusal: UnsupportedError) -> bool:
        """The way that is taken now from a decision whose ways are not joined."""
        number, self.decided = self.decided, self.decided + 1
        self.tracer.block.nodes.append(Fork(truth, where))
        if number not in self.decisions:
            self.taken.append(ForkNeeded(number, refusal))
        return self.decisions.get(number, True)

    def mark(self, lists: int) -> tuple[Any, ...]:
        """What tells whether a decision that was refused has left something behind; ``lists``: how
        many there were before it."""
        tracer = self.tracer
        lists_of_run = [x.val for x in tracer.lists.all[:lists]]
        grads = tracer.has_backward, len(tracer.grads_set), len(tracer.graded.unsure)
        return len(tracer.root.nodes), lists_of_run, len(tracer.cached), grads

    def first(self, need: ForkNeeded) -> ForkNeeded:
        """``need``, or the decision before it that forks."""
        if not self.taken or need.number <= self.taken[0].number:
            return need
        return ForkNeeded(self.taken[0].number, need.refusal)

    def both(self, test: Any, truth: Val, then: Callable, orelse: Callable, state: State) -> None:
        """Trace both branches, and join what they give."""
        before = state.get()
        if self.tracer.block.depth > SHALLOW:
            look_for(self.tracer.recursive.codes)
        if self.tracer.block.depth > DEPTH:
            raise TooDeep(
                f"{Where(*state.where)}: more than {DEPTH} decisions on data inside each other: a "
                f"function that calls itself until data stop it; write it as a while loop"
            )
        for attempt in range(ATTEMPTS):
            with self.repeated(state, attempt, LENGTHS):
                a, b = self.paths(truth, then, orelse, state, before)
            if not self.tracer.lists.grow(a.contents, b.contents, self.old(a, b)):
                break
        if a.error is not None and b.error is not None:
            node = If(truth, a.block, b.block, [], [], self.where(state))
            self.tracer.block.nodes.append(node)
            raise a.error
        self.merge(test, truth, a, b, state)

    def repeated(self, state: State, attempt: int, why: str) -> Any:
        """Around what has been traced ``attempt`` times."""
        self.tracer.effort.step()
        return self.tracer.effort.again(Where(*state.where), why) if attempt else nullcontext()

    def paths(
        self, truth: Val, then: Callable, orelse: Callable, state: State, before: tuple
    ) -> list[Path]:  # fmt: skip
        """Both branches; what one changes is not changed where the other one runs."""
        merged = self.tracer.merged
        known = dict(merged.stale)
        nothing, is_none = absent(self.tracer.block.nodes, truth)
        there = (None, nothing) if is_none else (nothing, None)
        a, first = self.path(then, state, before, there[0]), merged.stale
        merged.stale = known
        b = self.path(orelse, state, before, there[1])
        merged.stale = {k: x for k, x in first.items() if k not in b.born} | {
            k: x for k, x in merged.stale.items() if k not in a.born
        }
        return [a, b]

    def path(
        self, fn: Callable[[], Any], state: State, before: tuple, there: Val | None = None
    ) -> Path:
        """Trace ``fn`` into a block, and undo what it did to variables and objects.

        Args: there: a value that is not None in there.
        """
        tracer = self.tracer
        frame, modes, way = tracer.journal.open(), ambient(), tracer.graded.open()
        error, mark = None, tracer.machinery.mark()
        with tracer.into(Block(tracer.block)) as block:
            try:
                if there is not None:
                    state.set(tuple(present(x, there) for x in before))
                fn()
            except OarlockError:
                raise
            except Exception as found:
                if self.loose is not None and of_choice(found):
                    raise ForkNeeded(self.loose, found) from found
                error = found
                raised_in(tracer, found, self.where(state), block)
            finally:
                values, contents = state.get(), frame.contents()
                born = dict(frame.born)
                frame.restore()
                tracer.journal.close(frame)
                tracer.graded.close(way)
                state.set(before)
                left = restore_modes(modes)
        if left and error is None:
            raise UnsupportedError(
                f"{Where(*state.where)}: one way of a decision on data leaves other modes set "
                f"(gradients, autocast); set them around the decision, or inside of both ways"
            )
        tracer.machinery.settle(mark, Where(*state.where))
        return Path(block, values, contents, way, error, born)

    def old(self, *paths: Path) -> Contents:
        """What the objects that some path changes hold now."""
        found = {key: obj for path in paths for key, (obj, _) in path.contents.items()}
        return {key: (obj, content(obj)) for key, obj in found.items()}

    def merge(self, test: Any, truth: Val, a: Path, b: Path, state: State) -> None:
        tracer = self.tracer
        is_data = not isinstance(test, Number) or test.is_data
        taken = (True, False) if is_data else (bool(test.hint), bool(test.other))
        is_inside = bool(self.running) or bool(tracer.recursive.open)
        may_grow = is_inside or sum(n < self.decided for n in self.decisions) >= FORKS
        joiner = Joiner(
            tracer.val, is_data, tracer.block, taken, may_grow=may_grow, outside=tracer.objects
        )
        old = self.old(a, b)
        tracer.graded.join(*(path.grads for path in (a, b) if path.error is None))
        if a.error is not None:
            a.values, a.contents = b.values, b.contents
        if b.error is not None:
            b.values, b.contents = a.values, a.contents
        one_sided = a.error is not None or b.error is not None
        join = self.only if one_sided else joiner.join
        ours = [
            joiner.result if n.startswith("_ol_") and not one_sided else join for n in state.names
        ]
        joints = [
            f(x, y) if way is None or one_sided else self.read(x, y, way, f)
            for f, x, y, way in zip(ours, a.values, b.values, map(state.read_after, state.names))
        ]
        held = {}
        for key, (obj, now) in old.items():
            x, y = a.contents.get(key, (obj, now))[1], b.contents.get(key, (obj, now))[1]
            held[key] = (obj, self.join_contents(join, obj, x, y, state))
        node = If(truth, a.block, b.block, [], [], self.where(state))
        tracer.block.nodes.append(node)
        for name, joint in zip(state.names, joints):
            for leaf in leaves_of(joint):
                self.output(node, leaf, name)
        for obj, joint in held.values():
            for name, leaf in leaves_inside(obj, joint):
                self.output(node, leaf, name)
        self.born = {**a.born, **b.born}
        tracer.merged.event += 1
        state.set(tuple(map(self.value, joints)))
        for obj, joint in held.values():
            tracer.journal.record(obj)
            put(obj, self.value(joint))
        self.born = {}

    def only(self, x: Any, y: Any) -> Any:
        """The value of the one path that goes on."""
        joiner = Joiner(self.tracer.val, outside=self.tracer.objects)
        if isinstance(x, torch.Tensor):
            return joiner.tensors(x, x)
        if isinstance(x, Number):
            leaf = joiner.numbers(x, x)
            leaf.is_data, leaf.b = x.is_data, x.other
            return leaf
        if type(x) in (tuple, list, dict):
            keys = list(x) if isinstance(x, dict) else list(range(len(x)))
            return Many(x, keys, [self.only(x[k], x[k]) for k in keys])
        return Same(x)

    def read(self, x: Any, y: Any, way: int, join: Callable) -> Any:
        """The value of the way that is read from, 0 or 1, for which the other may stand."""
        if x is y or not _is_of_tensors(value := (x, y)[way]):
            return join(x, y)
        joint = self.only(value, value)
        for leaf in leaves_of(joint):
            leaf.parts = (leaf.parts[0], UNREAD) if way == 0 else (UNREAD, leaf.parts[0])
        return joint

    def join_contents(self, join: Callable, obj: Any, x: Any, y: Any, state: State) -> Any:
        """The joined content of a changed object."""
        if isinstance(obj, NUMBERS):
            if x != y:
                self.refuse_object(obj, "holds other numbers on one path", state)
            return Same(x)
        if not isinstance(x, dict):
            joint = join(x, y)
            if isinstance(joint, Leaf):
                self.refuse_object(obj, "holds different things on two paths", state)
            return joint
        keys = [*x, *(k for k in y if k not in x)]
        if isinstance(obj, dict) and len(keys) != len(x.keys() & y.keys()):
            self.refuse_object(obj, "has a key on one path only", state)
        if isinstance(obj, dict) and list(x) != list(y):
            self.refuse_object(obj, "has its keys in different orders on two paths", state)
        items = []
        for key in keys:
            p, q = x.get(key, MISSING), y.get(key, MISSING)
            if (p is MISSING) != (q is MISSING) and _is_below(obj, key):
                self.refuse_object(obj, f"hides {key} of its class on one path", state)
            p, q = (Undefined(str(key)) if v is MISSING else v for v in (p, q))
            self.refuse_container(obj, key, p, q, state)
            self.refuse_parts(obj, key, p, q, state)
            if p is not q:
                p, q = (self.tracer.objects.now(obj, key, v) for v in (p, q))
            items.append(join(p, q))
        return Many({}, keys, items)

    def refuse_container(self, obj: Any, key: Any, p: Any, q: Any, state: State) -> None:
        """A container that an attribute holds on one path only: nothing tells then that it is there."""
        value = q if isinstance(p, Undefined) else p
        is_one_sided = isinstance(p, Undefined) != isinstance(q, Undefined)
        if is_one_sided and keys_of(value) and not isinstance(obj, CellType):
            self.refuse_object(obj, f"has {key} on one path only", state)

    def refuse_parts(self, obj: Any, key: Any, p: Any, q: Any, state: State) -> None:
        """A module that has another parameter, or other hooks, after one of the paths."""
        if key not in ("_parameters", *HOOKS) or not (isinstance(p, dict) and isinstance(q, dict)):
            return
        if list(p) != list(q) or any(p[name] is not q[name] for name in p):
            self.refuse_object(obj, f"has other {key.strip('_')} on one path", state)

    def refuse_object(self, obj: Any, why: str, state: State) -> None:
        file, line = state.where
        refusal = JoinRefused(
            f"{Where(file, line)}: a {type(obj).__name__} {why} of a decision on data; give both "
            f"paths the same keys and lengths, or keep the values in variables"
        )
        self.tracer.tables.blame(refusal, obj)
        raise refusal

    def output(self, node: If, leaf: Leaf, name: str) -> None:
        """A result of an ``If`` for one joined value."""
        with self.tracer.into(node.then):
            first = self.tracer.noted(leaf.parts[0])
        with self.tracer.into(node.orelse):
            second = self.tracer.noted(leaf.parts[1])
        if not node.then.raises:
            node.then.results.append(first)
        if not node.orelse.raises:
            node.orelse.results.append(second)
        val = Val(self.tracer.block, None, name)
        node.outs.append(val)
        node.names.append(name)
        leaf.out = val  # type: ignore[attr-defined]

    # ---- joined values in the hands of the user's code

    def value(self, joint: Any) -> Any:
        """What the user's code gets for a joined value whose leaves have an ``out``."""
        if isinstance(joint, Same):
            return joint.value
        if isinstance(joint, Many):
            return self.container(joint)
        made = self.tracer.stand_for(joint, joint.out)
        if joint.kind == "list" and joint.a is list and joint.cell is None:
            self.merge_lists(made, joint)
        return made

    def container(self, joint: Many) -> Any:
        made = self.filled(joint)
        if joint.parts and is_changeable(made):
            self.tracer.journal.create(made)
            older = tuple(x for x in joint.parts if id(x) not in self.born)
            self.tracer.merged.add(made, joint.parts, older)
        return made

    def merge_lists(self, made: Any, joint: Leaf) -> None:
        older = tuple(x for x in joint.parts if id(x) not in self.born)
        self.tracer.merged.add(made, joint.parts, older)

    def filled(self, joint: Many) -> Any:
        items = [self.value(item) for item in joint.items]
        like = joint.like
        if isinstance(like, dict):
            found = dict(zip(joint.keys, items))
            return found if type(like) is dict else refilled(like, found, own_attributes(like))
        if isinstance(like, list):
            if hasattr(like, "run_time_deque"):
                return self.tracer.lists.new_deque(items, like.maxlen)  # type: ignore[attr-defined]
            return self.tracer.lists.new(items) if type(like) is not list else items
        if not isinstance(like, tuple):
            return rebuilt(like, dict(zip(joint.keys, items)))
        return type(like)(*items) if hasattr(like, "_fields") else type(like)(items)

    def derive(self, results: Iterable[Any], sources: Iterable[Any]) -> None:
        """The values in ``results`` are computed from those in ``sources``."""
        ways = [self.made[x.id] for x in sources if isinstance(x, Val) and x.id in self.made]
        if ways:
            self.made |= {val.id: max(ways) for val in results if isinstance(val, Val)}

    def fork_for(self, number: Number, refusal: UnsupportedError) -> NoReturn:
        """Take the decision behind ``number`` both ways, where there is one.  Raises: refusal."""
        way = self.made.get(number.val.id)
        if way is None:
            raise refusal
        raise ForkNeeded(way, refusal)

    # ---- loops

    def while_(
        self, test: Callable[[], Any], body: Callable[[], Any], state: State, trips: Any = None,
        peeled: int = 0,
    ) -> None:  # fmt: skip
        from oarlock.capture.tape.loops import Loop

        before = state.get()
        self.loops += 1
        loop = Loop(self, test, body, state, before, self.loops, trips, peeled < PEELED)
        self.running.add(loop.number)
        grads = self.tracer.graded.open()
        try:
            try:
                with self.tracer.noticing.looping():
                    loop.trace()
            finally:
                self.tracer.graded.close(grads)
            self.tracer.graded.join(grads)
        except NeedsConstant as need:
            if self.loops not in need.loops and loop.number not in need.loops:
                raise
            self.running.discard(loop.number)
            state.set(before)
            self.tracer.merged.back(loop.merged)
            with self.tracer.effort.again(*of(need)):
                self.unroll(test, body, need)
        except UnsupportedError as refusal:
            self.running.discard(loop.number)
            state.set(before)
            self.tracer.merged.back(loop.merged)
            if self.passed(refusal, body):
                return
            if not isinstance(refusal, JoinRefused) or peeled == PEELED:
                raise
            with self.tracer.effort.again(*of(refusal)):
                self.peel(test, body, state, peeled + 1)
        finally:
            self.running.discard(loop.number)

    def peel(
        self, test: Callable[[], Any], body: Callable[[], Any], state: State, peeled: int
    ) -> None:
        """The first trip apart from the others: it makes what these only change."""

        def rest() -> None:
            body()
            self.while_(test, body, state, None, peeled)

        go = test()
        if isinstance(self.tracer.truth(go), Val):
            self.if_(go, rest, lambda: None, state)
        elif go:
            rest()

    def unroll(self, test: Callable[[], Any], body: Callable[[], Any], need: NeedsConstant) -> None:
        """Run a loop as Python does: its trips are then a constant of the tape."""
        while True:
            again = test()
            if isinstance(again, torch.Tensor) or (isinstance(again, Number) and again.is_data):
                refusal = UnsupportedError(need.refusal)
                refusal.sites = need.sites
                raise refusal
            if not again:
                return
            body()
