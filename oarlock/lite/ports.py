"""C names and types of a program's inputs and outputs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from oarlock.codegen.c.names import identifier, scalar_name
from oarlock.ir import Program, Value
from oarlock.ir.signature import Signature, Tree
from oarlock.ir.types import TensorType

_OURS = re.compile(r"arena|status|OL_.*|(ol|k\d+|steps\d*|loop\d*)(_.*)?")


@dataclass(frozen=True)
class Port:
    """An input or output: ``name`` is a C identifier, the sizes of ``type`` are ints."""

    name: str
    type: TensorType
    is_output: bool

    @property
    def scalar(self) -> str:
        """The C type of an element; f16 and bf16 are their bits."""
        return scalar_name(self.type.dtype)

    @property
    def parameter(self) -> str:
        """A declaration of the pointer."""
        return f"{'' if self.is_output else 'const '}{self.scalar} *{self.name}"

    @property
    def elements(self) -> int:
        size = self.type.size
        assert isinstance(size, int)
        return size

    @property
    def bytes(self) -> int:
        return self.elements * self.type.dtype.bytes

    def __str__(self) -> str:
        shape = "".join(f"[{n}]" for n in self.type.shape)
        note = {"f16": " (f16 bits)", "bf16": " (bf16 bits)", "bool": " (0 or 1)"}
        return f"{self.name}: {self.scalar}{shape}{note.get(self.type.dtype.name, '')}"


def ports_of(program: Program) -> list[Port]:
    """Inputs, then outputs, in the order of the graph."""
    inputs, outputs = program.graph.inputs, program.graph.outputs
    names = [
        *_names(inputs, program.signature.names, "input"),
        *_names(outputs, result_names(program.signature, len(outputs)), "output"),
    ]
    unique: list[str] = []
    for name in names:
        unique.append(_unique(name, unique))
    kinds = [False] * len(inputs) + [True] * len(outputs)
    return [Port(n, v.type, k) for n, v, k in zip(unique, [*inputs, *outputs], kinds)]


def _names(values: Iterable[Value], given: tuple[str, ...], kind: str) -> list[str]:
    values = list(values)
    given = (*given, *[""] * (len(values) - len(given)))
    found = [g or v.name or "" for g, v in zip(given, values)]
    numbered = len(values) > 1
    return [n or (f"{kind}{i}" if numbered else kind) for i, n in enumerate(found)]


def _unique(name: str, taken: list[str]) -> str:
    name = identifier(name)
    name = f"{name}_" if _OURS.fullmatch(name) else name
    count = 2
    found = name
    while found in taken:
        found, count = f"{name}{count}", count + 1
    return found


def result_names(signature: Signature, count: int) -> tuple[str, ...]:
    """A name for each output from the structure of the result; empty where it has none."""
    found = [""] * count
    if signature.result is not None:
        _walk(signature.result, "", found)
    return tuple(found)


def _walk(tree: Tree, path: str, found: list[str]) -> None:
    if "leaf" in tree:
        if tree["leaf"] < len(found) and not path.isdigit():
            found[tree["leaf"]] = path
        return
    items = [*enumerate(tree.get("tuple", tree.get("list", ()))), *tree.get("dict", ())]
    for key, inner in [*items, *tree.get("fields", ())]:
        _walk(inner, f"{path}_{key}" if path else str(key), found)
