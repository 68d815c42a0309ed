"""Values, nodes, graphs and programs: SSA, typed at construction, functional."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from oarlock.errors import TypeMismatch
from oarlock.ir.dim import Dim, Size
from oarlock.ir.signature import Signature
from oarlock.ir.types import DType, TensorType

if TYPE_CHECKING:
    from oarlock.ir.op import Op


@dataclass(frozen=True)
class Origin:
    """Where a node comes from: module path ``model.fc1`` and source line ``mlp.py:12``."""

    module: str = ""
    source: str = ""

    def __str__(self) -> str:
        return "  ".join(part for part in (self.module, self.source) if part)

    def join(self, other: Origin) -> Origin:
        """The origin of a node that replaces two."""
        return Origin(
            _join(self.module, other.module, " + "), _join(self.source, other.source, ", ")
        )


def _join(a: str, b: str, separator: str) -> str:
    if not a or not b or b in a.split(separator):
        return a or b
    return a if len(a) > 200 else f"{a}{separator}{b}"


class Value:
    """One tensor of a graph: a graph input (``producer`` None) or an output of a node."""

    __slots__ = ("index", "name", "producer", "type")

    def __init__(
        self,
        type: TensorType,
        producer: Node | None = None,
        index: int = 0,
        name: str | None = None,
    ) -> None:
        self.type, self.producer, self.index, self.name = type, producer, index, name

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def shape(self) -> tuple[Size, ...]:
        return self.type.shape

    @property
    def rank(self) -> int:
        return len(self.type.shape)

    def __repr__(self) -> str:
        source = self.name or (f"{self.producer.name}.{self.index}" if self.producer else "input")
        return f"Value({source} : {self.type})"


class Node:
    """An op applied to values; ``graphs`` are the sub-graphs of ``if_``, ``while_``, ``call``.

    Raises: TypeMismatch when the op does not accept the inputs: no ill-typed node exists.
    """

    __slots__ = ("graphs", "inputs", "op", "origin", "outputs")

    def __init__(
        self,
        op: Op,
        inputs: Sequence[Value] = (),
        graphs: Sequence[Graph] = (),
        origin: Origin = Origin(),
    ) -> None:
        self.op, self.inputs, self.graphs, self.origin = op, tuple(inputs), tuple(graphs), origin
        try:
            types = op.infer_types([value.type for value in self.inputs], self.graphs)
        except TypeMismatch as error:
            raise TypeMismatch(f"{error}  at {origin}" if str(origin) else str(error)) from None
        self.outputs = tuple(Value(type, self, i) for i, type in enumerate(types))

    @property
    def name(self) -> str:
        """The op's name."""
        return self.op.name

    @property
    def output(self) -> Value:
        """The only output."""
        (value,) = self.outputs
        return value

    def __repr__(self) -> str:
        types = ", ".join(str(value.type) for value in self.outputs)
        return f"Node({self.op}, {len(self.inputs)} inputs -> {types})"


class Graph:
    """Nodes in execution order between inputs and outputs.

    A sub-graph is closed: it reads only its own inputs, its own nodes and ``param`` nodes.
    """

    __slots__ = ("inputs", "nodes", "outputs")

    def __init__(
        self,
        inputs: Sequence[Value] = (),
        nodes: Sequence[Node] = (),
        outputs: Sequence[Value] = (),
    ) -> None:
        self.inputs, self.nodes, self.outputs = list(inputs), list(nodes), list(outputs)

    def input(self, type: TensorType, name: str) -> Value:
        """Append an input."""
        value = Value(type, name=name)
        self.inputs.append(value)
        return value

    def uses(self) -> dict[Value, list[tuple[Node, int]]]:
        """For every value the nodes that read it, with the operand's index."""
        found: dict[Value, list[tuple[Node, int]]] = {value: [] for value in self.values()}
        for node in self.nodes:
            for i, value in enumerate(node.inputs):
                found[value].append((node, i))
        return found

    def values(self) -> Iterator[Value]:
        """Every value: inputs, then outputs of nodes."""
        yield from self.inputs
        for node in self.nodes:
            yield from node.outputs

    def walk(self) -> Iterator[Node]:
        """Every node, those of sub-graphs included, each after its own sub-graphs."""
        for node in self.nodes:
            for graph in node.graphs:
                yield from graph.walk()
            yield node

    def params(self) -> list[str]:
        """Names of the params read, sub-graphs included, in order of first use."""
        return list(dict.fromkeys(n.op.key for n in self.walk() if n.op.name == "param"))

    def symbols(self) -> dict[str, Dim]:
        """Every symbolic dim in a type, by name."""
        found: dict[str, Dim] = {}
        for graph in self.graphs():
            for value in graph.values():
                for size in value.shape:
                    _collect(size, found)
        return found

    def graphs(self) -> Iterator[Graph]:
        """This graph and every graph inside it."""
        yield self
        for node in self.nodes:
            for graph in node.graphs:
                yield from graph.graphs()


def _collect(size: Size, found: dict[str, Dim]) -> None:
    if isinstance(size, Dim):
        for atom in size.atoms():
            found.setdefault(atom.name, Dim(atom.name, atom.low, atom.high))


@dataclass(frozen=True)
class State:
    """A param that a run changes: ``output`` of the graph is its next value."""

    name: str
    output: int


@dataclass(eq=False)
class Program:
    """A graph with its weights: what is captured, checked, compressed, saved and compiled.

    ``params`` hold storage arrays (bf16 as uint16 bits); ``dims`` gives every symbol its range;
    ``state`` names params that a run updates, each with the index of the graph output that is its
    next value (those outputs follow the ones of the signature); ``meta`` is free JSON data.
    Two programs are equal when their texts are: weights are compared by ``same_weights``.
    """

    graph: Graph
    params: dict[str, np.ndarray] = field(default_factory=dict)
    dims: dict[str, Dim] = field(default_factory=dict)
    state: tuple[State, ...] = ()
    signature: Signature = field(default_factory=Signature)
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, dim in self.graph.symbols().items():
            self.dims.setdefault(name, dim)

    def __str__(self) -> str:
        from oarlock.ir.printer import print_program

        return print_program(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Program) and str(self) == str(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        nodes = sum(1 for _ in self.graph.walk())
        return f"Program({nodes} nodes, {len(self.params)} params, {self.weight_bytes} bytes)"

    @property
    def weight_bytes(self) -> int:
        """Size of the params, bytes."""
        return sum(array.nbytes for array in self.params.values())

    def same_weights(self, other: Program) -> bool:
        """Bit-identical params under the same names."""
        return self.params.keys() == other.params.keys() and all(
            a.dtype == other.params[n].dtype
            and a.shape == other.params[n].shape
            and a.tobytes() == other.params[n].tobytes()
            for n, a in self.params.items()
        )

    @property
    def result_outputs(self) -> list[Value]:
        """The graph's outputs that the caller sees, without the next values of the state."""
        hidden = {state.output for state in self.state}
        return [value for i, value in enumerate(self.graph.outputs) if i not in hidden]

    def replace(self, **changes: Any) -> Program:
        """A program with some fields changed; the params are shared."""
        fields = {
            "graph": self.graph,
            "params": self.params,
            "dims": dict(self.dims),
            "state": self.state,
            "signature": self.signature,
            "meta": self.meta,
        }
        return Program(**{**fields, **changes})

    def save(self, path: Any) -> None:
        """Write the program to an ``.oar`` file.  Raises: InvalidProgram, OSError."""
        from oarlock.ir.archive import save

        save(self, path)


def clone_graph(graph: Graph, env: Mapping[str, Size] | None = None) -> Graph:
    """A deep copy; ``env`` replaces symbolic dims in types and attributes."""
    env = env or {}
    mapped = {v: Value(v.type.substitute(env), name=v.name) for v in graph.inputs}
    nodes: list[Node] = []
    for node in graph.nodes:
        op = node.op.substitute(env) if env else node.op
        inputs = [mapped[v] for v in node.inputs]
        copy = Node(op, inputs, [clone_graph(g, env) for g in node.graphs], node.origin)
        mapped.update(zip(node.outputs, copy.outputs))
        nodes.append(copy)
    return Graph([mapped[v] for v in graph.inputs], nodes, [mapped[v] for v in graph.outputs])
