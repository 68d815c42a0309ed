"""What code that ran before its turn has read: others may change that before the turn comes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import CellType, CodeType, FunctionType
from typing import TYPE_CHECKING, Any

import torch

from oarlock.capture.convert.tracing import is_table
from oarlock.capture.tape.containers import KINDS
from oarlock.capture.tape.foresight import acts
from oarlock.capture.tape.journal import MISSING, TABLES, content
from oarlock.capture.tape.nodes import Assert, Block, Call, Print, Raise, Val, blocks_of, leaves
from oarlock.capture.tape.queries import changes_list, is_update
from oarlock.capture.torch_private import storage_of

if TYPE_CHECKING:
    from oarlock.capture.tape.tracer import Tracer


class Given:
    """Items that are there before their turn; what the code ``code`` has read to give them.

    ``cells``: variables of the functions around it; ``tables``: attributes, by object and name;
    ``containers``: what they hold.
    """

    def __init__(self, tracer: Tracer, code: CodeType, number: int) -> None:
        self.tracer, self.code, self.number = tracer, code, number
        self.block: Block = tracer.block
        self.start = self.end = len(self.block.nodes)
        self.nodes: list[Any] = []
        self.functions: list[FunctionType] = []
        self.names: dict[int, tuple[Any, set[Any]]] = {}
        self.used: dict[int, Any] = {}
        self.memories: set[Any] | None = None
        self.looked: tuple[int, Any] = (0, None)  # nodes that change none of it, and the last

    def reads(self, owner: Any, name: Any) -> None:
        self.names.setdefault(id(owner), (owner, set()))[1].add(name)

    def uses(self, x: Any) -> None:
        if _is_container(x):
            self.used[id(x)] = x

    def close(self) -> None:
        """The items are there: what was read holds what it does now."""
        self.nodes = self.block.nodes[self.start :]
        self.end = len(self.block.nodes)
        cells = {id(c): c for f in self.functions for c in f.__closure__ or ()}
        self.cells = [(cell, _value(cell)) for cell in cells.values()]
        self.tables = [(x, _table(x, names)) for x, names in self.names.values()]
        self.containers = [(x, _held(x)) for x in self.used.values()]

    def has_changed(self) -> bool:
        return (
            any(_value(cell) is not old for cell, old in self.cells)
            or any(self.differs(x, old) for x, old in self.tables)
            or any(not _is_same(_held(x), old) for x, old in self.containers)
            or self.is_updated()
        )

    def differs(self, owner: Any, old: dict[Any, Any]) -> bool:
        stand_ins = self.tracer.objects.stand_ins
        now = _table(owner, old)
        return any(
            now[name] is not x and stand_ins.get((id(owner), name), MISSING) is not now[name]
            for name, x in old.items()
        )

    def is_updated(self) -> bool:
        """A node since then changes the memory of what those of the items read."""
        for node in self.after():
            for x in walk(node):
                if isinstance(x, Call) and _changes(x):
                    self.memories = self.read() if self.memories is None else self.memories
                    if not self.memories.isdisjoint(_memories((x.args, x.kwargs))):
                        return True
        return False

    def read(self) -> set[Any]:
        nodes = [x for node in self.nodes for x in walk(node)]
        names = ("args", "kwargs", "test", "init")
        return {m for x in nodes for m in _memories([getattr(x, name, None) for name in names])}

    def after(self) -> list[Any]:
        """The nodes since then, of blocks that are open too; not those that were asked for before."""
        found: list[Any] = []
        block: Block | None = self.tracer.block
        while block is not None and block is not self.block:
            found += block.nodes
            block = block.parent
        nodes, (end, last) = self.block.nodes, self.looked
        is_there = self.end < end <= len(nodes) and nodes[end - 1] is last
        found += nodes[end if is_there else self.end :]
        self.looked = (len(nodes), nodes[-1] if nodes else None)
        return found


def _is_container(x: Any) -> bool:
    return isinstance(x, (list, *KINDS)) or is_table(x)


def _changes(call: Call) -> bool:
    """A call may change what it is given."""
    return is_update(call.func) or "out" in call.kwargs or changes_list(call) or acts(call)


def walk(node: Any) -> Iterator[Any]:
    yield node
    for block in blocks_of(node):
        yield from block.walk()


def is_noticed(node: Any) -> bool:
    """Running ``node`` does something but to give a result."""
    if isinstance(node, Call):
        return is_update(node.func) or acts(node)
    return isinstance(node, (Assert, Print, Raise))


def _value(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING


def _table(owner: Any, names: Iterable[Any]) -> dict[Any, Any]:
    """What ``owner`` holds under ``names``."""
    found = content(owner)
    if not isinstance(found, dict):
        return dict.fromkeys(names, MISSING)
    tables = [found, *(found[t] for t in TABLES if isinstance(found.get(t), dict))]
    return {n: next((t[n] for t in tables if n in t), MISSING) for n in names}


def _held(x: Any) -> list[Any]:
    """What a container holds; of one of the run the value that it is."""
    val = getattr(x, "val", None)
    if val is not None:
        return [val]
    if isinstance(x, dict):
        return [*dict.keys(x), *dict.values(x)]
    return [*list.__iter__(x)] if isinstance(x, list) else [*x]


def _is_same(a: list[Any], b: list[Any]) -> bool:
    return len(a) == len(b) and all(p is q for p, q in zip(a, b))


def _memories(tree: Any) -> Iterator[Any]:
    """What identifies the memory of the values in ``tree``."""
    for x in leaves(tree):
        sample = x.sample if isinstance(x, Val) else None
        if _is_container(sample):
            yield x.id
        elif isinstance(sample, torch.Tensor) and sample.layout is torch.strided:
            with torch._C.DisableTorchFunction():
                yield storage_of(sample)
