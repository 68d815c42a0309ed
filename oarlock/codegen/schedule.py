"""The steps of a program in order: launches, branches and loops with steps of their own, host calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from oarlock.codegen import fuse, nests
from oarlock.codegen.buffers import Buffers, Place
from oarlock.codegen.kernel import Kernel
from oarlock.codegen.kernels import maker_for
from oarlock.codegen.order import order
from oarlock.codegen.target import Target
from oarlock.errors import BuildError
from oarlock.ir import Builder, Graph, Size, Value, dim_max
from oarlock.ir.graph import Node


@dataclass
class Launch:
    """One kernel; ``addresses`` is where every pointer starts, by its name."""

    kernel: Kernel
    addresses: dict[str, Place]


@dataclass
class Copy:
    """``size`` bytes from one address to another."""

    source: Place
    target: Place
    size: Size


@dataclass
class Branch:
    """``then`` or ``other``, by the bool at ``predicate``."""

    node: Node
    predicate: Place
    then: list[Step] = field(default_factory=list)
    other: list[Step] = field(default_factory=list)


@dataclass
class Loop:
    """``before``; then, while ``condition`` leaves true at ``predicate``: ``body``."""

    node: Node
    before: list[Step]
    condition: list[Step]
    predicate: Place
    body: list[Step]


@dataclass
class Host:
    """A call back into PyTorch."""

    node: Node


@dataclass
class Stop:
    """The end of the run, unless the bool at ``predicate`` is true."""

    node: Node
    predicate: Place


Step = Launch | Copy | Branch | Loop | Host | Stop


class Scheduler:
    """Builds steps and gives their values memory."""

    def __init__(self, buffers: Buffers, target: Target) -> None:
        self.buffers, self.target = buffers, target
        self._scratch: dict[Size, None] = {}

    @property
    def scratch_bytes(self) -> Size:
        """The most that a kernel needs, per thread."""
        return _largest(list(self._scratch))

    def main(self, graph: Graph) -> list[Step]:
        """The steps of a program's graph, whose inputs and outputs the caller holds."""
        own_outputs(graph)
        for value in [*graph.inputs, *graph.outputs]:
            self.buffers.port(value)
        return self.steps(graph, is_main=True)

    def steps(self, graph: Graph, is_main: bool = False) -> list[Step]:
        """Raises: BuildError naming every node without a kernel."""
        groups = fuse.group(graph, self.target)
        if is_main:
            groups = order(groups, graph)
        self._refuse(groups, is_main)
        found: list[Step] = []
        for group in groups:
            if group.kind == "alias":
                self.buffers.alias(group.writes[0], group.reads[0])
                continue
            self.buffers.clock += 1
            found.append(self._step(group))
        return found

    def _refuse(self, groups: Sequence[fuse.Group], is_main: bool) -> None:
        hosts = ("aten_call",) if is_main else ()
        missing = [
            g.anchor
            for g in groups
            if g.kind == "kernel"
            and g.anchor is not None
            and g.anchor.name not in ("if_", "while_", *hosts)
            and not (g.anchor.op.ends_run and is_main)
            and maker_for(g.anchor, self.target) is None
        ]
        if missing:
            lines = "\n".join(f"  {n.name}  {n.origin}" for n in missing)
            count = f"{len(missing)} node{'s' if len(missing) > 1 else ''}"
            raise BuildError(f"no kernel on {self.target.name} for {count}:\n{lines}")

    def _step(self, group: fuse.Group) -> Step:
        node = group.anchor
        if group.kind == "loop":
            return self._launch(nests.build(group, self.target))
        assert node is not None
        if node.name == "if_":
            return self._branch(node)
        if node.name == "while_":
            return self._loop(node)
        if node.name == "aten_call":
            self.buffers.define(node.outputs)
            self.buffers.use(node.inputs)
            self.buffers.stop()
            return Host(node)
        if node.op.ends_run:
            self.buffers.define(node.outputs)
            self.buffers.use(node.inputs)
            self.buffers.stop()
            return Stop(node, self.buffers.place(node.inputs[0]))
        maker = maker_for(node, self.target)
        assert maker is not None
        return self._launch(maker.build(group, self.target, self.constant))

    def constant(self, value: Value) -> np.ndarray | None:
        """The storage of a param, or of a fixed view of one."""
        node = value.producer
        if node is None:
            return None
        if node.name == "param":
            return self.buffers.program.params[node.op.key]  # type: ignore[attr-defined]
        if node.name in ("reshape", "transpose", "slice") and isinstance(value.type.size, int):
            array = self.constant(node.inputs[0])
            return None if array is None else np.asarray(node.op.reference(array))
        return None

    def _launch(self, kernel: Kernel) -> Launch:
        self.buffers.define(kernel.writes)
        self.buffers.use(kernel.reads)
        self.buffers.store_over(kernel.in_place, kernel.reads)
        self._scratch[kernel.scratch_bytes] = None
        named = [p.name for p in kernel.function.pointers if p.source == "buffer"]
        values = [*kernel.reads, *kernel.writes]
        addresses = {name: self.buffers.place(v) for name, v in zip(named, values)}
        for constant in kernel.constants:
            addresses[constant.name] = Place(None, self.buffers.packed(constant))
        return Launch(kernel, addresses)

    def _branch(self, node: Node) -> Branch:
        predicate, *args = node.inputs
        self.buffers.use([predicate])
        self.buffers.define(node.outputs)
        step = Branch(node, self.buffers.place(predicate))
        for graph, steps in zip(node.graphs, (step.then, step.other)):
            own_outputs(graph)
            for inner, outer in [*zip(graph.inputs, args), *zip(graph.outputs, node.outputs)]:
                self.buffers.alias(inner, outer)
            steps += self.steps(graph)
        self.buffers.clock += 1
        self.buffers.use(args)
        self.buffers.define(node.outputs)
        return step

    def _loop(self, node: Node) -> Loop:
        """Carried values live in the outputs' memory; what the body passes on unchanged is read
        where it was."""
        condition, body = node.graphs
        passed = _passes(node)
        own_outputs(condition)
        own_outputs(body, [i for i, p in enumerate(passed) if not p])
        before: list[Step] = []
        for out, arg, kept in zip(node.outputs, node.inputs, passed):
            if kept and not self.buffers.knows(out):
                self.buffers.alias(out, arg)
            else:
                self.buffers.define([out])
                before.append(self._copy(arg, out))
        for graph in (condition, body):
            for inner, outer in zip(graph.inputs, node.outputs):
                self.buffers.alias(inner, outer)
        tests = self.steps(condition)
        steps = self.steps(body)
        self.buffers.clock += 1
        for out, result, kept in zip(node.outputs, body.outputs, passed):
            if not kept:
                steps.append(self._copy(result, out))
        self.buffers.use([*node.inputs, *node.outputs, *condition.outputs])
        return Loop(node, before, tests, self.buffers.place(condition.outputs[0]), steps)

    def _copy(self, source: Value, target: Value) -> Copy:
        self.buffers.use([source, target])
        place = self.buffers.place
        return Copy(place(source), place(target), source.type.bytes)


def _largest(sizes: Sequence[Size]) -> Size:
    """The maximum, nested no deeper than it must."""
    if len(sizes) < 2:
        return sizes[0] if sizes else 0
    half = len(sizes) // 2
    return dim_max(_largest(sizes[:half]), _largest(sizes[half:]))


def own_outputs(graph: Graph, which: Sequence[int] | None = None) -> None:
    """Every output is stored by a step of its own: views, inputs and repeats are copied; the same
    for what a host call reads."""
    _copy_host_inputs(graph)
    b = Builder(graph)
    seen: set[Value] = set()
    for i, value in enumerate(graph.outputs):
        if which is not None and i not in which:
            continue
        if value in seen or not _is_owned(value):
            graph.outputs[i] = b.cast(value, dtype=value.dtype)
        seen.add(graph.outputs[i])


def _is_owned(value: Value) -> bool:
    node = value.producer
    if node is None or node.op.view or node.name in ("param", "const"):
        return False
    return node.name != "while_" or not _passes(node)[value.index]


def _passes(node: Node) -> list[bool]:
    """Which values the body of a ``while_`` hands on unchanged."""
    body = node.graphs[1]
    return [a is b for a, b in zip(body.inputs, body.outputs)]


def _copy_host_inputs(graph: Graph) -> None:
    """Weights have no buffer that the host sees: they are copied first."""
    for position, node in reversed(list(enumerate(graph.nodes))):
        if node.name != "aten_call":
            continue
        side = Builder(Graph())
        inputs = [side.cast(v, dtype=v.dtype) if _is_weight(v) else v for v in node.inputs]
        if side.graph.nodes:
            node.inputs = tuple(inputs)
            graph.nodes[position:position] = side.graph.nodes


def _is_weight(value: Value) -> bool:
    node = value.producer
    while node is not None and node.op.view:
        node = node.inputs[0].producer
    return node is not None and node.name == "param"


def launches(steps: Sequence[Step]) -> Iterator[Launch]:
    """Every launch, nested ones too, in order."""
    for step in steps:
        if isinstance(step, Launch):
            yield step
        elif isinstance(step, Branch):
            yield from launches([*step.then, *step.other])
        elif isinstance(step, Loop):
            yield from launches([*step.before, *step.condition, *step.body])
