"""``dataclasses.replace`` of states that loops carry: made anew and then changed, and saved."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import oarlock


@dataclasses.dataclass
class State:
    h: torch.Tensor
    step: int = 0
    done: bool = False
    kind: ClassVar[str] = "state"


@dataclasses.dataclass(frozen=True)
class Frozen:
    h: torch.Tensor
    twice: torch.Tensor = dataclasses.field(init=False)
    scale: dataclasses.InitVar[float] = 2.0

    def __post_init__(self, scale):
        object.__setattr__(self, "twice", self.h * scale)


def changed_after(x):
    state = State(x)
    while state.h.sum() > 1:
        state = dataclasses.replace(state, h=state.h * 0.5)
        state.step = state.step + 1
    return state.h, state.step


def until_done(x):
    state, seen = State(x), []
    while not state.done:
        state = dataclasses.replace(state, h=state.h * 0.5, step=state.step + 1)
        seen.append(int(state.h.argmax()))
        state.done = bool(state.h.sum() < 1) or state.step >= 4
    return state.h, state.step, seen


def chosen(x):
    state = State(x, 1) if x.sum() > 3 else State(-x, 2)
    other = dataclasses.replace(state, step=state.step * 10)
    other.h = other.h + 1
    return state.h, state.step, other.h, other.step


def with_fields_that_init_makes(x):
    state = Frozen(x)
    while state.twice.sum() > 1:
        state = dataclasses.replace(state, h=state.h * 0.5, scale=1.5)
    return state.h, state.twice


CALLS = [torch.tensor(x) for x in ([1.0, 2.0, 4.0], [0.25, 0.125, 0.5], [64.0, 3.0, 1.0])]


@pytest.mark.parametrize("fn", (changed_after, until_done, chosen, with_fields_that_init_makes))
def test_replaced(fn: Callable[..., Any], tmp_path: Path):
    static = oarlock.to_static(fn, backend="replay")
    for x in CALLS:
        for got, want in zip(static(x), fn(x), strict=True):
            assert np.array_equal(np.asarray(got), np.asarray(want))
    assert static.captures == 1
    static.save(tmp_path / "p.oar")
    predictor = oarlock.Predictor(tmp_path / "p.oar")
    for x in CALLS:  # halves: exact
        for got, want in zip(predictor(x), fn(x), strict=True):
            assert np.array_equal(np.asarray(got), np.asarray(want))


def test_what_replace_refuses():
    def wrong(x):
        return dataclasses.replace(Frozen(x), twice=x) if x.sum() > 0 else x

    static = oarlock.to_static(wrong)
    with pytest.raises(ValueError, match="init=False"):
        static(CALLS[0])
