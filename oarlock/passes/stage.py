"""Stages: named passes that pipelines are made of."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass

from oarlock.errors import UnknownName
from oarlock.ir import Program

Pass = Callable[[Program], Program]
STAGES: dict[str, Stage] = {}


@dataclass(frozen=True)
class Stage:
    """A pass with its name; it never changes inputs, output types, dims or state."""

    name: str
    function: Pass

    def __call__(self, program: Program) -> Program:
        return self.function(program)

    @property
    def doc(self) -> str:
        """The first line of the pass's docstring."""
        return (self.function.__doc__ or "").strip().split("\n")[0]


def stage(name: str) -> Callable[[Pass], Stage]:
    """Register a pass as the stage ``name``."""

    def register(function: Pass) -> Stage:
        assert name not in STAGES, f"stage {name} is declared twice"
        STAGES[name] = Stage(name, function)
        return STAGES[name]

    return register


def get(name: str) -> Stage:
    """The stage of this name.  Raises: UnknownName."""
    if name not in STAGES:
        near = difflib.get_close_matches(name, STAGES, 3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise UnknownName(f"no stage {name!r}{hint}; there are {', '.join(STAGES)}")
    return STAGES[name]
