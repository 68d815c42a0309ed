"""Result shapes of overloads that PyTorch's own fake kernels tie to the traced sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def _padded(x: torch.Tensor, amounts: Any, *rest: Any, **options: Any) -> torch.Tensor:
    shape = list(x.shape)
    for i in range(len(amounts) // 2):
        shape[-1 - i] = shape[-1 - i] + amounts[2 * i] + amounts[2 * i + 1]
    return x.new_empty(shape)


def _resized(x: torch.Tensor, size: Any, *rest: Any) -> torch.Tensor:
    factors = rest[-1]
    if size is None:
        size = [n * int(f) if f == int(f) else int(n * f) for n, f in zip(x.shape[2:], factors)]
    return x.new_empty([*x.shape[:2], *size])


RESIZES = (
    "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "_upsample_nearest_exact1d",
    "_upsample_nearest_exact2d", "_upsample_nearest_exact3d", "upsample_linear1d",
    "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d", "_upsample_bilinear2d_aa",
    "_upsample_bicubic2d_aa",
)  # fmt: skip
FAKES: dict[str, Callable[..., Any]] = {
    "aten.pad.default": _padded,
    "aten.constant_pad_nd.default": _padded,
    **{f"aten.{name}.vec": _resized for name in RESIZES},
}


def run_fake(func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """The fake result of ``func`` on fake arguments."""
    return FAKES.get(str(func), func)(*args, **kwargs)
