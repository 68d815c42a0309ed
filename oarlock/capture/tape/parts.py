"""A tape in three parts: numbers before the tensors, the tensors, and what follows from both.

A step that steps a schedule, or counts, decides on Python numbers and leaves some behind.  Its tensor
calls are straight-line code all the same: they can be compiled, between the numbers that they need
and the objects that are left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from oarlock.capture.tape.deciding import Settling
from oarlock.capture.tape.emit import Emitter, uses
from oarlock.capture.tape.guards import Guards
from oarlock.capture.tape.hoist import is_pure, made
from oarlock.capture.tape.nodes import (
    Ambient,
    Assert,
    Block,
    Call,
    Check,
    Fork,
    If,
    Print,
    Raise,
    Val,
    While,
    blocks_of,
    leaves,
)
from oarlock.capture.tape.queries import TOLD, is_update, name_of
from oarlock.capture.tape.sources import Source, key_of

if TYPE_CHECKING:
    from oarlock.capture.tape.capturing import Way

_AUTOGRAD = ("backward", "grad", "register_hook", "retain_grad", "apply")
Inputs = list[tuple[Val, Source]]


class Whole(Exception):
    """Why a tape can't be cut."""


@dataclass(eq=False)
class Parts:
    """``shared = before(args, kwargs)``; ``found = core((*args, *given), kwargs)``, where ``given`` are
    the items of ``shared`` at ``places``; ``after(args, kwargs, shared, found)`` is the result.
    """

    before: Callable[[tuple, dict[str, Any]], tuple]
    core: Callable[[tuple, dict[str, Any]], tuple]
    after: Callable[[tuple, dict[str, Any], tuple, tuple], Any]
    root: Block  # of the core
    inputs: Inputs  # tensors that the core reads beside its arguments
    places: list[int]


class Numbers(Emitter):
    """Numbers need no modes."""

    def switch(self, wanted: Ambient) -> None:
        pass


def cut(ends: list[Way], root: Block, inputs: Inputs, count: int) -> Parts:
    """Args: ends: the ways; count: of the positional arguments.  Raises: Whole."""
    if any(way.after != way.modes for way in ends):
        raise Whole("the code leaves other modes")
    way = ends[0]
    moved = {id for one in ends for id in _moved(one, inputs)}
    numbers = {val.id for val, _ in inputs if not _is_tensor(val)}
    objects = {val.id for val, _ in inputs if not _is_tensor(val) and not _is_number(val)}
    sort = Sorting(numbers, {val.id for val, _ in inputs if _is_tensor(val)}, objects)
    for node in root.nodes:
        sort.add(node)
    core = sort.core()
    wanted = {id for node in sort.late for id in uses(node)}
    left = {x.id for end in ends for x in leaves(end.root.results) if isinstance(x, Val)}
    wanted |= left
    needed = {id for node in core for id in uses(node)}
    known = {val.id: val for node in (*sort.early, *core) for val in results_of(node)}
    known |= {val.id: val for val, _ in inputs}
    found = [known[i] for i in sorted(wanted & sort.computed(core))]
    for val in found:
        if not _is_tensor(val) and not _is_number(val):
            raise Whole("a list that the tensors make")
    given = sorted(needed & (sort.plain | moved))
    shared = sorted(set(given) | (wanted & sort.plain))
    read = [(v, s) for v, s in inputs if _is_tensor(v) and v.id not in moved]
    return Parts(
        _before(sort.early, inputs, [known[i] for i in shared]),
        _core(way, core, read, [known[i] for i in given], found, left, count),
        _after(
            way,
            Block(None, sort.late, root.results, end=root.end),
            [x for x in inputs if x[0].id in wanted],
            shared,
            found,
        ),
        Block(None, core, [found]),
        read,
        [shared.index(i) for i in given],
    )


def _moved(way: Way, inputs: Inputs) -> set[int]:
    """Tensors that the call replaces where it has read them, or what holds them: others at each call."""
    places = way.effects.places()

    def is_replaced(source: Source) -> bool:
        base, path, _ = key_of(source, -1)
        ends = [i for i, letter in enumerate(path) if letter in "[."] + [len(path)]
        return any((base, path[:end], -1) in places for end in ends)

    return {val.id for val, s in inputs if _is_tensor(val) and is_replaced(s)}


def _is_tensor(val: Val) -> bool:
    return isinstance(val.sample, torch.Tensor)


def _is_number(val: Val) -> bool:
    return isinstance(val.sample, (bool, int, float))


class Sorting:
    """Nodes by part.  Args: numbers, tensors, objects: ids of the inputs."""

    def __init__(self, numbers: set[int], tensors: set[int], objects: set[int]) -> None:
        self.plain, self.tensors = set(numbers), tensors  # numbers that are known before
        self.objects = objects
        self.early: list[Any] = []
        self.rest: list[tuple[Any, bool]] = []  # nodes after them, and whether they are the core's
        self.later: set[int] = set()  # values that follow from the core's
        self.unknown: set[int] = set()  # of them, those that are no tensors

    @property
    def late(self) -> list[Any]:
        return [node for node, is_core in self.rest if not is_core]

    def add(self, node: Any) -> None:
        """Raises: Whole."""
        if isinstance(node, Check):
            if isinstance(node.value, Val) and node.value.id in self.plain:
                return
            if not self.is_foreseen(node):
                raise Whole(f"{node.where}: {node.what}")
            self.rest.append((node, True))
        elif is_pure(node, self.plain, self.tensors) and not _may_raise(node):
            self.early.append(node)
            self.plain |= {val.id for val in made(node)}
        elif self.is_tail(node) or (
            is_plain(node, self.plain | self.later, self.tensors) and not is_item(node)
        ):
            self.rest += [(check, True) for check in no_error(node)]
            self.rest.append((node, False))
            self.late_by(node)
            self.change(self.objects.intersection(uses(node)))
        elif isinstance(node, Call):
            changed = self.objects.intersection(uses(node))
            if changed and not is_change(node):
                raise Whole(f"{node.where}: a list from outside")
            self.rest.append((node, not changed))
            self.late_by(node)
            self.change(changed)
        elif isinstance(node, (Assert, If, While)) and self.is_foreseen(node):
            self.rest.append((node, True))
            self.late_by(node)
        else:
            raise Whole("control flow that depends on data")

    def is_foreseen(self, node: Any) -> bool:
        """Tensor calls on ways of decisions, and in loops that known numbers decide."""
        return self.objects.isdisjoint(uses(node)) and Settling(self.unknown, True).node(node)

    def is_tail(self, node: Any) -> bool:
        """Ways that the code ends in: they may do anything but go back through the core's graph."""
        if not isinstance(node, Fork):
            return False
        test = {x.id for x in leaves(node.test) if isinstance(x, Val)}
        calls = (n for block in blocks_of(node) for n in block.walk() if isinstance(n, Call))
        return self.plain | self.later >= test and not any(
            name_of(c.func) in _AUTOGRAD for c in calls
        )

    def change(self, objects: set[int]) -> None:
        """What they hold is not known before any more."""
        self.plain -= objects
        self.later |= objects
        self.unknown |= objects

    def late_by(self, node: Any) -> None:
        """What a node makes of the core's values."""
        self.later |= {val.id for val in results_of(node)}
        if not isinstance(node, Call) or name_of(node.func) not in TOLD:
            self.unknown |= {val.id for val in results_of(node) if not _is_tensor(val)}

    def core(self) -> list[Any]:
        """The core, with what follows from it and it needs again.  Raises: Whole."""
        wanted: set[int] = set()
        for at in reversed(range(len(self.rest))):
            node, is_core = self.rest[at]
            if not is_core and wanted & {val.id for val in results_of(node)}:
                if not isinstance(node, Call) or self.objects.intersection(uses(node)):
                    raise Whole("control flow that depends on data")
                self.rest[at] = (node, True)
                is_core = True
            if is_core:
                wanted |= set(uses(node))
        core = [node for node, is_core in self.rest if is_core]
        while core and isinstance(core[-1], Check):
            core.pop()  # nothing is done after it
        self.check(core)
        return core

    def check(self, core: list[Any]) -> None:
        """Raises: Whole where what follows reads a tensor that the core updates after that."""
        changed = {
            x.id for node in Block(None, core).walk()
            if isinstance(node, Call) and is_update(node.func) and name_of(node.func) != "backward"
            for x in leaves(node.args[:1]) if isinstance(x, Val)
        }  # fmt: skip
        if any(changed.intersection(decided(node)) for node in self.late):
            raise Whole("a decision on a tensor that is updated")

    def computed(self, core: list[Any]) -> set[int]:
        return {val.id for node in core for val in results_of(node)}


def no_error(node: Any) -> Iterator[Check]:
    """That ``node`` will raise no error, before what comes after it is done."""
    if isinstance(node, Assert):
        yield Check(node.test, True, "an assertion that does not hold", node.where)
    if isinstance(node, (If, Fork)):
        then, orelse = (_may_raise_at_end(b) for b in (node.then, node.orelse))
        if then != orelse:
            yield Check(node.test, orelse, "an error", node.where)


def _may_raise_at_end(block: Block | None) -> bool:
    return block is not None and (
        block.raises or (bool(block.nodes) and isinstance(block.nodes[-1], Raise))
    )


def results_of(node: Any) -> Iterator[Val]:
    """What may be read after a node."""
    return iter(node.params) if isinstance(node, While) else made(node)


def is_plain(node: Any, known: set[int], tensors: set[int], is_inside: bool = False) -> bool:
    """It computes numbers from known ones; a path that ends in an error may do more.

    Args: is_inside: a block, where it may also change containers.
    """
    if is_inside and isinstance(node, Call) and is_change(node):
        return known.issuperset(uses(node))
    if isinstance(node, (Assert, Print)):
        return known.issuperset(uses(node))
    if isinstance(node, (If, Fork)):
        test = {x.id for x in leaves(node.test) if isinstance(x, Val)}
        return known >= test and all(is_plain_block(b, known, tensors) for b in blocks_of(node))
    if is_item(node):
        return known.issuperset(uses(node))
    return is_pure(node, known, tensors)


def is_item(node: Any) -> bool:
    return isinstance(node, Call) and node.func is torch.Tensor.item


def is_change(call: Call) -> bool:
    """A method of a container, which gives no tensor."""
    owner = getattr(call.func, "__objclass__", None)
    return owner in (list, dict, set) and not any(_is_tensor(val) for val in made(call))


def is_plain_block(block: Block, known: set[int], tensors: set[int]) -> bool:
    if block.raises:
        return True
    inner = set(known)
    for node in block.nodes:
        if not is_plain(node, inner, tensors, True):
            return False
        inner |= {val.id for val in made(node)}
    return True


def decided(node: Any) -> Iterator[int]:
    """Ids of the values that it decides on or computes with; results are only passed on."""
    parts = (getattr(node, name, None) for name in ("test", "args", "kwargs"))
    yield from (x.id for part in parts for x in leaves(part) if isinstance(x, Val))
    for block in blocks_of(node):
        for inner in block.nodes if not block.raises else ():
            yield from decided(inner)


def _may_raise(node: Any) -> bool:
    return isinstance(node, Raise) or any(
        _may_raise(inner) for block in blocks_of(node) for inner in block.nodes
    )


def _reading(emitter: Emitter, inputs: Inputs, which: set[int]) -> None:
    place = Guards(emitter).place
    for val, source in inputs:
        if val.id in which:
            emitter.line(f"v{val.id} = {place(source)}")
            emitter.bind([val.id])


def _unpacked(emitter: Emitter, ids: list[int], text: str, first: int = 0) -> None:
    for i, id in enumerate(ids):
        emitter.line(f"v{id} = {text}[{first + i}]")
    emitter.bind(ids)


def _row(vals: list[Val]) -> str:
    return "(" + "".join(f"v{val.id}, " for val in vals) + ")"


def _before(nodes: list[Any], inputs: Inputs, shared: list[Val]) -> Callable[..., tuple]:
    emitter = Numbers(Ambient())
    needed = {i for node in nodes for i in uses(node)} | {val.id for val in shared}
    _reading(emitter, inputs, needed)
    emitter.block(Block(None, nodes, [shared]))
    emitter.line(f"return {_row(shared)}")
    return emitter.compile("def before(args, kwargs):", "before", "<oarlock numbers>")


def _core(
    way: Way, nodes: list[Any], inputs: Inputs, given: list[Val], found: list[Val],
    left: set[int], count: int,
) -> Callable[..., tuple]:  # fmt: skip
    """Tensors that are only decided on are copies: they share no memory with what is left."""
    emitter = Emitter(way.modes)
    _reading(emitter, inputs, {i for node in nodes for i in uses(node)})
    _unpacked(emitter, [val.id for val in given], "args", count)
    emitter.block(Block(None, nodes, [found]))
    emitter.switch(way.modes)
    for val in found:
        if _is_tensor(val) and val.id not in left:
            emitter.line(f"v{val.id} = v{val.id}.detach().clone()")
    emitter.line(f"return {_row(found)}")
    return emitter.compile("def core(args, kwargs):", "core", "<oarlock tensors>")


def _after(
    way: Way, root: Block, inputs: Inputs, shared: list[int], found: list[Val]
) -> Callable[..., Any]:
    emitter = Emitter(way.after)
    known = [*shared, *(val.id for val in found)]
    _reading(emitter, inputs, {val.id for val, _ in inputs} - set(known))
    _unpacked(emitter, shared, "shared")
    _unpacked(emitter, [val.id for val in found], "found")
    emitter.ending(root)
    header = "def after(args, kwargs, shared, found):"
    return emitter.compile(header, "after", "<oarlock effects>")
