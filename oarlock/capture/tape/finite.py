"""Whether numbers are finite, for those too that a recording computes with."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import torch

LARGEST = sys.float_info.max


def isfinite(x: Any) -> Any:
    return abs(x) <= LARGEST if isinstance(x, torch.SymFloat) else math.isfinite(x)


def isnan(x: Any) -> Any:
    return torch.sym_not(x <= x) if isinstance(x, torch.SymFloat) else math.isnan(x)


def isinf(x: Any) -> Any:
    return abs(x) > LARGEST if isinstance(x, torch.SymFloat) else math.isinf(x)


RECORDED: dict[Callable[..., Any], Callable[..., Any]] = {
    math.isfinite: isfinite, math.isnan: isnan, math.isinf: isinf,
}  # fmt: skip
