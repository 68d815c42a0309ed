"""The executor of a tape with control flow whose results need no gradients."""

from __future__ import annotations

from typing import Any

import torch

from oarlock.capture.tape.capturing import Tape
from oarlock.capture.tape.programs import changes_lists
from oarlock.capture.tape.running import run
from oarlock.capture.to_static import Declined, StaticFunction
from oarlock.capture.torch_private import is_dispatching, is_transformed
from oarlock.errors import ToolError, UnsupportedError
from oarlock.train.lowered import Lowered, Part
from oarlock.train.tier import identity, read


class LoweredTape:
    """A tape as a program, for each number of threads.

    Calls raise Declined or NotThisCall before anything was done.
    """

    def __init__(self, tape: Tape, args: tuple, kwargs: dict[str, Any]) -> None:
        self.tape = tape
        sources = [s for _, s in tape.inputs if s.base is not None]
        self.state = [(s, x) for s in sources if isinstance(x := read(s), torch.Tensor)]
        self.is_same = identity(self.state)
        self.programs: dict[int, Lowered] = {}
        self.make(args, kwargs)

    def make(self, args: tuple, kwargs: dict[str, Any]) -> Lowered:
        """The program for the threads of now.  Raises: UnsupportedError."""
        tape, threads = self.tape, torch.get_num_threads()
        part = Part(tape.inputs, tape.root, tape.result, tape.dims)
        self.programs[threads] = Lowered(part, args, kwargs, (), threads)
        return self.programs[threads]

    def __call__(self, args: tuple, kwargs: dict[str, Any]) -> Any:
        if is_transformed() or is_dispatching():
            return run(self.tape, args, kwargs)
        if not self.is_same():
            raise Declined("tensors of the state were replaced")
        program = self.programs.get(torch.get_num_threads()) or self.make(args, kwargs)
        return program(args, kwargs)

    @property
    def is_pure(self) -> bool:
        """Calls change nothing."""
        return not any(p.updates for p in self.programs.values())

    def __str__(self) -> str:
        return f"compiled as {next(iter(self.programs.values()))}"


def lowered(static: StaticFunction, tape: Tape, args: tuple, kwargs: dict[str, Any]) -> Any:
    """The executor.  Raises: Declined with the reason why there is none."""
    if static.options.get("backend") == "replay" or tape.is_straight_line:
        raise Declined("")
    if tape.has_effects or changes_lists(tape):
        raise Declined("the code changes Python objects")
    try:
        return LoweredTape(tape, args, kwargs)
    except (UnsupportedError, NotImplementedError, ToolError) as reason:
        why = "; ".join([str(reason), *getattr(reason, "problems", [])])
        raise Declined(f"no program for calls without gradients: {why}") from reason
