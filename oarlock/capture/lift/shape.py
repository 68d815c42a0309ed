"""Views, moves, creation and indexing."""

from __future__ import annotations

from typing import Any

from oarlock.capture.lift.registry import Lifter, lift
from oarlock.ir import Value, bounds, dim_max, dim_min, i64
from oarlock.ops.index import Triangle
from oarlock.ops.shape import full_slice


@lift(
    "aten.view.default", "aten._unsafe_view.default", "aten.reshape.default", "aten.flatten.using_ints",
    "aten.unsqueeze.default", "aten.squeeze.default", "aten.squeeze.dim", "aten.squeeze.dims",
    "aten.unflatten.int",
)  # fmt: skip
def reshape(b: Lifter, x: Value, *rest: Any) -> Value:
    return b.fit(x, b.type)


@lift(
    "aten.clone.default", "aten.contiguous.default", "aten.detach.default", "aten.alias.default",
    "aten.lift_fresh.default", "aten.lift_fresh_copy.default",
)  # fmt: skip
def same(b: Lifter, x: Value, *rest: Any, **options: Any) -> Value:
    return x


@lift("aten.permute.default")
def permute(b: Lifter, x: Value, dims: Any) -> Value:
    return b.transpose(x, perm=tuple(d % x.rank for d in dims))


@lift("aten.transpose.int")
def transpose(b: Lifter, x: Value, i: int, j: int) -> Value:
    perm = list(range(x.rank))
    if perm:
        perm[i], perm[j] = perm[j], perm[i]
    return b.transpose(x, perm=tuple(perm))


@lift("aten.t.default", "aten.numpy_T.default")
def t(b: Lifter, x: Value) -> Value:
    return b.transpose(x, perm=tuple(reversed(range(x.rank))))


@lift("aten.expand.default", "aten.expand_as.default", "aten.broadcast_to.default")
def expand(b: Lifter, x: Value, *rest: Any, **options: Any) -> Value:
    return b.broadcast_to(x, shape=b.type.shape)


@lift("aten.repeat.default")
def repeat(b: Lifter, x: Value, repeats: Any) -> Value:
    shape = (*([1] * (len(repeats) - x.rank)), *x.shape)
    wide = b.reshape(x, shape=tuple(s for size in shape for s in (1, size)))
    pairs = tuple(s for pair in zip(repeats, shape) for s in pair)
    return b.reshape(b.broadcast_to(wide, shape=pairs), shape=b.type.shape)


@lift("aten.cat.default", "aten.concat.default")
def cat(b: Lifter, tensors: Any, dim: int = 0) -> Value:
    kept = [b.to(x, b.type.dtype) for x in tensors if x.shape != (0,)]
    return kept[0] if len(kept) == 1 else b.concat(*kept, axis=dim)


@lift("aten.stack.default")
def stack(b: Lifter, tensors: Any, dim: int = 0) -> Value:
    axis = dim % (tensors[0].rank + 1)
    wide = [
        b.reshape(b.to(x, b.type.dtype), shape=(*x.shape[:axis], 1, *x.shape[axis:]))
        for x in tensors
    ]
    return wide[0] if len(wide) == 1 else b.concat(*wide, axis=axis)


def _from_start(value: Any, size: Any) -> Any:
    """A slice bound, negative from the end, at most ``size``."""
    if isinstance(value, int) and value == 0:
        return 0
    low, high = bounds(value)
    if low < 0 and high is not None and high <= 0:
        value = value + size
    return dim_min(value, size)


@lift("aten.slice.Tensor")
def slice_(b: Lifter, x: Value, dim: int = 0, start: Any = None, end: Any = None, step: int = 1):
    axis = dim % x.rank
    size, out = x.shape[axis], b.type.shape[axis]
    is_open = end is None or (isinstance(end, int) and end >= 2**62)
    start = 0 if start is None else _from_start(start, size)
    end = size if is_open else _from_start(end, size)
    if step != 1 or out != end - start:  # else the result's size says that both are in order
        start = dim_max(start, 0)
        end = dim_max(start, dim_max(end, 0))
    return b.slice(x, **full_slice(x.type, axis, start, end, step))


@lift("aten.select.int")
def select(b: Lifter, x: Value, dim: int, index: Any) -> Value:
    axis = dim % x.rank
    if isinstance(index, Value):
        return b.take(x, index, axis=axis)
    index = index + x.shape[axis] if isinstance(index, int) and index < 0 else index
    return b.fit(b.slice(x, **full_slice(x.type, axis, index, index + 1)), b.type)


def _pieces(b: Lifter, x: Value, dim: int) -> tuple[Value, ...]:
    axis, start, parts = dim % x.rank, 0, []
    for out in b.out:
        stop = start + (out.shape[axis] if out.rank == x.rank else 1)
        parts.append(b.fit(b.slice(x, **full_slice(x.type, axis, start, stop)), out))
        start = stop
    return tuple(parts)


@lift(
    "aten.split.Tensor", "aten.split_with_sizes.default", "aten.chunk.default", "aten.split.sizes",
    "aten.tensor_split.sections",
)  # fmt: skip
def split(b: Lifter, x: Value, sizes: Any, dim: int = 0) -> tuple[Value, ...]:
    return _pieces(b, x, dim)


@lift("aten.unbind.int")
def unbind(b: Lifter, x: Value, dim: int = 0) -> tuple[Value, ...]:
    return _pieces(b, x, dim)


@lift("aten.flip.default")
def flip(b: Lifter, x: Value, dims: Any) -> Value:
    return b.flip(x, axes=tuple(d % x.rank for d in dims))


@lift("aten.tril.default")
def tril(b: Lifter, x: Value, diagonal: Any = 0) -> Value:
    if isinstance(diagonal, int):
        return b.tril(x, diagonal=diagonal)
    return b.where(b.le(_distance(b, x), b.to(diagonal, i64)), x, b.const(0, x.dtype))


@lift("aten.triu.default")
def triu(b: Lifter, x: Value, diagonal: Any = 0) -> Value:
    if isinstance(diagonal, int):
        return b.triu(x, diagonal=diagonal)
    return b.where(b.ge(_distance(b, x), b.to(diagonal, i64)), x, b.const(0, x.dtype))


def _distance(b: Lifter, x: Value) -> Value:
    """Column minus row of every element of the last two axes, for a diagonal that sizes tell."""
    return Triangle().distance(b, x)


@lift("aten.arange.default", "aten.arange.start", "aten.arange.start_step")
def arange(b: Lifter, *bounds_: Any, **options: Any) -> Value:
    start = bounds_[0] if len(bounds_) > 1 else 0
    step = bounds_[2] if len(bounds_) > 2 else 1
    places = b.iota(size=b.type.shape[0], dtype=i64)
    if step != 1:
        places = b.to(places, b.type.dtype)
        places = b.mul(places, b.to(step, b.type.dtype))
    places = b.to(places, b.type.dtype)
    return places if start == 0 else b.add(places, b.to(start, b.type.dtype))


@lift("aten.full.default", "aten.full_like.default", "aten.new_full.default")
def full(b: Lifter, like: Any, *rest: Any, **options: Any) -> Value:
    return b.full(rest[-1], b.type.shape, b.type.dtype)


@lift("aten.zeros.default", "aten.zeros_like.default", "aten.new_zeros.default")
@lift("aten.empty.memory_format", "aten.new_empty.default", "aten.empty_like.default")
def zeros(b: Lifter, *rest: Any, **options: Any) -> Value:
    return b.full(0, b.type.shape, b.type.dtype)


@lift("aten.ones.default", "aten.ones_like.default", "aten.new_ones.default")
def ones(b: Lifter, *rest: Any, **options: Any) -> Value:
    return b.full(1, b.type.shape, b.type.dtype)


@lift("aten.scalar_tensor.default")
def scalar_tensor(b: Lifter, value: Any, **options: Any) -> Value:
    return b.to(value, b.type.dtype)


@lift("aten.copy.default")
def copy(b: Lifter, x: Value, source: Value, non_blocking: bool = False) -> Value:
    """What ``x.copy_(source)`` leaves in x."""
    source = b.to(source, b.type.dtype)
    return source if source.shape == b.type.shape else b.broadcast_to(source, shape=b.type.shape)
