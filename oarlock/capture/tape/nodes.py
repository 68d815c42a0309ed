"""What a tape consists of: run-time values, calls, blocks with control flow.

::

    Tape(root: Block)    Block(params, nodes, results)
    node: Call | If | Fork | While | Assert | Check | Print | Raise

Arguments are trees (tuple, list, dict, slice) whose leaves are ``Val`` or plain Python values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Where(NamedTuple):
    """A line of the user's code, and the line that calls its function."""

    file: str
    line: int
    name: str = ""
    caller: Any = None

    def __str__(self) -> str:
        return f"{self.file.rsplit('/', 1)[-1]}:{self.line}"


class Ambient(NamedTuple):
    """What a call finds set around it: the grad mode, inference mode, autocast (dtype or None)."""

    grad: bool = True
    inference: bool = False
    autocast: Any = None
    cache: bool = True


PLAIN = Ambient()


class Val:
    """One run-time value: a tensor, number, list or text.  ``sample`` stands for it in the capture.

    ``dims``: axes whose size may differ between calls, iterations or branches.  ``loose``: what else
    is not certain: "none", "number", "unbound", "dtype", "rank", "grad".
    """

    __slots__ = ("block", "dims", "id", "loose", "name", "sample", "twin")
    count = 0

    def __init__(self, block: Block, sample: Any, name: str = "") -> None:
        Val.count += 1
        self.id = Val.count
        self.block, self.sample, self.name = block, sample, name
        self.dims: frozenset[int] = frozenset()
        self.loose: frozenset[str] = frozenset()
        self.twin: Any = None

    def __repr__(self) -> str:
        return f"%{self.id}"


class Unread:
    """What a branch leaves where nothing reads it."""

    def __repr__(self) -> str:
        return "UNREAD"


UNREAD = Unread()


@dataclass(eq=False)
class Call:
    """``func(*args, **kwargs)``; ``outs``: the tree of its results, Vals at its leaves.

    ``left``: what the code has left in objects until then, should the call fail; ``seen_by``: classes
    of the errors that code around it would see; ``catches``: the next node tells whether it failed with
    such an error; ``is_counted``: sizes decide how many tensors it gives, which the capture takes as
    constant.
    """

    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outs: Any
    where: Where
    ambient: Ambient = PLAIN
    module: str = ""
    left: Any = None
    is_counted: bool = False
    seen_by: tuple[Any, ...] = ()
    catches: type[Exception] | None = None

    @property
    def grad_enabled(self) -> bool:
        return self.ambient.grad


@dataclass(eq=False)
class If:
    """``outs[i]`` is ``results[i]`` of the branch that runs; a branch may end in ``Raise``."""

    test: Any
    then: Block
    orelse: Block
    outs: list[Val]
    names: list[str]
    where: Where


@dataclass(eq=False)
class Fork:
    """The rest of the function is ``then`` or ``orelse``; each ends by itself.  The last node."""

    test: Any
    where: Where
    then: Any = None
    orelse: Any = None


@dataclass(eq=False)
class While:
    """``params = init; while cond(params): params = body(params)``; after it the params stay.

    Both blocks see the params; ``cond.results`` is the test, ``body.results`` the next values.
    """

    params: list[Val]
    init: list[Any]
    cond: Block
    body: Block
    names: list[str]
    where: Where


@dataclass(eq=False)
class Assert:
    """Raise ``AssertionError(message)`` unless ``test``; the block computes the message."""

    test: Any
    message: Block | None
    where: Where
    ambient: Ambient = PLAIN
    left: Any = None


@dataclass(eq=False)
class Check:
    """An assumption of the capture, on ``value``; another ``expected`` needs another tape."""

    value: Any
    expected: Any
    what: str
    where: Where


@dataclass(eq=False)
class Print:
    """Tell the world: print, warn or log."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    where: Where
    function: Any = print


@dataclass(eq=False)
class Raise:
    """Raise ``kind(*args)``; ``left``: what the code has left in objects until then; ``thrown``: the
    error of the run that is raised, and its cause, in place of these."""

    kind: type[BaseException]
    args: tuple[Any, ...]
    where: Where
    error: BaseException | None = None
    left: Any = None
    thrown: tuple[Val | None, Val | None] = (None, None)


@dataclass(eq=False)
class Block:
    """Nodes in order; ``results``: trees of Vals and plain values.

    ``end``: the capture whose end this is, in a function that forks; ``result``: the object that it
    returns.
    """

    parent: Block | None = None
    nodes: list[Any] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)
    raises: bool = False
    end: Any = None
    result: Any = None

    def __repr__(self) -> str:
        return f"Block({len(self.nodes)} nodes)"

    @property
    def depth(self) -> int:
        """How many blocks it is inside of."""
        return 0 if self.parent is None else self.parent.depth + 1

    def is_within(self, other: Block) -> bool:
        block: Block | None = self
        while block is not None and block is not other:
            block = block.parent
        return block is other

    def walk(self) -> Iterator[Any]:
        """All nodes, those of inner blocks after the node that holds them."""
        for node in self.nodes:
            yield node
            for inner in blocks_of(node):
                yield from () if inner is None else inner.walk()  # of a fork that is open


def blocks_of(node: Any) -> list[Block]:
    """The blocks inside a node."""
    if isinstance(node, (If, Fork)):
        return [block for block in (node.then, node.orelse) if block is not None]
    if isinstance(node, While):
        return [node.cond, node.body]
    if isinstance(node, Assert) and node.message is not None:
        return [node.message]
    if isinstance(node, Call):
        return [x.block for x in leaves((node.args, node.kwargs)) if isinstance(x, SubTape)]
    return []


@dataclass(eq=False)
class SubTape:
    """A function argument of a higher-order call: ``block`` with ``params`` in a call's structure.

    ``result``: the tree that the function returns, Vals at its leaves.
    """

    block: Block
    params: tuple[Any, ...]
    result: Any = None
    name: str = "fn"
    ambient: Ambient = PLAIN
    is_recursive: bool = False


@dataclass(eq=False)
class Again:
    """A function of the tape where it is called inside itself."""

    tape: SubTape


def leaves(tree: Any) -> Iterator[Any]:
    """Leaves of an argument tree in order."""
    found: list[Any] = []
    _collect(tree, found)
    return iter(found)


def _collect(tree: Any, found: list[Any]) -> None:
    kind = type(tree)
    if kind in _LEAVES:
        found.append(tree)
    elif kind is list or isinstance(tree, tuple):
        for x in tree:
            if type(x) in _LEAVES:
                found.append(x)
            else:
                _collect(x, found)
    elif isinstance(tree, dict):
        for x in tree.values():
            _collect(x, found)
    elif isinstance(tree, slice):
        found += (tree.start, tree.stop, tree.step)
    else:
        found.append(tree)


_LEAVES = frozenset((Val, int, float, bool, str, type(None)))


def map_tree(tree: Any, change: Callable[[Any], Any]) -> Any:
    """``tree`` with every leaf replaced; classes of tuples and lists are kept where they can be."""
    kind = type(tree)
    if kind is tuple:
        return tuple([map_tree(x, change) for x in tree])
    if kind is list:
        return [map_tree(x, change) for x in tree]
    if kind is dict:
        return {k: map_tree(v, change) for k, v in tree.items()}
    if kind is slice:
        parts = (tree.start, tree.stop, tree.step)
        return slice(*[map_tree(x, change) for x in parts])
    if isinstance(tree, tuple):
        items = [map_tree(x, change) for x in tree]
        return kind(*items) if hasattr(tree, "_fields") else _structseq(kind, items)
    return change(tree)


def alike(vals: Any, sources: Any) -> None:
    """What is not certain of the values in a tree is what is not certain of those in the other."""
    for val, source in zip(leaves(vals), leaves(sources)):
        if isinstance(val, Val) and isinstance(source, Val) and val is not source:
            val.dims, val.loose, val.twin = source.dims, source.loose, source.twin


def _structseq(kind: type, items: list[Any]) -> Any:
    try:
        return kind(items)
    except TypeError:
        return tuple(items)
