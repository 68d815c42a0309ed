"""Indices and probabilities that eager code refuses: a run that is given such ends before it changes
anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

from oarlock.ir import Value


class Range(NamedTuple):
    """``x`` has numbers from ``first`` to ``last``, or ``ignored``."""

    x: torch.Tensor
    first: int
    last: int
    ignored: int | None = None


def _classes(x: torch.Tensor, target: torch.Tensor, _: Any, __: Any, ignored: int) -> Any:
    yield Range(target, 0, x.shape[0 if x.dim() == 1 else 1] - 1, ignored)


def _rows(weight: torch.Tensor, index: torch.Tensor, *_: Any) -> Any:
    yield Range(index, 0, weight.shape[0] - 1)


def _along(x: torch.Tensor, axis: int, index: torch.Tensor, *_: Any) -> Any:
    yield Range(index, 0, x.shape[axis] - 1 if x.dim() else 0)


def _anywhere(x: torch.Tensor, indices: Any, *_: Any) -> Any:
    axis = 0
    for index in indices:
        is_mask = index is not None and index.dtype in (torch.bool, torch.uint8)
        if index is not None and not is_mask:
            yield Range(index, -x.shape[axis], x.shape[axis] - 1)
        axis += index.dim() if is_mask else 1


def _one_of(index: torch.Tensor, classes: int = -1) -> Any:
    if classes > 0:
        yield Range(index, 0, classes - 1)


def _probabilities(x: torch.Tensor, target: torch.Tensor, *_: Any) -> Any:
    yield Range(x, 0, 1)
    yield Range(target, 0, 1)


RANGES: dict[str, Callable[..., Iterator[Range]]] = {
    "aten.nll_loss_forward.default": _classes,
    "aten.nll_loss2d_forward.default": _classes,
    "aten.embedding.default": _rows,
    "aten.embedding_bag.default": _rows,
    "aten._embedding_bag.default": _rows,
    "aten.gather.default": _along,
    "aten.index_select.default": _along,
    "aten.scatter.src": _along,
    "aten.scatter.value": _along,
    "aten.scatter_add.default": _along,
    "aten.scatter_.src": _along,
    "aten.scatter_.value": _along,
    "aten.scatter_add_.default": _along,
    "aten.index_add_.default": _along,
    "aten.index.Tensor": _anywhere,
    "aten.index_put.default": _anywhere,
    "aten.index_put_.default": _anywhere,
    "aten.binary_cross_entropy.default": _probabilities,
    "one_hot": _one_of,
}


def require_ranges(recorder: Any, name: str, args: tuple) -> None:
    """End a run that gives the function of this name what it refuses."""
    for x, first, last, ignored in RANGES[name](*args) if name in RANGES else ():
        value: Value = recorder.value(x)
        key = (value, first, last, ignored)
        if key in recorder.ranges or not value.type.size or not _is_given(value):
            continue
        recorder.ranges.add(key)
        b = recorder.b
        inside = b.bit_and(b.ge(value, first), b.le(value, last))
        if ignored is not None and not first <= ignored <= last:
            inside = b.bit_or(inside, b.eq(value, ignored))
        axes = tuple(range(value.rank))
        b.require(b.reduce_min(inside, axes=axes) if axes else inside)


def _is_given(value: Value) -> bool:
    """It depends on an input of the program."""
    seen, stack = set(), [value]
    while stack:
        value = stack.pop()
        if value.producer is None:
            return True
        if value not in seen:
            seen.add(value)
            stack += value.producer.inputs
    return False
