"""Tensors of a program by name: what a state dict holds and how it is put back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from oarlock.errors import ArgumentError


def misfits(program: Any, tensors: Mapping[str, Tensor]) -> list[str]:
    """Why tensors do not fit those of the program; empty when they do."""
    mine = program.parameters()
    problems = [f"{name} is missing" for name in mine if name not in tensors]
    problems += [f"{name} is not in the program" for name in tensors if name not in mine]
    for name, x in mine.items():
        y = tensors.get(name)
        if y is not None and (y.shape != x.shape or y.dtype is not x.dtype):
            problems.append(
                f"{name}: expected {x.dtype} {list(x.shape)}, got {y.dtype} {list(y.shape)}"
            )
    return problems


def fill(program: Any, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors that fit into those of the program."""
    with torch.no_grad():
        for name, x in program.parameters().items():
            x.copy_(tensors[name])


def set_state(program: Any, state: Mapping[str, Any]) -> None:
    """Put tensors or arrays into a program.

    Raises: ArgumentError listing all that does not fit; nothing is changed then.
    """
    tensors = {k: torch.from_numpy(x) if isinstance(x, np.ndarray) else x for k, x in state.items()}
    strange = [
        f"{k}: a {type(x).__name__}" for k, x in tensors.items() if not isinstance(x, Tensor)
    ]
    problems = strange or misfits(program, tensors)
    if problems:
        raise ArgumentError("\n  ".join(["set_state_dict: does not fit the program:", *problems]))
    fill(program, tensors)
