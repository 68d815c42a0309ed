"""Torch's own generator in a recording: what is drawn, and the states that the code keeps and sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from oarlock.capture.joint.recording import Draw
from oarlock.capture.torch_private import outside_modes
from oarlock.ir import Value

_OWNERS = (torch, torch.random)
_SETTERS = ("set_rng_state", "manual_seed", "seed")


class Chance:
    """The state of the generator is a position among the draws: a state that was asked for and is set
    again, as ``torch.utils.checkpoint`` does, gives the same numbers again."""

    def __init__(self) -> None:
        self.order: list[tuple[Draw, Value]] = []
        self.position = 0
        self.states: dict[int, tuple[torch.Tensor, int]] = {}  # that the code has asked for, by id
        self.is_reset = False  # to a state that is not among them, or with other draws after it

    @property
    def is_elsewhere(self) -> bool:
        """The state at the end is not that after all draws."""
        return self.is_reset or self.position < len(self.order)

    def again(self, draw: Draw) -> Value | None:
        """The numbers of ``draw`` where they were drawn before."""
        if not _is_shared(draw) or self.position == len(self.order):
            return None
        same, value = self.order[self.position]
        self.is_reset |= same != draw
        self.position += 1
        return value

    def add(self, draw: Draw, value: Value) -> None:
        if _is_shared(draw):
            self.order.append((draw, value))
            self.position += 1

    @contextmanager
    def watched(self) -> Iterator[None]:
        """See what the code does to the generator."""
        names = ("get_rng_state", *_SETTERS)
        before = [(owner, name, getattr(owner, name)) for owner in _OWNERS for name in names]
        for owner, name, old in before:
            setattr(owner, name, self._setter(old) if name in _SETTERS else self._getter(old))
        try:
            yield
        finally:
            for owner, name, old in before:
                setattr(owner, name, old)

    def _getter(self, get: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        def asked() -> torch.Tensor:
            with outside_modes():
                state = get()
            self.states[id(state)] = state, self.position
            return state

        return asked

    def _setter(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **kwargs: Any) -> Any:
            if call.__name__ == "set_rng_state" and args and id(args[0]) in self.states:
                self.position = self.states[id(args[0])][1]
                return None
            self.is_reset = True
            return call(*args, **kwargs)

        return noted


def _is_shared(draw: Draw) -> bool:
    return draw.kwargs.get("generator") is None
