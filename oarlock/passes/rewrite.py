"""Rewrite programs by local rules, to a fixpoint.

A rule is ``rule(b, node, *inputs)``: it reads a node and what is before it, adds the replacement
with ``b`` and returns it, or returns None.  Nodes and values are never changed: what no rule
touches is shared by the program before and the one after.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from oarlock.errors import CompilerBug
from oarlock.ir import Builder, Graph, Node, Origin, Program, TensorType, Value, decode, scope

Rule = Callable[..., "Value | Sequence[Value] | None"]
ROUNDS = 64


class Rules:
    """Rules by the name of the op that they look at; ``*`` looks at every op."""

    def __init__(self, *parts: Rules) -> None:
        self.by_op: dict[str, list[Rule]] = {}
        for part in parts:
            for name, rules in part.by_op.items():
                self.by_op.setdefault(name, []).extend(rules)

    def rule(self, *ops: str) -> Callable[[Rule], Rule]:
        """Register a function as a rule for nodes of ``ops``."""

        def register(function: Rule) -> Rule:
            for name in ops:
                self.by_op.setdefault(name, []).append(function)
            return function

        return register

    def of(self, name: str) -> list[Rule]:
        """The rules that look at nodes of op ``name``."""
        return self.by_op.get(name, []) + self.by_op.get("*", [])


@dataclass
class Budget:
    """Counts rewrites; ``take`` refuses those beyond ``limit``, to bisect a wrong one."""

    limit: int | None = None
    spent: int = 0

    def take(self) -> bool:
        if self.limit is not None and self.spent >= self.limit:
            return False
        self.spent += 1
        return True


_budget: ContextVar[Budget | None] = ContextVar("budget", default=None)


@contextmanager
def budget(limit: int | None = None) -> Iterator[Budget]:
    """Count, and limit, the rewrites made inside."""
    found = Budget(limit)
    token = _budget.set(found)
    try:
        yield found
    finally:
        _budget.reset(token)


def may_rewrite() -> bool:
    """Count one more rewrite; False when the limit is reached."""
    current = _budget.get()
    return current is None or current.take()


@dataclass
class Weights:
    """The params of a program under rewriting; those of the state are not constants."""

    params: dict[str, np.ndarray]
    state: frozenset[str] = frozenset()

    @staticmethod
    def of(program: Program) -> Weights:
        return Weights(dict(program.params), frozenset(s.name for s in program.state))

    def add(self, name: str, array: np.ndarray) -> str:
        """Store a new param; its key, ``name`` made unique."""
        key, i = name, 1
        while key in self.params:
            key, i = f"{name}.{i}", i + 1
        self.params[key] = np.ascontiguousarray(array).reshape(array.shape)
        return key


@dataclass
class _Uses:
    """How often each value is read in the graph that is rewritten, outputs included."""

    counts: Counter[Value] = field(default_factory=Counter)

    @staticmethod
    def of(graph: Graph) -> _Uses:
        counts = Counter(v for node in graph.nodes for v in node.inputs)
        counts.update(graph.outputs)
        return _Uses(counts)


class Patch(Builder):
    """The builder that rules add to; it also reads constants and counts uses."""

    def __init__(self, graph: Graph, weights: Weights, uses: _Uses) -> None:
        super().__init__(graph)
        self.weights, self._uses = weights, uses

    @staticmethod
    def of(graph: Graph, weights: Weights) -> Patch:
        """A patch that starts from the inputs of ``graph``."""
        return Patch(Graph(graph.inputs), weights, _Uses.of(graph))

    def has_one_use(self, value: Value) -> bool:
        """``value`` is read once; False when that is not known, as of values made by rules."""
        return self._uses.counts[value] == 1

    def is_constant(self, value: Value) -> bool:
        """A ``const``, or a param that is not state."""
        node = value.producer
        if node is None:
            return False
        is_param = node.name == "param" and node.op.key not in self.weights.state
        return is_param or node.name == "const"

    def storage(self, value: Value) -> np.ndarray | None:
        """The array of a constant as it is stored; None of anything else."""
        if not self.is_constant(value):
            return None
        op = value.producer.op
        return self.weights.params[op.key] if op.name == "param" else op.array

    def constant(self, value: Value) -> np.ndarray | None:
        """The numbers of a constant, f16 and bf16 as float32; None of anything else."""
        array = self.storage(value)
        return None if array is None else decode(array, value.dtype)

    def scalar(self, value: Value) -> bool | int | float | None:
        """The number that every element of a constant is; None when there is none."""
        node = value.producer
        if node is not None and node.name in ("broadcast_to", "reshape"):
            return self.scalar(node.inputs[0])
        if node is not None and node.name == "param" and value.type.size != 1:
            return None
        array = self.constant(value)
        if array is None or array.size == 0:
            return None
        first = array.reshape(-1)[0]
        uniform = array.size == 1 or array.tobytes() == np.full_like(array, first).tobytes()
        return first.item() if uniform else None

    def full(self, number: float, type: TensorType) -> Value:
        """A tensor of one number."""
        value = self.const(number, type.dtype)
        return self.broadcast_to(value, shape=type.shape) if type.shape else value

    def weight(self, array: np.ndarray, like: Value, name: str) -> Value:
        """A new param of storage ``array``, element type of ``like``."""
        key = self.weights.add(name, array)
        return self.param(key, TensorType(like.dtype, tuple(array.shape)))

    def absorb(self, *nodes: Node) -> None:
        """What is added next comes from these nodes too."""
        for node in nodes:
            self.origin = node.origin.join(self.origin)


def made_by(value: Value, *ops: str) -> Node | None:
    """The node that gives ``value`` when it is one of ``ops``."""
    node = value.producer
    return node if node is not None and node.name in ops else None


def fit(b: Patch, value: Value, type: TensorType) -> Value:
    """``value`` broadcast to ``type``."""
    return value if value.type == type else b.broadcast_to(value, shape=type.shape)


def rewrite(program: Program, rules: Rules, rounds: int = ROUNDS) -> Program:
    """``program`` with ``rules`` applied, sub-graphs too, until none fires or ``rounds`` are over.

    Raises: CompilerBug when a rule gives values of other types.
    """
    weights, graph = Weights.of(program), program.graph
    for _ in range(rounds):
        before, graph = graph, _rewrite_graph(graph, rules, weights)
        if graph is before:
            break
    return with_graph(program, graph, weights.params)


def with_graph(program: Program, graph: Graph, params: Mapping[str, np.ndarray]) -> Program:
    """``program`` with another graph and only the params that it reads."""
    keep = [*graph.params(), *(s.name for s in program.state)]
    used = {key: params[key] for key in dict.fromkeys(keep) if key in params}
    if graph is program.graph and used.keys() == program.params.keys():
        return program
    return program.replace(graph=graph, params=used)


def _rewrite_graph(graph: Graph, rules: Rules, weights: Weights) -> Graph:
    """One round; ``graph`` itself when no rule fired."""
    b = Patch(Graph(graph.inputs), weights, uses := _Uses.of(graph))
    known: dict[Value, Value] = {v: v for v in graph.inputs}
    changed = False
    for node in graph.nodes:
        graphs = [_rewrite_graph(g, rules, weights) for g in node.graphs]
        copy = renew(node, [known[v] for v in node.inputs], graphs)
        result = _apply(b, rules, copy)
        changed |= result is not None or any(g is not h for g, h in zip(graphs, node.graphs))
        if result is None:
            b.graph.nodes.append(copy)
            for old, new in zip(node.outputs, copy.outputs):
                uses.counts[new] = uses.counts[old]
        known.update(zip(node.outputs, copy.outputs if result is None else result))
    if not changed:
        return graph
    return prune(Graph(graph.inputs, b.graph.nodes, [known[v] for v in graph.outputs]))


def renew(node: Node, inputs: Sequence[Value], graphs: Sequence[Graph]) -> Node:
    """``node`` on other inputs; itself when they are the same."""
    if all(a is b for a, b in zip(inputs, node.inputs)) and all(
        a is b for a, b in zip(graphs, node.graphs)
    ):
        return node
    return Node(node.op, inputs, graphs, node.origin)


def _apply(b: Patch, rules: Rules, node: Node) -> Sequence[Value] | None:
    for rule in rules.of(node.name):
        b.origin = node.origin
        result = rule(b, node, *node.inputs)
        if result is None or not may_rewrite():
            continue
        values = [result] if isinstance(result, Value) else list(result)
        expected, got = [v.type for v in node.outputs], [v.type for v in values]
        if got != expected:
            name = getattr(rule, "__name__", "rule")
            raise CompilerBug(f"{name} replaces {expected} by {got}", str(node))
        return values
    return None


def prune(graph: Graph) -> Graph:
    """Without the nodes that no output needs: by their values, their symbols or their effect."""
    live: set[Value] = set(graph.outputs)
    binds = any(node.op.binds for node in graph.nodes)
    symbols = scope.types_use(graph.outputs) if binds else set()
    nodes: list[Node] = []
    for node in reversed(graph.nodes):
        wanted = not live.isdisjoint(node.outputs) or not symbols.isdisjoint(node.op.binds)
        if wanted or scope.has_effect(node):
            nodes.append(node)
            live.update(node.inputs)
            symbols |= scope.uses(node) if binds else set()
    return Graph(graph.inputs, nodes[::-1], graph.outputs)


def inline(b: Builder, graph: Graph, arguments: Sequence[Value]) -> list[Value]:
    """Append a copy of ``graph`` applied to ``arguments``; its outputs."""
    known: dict[Value, Value] = dict(zip(graph.inputs, arguments))
    for node in graph.nodes:
        copy = Node(node.op, [known[v] for v in node.inputs], node.graphs, node.origin)
        b.graph.nodes.append(copy)
        known.update(zip(node.outputs, copy.outputs))
    return [known[v] for v in graph.outputs]


def origin_of(nodes: Sequence[Node]) -> Origin:
    """The joined origin of nodes that become one."""
    origin = Origin()
    for node in nodes:
        origin = origin.join(node.origin)
    return origin


def attributes(node: Node, **changes: Any) -> dict[str, Any]:
    """The attributes of a node, some changed."""
    return {**node.op.attributes, **changes}
