"""Record a call whose results eager code differentiates: one forward and one backward program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from oarlock.capture.arrays import to_numpy
from oarlock.capture.joint.outcomes import Told
from oarlock.capture.joint.partition import Needed, is_one_graph, partition
from oarlock.capture.joint.recording import Port, StepRecording
from oarlock.capture.joint.results import flatten
from oarlock.capture.joint.surroundings import Surroundings
from oarlock.capture.joint.trace import Recording
from oarlock.capture.tape.gradients import silenced
from oarlock.capture.torch_private import outside_modes, without_saved_hooks
from oarlock.errors import UnsupportedError
from oarlock.ir import Graph, Origin, Program, Signature, Value


@dataclass
class JointRecording:
    """``forward`` gives results, then what is saved (``saved`` outputs); ``backward`` takes what
    ``needed`` says and gives the gradients of the ports ``wrt``."""

    forward: StepRecording
    backward: Program
    needed: list[Needed]
    saved: int
    differentiable: list[int]  # outputs of the forward program, one for each tangent
    wrt: list[int]
    is_repeatable: bool  # the results do not depend on what a call changes
    shapes: dict[int, tuple[int, ...]]  # of results that the program gives in another shape


def record_call(
    fn: Callable[..., Any],
    args: tuple,
    kwargs: dict[str, Any],
    around: Surroundings,
    most: int | None = None,
    told: Told | None = None,
) -> StepRecording | JointRecording:
    """As ``record_step``; a JointRecording when the results have gradients and the code asks for none.

    Args: most: operations that a program may have; told: see ``Outcomes``.
    Raises: UnsupportedError, DataDependent.
    """
    return _Joint(fn, args, kwargs, around, most, told).run_joint()


class _Joint(Recording):
    step: StepRecording | None = None
    mark = 0
    gradients: Sequence[torch.Tensor | None] = ()

    def run_joint(self) -> StepRecording | JointRecording:
        torch.clear_autocast_cache()  # casts of weights to fakes, and of real ones before
        try:
            with without_saved_hooks():
                found = self.run()
        finally:
            torch.clear_autocast_cache()
        return self.cut(found) if self.step is not None else found

    def _differentiate(self, result: Any) -> None:
        """Record the backward pass of the results that need gradients."""
        recorder = self.recorder
        tensors = [x for x in flatten(result)[0] if isinstance(x, torch.Tensor)]
        is_asked = any(x.requires_grad and id(x) not in recorder.captured for x in tensors)
        if self.backward[0] or not is_asked or recorder.problems:
            return
        with outside_modes():
            self.step = super()._finish(result)
        self.outs = self._differentiable(result)
        before = self._changes()
        self.mark = len(recorder.graph.nodes)
        tangents = [self._tangent(k, x) for k, (_, x) in enumerate(self.outs)]
        self.wrt = self._inputs()
        inputs = [x for _, x in self.wrt]
        where = Origin(source=f"the gradient of {getattr(self.fn, '__name__', 'the call')}")
        recorder.origin = lambda: where
        with silenced(inputs):
            self.gradients = torch.autograd.grad(
                [x for _, x in self.outs], inputs, tangents, allow_unused=True
            )
        self.backward[0] = 0
        if self._changes() != before:
            raise UnsupportedError("the backward pass draws random numbers or changes tensors")

    def _finish(self, result: Any) -> StepRecording:
        return self.step if self.step is not None else super()._finish(result)

    def _differentiable(self, result: Any) -> list[tuple[int, torch.Tensor]]:
        """Outputs with their tensors, each once."""
        assert self.step is not None
        pairs = zip(self.step.slots, flatten(result)[0])
        found = {s.index: x for s, x in pairs if s.kind == "output" and x.requires_grad}
        if any(self._needs_grad(port) for port, _ in self.step.updates):
            raise UnsupportedError("a tensor that needs gradients is changed in place")
        return list(found.items())

    def _needs_grad(self, port: int) -> bool:
        found: Port = self.recorder.ports[port]
        x = found.tensor if found.kind == "tensor" else self.leaves[found.index]
        return isinstance(x, torch.Tensor) and x.requires_grad

    def _tangent(self, k: int, x: torch.Tensor) -> torch.Tensor:
        recorder = self.recorder
        return recorder.tensor_of(
            recorder.port("tangent", f"grad{k}", recorder.type_of(x), index=k)
        )

    def _inputs(self) -> list[tuple[int, torch.Tensor]]:
        """Ports that need gradients, with the tensors that autograd has seen."""
        found = [(port, fake) for fake, port, _ in self.arg_grads]
        found += [
            (i, p.tensor) for i, p in enumerate(self.recorder.ports)
            if p.kind == "tensor" and p.tensor is not None and p.tensor.requires_grad
        ]  # fmt: skip
        return found

    def _changes(self) -> Any:
        recorder = self.recorder
        views = [*recorder.real.values(), *recorder.arguments]
        return len(recorder.draws), [(id(v), v.memory.version) for v in views if v.memory.version]

    # The cut

    def cut(self, step: StepRecording) -> JointRecording:
        if step.way:
            raise UnsupportedError("control flow that depends on data")
        recorder, graph = self.recorder, self.recorder.graph
        ports = recorder.ports
        tangents = [i for i, p in enumerate(ports) if p.kind == "tangent"]
        if tangents != list(range(len(ports) - len(tangents), len(ports))):
            raise UnsupportedError("the backward pass reads tensors that the call did not")
        pairs = [(p, g) for (p, _), g in zip(self.wrt, self.gradients) if g is not None]
        gradients = [recorder.value(g) for _, g in pairs]
        updated = {port for port, _ in step.updates}
        own = {s.index for s in step.slots if s.kind == "output"}
        shapes = {i: _unshape(graph, i) for i in sorted(own)}
        kept = {v: i for i, v in enumerate(graph.outputs) if i in own}
        readable = [
            i for i, p in enumerate(ports)
            if p.kind in ("argument", "tensor", "draw") and i not in updated
        ]  # fmt: skip
        parts = partition(graph, self.mark, readable, tangents, graph.outputs, kept, gradients)
        if not is_one_graph(parts.backward, parts.needed):
            raise UnsupportedError("results whose gradients have nothing in common")
        changed = {graph.inputs[i] for i in updated}
        params = {key: to_numpy(tensor) for key, tensor in recorder.weights.items()}
        step.ports = ports[: len(ports) - len(tangents)]
        saved = len(parts.forward.outputs) - len(graph.outputs)
        step.program = _program(parts.forward, params)
        others = [v for i, v in enumerate(parts.forward.outputs) if i not in _indices(step)]
        return JointRecording(
            step, _program(parts.backward, params), parts.needed, saved,
            [i for i, _ in self.outs], [p for p, _ in pairs],
            changed.isdisjoint(_reached(parts.forward, others)), shapes,
        )  # fmt: skip


def _unshape(graph: Graph, i: int) -> tuple[int, ...]:
    """Let a result be what it is a reshape of, which is the same memory; its shape."""
    value = result = graph.outputs[i]
    while value.producer is not None and value.producer.name == "reshape":
        value = value.producer.inputs[0]
    if value.producer is not None and value.producer.inputs and value not in graph.outputs:
        graph.outputs[i] = value
    return tuple(int(n) for n in result.shape)


def _indices(step: StepRecording) -> set[int]:
    return {output for _, output in step.updates}


def _program(graph: Graph, params: dict[str, Any]) -> Program:
    from oarlock.passes.rewrite import prune

    graph = prune(graph)
    names = tuple(v.name or "" for v in graph.inputs)
    used = {key: params[key] for key in graph.params()}
    return Program(graph, used, {}, (), Signature(names=names))


def _reached(graph: Graph, outputs: Sequence[Value]) -> set[Value]:
    """What ``outputs`` are computed from."""
    found = set(outputs)
    for node in reversed(graph.nodes):
        if not found.isdisjoint(node.outputs):
            found.update(node.inputs)
    return found
