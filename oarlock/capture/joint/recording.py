"""What a recorded step is: its program, and where each input and output of it is at a call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from oarlock.capture.joint.numbers import Guard
from oarlock.capture.joint.results import Structure
from oarlock.ir import Program


@dataclass(frozen=True)
class Draw:
    """Random numbers that torch draws on the host before a run, as eager code would."""

    func: Any
    args: tuple
    kwargs: dict[str, Any]
    like: tuple[tuple[int, ...], tuple[int, ...], torch.dtype] | None = None

    def make(self) -> torch.Tensor:
        """The numbers, dense."""
        first = () if self.like is None else (self.empty(),)
        return self.func(*first, *self.args, **self.kwargs).contiguous()

    def empty(self) -> torch.Tensor:
        """Memory for them, where they are drawn into a tensor."""
        assert self.like is not None
        shape, stride, dtype = self.like
        return torch.empty_strided(shape, stride, dtype=dtype)


@dataclass
class Port:
    """An input of the graph.

    ``kind``: "argument" (``index`` among the call's leaves), "tensor" (``tensor`` itself), "gradient"
    (of ``tensor``, or of the argument at the port ``index``), "number" (``index`` among the numbers)
    or "draw" (of ``index``).
    """

    kind: str
    name: str
    index: int = 0
    tensor: torch.Tensor | None = None


@dataclass(frozen=True)
class Gradient:
    """``.grad`` of the tensor of ``port`` after a call: output ``output``, or None."""

    port: int
    output: int | None


@dataclass(frozen=True)
class Slot:
    """A leaf of the result: "output" (a new tensor), "number", "port" (a tensor given) or "constant"."""

    kind: str
    index: int = 0
    value: Any = None
    requires_grad: bool = False
    stride: tuple[int, ...] | None = None  # of a new tensor that is not contiguous


@dataclass
class StepRecording:
    """``program`` has every tensor as an input, no params that change and no state: ``updates`` pairs
    the ports that a run changes with the outputs that are their next values."""

    program: Program
    ports: list[Port]
    slots: list[Slot]
    structure: Structure  # of the result
    updates: list[tuple[int, int]]
    gradients: list[Gradient]
    draws: list[Draw]
    guards: list[Guard]
    read_numbers: Callable[[Sequence[Any]], Sequence[Any]]  # from the leaves of a call
    calls_backward: bool = True
    way: tuple[bool, ...] = ()  # that data take; a run that takes another ends before its updates
    notes: list[str] = field(default_factory=list)

    @property
    def aten_calls(self) -> list[str]:
        """Overloads that run through PyTorch, with where."""
        return through_torch(self.program)

    @property
    def is_pure(self) -> bool:
        """A run changes nothing: no tensor, no gradient, no state of a generator."""
        return not (self.updates or self.gradients or self.draws or self.calls_backward)


def through_torch(program: Program) -> list[str]:
    """Overloads of a program that run through PyTorch, with where."""
    return [
        f"{n.origin}: {n.op.target}"  # type: ignore[attr-defined]
        for n in program.graph.walk() if n.name == "aten_call"
    ]  # fmt: skip
