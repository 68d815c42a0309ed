"""Random numbers of a step: drawn as eager code would, dropout masks without a call for each number.

PyTorch draws Bernoulli numbers on a CPU one by one, or, on some, by a library of its own.  Where they
are those of ``csrc/twister.c``, which is tried once, that makes them from the generator's state.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch

from oarlock.capture.joint.recording import Draw

STATE_BYTES = 5056  # of a CPU generator whose layout is known
OPS = ("aten.bernoulli_.float", "aten::bernoulli_.float")
TRIED = (0.9, 0.5, 1e-9, 1.0, 0.0, 1 / 3)
COUNTS = (1, 311, 624, 3, 1501, 2)


def make_all(draws: Sequence[Draw], library: Path) -> list[torch.Tensor]:
    """The numbers of all, in their order; torch's default generator moves on by as much."""
    found, generator = [], torch.default_generator
    state: torch.Tensor | None = None
    for draw in draws:
        if chance(draw) is None or not is_twister(library):
            if state is not None:
                generator.set_state(state)
                state = None
            found.append(draw.make())
            continue
        state = generator.get_state() if state is None else state
        found.append(draw.empty())
        fill(library, state, found[-1], chance(draw) or 0.0)
    if state is not None:
        generator.set_state(state)
    return found


def chance(draw: Draw) -> float | None:
    """The p of ``empty(..).bernoulli_(p)`` with dense f32 numbers of the default generator."""
    if str(draw.func) not in OPS or draw.kwargs or draw.like is None or len(draw.args) != 1:
        return None
    (p,), (shape, stride, dtype) = draw.args, draw.like
    is_dense = stride == _dense(shape) and dtype is torch.float32
    return float(p) if is_dense and type(p) is float and 0.0 <= p <= 1.0 else None


def _dense(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[k + 1 :]) for k in range(len(shape)))


def fill(library: Path, state: torch.Tensor, x: torch.Tensor, p: float) -> None:
    """Draw into dense ``x``; ``state`` is that after it."""
    threshold = math.ceil(p * 2.0**53)
    _function(library)(state.data_ptr(), threshold, x.data_ptr(), x.numel())


@lru_cache
def _function(library: Path) -> ctypes._CFuncPtr:
    """No other thread of Python runs meanwhile, which might draw too."""
    found = ctypes.PyDLL(str(library)).ol_bernoulli
    found.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_int64]
    found.restype = None
    return found


@lru_cache
def is_twister(library: Path) -> bool:
    """Torch's numbers, and its state after them, are those of ``twister.c`` here."""
    generator = torch.Generator().manual_seed(20)
    state = generator.get_state()
    if state.dtype is not torch.uint8 or state.numel() != STATE_BYTES:
        return False
    for p, count in zip(TRIED, COUNTS):
        mine = torch.empty(count)
        fill(library, state, mine, p)
        if not torch.equal(mine, torch.empty(count).bernoulli_(p, generator=generator)):
            return False
        if not torch.equal(state, generator.get_state()):
            return False
    return True
