"""Forks: decisions on data after which the two ways can't be joined to one value.

The code is captured once for each way, and what follows the decision becomes the end of its branch:
other Python objects, dict keys, structures of the result on each way are then no hindrance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import MethodType
from typing import Any, Protocol

from oarlock.capture.convert.handlers import Steering
from oarlock.capture.tape.nodes import Block, Fork, SubTape, Val, blocks_of, leaves, map_tree
from oarlock.capture.tape.sources import Source

ENDS = 32  # ways through the code: beyond, the refusal stands
FEW = 4  # beyond, containers that keep the ways apart are rather followed at run time


class ForkNeeded(Steering):
    """The outermost decision ``number`` of the code must be taken both ways; ``refusal``: else."""

    def __init__(self, number: int, refusal: Exception) -> None:
        self.number, self.refusal = number, refusal
        super().__init__(number)


class Way(Protocol):
    """One capture of the code, for given decisions; ``taken``: those that it found must fork, after
    which it went on as where they are true."""

    root: Block
    inputs: list[tuple[Val, Source, Any]]
    taken: list[ForkNeeded]


@dataclass(eq=False)
class Split:
    """Two ways from the next decision on."""

    then: Any
    orelse: Any


def explore(
    run: Callable[[dict[int, bool]], Way], many: Callable[[frozenset[Any]], None] = lambda _: None
) -> Any:
    """A tree of ways: ``run(decisions)`` captures one, forced to take those decisions.

    Args: many: told of more than a few ways, with the lines of the containers that keep them apart;
        raises where these are better followed at run time.
    """
    ends = 1
    sites: frozenset[Any] = frozenset()

    def count(found: ForkNeeded) -> None:
        nonlocal ends, sites
        ends += 1
        sites |= getattr(found.refusal, "sites", frozenset())
        if ends > FEW:
            many(sites)
        if ends > ENDS:
            raise found.refusal

    def beside(way: Way, decisions: dict[int, bool]) -> Any:
        """``way``, with those that part from it."""
        tree: Any = way
        for i, found in reversed([*enumerate(way.taken)]):
            count(found)
            before = {one.number: True for one in way.taken[:i]}
            try:
                tree = Split(tree, go({**decisions, **before, found.number: False}))
            except ForkNeeded as earlier:
                number = min(earlier.number, way.taken[0].number)
                raise ForkNeeded(number, earlier.refusal) from earlier
        return tree

    def go(decisions: dict[int, bool]) -> Any:
        nonlocal ends
        known = ends
        try:
            return beside(run(decisions), decisions)
        except ForkNeeded as need:
            found, ends = need, known
        while not decisions or found.number > max(decisions):
            count(found)
            number = found.number
            try:
                return Split(go({**decisions, number: True}), go({**decisions, number: False}))
            except ForkNeeded as earlier:  # a decision that comes before must be split first
                found = earlier
        raise found

    return go({})


def ways(tree: Any) -> Iterator[Any]:
    """The ends of the tree, from left to right."""
    if isinstance(tree, Split):
        yield from ways(tree.then)
        yield from ways(tree.orelse)
    else:
        yield tree


def assemble(tree: Any) -> Block:
    """One block whose ``Fork`` nodes hold what follows each decision; shared values are one."""
    first, *others = ways(tree)
    places = {source_key(s): val for val, s, _ in first.inputs}
    for way in others:
        for val, source, _ in way.inputs:
            val.id = places.setdefault(source_key(source), val).id
    return _block(tree, 0)


def source_key(source: Source) -> tuple[int, str]:
    return id(source.base), source.path


def _block(tree: Any, depth: int) -> Block:
    first = next(ways(tree))
    nodes = first.root.nodes
    marks = [i for i, node in enumerate(nodes) if isinstance(node, Fork)]
    start = marks[depth - 1] + 1 if depth else 0
    if not isinstance(tree, Split):
        root = first.root
        return Block(None, nodes[start:], root.results, root.raises, first, first.result)
    mark = marks[depth]
    for way in ways(tree.orelse):
        _share(nodes[: mark + 1], way.root.nodes[: mark + 1])
        _Objects(nodes[: mark + 1], way.root.nodes[: mark + 1]).put(way.root)
    fork = nodes[mark]
    fork.then, fork.orelse = _block(tree.then, depth + 1), _block(tree.orelse, depth + 1)
    return Block(None, [*nodes[start:mark], fork], [])


def _share(ours: list[Any], theirs: list[Any]) -> None:
    """Values that both captures met before they part get one id."""
    assert len(ours) == len(theirs), "a capture that is repeated meets the same calls"
    for a, b in zip(ours, theirs):
        for x, y in zip(_made(a), _made(b), strict=True):
            y.id = x.id
    for a, b in zip(inside(ours), inside(theirs), strict=True):
        if hasattr(a, "shadow"):
            a.shadows = [*getattr(a, "shadows", [a.shadow]), *getattr(b, "shadows", [b.shadow])]


class _Objects:
    """What stands in ``ours`` for each object that the code has made again in ``theirs``: values that
    are one of several objects are told by identity after the decision too."""

    def __init__(self, ours: list[Any], theirs: list[Any]) -> None:
        self.same: dict[int, tuple[Any, Any]] = {}
        for a, b in zip(inside(ours), inside(theirs), strict=True):
            for x, y in zip(_held(a), _held(b)):
                self.pair(x, y)

    def pair(self, x: Any, y: Any) -> None:
        if x is y or type(x) is not type(y) or isinstance(x, (Val, SubTape, *_VALUES)):
            return
        if isinstance(x, MethodType):
            self.pair(x.__func__, y.__func__)
            self.pair(x.__self__, y.__self__)
        else:
            self.same[id(y)] = (x, y)

    def of(self, x: Any) -> Any:
        if type(x) is MethodType:
            return MethodType(self.of(x.__func__), self.of(x.__self__))
        return self.same.get(id(x), (x,))[0]

    def put(self, block: Block) -> None:
        """Let ``block`` hold those of ``ours``."""
        if not self.same:
            return
        block.results = [map_tree(x, self.of) for x in block.results]
        for node in block.nodes:
            for name in _TREES:
                if hasattr(node, name):
                    setattr(node, name, map_tree(getattr(node, name), self.of))
            for inner in blocks_of(node) if not isinstance(node, Fork) else ():
                self.put(inner)


_TREES = ("args", "kwargs", "init", "value", "expected")
_VALUES = (bool, int, float, complex, str, bytes, type(None))


def _held(node: Any) -> Iterator[Any]:
    """What a node holds, values and objects."""
    for name in _TREES:
        yield from leaves(getattr(node, name, None))
    for block in blocks_of(node) if not isinstance(node, Fork) else ():
        yield from leaves(block.results)


def inside(nodes: list[Any]) -> Iterator[Any]:
    """Nodes, and those of their blocks."""
    for node in nodes:
        yield node
        for block in blocks_of(node) if not isinstance(node, Fork) else ():
            yield from inside([] if block is None else block.nodes)


def _made(node: Any) -> Iterator[Val]:
    """The values that a node makes, those inside its blocks included."""
    for name in ("outs", "params"):
        yield from (v for v in leaves(getattr(node, name, None)) if isinstance(v, Val))
    for block in blocks_of(node) if not isinstance(node, Fork) else ():
        for inner in block.nodes:
            yield from _made(inner)
