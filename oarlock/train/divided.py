"""The compiled executor of a step that decides on Python numbers, or leaves some in objects."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch.utils._pytree as pytree

from oarlock.capture.tape.capturing import Tape
from oarlock.capture.to_static import Declined, NotThisCall, StaticFunction
from oarlock.capture.torch_private import is_dispatching, is_transformed
from oarlock.errors import ToolError
from oarlock.train.tier import CompiledTape


class DividedTape:
    """The tensors by a compiled program; numbers before and what is left after by the replay."""

    is_pure = False

    def __init__(self, static: StaticFunction, tape: Tape) -> None:
        if tape.parts is None:
            raise Declined(tape.whole)
        self.tape, self.parts = tape, tape.parts
        core = dataclasses.replace(
            tape, root=self.parts.root, inputs=self.parts.inputs, replay=self.parts.core,
            has_effects=False, parts=None, executor=None,
        )  # fmt: skip
        self.core = CompiledTape(static, core)

    def given(self, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, tuple]:
        """The arguments of the core, and all numbers.  Raises: NotThisCall where they have none."""
        try:
            shared = self.parts.before(args, kwargs)
        except Exception as error:  # it may come after updates, as the replay shows
            raise NotThisCall(repr(error)) from error
        return (*args, *(shared[i] for i in self.parts.places)), shared

    def make(self, args: tuple, kwargs: dict[str, Any]) -> None:
        """Compile for the sizes of a call.  Raises: Declined."""
        given, _ = self.given(args, kwargs)
        self.core.make(given, kwargs, pytree.tree_leaves((given, kwargs)))

    def __call__(self, args: tuple, kwargs: dict[str, Any]) -> Any:
        if is_transformed() or is_dispatching():
            raise NotThisCall("a transform of the whole call")
        given, shared = self.given(args, kwargs)
        self.core.tape.is_verified = self.tape.is_verified
        found = self.core(given, kwargs)
        return self.parts.after(args, kwargs, shared, found)

    def __str__(self) -> str:
        return f"{self.core}, with its numbers and objects by the replay"


def divided(static: StaticFunction, tape: Tape, args: tuple, kwargs: dict[str, Any]) -> Any:
    """The executor.  Raises: Declined with the reason why there is none."""
    if static.options.get("backend") == "replay":
        raise Declined("")
    found = DividedTape(static, tape)
    try:
        found.make(args, kwargs)
    except (ToolError, NotThisCall) as error:
        raise Declined(str(error)) from error
    return found
