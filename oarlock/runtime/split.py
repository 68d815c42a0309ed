"""A graph whose sizes a run decides, cut into parts that an engine runs and steps that Python drives.

A *step* binds sizes, checks an assertion, or is a branch or loop that holds such a node or calls
back into PyTorch.  Everything between steps that does not wait for one is a *segment*: a graph of its
own, with its params inside and the sizes bound before as its dims.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from oarlock.ir import Dim, Graph, Node, Program, Value, bounds
from oarlock.ir.scope import graph_uses, uses

TINY = 64  # elements of the largest value that numpy handles as fast as an engine is called
FEW = 24  # nodes of a segment that numpy runs
HEAVY = ("linear", "matmul", "conv", "conv_transpose", "attention")


@dataclass
class Segment:
    """Nodes without steps; ``inputs`` are values of the graph around, ``outputs`` its own."""

    graph: Graph
    inputs: list[Value]
    outputs: list[Value]

    @property
    def nodes(self) -> list[Node]:
        return self.graph.nodes

    @property
    def is_tiny(self) -> bool:
        """Not worth an engine."""
        work = [n for n in self.nodes if n.name not in LEAVES]
        calls = any(n.graphs or n.name in (*HEAVY, "aten_call") for n in work)
        return not calls and len(work) <= FEW and all(map(_is_tiny, self.graph.values()))


@dataclass
class Step:
    """A node that Python runs, with a block for every sub-graph."""

    node: Node
    blocks: list[Block] = field(default_factory=list)


@dataclass
class Block:
    """A graph as parts in an order that respects values and sizes; ``leaves`` are its own constants."""

    graph: Graph
    parts: list[Segment | Step]
    leaves: list[Node]


LEAVES = ("param", "const")


def is_step(node: Node) -> bool:
    """Python must run the node."""
    if node.op.ends_run:
        return False
    if node.op.binds or node.op.binds_inside or node.op.effect:
        return True
    inner = [n for graph in node.graphs for n in graph.walk()]
    return any(n.op.binds or n.op.effect or n.name == "aten_call" for n in inner)


def has_steps(program: Program) -> bool:
    """No engine can run the program as one."""
    return any(map(is_step, program.graph.nodes))


def split(graph: Graph) -> Block:
    """The parts of a graph."""
    leaves = [n for n in graph.nodes if n.name in LEAVES]
    waiting = [n for n in graph.nodes if n.name not in LEAVES]
    known: set[Value] = {*graph.inputs, *(v for n in leaves for v in n.outputs)}
    unbound = {name for n in waiting for name in n.op.binds}
    found: list[list[Node] | Node] = []
    while waiting:
        plain = _ready([n for n in waiting if not is_step(n)], known, unbound)
        steps = [] if plain else _ready([n for n in waiting if is_step(n)], known, unbound)[:1]
        taken = plain or steps
        assert taken, "a node waits for nothing that comes"
        found += [plain] if plain else steps
        done = set(map(id, taken))
        waiting = [n for n in waiting if id(n) not in done]
        known.update(v for n in taken for v in n.outputs)
        unbound -= {name for n in taken for name in n.op.binds}
    return Block(graph, _parts(graph, found), leaves)


def _ready(nodes: Iterable[Node], known: set[Value], unbound: set[str]) -> list[Node]:
    """The nodes that wait for no step, in order."""
    known, found = set(known), []
    for node in nodes:
        if all(v in known for v in node.inputs) and uses(node).isdisjoint(unbound):
            found.append(node)
            if not is_step(node):
                known.update(node.outputs)
    return found


def _parts(graph: Graph, found: Sequence[list[Node] | Node]) -> list[Segment | Step]:
    """Segments and steps, each segment with the values that are read after it."""
    later: set[Value] = set(graph.outputs)
    parts: list[Segment | Step] = []
    for item in reversed(found):
        if isinstance(item, Node):
            parts.append(Step(item, [split(g) for g in item.graphs]))
            later.update(item.inputs)
        else:
            segment = _segment(item, later)
            parts.append(segment)
            later.update(segment.inputs)
    return parts[::-1]


def _segment(nodes: Sequence[Node], later: set[Value]) -> Segment:
    """A closed graph of ``nodes``, its inputs named after nothing, its leaves its own."""
    made = {v for n in nodes for v in n.outputs}
    read = dict.fromkeys(v for n in nodes for v in n.inputs if v not in made)
    inputs = [v for v in read if v.producer is None or v.producer.name not in LEAVES]
    outputs = [v for n in nodes for v in n.outputs if v in later]
    graph = Graph()
    known = {v: graph.input(v.type, f"in{i}") for i, v in enumerate(inputs)}
    leaves = [v.producer for v in read if v not in known and v.producer is not None]
    for node in [*dict.fromkeys(leaves), *nodes]:
        copy = Node(node.op, [known[v] for v in node.inputs], node.graphs, node.origin)
        graph.nodes.append(copy)
        known.update(zip(node.outputs, copy.outputs))
    graph.outputs = [known[v] for v in outputs]
    return Segment(graph, inputs, outputs)


def _is_tiny(value: Value) -> bool:
    high = bounds(value.type.size)[1]
    return high is not None and high <= TINY


def program_of(segment: Segment, whole: Program) -> Program:
    """A segment as a program."""
    graph = segment.graph
    dims: dict[str, Dim] = {name: whole.dims[name] for name in sorted(graph_uses(graph))}
    params = {key: whole.params[key] for key in graph.params()}
    return Program(graph, params, dims)
