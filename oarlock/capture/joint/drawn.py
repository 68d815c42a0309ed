"""Draws whose distribution tensors give, as draws of a fixed one and arithmetic: the random numbers,
and what is refused, are those of PyTorch's kernels on a CPU.

Source: aten/src/ATen/native/Distributions.cpp and native/cpu/DistributionTemplates.h of PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Require = Callable[[torch.Tensor], None]


def _uniform(shape: Any, p: torch.Tensor, generator: Any) -> torch.Tensor:
    """What a Bernoulli draw compares with ``p``."""
    return torch.rand(shape, dtype=_drawn_in(p), generator=generator)


def _drawn_in(p: torch.Tensor) -> torch.dtype:
    return torch.float64 if p.dtype == torch.float64 else torch.float32


def _require_chances(require: Require, p: torch.Tensor) -> None:
    require(torch.logical_and(p >= 0, p <= 1).all())


def _bernoulli(require: Require, p: torch.Tensor, *, generator: Any = None) -> torch.Tensor:
    _require_chances(require, p)
    return (_uniform(p.shape, p, generator) < p).to(p.dtype)


def _bernoulli_p(
    require: Require, x: torch.Tensor, p: float, *, generator: Any = None
) -> torch.Tensor:
    return x.new_empty(x.shape).bernoulli_(p, generator=generator)


def _bernoulli_(
    require: Require, x: torch.Tensor, p: torch.Tensor, *, generator: Any = None
) -> torch.Tensor:
    _require_chances(require, p)
    drawn = torch.empty_like(x, dtype=_drawn_in(p)).uniform_(generator=generator)
    return x.copy_(drawn < p)


def _normal(require: Require, mean: Any, std: Any, *, generator: Any = None) -> torch.Tensor:
    """Numbers of deviation ``std``, or scaled by the tensor ``std``."""
    given = [x for x in (mean, std) if isinstance(x, torch.Tensor)]
    is_scaled = isinstance(std, torch.Tensor)
    if is_scaled:
        require((std >= 0).all())
    shape = torch.broadcast_shapes(*(x.shape for x in given))
    drawn = given[0].new_empty(shape).normal_(0.0, 1.0 if is_scaled else std, generator=generator)
    return (drawn.mul_(std) if is_scaled else drawn).add_(mean)


def _multinomial(
    require: Require, p: torch.Tensor, count: int, replacement: bool = False, *, generator: Any = None
) -> torch.Tensor:  # fmt: skip
    if replacement and count > 1:
        return NotImplemented
    require(torch.logical_and(p.max() < torch.inf, p.min() >= 0))
    require((p.sum(-1) != 0).all())
    ratios = p / torch.empty_like(p).exponential_(generator=generator)
    return ratios.argmax(-1, keepdim=True) if count == 1 else ratios.topk(count)[1]


DRAWN: dict[str, Callable[..., torch.Tensor]] = {
    "aten.bernoulli.default": _bernoulli,
    "aten.bernoulli.p": _bernoulli_p,
    "aten.bernoulli_.Tensor": _bernoulli_,
    "aten.normal.Tensor_Tensor": _normal,
    "aten.normal.Tensor_float": _normal,
    "aten.normal.float_Tensor": _normal,
    "aten.multinomial.default": _multinomial,
}
