"""Sorting, order statistics and running extremes."""

from __future__ import annotations

import math
from typing import Any

from oarlock.capture.lift.registry import Lifter, lift
from oarlock.ir import Value, bool_, i64, u8
from oarlock.ops.shape import full_slice


def _wide(b: Lifter, x: Value) -> Value:
    """x of rank 1 or more, numbers."""
    x = b.cast(x, dtype=u8) if x.dtype is bool_ else x
    return b.reshape(x, shape=(1,)) if x.rank == 0 else x


def _results(b: Lifter, *values: Value) -> tuple[Value, ...]:
    return tuple(b.fit(v, t) for v, t in zip(values, b.out))


def _axis(x: Value, dim: int) -> int:
    return dim % max(x.rank, 1)


@lift("aten.sort.default")
def sort(b: Lifter, x: Value, dim: int = -1, descending: bool = False) -> tuple[Value, ...]:
    return _results(b, *b.sort(_wide(b, x), axis=_axis(x, dim), descending=descending))


@lift("aten.sort.stable")
def sort_stable(
    b: Lifter, x: Value, *, stable: Any = True, dim: int = -1, descending: bool = False
) -> tuple[Value, ...]:
    return sort(b, x, dim, descending)


@lift("aten.topk.default")
def topk(b: Lifter, x: Value, k: Any, dim: int = -1, largest: bool = True, sorted: bool = True):
    return _results(b, *b.topk(_wide(b, x), k=k, axis=_axis(x, dim), largest=largest))


@lift("aten.cummax.default")
def cummax(b: Lifter, x: Value, dim: int) -> tuple[Value, ...]:
    return _results(b, *b.cummax(_wide(b, x), axis=_axis(x, dim)))


@lift("aten.cummin.default")
def cummin(b: Lifter, x: Value, dim: int) -> tuple[Value, ...]:
    return _results(b, *b.cummin(_wide(b, x), axis=_axis(x, dim)))


def _at(b: Lifter, x: Value, place: Value, axis: int, keepdim: bool) -> Value:
    """x at one place along ``axis``, [..., 1, ...], kept or dropped."""
    found = b.gather(x, place, axis=axis)
    shape = (*found.shape[:axis], *found.shape[axis + 1 :])
    return found if keepdim else b.reshape(found, shape=shape)


@lift("aten.kthvalue.default")
def kthvalue(b: Lifter, x: Value, k: Any, dim: int = -1, keepdim: bool = False):
    wide, axis = _wide(b, x), _axis(x, dim)
    cut = full_slice(wide.type, axis, k - 1, k)
    return _results(b, *(b.slice(v, **cut) for v in b.sort(wide, axis=axis)))


def _middle(b: Lifter, x: Value, axis: int, skip_nan: bool) -> tuple[Value, Value]:
    """The lower median along ``axis`` and its place, [..., 1, ...]; a NaN is the median."""
    values, places = b.sort(x, axis=axis)
    n = b.to(x.shape[axis], i64)
    if not x.dtype.is_float:
        at = b.floor_div(b.sub(n, 1), 2)
        shape = tuple(1 if i == axis else s for i, s in enumerate(x.shape))
        at = b.broadcast_to(at, shape=shape)
    else:
        nans = b.reduce_sum(b.cast(b.is_nan(x), dtype=i64), axes=(axis,), keepdims=True)
        if skip_nan:
            at = b.maximum(b.floor_div(b.sub(b.sub(n, nans), 1), 2), 0)
        else:
            at = b.where(b.gt(nans, 0), b.sub(n, nans), b.floor_div(b.sub(n, 1), 2))
    return b.gather(values, at, axis=axis), b.gather(places, at, axis=axis)


def _median(skip_nan: bool, name: str) -> None:
    def whole(b: Lifter, x: Value) -> Value:
        if x.type.size == 0:
            return b.full(math.nan if x.dtype.is_float else 0, (), x.dtype)
        return b.fit(_middle(b, b.reshape(x, shape=(x.type.size,)), 0, skip_nan)[0], b.type)

    def along(b: Lifter, x: Value, dim: int, keepdim: bool = False) -> tuple[Value, ...]:
        return _results(b, *_middle(b, _wide(b, x), _axis(x, dim), skip_nan))

    lift(f"aten.{name}.default")(whole)
    lift(f"aten.{name}.dim")(along)


_median(False, "median")
_median(True, "nanmedian")


@lift("aten.mode.default")
def mode(b: Lifter, x: Value, dim: int = -1, keepdim: bool = False) -> tuple[Value, ...]:
    """The smallest of the most frequent values, and the last place that holds it."""
    wide, axis = _wide(b, x), _axis(x, dim)
    last = wide.rank - 1
    perm = tuple(last if i == axis else axis if i == last else i for i in range(wide.rank))
    rows, _ = b.sort(b.transpose(wide, perm=perm), axis=last)
    n = rows.shape[last]
    columns = b.reshape(rows, shape=(*rows.shape, 1))
    same = b.eq(columns, b.reshape(rows, shape=(*rows.shape[:-1], 1, n)))
    counts = b.reduce_sum(b.cast(same, dtype=i64), axes=(last + 1,))
    value = b.gather(rows, b.argmax(counts, axis=last, keepdims=True), axis=last)
    value = b.transpose(value, perm=perm)
    shape = tuple(n if i == axis else 1 for i in range(wide.rank))
    at = b.reshape(b.iota(size=n, dtype=i64), shape=shape)
    places = b.where(b.eq(wide, value), at, b.const(-1, i64))
    return _results(b, value, b.reduce_max(places, axes=(axis,), keepdims=True))


@lift("aten.logcumsumexp.default")
def logcumsumexp(b: Lifter, x: Value, dim: int) -> Value:
    """``logsumexp`` of every prefix, each with its own maximum, so that none underflows."""
    if x.rank == 0:
        return x
    axis = dim % x.rank
    n = x.shape[axis]
    wide = b.reshape(x, shape=(*x.shape[:axis], 1, *x.shape[axis:]))
    row = b.reshape(b.iota(size=n, dtype=i64), shape=(n, 1))
    seen = b.reshape(b.le(b.iota(size=n, dtype=i64), row), shape=(n, n, *[1] * (x.rank - axis - 1)))
    return b.logsumexp(b.where(seen, wide, b.const(-math.inf, x.dtype)), axes=(axis + 1,))


def _extreme(name: str, record: str, arg: str) -> None:
    def along(b: Lifter, x: Value, dim: int, keepdim: bool = False) -> tuple[Value, ...]:
        wide, axis = _wide(b, x), _axis(x, dim)
        values = getattr(b, record)(wide, axes=(axis,), keepdims=keepdim)
        return _results(b, values, getattr(b, arg)(wide, axis=axis, keepdims=keepdim))

    def place(b: Lifter, x: Value, dim: int | None = None, keepdim: bool = False) -> Value:
        wide = b.reshape(x, shape=(x.type.size,)) if dim is None else x
        axis = 0 if dim is None else _axis(x, dim)
        return b.fit(getattr(b, arg)(_wide(b, wide), axis=axis, keepdims=keepdim), b.type)

    lift(f"aten.{name}.dim")(along)
    lift(f"aten.{arg}.default")(place)


_extreme("max", "reduce_max", "argmax")
_extreme("min", "reduce_min", "argmin")


@lift("aten.histc.default")
def histc(b: Lifter, x: Value, bins: int = 100, min: Any = 0, max: Any = 0) -> Value:
    """How many elements fall into each of ``bins`` parts of [min, max], of which the last is closed."""
    if not isinstance(min, (int, float)) or not isinstance(max, (int, float)) or not min < max:
        raise NotImplementedError("a histogram over a range that the data decides; give min < max")
    wide = b.type.dtype
    x = b.reshape(x, shape=(1, x.type.size))
    inside = b.bit_and(b.ge(x, b.to(min, x.dtype)), b.le(x, b.to(max, x.dtype)))
    place = b.div(
        b.mul(b.sub(b.to(x, wide), b.const(min, wide)), b.const(bins, wide)),
        b.const(max - min, wide),
    )
    place = b.minimum(b.trunc(place), b.const(bins - 1, wide))
    parts = b.reshape(b.to(b.iota(size=bins, dtype=i64), wide), shape=(bins, 1))
    hits = b.bit_and(b.eq(place, parts), inside)
    return b.reduce_sum(b.to(hits, wide), axes=(1,))
