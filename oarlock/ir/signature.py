"""The structure of a program's arguments and results, as plain JSON data.

A tree is one of

* ``{"leaf": i}``                          tensor ``i`` of the graph's inputs or outputs
* ``{"const": value}``                     None, bool, int, float or str, fixed at capture
* ``{"size": text}``                       an int computed from the dims
* ``{"rows": tree}``                      a list with an item for every row of the tensors in the tree
* ``{"part": i, "sizes": j, "axis": n}``   inside ``rows``: as many slices of tensor ``i`` as tensor
                                           ``j`` says for the row, their first axis moved to ``n``
* ``{"optional": i, "tree": tree}``       None where tensor ``i`` is false
* ``{"choice": i, "options": [tree, ...]}``  the tree at the place that tensor ``i`` says
* ``{"tuple": [...]}``, ``{"list": [...]}``, ``{"dict": [[key, tree], ...]}``
* ``{"record": type name, "fields": [[name, tree], ...]}``  dataclass, namedtuple, ModelOutput
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Tree = dict[str, Any]


class Record(dict):
    """What a dataclass, namedtuple or ModelOutput is rebuilt as: keys, attributes and indices.

    ``out["logits"]``, ``out.logits`` and ``out[0]`` are the same; fields that are None are left
    out of the indices.
    """

    def __init__(self, type_name: str, fields: Mapping[str, Any]) -> None:
        super().__init__(fields)
        self.type_name = type_name

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"{self.type_name} has no field {name!r}") from None

    def __getitem__(self, key: Any) -> Any:
        return self.to_tuple()[key] if isinstance(key, (int, slice)) else super().__getitem__(key)

    def to_tuple(self) -> tuple[Any, ...]:
        """The fields that are not None, in order."""
        return tuple(v for v in self.values() if v is not None)

    def __reduce__(self) -> tuple[Any, ...]:
        return Record, (self.type_name, dict(self))

    def __repr__(self) -> str:
        return f"{self.type_name}({', '.join(f'{k}={v!r}' for k, v in self.items())})"


@dataclass(frozen=True)
class Signature:
    """``args``: trees of the positional arguments; ``kwargs``: of the named; ``result``.

    ``names`` are the names of the tensor inputs, in order of the graph's inputs.  A program
    written by hand has an empty signature: its inputs are positional, its outputs a tuple or,
    when there is one, that tensor.
    """

    args: tuple[Tree, ...] = ()
    kwargs: tuple[tuple[str, Tree], ...] = ()
    result: Tree | None = None
    names: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        return {
            "args": list(self.args),
            "kwargs": [[name, tree] for name, tree in self.kwargs],
            "result": self.result,
            "names": list(self.names),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Signature:
        return Signature(
            tuple(data.get("args", ())),
            tuple((name, tree) for name, tree in data.get("kwargs", ())),
            data.get("result"),
            tuple(data.get("names", ())),
        )


def rebuild(
    tree: Tree | None, leaves: Sequence[Any], size: Callable[[str], int] | None = None
) -> Any:
    """Put ``leaves`` back into the structure of ``tree``; ``size`` evaluates size texts."""
    if tree is None:
        return leaves[0] if len(leaves) == 1 else tuple(leaves)
    if "leaf" in tree:
        return leaves[tree["leaf"]]
    if "const" in tree:
        return tree["const"]
    if "size" in tree:
        return size(tree["size"]) if size else tree["size"]
    if "optional" in tree:
        return rebuild(tree["tree"], leaves, size) if leaves[tree["optional"]] else None
    if "choice" in tree:
        return rebuild(tree["options"][int(leaves[tree["choice"]])], leaves, size)
    if "part" in tree:
        return leaves.part(tree["part"], tree["sizes"], tree["axis"])  # type: ignore[attr-defined]
    if "rows" in tree:
        rows = range(_count(tree["rows"], leaves))
        return [rebuild(tree["rows"], _Row(leaves, i), size) for i in rows]
    if "tuple" in tree:
        return tuple(rebuild(t, leaves, size) for t in tree["tuple"])
    if "list" in tree:
        return [rebuild(t, leaves, size) for t in tree["list"]]
    if "dict" in tree:
        return {key: rebuild(t, leaves, size) for key, t in tree["dict"]}
    return Record(tree["record"], {k: rebuild(t, leaves, size) for k, t in tree["fields"]})


class _Row(Sequence):
    """Row ``i`` of every leaf."""

    def __init__(self, leaves: Sequence[Any], i: int) -> None:
        self.leaves, self.i = leaves, i

    def __len__(self) -> int:
        return len(self.leaves)

    def __getitem__(self, index: Any) -> Any:
        return self.leaves[index][self.i]

    def part(self, index: int, sizes: int, axis: int) -> Any:
        """The slices of leaf ``index`` that are the row's."""
        if isinstance(self.leaves, _Row):
            return self.leaves.part(index, sizes, axis)[self.i]
        counts = self.leaves[sizes]
        begin = int(counts[: self.i].sum())
        return np.moveaxis(self.leaves[index][begin : begin + int(counts[self.i])], 0, axis)


def _count(tree: Tree, leaves: Sequence[Any]) -> int:
    """How many rows there are."""
    while "part" not in tree and "leaf" not in tree:
        kind = next(iter(tree))
        tree = tree[kind] if kind == "rows" else tree[kind][0]
    if "leaf" in tree:
        return len(leaves[tree["leaf"]])
    if isinstance(leaves, _Row):
        return len(leaves.part(tree["part"], tree["sizes"], 0))
    return len(leaves[tree["sizes"]])


def leaf_indices(tree: Tree) -> Iterator[int]:
    """Indices of the tensors in a tree, in order."""
    if "leaf" in tree:
        yield tree["leaf"]
    elif "optional" in tree:
        yield tree["optional"]
        yield from leaf_indices(tree["tree"])
    elif "choice" in tree:
        yield tree["choice"]
    elif "part" in tree:
        yield from (tree["sizes"], tree["part"])
    elif "rows" in tree:
        yield from leaf_indices(tree["rows"])
    for child in tree.get("tuple", ()) or tree.get("list", ()):
        yield from leaf_indices(child)
    for _, child in tree.get("dict", ()) or tree.get("fields", ()):
        yield from leaf_indices(child)
