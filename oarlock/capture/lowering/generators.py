"""Where the draws of a program come from: its own generator, and those that the code makes."""

from __future__ import annotations

from typing import Any

import torch

from oarlock.capture.torch_private import outside_modes
from oarlock.ir import i64
from oarlock.ops.random import GENERATOR, generator

UNSEEDED = 67280421310721  # of a new torch.Generator
NEXT = (0, 1)


def key_of(own: torch.Generator) -> int:
    """The same for all Python objects of one generator."""
    return own._cdata  # type: ignore[attr-defined]


class Generators:
    """States (seed, draws made), i64[2], as tensors of a recording that draws update in place."""

    def __init__(self, recorder: Any) -> None:
        self.r = recorder
        self.default: torch.Tensor | None = None
        self.own: dict[int, torch.Tensor] = {}
        self.alive: list[torch.Generator] = []
        self.outer: dict[int, torch.Generator] = {}  # the program's own stands for them

    def state(self, own: torch.Generator | None) -> torch.Tensor:
        if own is not None and key_of(own) != key_of(torch.default_generator):
            if key_of(own) in self.own:
                return self.own[key_of(own)]
            self.outer[key_of(own)] = own
        if self.default is None:
            with outside_modes():
                self.default = torch.from_numpy(generator())
            self.r.names[id(self.default)] = GENERATOR
        return self.default

    def made(self, own: torch.Generator) -> torch.Generator:
        """Note a generator that the code has made."""
        self.alive.append(own)
        with outside_modes():
            self.own[key_of(own)] = self.r.new(self.r.b.const((UNSEEDED, 0), i64))
        return own

    def seed(self, own: torch.Generator | None, seed: Any) -> None:
        """Start again from a seed.  Raises: NotImplementedError for a generator from outside."""
        if own is not None and key_of(own) not in (*self.own, key_of(torch.default_generator)):
            raise NotImplementedError("a seed for a generator from outside; make one in the code")
        b = self.r.b
        with outside_modes():
            first = b.reshape(self.r.scalars.value(seed, i64), shape=(1,))
            self.r.write(self.state(own), b.concat(first, b.const((0,), i64), axis=0))

    def draw(self, record: type, like: torch.Tensor, own: torch.Generator | None) -> torch.Tensor:
        """Numbers of a record in the shape and dtype of a tensor."""
        r, state = self.r, self.state(own)
        with outside_modes():
            type_, now = r.value(like).type, r.value(state)
            drawn = r.b.build(record(shape=type_.shape, dtype=type_.dtype), now)
            r.write(state, r.b.add(now, r.b.const(NEXT, i64)))
            return r.new(drawn)
