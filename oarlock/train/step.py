"""Run a recorded step in the memory of the torch tensors that it reads and updates."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from oarlock.capture.arrays import torch_dtype
from oarlock.capture.joint.recording import Port, StepRecording, through_torch
from oarlock.ops.aten import Failed
from oarlock.runtime import engine
from oarlock.runtime.session import Plan, Session, Stopped
from oarlock.train import draws, team


@dataclass
class _Update:
    """``output`` is the next value of ``port``: in its own memory, or in ``beside`` and copied."""

    port: int
    output: int
    beside: torch.Tensor | None


class Changed(Exception):
    """A tensor is not what the program was made for."""


class StepRunner:
    """An engine, and the tensors bound to it.  Calls take turns."""

    def __init__(self, recording: StepRecording, threads: int) -> None:
        self.recording = recording
        built = engine.build(recording.program)
        self.session = Session(built, threads, team.pool(built.pool, threads))
        layout = self.session.layout
        self.plan = Plan(layout, self.session.engine, {}, threads)
        self._inputs = [p.buffer for p in layout.inputs]
        self._outputs = [p.buffer for p in layout.outputs]
        self._types = [(p.type.shape, torch_dtype(p.type.dtype)) for p in layout.outputs]
        self._numbers = (ctypes.c_double * self._count("number"))()
        self._addresses = np.frombuffer(self.plan.pointers, np.uint64)
        self.updates = self._pair_updates()
        ports = list(enumerate(recording.ports))
        self._arguments = [(k, p.index) for k, p in ports if p.kind == "argument"]
        self._tensors = [(k, p) for k, p in ports if p.kind == "tensor"]
        self._gradients = [(k, p) for k, p in ports if p.kind == "gradient"]
        self._draws = [(k, recording.draws[p.index]) for k, p in ports if p.kind == "draw"]
        self._shapes = [layout.inputs[k].type.shape for k, _ in ports]
        self._dtypes = [torch_dtype(layout.inputs[k].type.dtype) for k, _ in ports]
        self._written = {u.port for u in self.updates}
        self._may_stop = any(
            n.op.ends_run or n.name == "aten_call" for n in recording.program.graph.nodes
        )
        self._pair_memory()
        self._fixed()

    def _count(self, kind: str) -> int:
        return sum(p.kind == kind for p in self.recording.ports)

    def _fixed(self) -> None:
        """What stays where it is: numbers, and next values that are copied."""
        for k, port in enumerate(self.recording.ports):
            if port.kind == "number":
                place = ctypes.addressof(self._numbers) + 8 * port.index
                self.plan.pointers[self._inputs[k]] = place
        for update in self.updates:
            if update.beside is not None:
                self.plan.pointers[self._outputs[update.output]] = update.beside.data_ptr()

    def _pair_memory(self) -> None:
        """Where updates go: flat lists, as every object touched costs a miss after a step."""
        shared = [u for u in self.updates if u.beside is None]
        self._updated = [(u.output, u.port) for u in self.updates]
        self._from = np.array([self._inputs[u.port] for u in shared], np.int64)
        self._to = np.array([self._outputs[u.output] for u in shared], np.int64)
        self._copied = [(u.port, u.beside) for u in self.updates if u.beside is not None]

    @cached_property
    def _fresh(self) -> list[tuple[int, int, tuple[int, ...], torch.dtype]]:
        """Outputs that get new memory: index, buffer, shape, type."""
        updated = {u.output for u in self.updates}
        return [
            (i, self._outputs[i], shape, dtype)
            for i, (shape, dtype) in enumerate(self._types) if i not in updated
        ]  # fmt: skip

    def _pair_updates(self) -> list[_Update]:
        metadata = self.session.layout.metadata
        fits = {i: set(inputs) for i, *inputs in metadata["shareable"]}
        found = []
        for port, output in self.recording.updates:
            shape, dtype = self._types[output]
            shares = port in fits.get(output, ())
            beside = None if shares else torch.empty(shape, dtype=dtype)
            found.append(_Update(port, output, beside))
        return found

    @property
    def arena_bytes(self) -> int:
        """Memory beside the tensors of the caller: activations, scratch, copies."""
        beside = sum(u.beside.nbytes for u in self.updates if u.beside is not None)
        return self.plan.total_bytes + beside

    def __call__(self, leaves: Sequence[Any], numbers: Sequence[float]) -> list[torch.Tensor]:
        """The outputs that are no updates, by index; tensors are updated in place.

        Args: leaves: of the arguments.  Raises: Changed, before anything was done.
        """
        return self.run(leaves, numbers)[0]

    def run(
        self, leaves: Sequence[Any], numbers: Sequence[float]
    ) -> tuple[list[torch.Tensor], list[Any]]:
        """The outputs, and the tensors by port.  Raises: Stopped, Changed: nothing was done."""
        bound = self._bind(leaves)
        if len(numbers):
            self._numbers[:] = numbers  # type: ignore[assignment]
        outputs = self._allocate(bound)
        state = torch.get_rng_state() if self._draws and self._may_stop else None
        if self._draws:
            self._draw(bound)
        try:
            self.session.call(self.plan)
        except (Stopped, Failed) as reason:
            if state is not None:
                torch.set_rng_state(state)
            raise Stopped from reason
        self._finish(bound)
        return outputs, bound

    def _draw(self, bound: list[Any]) -> None:
        """Random numbers, in the order of the code."""
        made = draws.make_all([draw for _, draw in self._draws], self.session.engine.pool)
        for (k, _), drawn in zip(self._draws, made):
            self._point(k, drawn)
            bound[k] = drawn

    def _bind(self, leaves: Sequence[Any]) -> list[Any]:
        """Point the inputs at their tensors; the tensors by port, then what must stay alive."""
        found: list[Any] = [None] * len(self._inputs)
        for k, index in self._arguments:
            found[k] = leaves[index]
        for k, port in self._tensors:
            found[k] = port.tensor
        for k, port in self._gradients:
            found[k] = self._gradient(port, found)
        shapes, dtypes, pointers, inputs = (
            self._shapes,
            self._dtypes,
            self.plan.pointers,
            self._inputs,
        )
        for k, x in enumerate(found[: len(inputs)]):
            if x is None:
                continue
            if x.shape != shapes[k] or x.dtype is not dtypes[k] or not x.is_contiguous():
                x = self._dense(k, x)
                found.append(x)
            at = x.data_ptr()
            if at % x.itemsize:
                raise Changed("a tensor that is not aligned")
            pointers[inputs[k]] = at
        return found

    def _gradient(self, port: Port, found: Sequence[Any]) -> torch.Tensor:
        owner = port.tensor if port.tensor is not None else found[port.index]
        if owner is None or owner.grad is None:
            raise Changed("a gradient that was there is gone")
        return owner.grad

    def _dense(self, k: int, x: torch.Tensor) -> torch.Tensor:
        """A dense copy; what is written to is copied back after the run."""
        name = self.recording.ports[k].name
        if x.shape != self._shapes[k] or x.dtype is not self._dtypes[k]:
            raise Changed(f"{name} is {x.dtype}{list(x.shape)}")
        if x.layout is not torch.strided or x.device.type != "cpu":
            raise Changed(f"{name} is on {x.device}, {x.layout}")
        return x.detach().contiguous()

    def _point(self, k: int, x: torch.Tensor) -> None:
        if x.shape != self._shapes[k] or x.dtype is not self._dtypes[k]:
            raise Changed(f"{self.recording.ports[k].name} is {x.dtype}{list(x.shape)}")
        self.plan.pointers[self._inputs[k]] = x.data_ptr()

    def _allocate(self, bound: list[Any]) -> list[torch.Tensor]:
        """Memory for the outputs: new, or that of the tensors that they update."""
        pointers = self.plan.pointers
        outputs: list[Any] = [None] * len(self._types)
        for i, buffer, shape, dtype in self._fresh:
            outputs[i] = x = torch.empty(shape, dtype=dtype)
            pointers[buffer] = x.data_ptr()
        for i, port in self._updated:
            outputs[i] = bound[port]
        self._addresses[self._to] = self._addresses[self._from]
        return outputs

    def _finish(self, bound: Sequence[Any]) -> None:
        """Copy what could not be written in place; tell autograd what has changed."""
        changed = [bound[port] for _, port in self._updated]
        if self._copied or len(bound) > len(self._inputs):
            with torch.no_grad():
                self._copy_back(bound)
        torch.autograd.graph.increment_version(changed)

    def _copy_back(self, bound: Sequence[Any]) -> None:
        count, copied = len(self._inputs), dict(self._copied)
        copies = iter(bound[count:])
        strided = (
            k for k, x in enumerate(bound[:count]) if x is not None and not x.is_contiguous()
        )
        dense = {k: next(copies) for k in strided}
        for _, port in self._updated:
            beside = copied.get(port, dense.get(port))
            if beside is not None:
                bound[port].detach().copy_(beside)


class Step:
    """A recorded step with its runner: called like the function it was recorded from."""

    def __init__(self, recording: StepRecording, threads: int) -> None:
        self.recording, self.runner = recording, StepRunner(recording, threads)

    @cached_property
    def changed_arguments(self) -> list[int]:
        """Leaves that a run updates."""
        ports = [self.recording.ports[i] for i, _ in self.recording.updates]
        return [p.index for p in ports if p.kind == "argument"]

    @cached_property
    def changed_storages(self) -> set[int]:
        """Of tensors beside the arguments that a run updates."""
        ports = [self.recording.ports[i] for i, _ in self.recording.updates]
        tensors = [p.tensor for p in ports if p.kind == "tensor" and p.tensor is not None]
        return {x.untyped_storage()._cdata for x in tensors}

    def holds(self, numbers: Sequence[float]) -> bool:
        """What the code asked of the numbers has the same answers."""
        return all(guard.holds(numbers) for guard in self.recording.guards)

    def describe(self) -> str:
        """The size of the program."""
        way = len(self.recording.way)
        decided = f", for one way of {way} decisions on data" if way else ""
        return f"{len(self.recording.program.graph.nodes)} nodes{decided}"

    @property
    def arena_bytes(self) -> int:
        """Memory that is kept between calls, beside what the caller holds."""
        return self.runner.arena_bytes

    @property
    def aten_calls(self) -> list[str]:
        """Overloads that run through PyTorch, with where."""
        return through_torch(self.recording.program)

    def run(self, leaves: Sequence[Any]) -> Any:
        """One call.  Raises: Changed."""
        recording = self.recording
        numbers = [float(x) for x in recording.read_numbers(leaves)]
        outputs = self.runner(leaves, numbers)
        bound = self._tensors(leaves)
        for gradient in recording.gradients:
            new = None if gradient.output is None else outputs[gradient.output]
            bound(gradient.port).grad = new
        made: dict[int, Any] = {}
        return recording.structure.build(
            [self._leaf(slot, outputs, bound, made) for slot in recording.slots]
        )

    def _tensors(self, leaves: Sequence[Any]) -> Callable[[int], torch.Tensor]:
        def of(port: int) -> Any:
            found = self.recording.ports[port]
            if found.kind == "gradient":
                return (of(found.index) if found.tensor is None else found.tensor).grad
            return leaves[found.index] if found.kind == "argument" else found.tensor

        return of

    def _leaf(self, slot: Any, outputs: Sequence[Any], bound: Any, made: dict[int, Any]) -> Any:
        if slot.kind == "constant":
            return slot.value
        if slot.kind == "port":
            return bound(slot.index)
        if slot.kind == "number":
            return slot.value(outputs[slot.index].item())
        if slot.index not in made:
            x = laid_out(outputs[slot.index], slot.stride)
            made[slot.index] = Freed.apply(_root(), x) if slot.requires_grad else x
        return made[slot.index]


def laid_out(x: torch.Tensor, stride: tuple[int, ...] | None) -> torch.Tensor:
    """``x``, which is contiguous, with the strides that eager's result has."""
    if stride is None or x.numel() == 0:
        return x
    once = [slice(0, 1) if s == 0 else slice(None) for s in stride]
    inner = x[tuple(once)]
    new = torch.empty_strided(inner.shape, stride, dtype=x.dtype)
    return new.copy_(inner).expand(x.shape)


def _root() -> torch.Tensor:
    return torch.empty(0, requires_grad=True)


class Freed(torch.autograd.Function):
    """A result whose graph the step has used up already."""

    @staticmethod
    def forward(ctx: Any, root: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return x

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError(
            "Trying to backward through the graph a second time: the compiled step has run its "
            "backward pass already"
        )
