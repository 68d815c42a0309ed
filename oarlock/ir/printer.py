"""Programs as text; ``parse(print(p)) == p``."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from oarlock.ir.dim import UNBOUNDED, Dim
from oarlock.ir.graph import Graph, Node, Program, Value
from oarlock.ir.types import DType, TensorType

ORIGIN_COLUMN = 72


def print_program(program: Program) -> str:
    """The text of a program: dims, state, signature, graph."""
    lines = ["oarlock 1"]
    for name, dim in sorted(program.dims.items()):
        low, high = dim.bounds()
        bottom = "-inf" if low == UNBOUNDED else low
        lines.append(f"dim {name} in [{bottom}, {'inf' if high is None else high}]")
    lines += [f"state {_quote(s.name)} = output {s.output}" for s in program.state]
    signature = program.signature.to_json()
    if any(signature.values()):
        lines.append(f"signature {json.dumps(signature, separators=(',', ':'))}")
    return "\n".join([*lines, print_graph(program.graph), ""])


def print_graph(graph: Graph, name: str = "graph") -> str:
    """The text of one graph."""
    return "\n".join(_Printer().graph(graph, name, ""))


def format_attribute(value: Any) -> str:
    """An attribute as text that the parser reads back."""
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        return _format_float(value)
    if isinstance(value, str):
        return _quote(value)
    if isinstance(value, tuple):
        inner = ", ".join(map(format_attribute, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    assert isinstance(value, (int, Dim, DType, TensorType)), f"attribute {value!r}"
    return str(int(value)) if isinstance(value, int) else str(value)


def _format_float(value: float) -> str:
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return repr(value)


def _quote(text: str) -> str:
    return json.dumps(text)


class _Printer:
    def __init__(self) -> None:
        self.names: dict[Value, str] = {}
        self.taken: set[str] = set()
        self.count = 0

    def define(self, value: Value) -> str:
        name = value.name
        if name is None or not _is_plain(name) or name in self.taken:
            name = self.fresh()
        self.taken.add(name)
        self.names[value] = name
        return f"%{name}"

    def fresh(self) -> str:
        while str(self.count) in self.taken:
            self.count += 1
        self.count += 1
        return str(self.count - 1)

    def use(self, value: Value) -> str:
        return f"%{self.names.get(value, '?')}"

    def graph(self, graph: Graph, name: str, indent: str) -> list[str]:
        inputs = ", ".join(f"{self.define(v)}: {v.type}" for v in graph.inputs)
        lines = [f"{indent}{name}({inputs}) {{"]
        for node in graph.nodes:
            lines += self.node(node, indent + "  ")
        lines.append(f"{indent}  return {', '.join(map(self.use, graph.outputs))}".rstrip())
        return [*lines, f"{indent}}}"]

    def node(self, node: Node, indent: str) -> list[str]:
        call = self.call(node)
        inner: list[str] = []
        for i, graph in enumerate(node.graphs):
            inner += self.graph(graph, f"graph {i}", indent + "  ")
        outputs = ", ".join(map(self.define, node.outputs))
        types = ", ".join(str(v.type) for v in node.outputs)
        left = f"{indent}{outputs} = " if node.outputs else f"{indent}"
        head = f"{left}{call} : {types}"
        if str(node.origin):
            where = f"# {_quote(node.origin.module)} {_quote(node.origin.source)}"
            head = f"{head:<{ORIGIN_COLUMN}}  {where}"
        return [head, *inner]

    def call(self, node: Node) -> str:
        if node.name == "param":
            return f"param {_quote(node.op.key)}"
        operands = ", ".join(map(self.use, node.inputs))
        attributes = _attributes(node)
        graphs = f" with {len(node.graphs)} graphs" if node.graphs else ""
        separator = "; " if attributes else ""
        return f"{node.name}({operands}{separator}{', '.join(attributes)}){graphs}"


def _attributes(node: Node) -> Sequence[str]:
    """Attributes that differ from their default; a test of ``repr`` tells 1 from True and 1.0."""
    import dataclasses

    shown = []
    for f in dataclasses.fields(node.op):
        value = getattr(node.op, f.name)
        if f.default is dataclasses.MISSING or repr(f.default) != repr(value):
            shown.append(f"{f.name}={format_attribute(value)}")
    return shown


def _is_plain(name: str) -> bool:
    return name.replace(".", "_").isidentifier() and name.isascii()
