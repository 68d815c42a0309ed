"""A recorded call as one autograd function: a forward engine, a backward engine, saved values."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.utils._pytree as pytree

from oarlock.capture.arrays import torch_dtype
from oarlock.capture.joint.differentiate import JointRecording
from oarlock.capture.joint.recording import StepRecording, through_torch
from oarlock.capture.joint.results import leaves_of
from oarlock.capture.tape.capturing import Tape
from oarlock.capture.tape.copies import refill
from oarlock.capture.tape.running import run
from oarlock.capture.torch_private import is_batched, keeps_graph
from oarlock.runtime import engine
from oarlock.runtime.arrays import aligned_empty
from oarlock.runtime.session import Plan, Session
from oarlock.train.step import Changed, Step, StepRunner, laid_out

NOTHING = torch.empty(0, dtype=torch.uint8)
ALIGNMENT = 64  # bytes
UNUSED = 2  # references to an object in one attribute, while they are counted


class Blocks:
    """Memory for saved values: the last block again, when nothing holds it any more."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.last = aligned_empty(size)

    def take(self) -> torch.Tensor:
        if sys.getrefcount(self.last) > UNUSED:
            self.last = aligned_empty(self.size)
        return torch.from_numpy(self.last)


class ForwardRunner(StepRunner):
    """Results are tensors of their own; what is saved is one block, the last output."""

    def __init__(self, recording: JointRecording, threads: int) -> None:
        super().__init__(recording.forward, threads)
        count = len(self._types) - recording.saved
        saved, self._types = self._types[count:], self._types[:count]
        for i, shape in recording.shapes.items():
            self._types[i] = (shape, self._types[i][1])
        sizes = [dtype.itemsize * int(np.prod(shape)) for shape, dtype in saved]
        ends = np.cumsum([0, *(-(-n // ALIGNMENT) * ALIGNMENT for n in sizes)])
        self.offsets, self.block_bytes = ends[:-1].astype(np.uint64), int(ends[-1])
        self._blocks = Blocks(self.block_bytes)
        self._pointers = np.frombuffer(self.plan.pointers, np.uint64)
        self._places_saved = np.array(self._outputs[count:], np.int64)

    def _allocate(self, bound: list[Any]) -> list[torch.Tensor]:
        outputs = super()._allocate(bound)
        block = self._blocks.take()
        self._pointers[self._places_saved] = self.offsets + np.uint64(block.data_ptr())
        return [*outputs, block]


class BackwardRunner:
    """Gradients from tangents, tensors that are still there, and the block of a forward run."""

    def __init__(self, recording: JointRecording, forward: ForwardRunner, threads: int) -> None:
        self.session = Session(engine.build(recording.backward), threads, forward.session.pool)
        layout = self.session.layout
        self.plan = Plan(layout, self.session.engine, {}, threads)
        self._pointers = np.frombuffer(self.plan.pointers, np.uint64)
        buffers = [p.buffer for p in layout.inputs]
        pairs = list(zip(buffers, layout.inputs, recording.needed))
        self._given = [(b, p.type.shape, n) for b, p, n in pairs if n.kind != "saved"]
        saved = [(b, n.index) for b, _, n in pairs if n.kind == "saved"]
        self._places_saved = np.array([b for b, _ in saved], np.int64)
        self._offsets = forward.offsets[[i for _, i in saved]]
        self._outputs = [
            (p.buffer, p.type.shape, torch_dtype(p.type.dtype)) for p in layout.outputs
        ]
        self.turn = threading.Lock()

    def __call__(self, given: Sequence[torch.Tensor], block: torch.Tensor) -> list[torch.Tensor]:
        """Args: given: tangents and tensors, as ``needed`` orders them."""
        with self.turn:
            pointers = self.plan.pointers
            alive = [x if x.is_contiguous() else x.contiguous() for x in given]
            for (buffer, _, _), x in zip(self._given, alive):
                pointers[buffer] = x.data_ptr()
            self._pointers[self._places_saved] = self._offsets + np.uint64(block.data_ptr())
            found = []
            for buffer, shape, dtype in self._outputs:
                found.append(torch.empty(shape, dtype=dtype))
                pointers[buffer] = found[-1].data_ptr()
            self.session.call(self.plan)
            return found


class Differentiable(Step):
    """Called like the function it was recorded from; its results are differentiable.

    ``tape`` is replayed where gradients are differentiated in their turn.
    """

    def __init__(
        self, recording: JointRecording, tape: Tape, spec: pytree.TreeSpec, threads: int
    ) -> None:
        self.spec = spec  # of the arguments
        self.recording: StepRecording = recording.forward
        self.joint, self.tape = recording, tape
        self.runner = self.forward = ForwardRunner(recording, threads)
        self.backward = BackwardRunner(recording, self.forward, threads)
        self.turn = threading.Lock()
        ports = recording.forward.ports
        self.changed = [ports[p] for p, _ in recording.forward.updates]
        still = [p for p in ports if not any(p is q for q in self.changed)]
        self.read_leaves = [p.index for p in still if p.kind == "argument"]
        self.read_tensors = [p.tensor for p in still if p.kind == "tensor" and p.tensor is not None]
        self.wrt = [ports[p] for p in recording.wrt]
        self.saved = [n for n in recording.needed if n.kind in ("port", "result")]

    def describe(self) -> str:
        backward = len(self.joint.backward.graph.nodes)
        return f"{super().describe()} forward, {backward} backward, {self.saved_bytes} bytes saved"

    @property
    def saved_bytes(self) -> int:
        """What a call keeps for its backward pass, beside its arguments, parameters and results."""
        return self.forward.block_bytes

    @property
    def arena_bytes(self) -> int:
        return super().arena_bytes + self.backward.plan.total_bytes + self.saved_bytes

    @property
    def aten_calls(self) -> list[str]:
        return [*super().aten_calls, *through_torch(self.joint.backward)]

    def run(self, leaves: Sequence[Any]) -> Any:
        """One call.  Raises: Changed."""
        recording = self.recording
        call = Call(self, list(leaves))
        inputs = [call.tensor(port) for port in self.wrt]
        if not all(isinstance(x, torch.Tensor) and x.requires_grad for x in inputs):
            raise Changed("a tensor that needed gradients needs none")
        results = Joint.apply(call, *inputs)
        outputs = call.take()
        for index, x in zip(self.joint.differentiable, results):
            outputs[index] = x
        bound = self._tensors(leaves)
        return recording.structure.build(
            [self._leaf(slot, outputs, bound, {}) for slot in recording.slots]
        )

    def _leaf(self, slot: Any, outputs: Sequence[Any], bound: Any, made: dict[int, Any]) -> Any:
        if slot.kind == "output":
            return laid_out(outputs[slot.index], slot.stride)
        return super()._leaf(slot, outputs, bound, made)


class Call:
    """One call: what is needed to make it again, until its graph is freed."""

    def __init__(self, owner: Differentiable, leaves: list[Any]) -> None:
        self.owner, self.leaves = owner, leaves
        self.outputs: list[torch.Tensor] | None = None
        self.random: torch.Tensor | None = None
        self.versions: list[int] = []

    def tensor(self, port: Any) -> Any:
        return self.leaves[port.index] if port.kind == "argument" else port.tensor

    def take(self) -> list[torch.Tensor]:
        outputs, self.outputs = self.outputs, None
        assert outputs is not None
        return outputs

    def forward(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """The outputs, and what is saved for the backward pass."""
        owner = self.owner
        if owner.recording.draws:
            self.random = torch.get_rng_state()
        numbers = [float(x) for x in owner.recording.read_numbers(self.leaves)]
        with owner.turn:
            outputs, bound = owner.forward.run(self.leaves, numbers)
        block = outputs.pop()
        self.outputs = outputs
        self.versions = self.versions_now()
        saved = [outputs[n.index] if n.kind == "result" else bound[n.index] for n in owner.saved]
        return outputs, [*saved, block] if block.numel() else saved

    def versions_now(self) -> list[int]:
        """Of the tensors that the call reads and leaves as they are."""
        leaves = self.leaves
        found = [leaves[i]._version for i in self.owner.read_leaves]
        return found + [x._version for x in self.owner.read_tensors]

    def backward(
        self, saved: Sequence[torch.Tensor], tangents: Sequence[torch.Tensor]
    ) -> list[torch.Tensor]:
        owner = self.owner
        if torch.is_grad_enabled() or any(map(is_batched, tangents)):
            return self.replay(tangents)
        count = len(owner.saved)
        block = saved[count] if len(saved) > count else NOTHING
        found = owner.backward([*tangents, *saved[:count]], block)
        if not keeps_graph():
            self.leaves = []
        return found

    # Gradients that are differentiated

    def replay(self, tangents: Sequence[torch.Tensor]) -> list[Any]:
        """Gradients with a graph of their own, from the calls of the tape made again.

        Raises: RuntimeError when what the call has read is not there any more.
        """
        owner, tape = self.owner, self.owner.tape
        self.check()
        gates: list[Any] = [None]
        ambient, is_asked = tape.ambient, torch.is_grad_enabled()
        with Restored(self), torch.enable_grad():
            leaves = [self.gated(x, gates) for x in self.leaves]
            inputs = [leaves[p.index] if p.kind == "argument" else p.tensor for p in owner.wrt]
            with torch.autocast(
                "cpu", ambient.autocast, ambient.autocast is not None, ambient.cache
            ):
                result = run(tape, *pytree.tree_unflatten(leaves, owner.spec))
            found = leaves_of(result)
            pairs = zip(owner.recording.slots, found)
            results = {s.index: x for s, x in pairs if s.kind == "output"}
            outs = [results[i] for i in owner.joint.differentiable]
            gates[0] = "closed"
            try:
                return list(
                    torch.autograd.grad(
                        outs, inputs, tangents, create_graph=is_asked, allow_unused=True,
                    )
                )  # fmt: skip
            finally:
                gates[0] = None

    def check(self) -> None:
        name = self.owner.tape.name
        if not self.owner.joint.is_repeatable:
            raise RuntimeError(
                f"{name}: a gradient of its gradient is asked for, and its results depend on tensors "
                f"that the call has changed; give to_static backend='replay'"
            )
        if not self.leaves and self.owner.spec.num_leaves:
            raise RuntimeError("Trying to backward through the graph a second time")
        if self.versions != self.versions_now():
            raise RuntimeError(
                f"one of the variables needed for gradient computation has been modified by an "
                f"inplace operation: an argument or parameter of {name}"
            )

    def gated(self, x: Any, gates: list[Any]) -> Any:
        """``x`` as a tensor whose own history is left out while ``gates`` is closed."""
        is_input = isinstance(x, torch.Tensor) and x.requires_grad
        return Gate.apply(gates, x) if is_input else x


class Gate(torch.autograd.Function):
    """The identity, without gradients while it is closed."""

    @staticmethod
    def forward(ctx: Any, gates: list[Any], x: torch.Tensor) -> torch.Tensor:
        ctx.gates = gates
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:  # type: ignore[override]
        return None, grad if ctx.gates[0] is None else None


class Restored:
    """The generator as it was before the call; afterwards as now, like the tensors it changes."""

    def __init__(self, call: Call) -> None:
        self.call = call

    def __enter__(self) -> None:
        self.random = torch.get_rng_state()
        if self.call.random is not None:
            torch.set_rng_state(self.call.random)
        self.tensors = [self.call.tensor(p) for p in self.call.owner.changed]
        self.data = [x.detach().clone() for x in self.tensors]

    def __exit__(self, *_: object) -> None:
        torch.set_rng_state(self.random)
        for x, data in zip(self.tensors, self.data):
            refill(x, data)


class Joint(torch.autograd.Function):
    """``call`` makes the run; the tensors are those that need gradients."""

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs, saved = call.forward()
        ctx.call, ctx.has_saved = call, bool(saved)
        ctx.save_for_backward(*saved)
        return tuple([outputs[i] for i in call.owner.joint.differentiable])

    @staticmethod
    def backward(ctx: Any, *tangents: torch.Tensor) -> Any:
        saved = ctx.saved_tensors if ctx.has_saved else ()
        return None, *ctx.call.backward(saved, tangents)
