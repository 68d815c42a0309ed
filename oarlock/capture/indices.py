"""Indices and probabilities that eager code refuses: a run that is given such ends before it changes
anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

from oarlock.ir import Value


class Range(NamedTuple):
    """``x`` has numbers from ``first`` to ``last``, or ``ignored``; where ``last`` is None, others
    than ``first``."""

    x: torch.Tensor
    first: int
    last: int | None
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


def _elements(x: torch.Tensor, index: torch.Tensor, *_: Any) -> Any:
    yield Range(index, -x.numel(), x.numel() - 1)


def _either_end(x: torch.Tensor, axis: int, index: torch.Tensor, *_: Any) -> Any:
    n = x.shape[axis] if x.dim() else 1
    yield Range(index, -n, n - 1)


def _divisor(x: Any, divisor: Any, *_: Any) -> Any:
    given = [t for t in (x, divisor) if isinstance(t, torch.Tensor)]
    is_whole = not any(t.is_floating_point() or t.is_complex() for t in given)
    if isinstance(divisor, torch.Tensor) and is_whole and type(x) is not float:
        yield Range(divisor, 0, None)


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
    "aten.scatter_reduce.two": _along,
    "aten.scatter_reduce_.two": _along,
    "aten.index_add.default": _along,
    "aten.index_copy.default": _along,
    "aten.index_copy_.default": _along,
    "aten.index_fill.int_Scalar": _either_end,
    "aten.index_fill_.int_Scalar": _either_end,
    "aten.index_fill.int_Tensor": _either_end,
    "aten.index_fill_.int_Tensor": _either_end,
    "aten.take.default": _elements,
    "aten.index.Tensor": _anywhere,
    "aten.index_put.default": _anywhere,
    "aten.index_put_.default": _anywhere,
    "aten.binary_cross_entropy.default": _probabilities,
    "aten.div.Tensor_mode": _divisor,
    "aten.div_.Tensor_mode": _divisor,
    "aten.floor_divide.default": _divisor,
    "aten.floor_divide_.Tensor": _divisor,
    "aten.remainder.Tensor": _divisor,
    "aten.remainder_.Tensor": _divisor,
    "aten.remainder.Scalar_Tensor": _divisor,
    "aten.fmod.Tensor": _divisor,
    "aten.fmod_.Tensor": _divisor,
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
        if last is None:
            inside = b.ne(value, first)
        else:
            ends = [_bound(recorder, n, value) for n in (first, last)]
            inside = b.bit_and(b.ge(value, ends[0]), b.le(value, ends[1]))
        if ignored is not None and last is not None:
            inside = b.bit_or(inside, b.eq(value, ignored))
        axes = tuple(range(value.rank))
        b.require(b.reduce_min(inside, axes=axes) if axes else inside)


def _bound(recorder: Any, n: Any, value: Value) -> Any:
    """A number to compare ``value`` with; of a size that differs from call to call a value."""
    if not isinstance(n, torch.SymInt):
        return n
    size = recorder.shapes.size(n)
    if isinstance(size, int):
        return size
    return recorder.b.cast(recorder.b.size(dim=size), dtype=value.dtype)


def _is_given(value: Value) -> bool:
    """It depends on an input of the program."""
    return next(inputs_of(value), None) is not None


def inputs_of(value: Value) -> Iterator[Value]:
    """The inputs of the program that ``value`` depends on."""
    seen, stack = set(), [value]
    while stack:
        value = stack.pop()
        if value in seen:
            continue
        seen.add(value)
        if value.producer is None:
            yield value
        else:
            stack += value.producer.inputs
