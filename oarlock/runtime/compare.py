"""Where two executions of a program part: stage by stage, then node by node.

The stages are the reference (eager, another program, expected arrays), the numpy executor on the
program, on the portable pipeline's result and on the target pipeline's, and the compiled engine.
Each is compared with the first.  When the engine differs, it is built again with every intermediate
value as an output, and the first node that differs is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from oarlock.errors import DivergenceError, InputError
from oarlock.evaluate import evaluate_graph, input_names, solve_dims
from oarlock.ir.dim import evaluate_size
from oarlock.ir.graph import Graph, Node, Program, Value
from oarlock.ir.signature import Signature
from oarlock.ir.types import DType, decode
from oarlock.runtime import arrays
from oarlock.runtime.binding import bind
from oarlock.runtime.ulp import max_ulp

CONFIDENCE = 16.0  # lambda of the probabilistic bound: failures are rarer than 1e-50
_EPSILON = {"f64": 2.0**-52, "f32": 2.0**-23, "f16": 2.0**-10, "bf16": 2.0**-7}

Inputs = Mapping[str, Any] | Sequence[Any]
Reference = str | Callable[..., Any] | Program | Sequence[Any]


@dataclass(frozen=True)
class Difference:
    """Of two executions of one tensor.

    ``bound`` is the largest absolute difference that rounding explains:
    ``16 * eps * sqrt(sum of K) * max|reference|`` over the nodes so far, K the length of a reduction
    (Higham and Mary 2019, theorem 2.4); 0 for integers.
    """

    name: str
    origin: str
    type: str
    max_abs: float
    max_ulp: int
    bound: float

    @property
    def agrees(self) -> bool:
        return self.max_abs <= self.bound


@dataclass(frozen=True)
class Stage:
    """One execution against the reference, output by output."""

    name: str
    outputs: tuple[Difference, ...]

    @property
    def agrees(self) -> bool:
        return all(d.agrees for d in self.outputs)

    @property
    def worst(self) -> Difference | None:
        """The output that differs most, as a multiple of its bound."""
        return max(self.outputs, key=_excess, default=None)


def _excess(d: Difference) -> float:
    return d.max_abs / d.bound if d.bound else float("inf") if d.max_abs else 0.0


@dataclass(frozen=True)
class Comparison:
    """``first`` is the first node that differs between the numpy executor and the engine."""

    stages: tuple[Stage, ...]
    first: Difference | None = None

    @property
    def agrees(self) -> bool:
        return all(stage.agrees for stage in self.stages)

    def check(self) -> Comparison:
        """The comparison.  Raises: DivergenceError unless all stages agree."""
        if not self.agrees:
            raise DivergenceError(str(self))
        return self

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data."""
        stages = [
            {"name": s.name, "agrees": s.agrees, "outputs": [asdict(d) for d in s.outputs]}
            for s in self.stages
        ]
        first = asdict(self.first) if self.first else None
        return {"agrees": self.agrees, "stages": stages, "first": first}

    def __str__(self) -> str:
        lines = [f"{'stage':<20} {'max abs':>10} {'bound':>10} {'max ULP':>12}  worst output"]
        for stage in self.stages:
            worst, mark = stage.worst, "" if stage.agrees else "  DIFFERS"
            if worst is not None:
                row = f"{worst.max_abs:>10.2e} {worst.bound:>10.2e} {worst.max_ulp:>12,}"
                lines.append(f"{stage.name:<20} {row}  {worst.name}{mark}")
        if self.first is not None:
            d = self.first
            lines.append(
                f"first node that differs: {d.name} : {d.type}  {d.origin}\n"
                f"  max abs {d.max_abs:.2e}, expected at most {d.bound:.2e}; {d.max_ulp:,} ULP"
            )
        elif not self.agrees and self.stages[-1].name == "engine":
            lines.append("no single node differs when all are outputs: look at what is fused")
        return "\n".join(lines)


def compare(
    program: Program, inputs: Inputs, reference: Reference = "evaluate", *, tolerance: float = 1.0
) -> Comparison:
    """Run every stage on ``inputs`` and compare.

    Args: inputs: by name, or in order; reference: "evaluate", a callable on the same inputs (the
    eager model), another Program, or the expected outputs; tolerance: multiplies the bounds.
    Raises: InputError; what the engine's build raises.
    """
    named = inputs if isinstance(inputs, Mapping) else {}
    positional = () if isinstance(inputs, Mapping) else inputs
    leaves, _ = bind(program.signature, input_names(program), positional, named)
    names = input_names(program)
    ports = zip(leaves, program.graph.inputs, names)
    dense = [arrays.as_dense(x, v.type, name) for x, v, name in ports]
    return _Comparer(program, dense, tolerance).run(reference, positional, named)


class _Comparer:
    def __init__(self, program: Program, dense: list[np.ndarray], tolerance: float) -> None:
        self.program, self.dense, self.tolerance = program, dense, tolerance
        self.env = solve_dims(program, dense)
        self.lengths = reduction_lengths(program.graph, self.env)

    def run(
        self, reference: Reference, positional: Sequence[Any], named: Mapping[str, Any]
    ) -> Comparison:
        trace = self.trace(self.program)
        executed = [trace[v] for v in self.program.graph.outputs]
        stages = []
        if isinstance(reference, str):
            if reference != "evaluate":
                raise InputError(f"reference {reference!r}: expected 'evaluate' or a callable")
            expected = executed
        else:
            expected = self.reference(reference, positional, named)
            stages.append(self.stage("evaluate", expected, executed))
        for name, program in self.pipelines():
            stages.append(self.stage(name, expected, self.outputs(program)))
        stages.append(self.stage("engine", expected, self.engine(self.program)))
        diverges = not stages[-1].agrees
        return Comparison(tuple(stages), self.first(trace) if diverges else None)

    def trace(self, program: Program) -> dict[Value, np.ndarray]:
        """Every value of the top graph."""
        known: dict[Value, np.ndarray] = dict(zip(program.graph.inputs, self.dense))

        def observe(node: Node, results: Sequence[np.ndarray]) -> None:
            known.update(zip(node.outputs, results))

        evaluate_graph(program.graph, program.params, self.env, self.dense, observe)
        return known

    def outputs(self, program: Program) -> list[np.ndarray]:
        return evaluate_graph(program.graph, program.params, self.env, self.dense)

    def pipelines(self) -> Iterator[tuple[str, Program]]:
        from oarlock.passes import PORTABLE, TARGET, run_pipeline

        portable = run_pipeline(self.program, PORTABLE)
        yield "portable pipeline", portable
        yield "target pipeline", run_pipeline(portable, TARGET)

    def engine(self, program: Program) -> list[np.ndarray]:
        """All outputs of the graph, those of the state too, from the engine."""
        from oarlock.runtime.predictor import Predictor

        names = tuple(input_names(program))
        tree = {"list": [{"leaf": i} for i in range(len(program.graph.outputs))]}
        plain = program.replace(state=(), signature=Signature(names=names, result=tree))
        return Predictor(plain, threads=1)(*self.dense)

    def reference(
        self, reference: Reference, positional: Sequence[Any], named: Mapping[str, Any]
    ) -> list[np.ndarray]:
        """The reference's outputs as arrays, in the order of the program's."""
        if isinstance(reference, Program):
            found = self.outputs(reference)
        else:
            result = reference(*positional, **named) if callable(reference) else reference
            found = list(flatten(result))
        visible = self.program.result_outputs
        if len(found) not in (len(visible), len(self.program.graph.outputs)):
            raise InputError(f"reference: expected {len(visible)} tensors, got {len(found)}")
        types = [v.type.concrete(self.env) for v in self.program.graph.outputs]
        return [arrays.as_dense(x, t, "reference") for x, t in zip(found, types)]

    def stage(self, name: str, expected: Sequence[np.ndarray], got: Sequence[np.ndarray]) -> Stage:
        total = sum(self.lengths.values())
        values = self.program.graph.outputs
        return Stage(
            name,
            tuple(
                self.difference(f"output {i}", "", v, a, b, total)
                for i, (v, a, b) in enumerate(zip(values, expected, got))
            ),
        )

    def first(self, trace: Mapping[Value, np.ndarray]) -> Difference | None:
        """Build the engine with every value as an output; the first that differs."""
        nodes = [n for n in self.program.graph.nodes if n.name not in ("param", "const")]
        values = [v for n in nodes for v in n.outputs]
        graph = Graph(self.program.graph.inputs, self.program.graph.nodes, values)
        found = dict(zip(values, self.engine(self.program.replace(graph=graph, state=()))))
        total = 0.0
        for i, node in enumerate(nodes):
            total += self.lengths[node]
            for v in node.outputs:
                name = f"node {i} {node.name}"
                d = self.difference(name, str(node.origin), v, trace[v], found[v], total)
                if not d.agrees:
                    return d
        return None

    def difference(
        self, name: str, origin: str, value: Value, a: np.ndarray, b: np.ndarray, total: float
    ) -> Difference:
        bound = self.tolerance * rounding_bound(a, value.dtype, total)
        distance = max_abs(a, b, value.dtype)
        ulp = max_ulp(a, b, value.dtype) if a.shape == b.shape else -1
        return Difference(name, origin, str(value.type), distance, ulp, bound)


def reduction_lengths(graph: Graph, env: Mapping[str, int]) -> dict[Node, float]:
    """For every node how many terms an output element sums, estimated from sizes; at least 1."""
    found = {}
    for node in graph.nodes:
        sizes = [evaluate_size(v.type.size, env) for v in node.inputs]
        out = max((evaluate_size(v.type.size, env) for v in node.outputs), default=1)
        found[node] = max(1.0, *(size / max(out, 1) for size in sizes), _contracted(node, env))
    return found


def _contracted(node: Node, env: Mapping[str, int]) -> float:
    """The product of all sizes of the weight but the first, for contractions."""
    if len(node.inputs) < 2 or node.inputs[0].rank < 2 or node.inputs[1].rank < 2:
        return 1.0
    shape = [evaluate_size(s, env) for s in node.inputs[1].shape]
    return float(np.prod(shape[1:], dtype=np.float64))


def rounding_bound(reference: np.ndarray, dtype: DType, total: float) -> float:
    """``16 * eps * sqrt(total) * max|reference|``; 0 for integers."""
    if not dtype.is_float or reference.size == 0:
        return 0.0
    values = np.abs(decode(reference, dtype).astype(np.float64))
    finite = values[np.isfinite(values)]
    scale = float(finite.max()) if finite.size else 0.0
    return CONFIDENCE * _EPSILON[dtype.name] * float(np.sqrt(total)) * scale


def max_abs(a: np.ndarray, b: np.ndarray, dtype: DType) -> float:
    """The largest absolute difference; infinite when shapes, NaNs or infinities differ."""
    if a.shape != b.shape:
        return float("inf")
    x, y = (decode(v, dtype).astype(np.float64) for v in (a, b))
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    with np.errstate(invalid="ignore"):
        distance = np.where(same, 0.0, np.abs(x - y))
    distance = np.where(np.isnan(distance), np.inf, distance)
    return float(distance.max()) if distance.size else 0.0


def flatten(result: Any) -> Iterator[Any]:
    """Tensors of a nested result, in order."""
    if hasattr(result, "shape"):
        yield result
    elif isinstance(result, Mapping):
        for value in result.values():
            yield from flatten(value)
    elif isinstance(result, (tuple, list)):
        for value in result:
            yield from flatten(value)
    elif hasattr(result, "__dataclass_fields__"):
        for name in result.__dataclass_fields__:
            yield from flatten(getattr(result, name))
