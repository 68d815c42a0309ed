"""Functions of numbers that take those too that a recording computes with."""

from __future__ import annotations

import functools
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


def as_float(*given: Any) -> Any:
    (x,) = given or (0,)
    return torch.sym_float(x) if isinstance(x, torch.SymInt | torch.SymFloat) else float(*given)


def as_int(*given: Any, **options: Any) -> Any:
    return given[0] if given and isinstance(given[0], torch.SymInt) else int(*given, **options)


def least(*given: Any, **options: Any) -> Any:
    return _picked(min, "lesser", given, options)


def largest(*given: Any, **options: Any) -> Any:
    return _picked(max, "greater", given, options)


def _picked(pick: Callable[..., Any], of_two: str, given: Any, options: dict[str, Any]) -> Any:
    nodes = [x.node for x in given if isinstance(x, torch.SymInt | torch.SymFloat)]
    if options or len(given) == 1 or not nodes or not hasattr(nodes[0], of_two):
        return pick(*given, **options)
    return functools.reduce(getattr(nodes[0], of_two), given)


RECORDED: dict[Callable[..., Any], Callable[..., Any]] = {
    math.isfinite: isfinite, math.isnan: isnan, math.isinf: isinf, min: least, max: largest,
    float: as_float, int: as_int,
}  # fmt: skip
