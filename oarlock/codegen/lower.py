"""A program to C: decompose, group, build kernels, give buffers, emit files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from oarlock.codegen.buffers import Buffers, size_text
from oarlock.codegen.emit import emit
from oarlock.codegen.kernel import Constant
from oarlock.codegen.kernels import maker_for
from oarlock.codegen.schedule import (
    Branch,
    Host,
    Launch,
    Loop,
    Scheduler,
    Step,
    Stop,
    launches,
)
from oarlock.codegen.target import Target
from oarlock.ir import Program, Size, Value, bounds
from oarlock.ir.graph import Graph, Node
from oarlock.passes.decompose import decompose


@dataclass(frozen=True)
class Lowered:
    """sources: C files; constants: packed in order, 64-byte aligned; metadata: JSON data."""

    sources: tuple[str, ...]
    constants: tuple[Constant, ...]
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Scheduled:
    """A program as steps whose values have buffers; ``scratch_bytes`` is per thread."""

    program: Program
    steps: tuple[Step, ...]
    buffers: Buffers
    scratch_bytes: Size


def schedule(program: Program, target: Target) -> Scheduled:
    """Raises: BuildError naming every op that has neither a kernel nor a simpler form."""
    simple = decompose(program, lambda node: maker_for(node, target) is not None)
    buffers = Buffers(simple)
    scheduler = Scheduler(buffers, target)
    steps = scheduler.main(simple.graph)
    return Scheduled(simple, tuple(steps), buffers, scheduler.scratch_bytes)


def lower(program: Program, target: Target) -> Lowered:
    """Raises: BuildError naming every op that has neither a kernel nor a simpler form."""
    scheduled = schedule(program, target)
    simple, steps, buffers = scheduled.program, scheduled.steps, scheduled.buffers
    sources = emit(steps, list(simple.dims), target)
    graph = simple.graph
    metadata = {
        "limits": _limits(program.graph),
        "dims": [[name, *dim.bounds()] for name, dim in simple.dims.items()],
        "inputs": [_port(v, buffers) for v in graph.inputs],
        "outputs": [_port(v, buffers) for v in graph.outputs],
        "shareable": _shareable(graph, buffers),
        "buffers": buffers.entries(),
        "scratch_bytes": size_text(scheduled.scratch_bytes),
        "steps": [_step(step) for step in steps],
        "host": [_host(i, s.node, buffers) for i, s in enumerate(steps) if isinstance(s, Host)],
    }
    return Lowered(tuple(sources), tuple(buffers.constants), metadata)


def _shareable(graph: Graph, buffers: Buffers) -> list[list[int]]:
    """Outputs, each with the inputs of its type whose memory the caller may give for it."""
    pairs = [
        (i, k)
        for i, output in enumerate(graph.outputs)
        for k, input in enumerate(graph.inputs)
        if output.type == input.type
    ]
    fits = buffers.shareable((graph.outputs[i], graph.inputs[k]) for i, k in pairs)
    found: dict[int, list[int]] = {}
    for (i, k), fit in zip(pairs, fits):
        if fit:
            found.setdefault(i, []).append(k)
    return [[i, *inputs] for i, inputs in found.items()]


def _limits(graph: Graph) -> list[list[str]]:
    """Sizes that a run refuses when they are negative, each with the reason."""
    found: dict[str, str] = {}
    for node in graph.walk():
        for spare, why in node.op.excesses([v.type for v in node.inputs]):
            found.setdefault(str(spare), f"{node.name}: expected {why}")
        for size in (s for v in node.outputs for s in v.shape):
            if bounds(size)[0] < 0:
                found.setdefault(str(size), f"{node.name}: a size of {size} is negative")
    return [[size, why] for size, why in found.items()]


def _port(value: Value, buffers: Buffers) -> dict[str, Any]:
    return {"name": value.name, **buffers.document(value)}


def _host(position: int, node: Node, buffers: Buffers) -> dict[str, Any]:
    return {
        "step": position,
        "target": node.op.target,  # type: ignore[attr-defined]
        "template": node.op.template,  # type: ignore[attr-defined]
        "inputs": [buffers.document(v) for v in node.inputs],
        "outputs": [buffers.document(v) for v in node.outputs],
    }


def _step(step: Step) -> dict[str, Any]:
    kernels = [launch.kernel for launch in launches([step])]
    nodes: Sequence[Node] = [n for k in kernels for n in k.nodes]
    if isinstance(step, (Branch, Loop, Host, Stop)):
        nodes = [step.node, *nodes]
    origins = dict.fromkeys(str(n.origin) for n in nodes if str(n.origin))
    name = kernels[0].name if isinstance(step, Launch) else nodes[0].name
    slow = [k.slow for k in kernels if k.slow]
    return {
        "name": name,
        "ops": list(dict.fromkeys(n.name for n in nodes))
        if len(nodes) > 12
        else [n.name for n in nodes],
        "origin": next(reversed(origins), ""),
        "slow": "; ".join(dict.fromkeys(slow)) or None,
    }
