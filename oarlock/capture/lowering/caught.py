"""Calls whose failure a handler catches: whether they go well is told by their indices beforehand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from oarlock.capture.tape.caught import plain_name
from oarlock.capture.tape.nodes import Call

SAID = "out of range"  # the error of a call that fails, in texts

_INTEGERS = (torch.int64, torch.int32)
Rule = Callable[..., tuple[torch.Tensor, tuple, dict[str, Any]] | None]


def checked(call: Call, args: tuple, kwargs: dict[str, Any]) -> tuple[Any, tuple, dict[str, Any]]:
    """Whether a call goes well, a tensor of one bool or True where it can't be told, and arguments
    with which it does."""
    rule = _RULES.get(plain_name(call.func))
    found = rule(*args, **kwargs) if rule is not None else None
    return (True, args, kwargs) if found is None else found


def _within(index: torch.Tensor, first: Any, last: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Whether all are, and those that are with ``first`` for the others."""
    inside = (index >= first) & (index < last)
    return inside.all(), torch.where(inside, index, torch.full_like(index, 0) + first)


def _is_index(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.dtype in _INTEGERS


def _item(x: torch.Tensor, key: Any) -> Any:
    """``x[key]`` with integers, slices and integer tensors in ``key``."""
    keys = key if isinstance(key, tuple) else (key,)
    if not all(_is_index(k) or type(k) in (int, slice) for k in keys):
        return None
    good, made = [], []
    for axis, k in enumerate(keys):
        if _is_index(k):
            is_well, k = _within(k, -x.shape[axis], x.shape[axis])
            good.append(is_well)
        made.append(k)
    whole = good[0] if len(good) == 1 else torch.stack(good).all()
    return whole, (x, tuple(made) if isinstance(key, tuple) else made[0]), {}


def _rows(index: torch.Tensor, weight: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    is_well, index = _within(index, 0, weight.shape[0])
    return is_well, (index, weight, *args), kwargs


def _along(x: torch.Tensor, dim: int, index: torch.Tensor) -> Any:
    is_well, index = _within(index, 0, x.shape[dim])
    return is_well, (x, dim, index), {}


def _classes(
    x: torch.Tensor, target: torch.Tensor, *args: Any, ignore_index: int = -100, **kwargs: Any
) -> Any:
    if args or not _is_index(target):
        return None
    is_ignored = target == ignore_index
    count = x.shape[0 if x.dim() == 1 else 1]
    is_well, kept = _within(torch.where(is_ignored, 0, target), 0, count)
    kept = torch.where(is_ignored, target, kept)
    return is_well, (x, kept), {"ignore_index": ignore_index, **kwargs}


def _take(x: torch.Tensor, index: torch.Tensor) -> Any:
    is_well, index = _within(index, -x.numel(), x.numel())
    return is_well, (x, index), {}


_RULES: dict[str, Rule] = {
    "__getitem__": _item,
    "embedding": _rows,
    "gather": _along,
    "take": _take,
    "cross_entropy": _classes,
    "nll_loss": _classes,
}
