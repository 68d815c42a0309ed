"""Programs whose sizes a run decides: Python drives the steps, engines run what is between them.

A ``Compiled`` program is shared by the sessions of all clones; an ``Interpreter`` is one session: it
looks like ``runtime.session.Session`` to the predictor.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from oarlock.errors import BuildError, InputError, ModelError
from oarlock.evaluate import bind_results, bind_shapes, evaluate_graph
from oarlock.ir.dim import Dim
from oarlock.ir.graph import Graph, Node, Program, Value
from oarlock.ir.types import decode
from oarlock.runtime.engine import Engine
from oarlock.runtime.layout import Env, Layout, Port
from oarlock.runtime.pool import Pool
from oarlock.runtime.report import Report, StepReport
from oarlock.runtime.session import Session, Shapes
from oarlock.runtime.split import Block, Segment, Step, program_of, split
from oarlock.runtime.state import lift_state

Build = Callable[[Program], Engine]


class Compiled:
    """A program in blocks, with an engine for every segment that is worth one.

    ``why`` says of the other segments why numpy runs them.
    """

    def __init__(self, original: Program, build: Build, target: str) -> None:
        from oarlock.passes.pipeline import PORTABLE, run_pipeline

        lifted, self.state = lift_state(original)
        self.program = run_pipeline(lifted, PORTABLE, verify=False)
        self.initial_state = {s.name: original.params[s.name] for s in self.state}
        self.target = target
        self.block = split(self.program.graph)
        self.engines: dict[int, Engine] = {}
        self.why: dict[int, str] = {}
        for segment in segments(self.block):
            self._build(segment, build)
        self.layout = Layout(_document(self.program, original, self.state))

    def _build(self, segment: Segment, build: Build) -> None:
        if segment.is_tiny:
            self.why[id(segment)] = "a few numbers: numpy"
            return
        program = program_of(segment, self.program)
        if divides_negatives(program):
            self.why[id(segment)] = "sizes that divide a number that may be negative: numpy"
            return
        try:
            self.engines[id(segment)] = build(program)
        except BuildError as error:
            self.why[id(segment)] = f"no engine, numpy: {error}"


def divides_negatives(program: Program) -> bool:
    """Sizes are divided in C as if no symbol were negative."""
    may_be = any(dim.bounds()[0] < 0 for dim in program.dims.values())
    return may_be and re.search(r"//| % ", str(program)) is not None


def segments(block: Block) -> list[Segment]:
    """Every segment of a block and of the blocks inside, in order."""
    found: list[Segment] = []
    for part in block.parts:
        inner = [s for b in part.blocks for s in segments(b)] if isinstance(part, Step) else [part]
        found += inner
    return found


def _document(program: Program, original: Program, state: Sequence[Any]) -> dict[str, Any]:
    """What ``Layout`` needs: ports without buffers."""

    def port(value: Value) -> dict[str, Any]:
        shape = [str(s) if isinstance(s, Dim) else s for s in value.shape]
        return {"name": value.name, "dtype": value.dtype.name, "shape": shape, "buffer": None}

    given = {name for v in program.graph.inputs for name in v.type.symbols()}
    metadata = {
        "dims": [[name, *dim.bounds()] for name, dim in program.dims.items()],
        "inputs": [port(v) for v in program.graph.inputs],
        "outputs": [port(v) for v in program.graph.outputs],
        "limits": [],
    }
    return {
        "metadata": metadata,
        "signature": original.signature.to_json(),
        "state": [vars(s) for s in state],
        "run_time": [name for name in program.dims if name not in given],
    }


@dataclass
class Run:
    """One call: the values of the sizes, those of the outputs once they are known."""

    env: Env
    layout: Layout = field(repr=False)

    @property
    def outputs(self) -> list[tuple[Any, tuple[int, ...], np.dtype]]:
        """Places of the outputs.  Raises: InputError for one whose size the run decides."""
        return [self._place(port) for port in self.layout.outputs]

    def _place(self, port: Port) -> tuple[None, tuple[int, ...], np.dtype]:
        unknown = port.type.symbols() - self.env.keys()
        if unknown:
            names = ", ".join(sorted(unknown))
            raise InputError(f"out: the run decides {names} of {port.name!r}, {port.type}", "out")
        return None, port.type.concrete(self.env).shape, port.type.dtype.numpy


class Interpreter:
    """A session of a compiled program; calls take turns, an error leaves the state as it was."""

    plans: Mapping[Shapes, Any] = {}  # no call is the same as one before

    def __init__(self, compiled: Compiled, threads: int) -> None:
        self.compiled, self.layout, self.threads = compiled, compiled.layout, threads
        self.params = compiled.program.params
        self.sessions: dict[int, Session] = {}
        pool = None
        for key, engine in compiled.engines.items():
            pool = pool or Pool(engine.pool, threads)
            self.sessions[key] = Session(engine, threads, pool)
        self.engine = SimpleNamespace(target=compiled.target)
        hidden = {s.output for s in self.layout.state}
        self.visible = [i for i in range(len(self.layout.outputs)) if i not in hidden]
        self.last: Run | None = None
        self._lock = threading.Lock()
        self._weights = {id(_root(x)) for x in self.params.values()}
        self._leaves: dict[int, list[tuple[Value, np.ndarray]]] = {}
        self.state: dict[str, np.ndarray] = {}
        self.reset()

    def reset(self) -> None:
        """Set the state to that of the program."""
        self.state = {k: np.array(v) for k, v in self.compiled.initial_state.items()}

    def clone(self, threads: int) -> Interpreter:
        """A session of the same program."""
        return Interpreter(self.compiled, threads)

    def plan(self, shapes: Shapes) -> Run:
        """A call with these shapes of the visible inputs.  Raises: InputError."""
        return Run(self.layout.solve(shapes), self.layout)

    def run(
        self, plan: Run, inputs: Sequence[np.ndarray], out: Sequence[np.ndarray] | None = None
    ) -> list[np.ndarray]:
        """The visible outputs, newly allocated unless given.

        Raises: InputError when the values do not fit; ModelError when the program says so.
        """
        with self._lock:
            given = [*inputs, *(self.state[s.name] for s in self.layout.state)]
            results = self._block(self.compiled.block, given, plan.env)
            self.last = plan
            self.state = {s.name: np.array(results[s.output]) for s in self.layout.state}
        visible = [results[i] for i in self.visible]
        if out is None:
            foreign = {id(_root(x)) for x in given} | self._weights
            return [x.copy() if id(_root(x)) in foreign else x for x in visible]
        for target, x in zip(out, visible):
            target[...] = x
        return list(out)

    def _block(self, block: Block, inputs: Sequence[np.ndarray], env: Env) -> list[np.ndarray]:
        """Run a block; the sizes that it binds are added to ``env``."""
        bind_shapes(block.graph.inputs, inputs, env)
        known: dict[Value, np.ndarray] = dict(zip(block.graph.inputs, inputs))
        known.update(self._constants(block))
        before = dict(env)
        try:
            for part in block.parts:
                if isinstance(part, Step):
                    self._step(part, known, env)
                else:
                    self._segment(part, known, env)
        except InputError:
            self._explain(block.graph, inputs, before)
            raise
        return [known[v] for v in block.graph.outputs]

    def _constants(self, block: Block) -> list[tuple[Value, np.ndarray]]:
        if id(block) not in self._leaves:
            self._leaves[id(block)] = [
                (n.output, self.params[n.op.key] if n.name == "param" else n.op.array)
                for n in block.leaves
            ]
        return self._leaves[id(block)]

    def _explain(self, graph: Graph, inputs: Sequence[np.ndarray], env: Env) -> None:
        """Raises: ModelError when an assertion of the program comes before what has failed."""
        try:
            evaluate_graph(graph, self.params, env, inputs)
        except ModelError:
            raise
        except InputError:
            return

    def _segment(self, part: Segment, known: dict[Value, np.ndarray], env: Env) -> None:
        inputs = [known[v] for v in part.inputs]
        session = self.sessions.get(id(part))
        if session is None:
            results = evaluate_graph(part.graph, self.params, env, inputs)
        else:
            dense = [np.require(x, requirements=("C", "A")) if x.ndim else x for x in inputs]
            results = session.run(session.plan_at(env), dense)
        known.update(zip(part.outputs, results))

    def _step(self, part: Step, known: dict[Value, np.ndarray], env: Env) -> None:
        node = part.node
        inputs = [known[v] for v in node.inputs]
        is_control = node.op.has_graphs
        results = self._control(part, inputs, env) if is_control else _compute(node, inputs, env)
        known.update(zip(node.outputs, results))

    def _control(self, part: Step, inputs: Sequence[np.ndarray], env: Env) -> list[np.ndarray]:
        blocks = {id(g): b for g, b in zip(part.node.graphs, part.blocks)}

        def run(graph: Graph, *arrays: np.ndarray) -> list[np.ndarray]:
            return self._block(blocks[id(graph)], arrays, dict(env))

        results = list(part.node.op.reference_graphs(run, part.node.graphs, *inputs))
        bind_shapes(part.node.outputs, results, env)
        return results

    def profile(self, plan: Run, inputs: Sequence[np.ndarray], runs: int) -> None:
        """The time of every step is not measured here."""
        return

    def describe(self, plan: Run | None = None, times_ns: None = None) -> Report:
        """What runs where."""
        compiled = self.compiled
        rows: list[StepReport] = []
        _describe(compiled, compiled.block, rows)
        parts = [s.describe(s.last) for s in self.sessions.values()]
        first = parts[0] if parts else None
        return Report(
            target=compiled.target,
            compiler=first.compiler if first else "none",
            threads=self.threads,
            dims=dict((plan or self.last or Run({}, self.layout)).env),
            weight_bytes=sum(p.weight_bytes for p in parts),
            engine_bytes=sum(p.engine_bytes for p in parts),
            arena_bytes=sum(p.arena_bytes for p in parts),
            live_bytes=sum(p.live_bytes for p in parts),
            in_place=sum(p.in_place for p in parts),
            scratch_bytes=max((p.scratch_bytes for p in parts), default=0),
            nodes=tuple(rows),
        )


def _compute(node: Node, inputs: Sequence[np.ndarray], env: Env) -> list[np.ndarray]:
    """A node that binds sizes or asserts."""
    results = node.op.reference(*(decode(x, v.dtype) for x, v in zip(inputs, node.inputs)))
    found = [np.asarray(results)]
    bind_results(node, inputs, found, env)
    return found


def _root(x: np.ndarray) -> Any:
    """Whose memory an array shows."""
    while isinstance(x.base, np.ndarray):
        x = x.base
    return x


def _describe(compiled: Compiled, block: Block, rows: list[StepReport], depth: int = 0) -> None:
    for part in block.parts:
        if isinstance(part, Step):
            rows.append(_row(part.node.name, [part.node], "a step that Python drives", depth))
            for inner in part.blocks:
                _describe(compiled, inner, rows, depth + 1)
        else:
            engine = id(part) in compiled.engines
            why = None if engine else compiled.why[id(part)]
            name = f"segment{sum(r.name.startswith('segment') for r in rows)}"
            rows.append(_row(name, part.nodes, why, depth))


def _row(name: str, nodes: Sequence[Node], why: str | None, depth: int) -> StepReport:
    ops = " + ".join(n.name for n in nodes if n.name not in ("param", "const"))
    origins = [str(n.origin) for n in nodes if str(n.origin)]
    return StepReport(name, "  " * depth + ops, origins[-1] if origins else "", why, None)
