"""Padding in every mode, rolls and sliding windows."""

from __future__ import annotations

from typing import Any

from oarlock.capture.lift.registry import Lifter, lift
from oarlock.ir import Size, Value, bounds, dim_max, i64
from oarlock.ops.shape import full_slice


@lift("aten.constant_pad_nd.default")
def constant_pad(b: Lifter, x: Value, amounts: Any, value: Any = 0) -> Value:
    """Negative amounts cut."""
    low, high = [0] * x.rank, [0] * x.rank
    for i in range(len(amounts) // 2):
        low[x.rank - 1 - i], high[x.rank - 1 - i] = amounts[2 * i], amounts[2 * i + 1]
    for axis, (before, after) in enumerate(zip(low, high)):
        if bounds(before)[0] < 0 or bounds(after)[0] < 0:
            start, cut = dim_max(-before, 0), dim_max(-after, 0)
            x = b.slice(x, **full_slice(x.type, axis, start, x.shape[axis] - cut))
    before, after = (tuple(dim_max(a, 0) for a in amounts) for amounts in (low, high))
    if all(a == 0 for a in (*before, *after)):
        return x
    return b.pad(x, low=before, high=after, value=float(value or 0))


def _bounce(b: Lifter, i: Value, n: Size) -> Value:
    """Places mirrored at both ends, which are not repeated."""
    last = b.to(n - 1, i64)
    return b.sub(last, b.abs(b.sub(last, b.abs(i))))


def _nearest(b: Lifter, i: Value, n: Size) -> Value:
    return b.minimum(b.maximum(i, 0), b.to(n - 1, i64))


def _wrapped(b: Lifter, i: Value, n: Size) -> Value:
    return b.remainder(i, b.to(n, i64))


PLACES = {"reflect": _bounce, "replicate": _nearest, "circular": _wrapped}


def pad_by(b: Lifter, x: Value, amounts: Any, mode: str) -> Value:
    """Each padded axis read at the places that ``mode`` gives for positions outside."""
    for i in range(len(amounts) // 2):
        axis, low, high = x.rank - 1 - i, amounts[2 * i], amounts[2 * i + 1]
        if low == 0 and high == 0:
            continue
        n = x.shape[axis]
        at = b.sub(b.iota(size=n + low + high, dtype=i64), b.to(low, i64))
        x = b.take(x, PLACES[mode](b, at, n), axis=axis)
    return x


@lift("aten.pad.default")
def pad(b: Lifter, x: Value, amounts: Any, mode: str = "constant", value: Any = None) -> Value:
    if mode == "constant":
        return constant_pad(b, x, amounts, value)
    return pad_by(b, x, amounts, mode)


def _padding(mode: str, *overloads: str) -> None:
    lift(*overloads)(lambda b, x, amounts: pad_by(b, x, amounts, mode))


_padding("reflect", *(f"aten.reflection_pad{n}d.default" for n in (1, 2, 3)))
_padding("replicate", *(f"aten.replication_pad{n}d.default" for n in (1, 2, 3)))
_padding("circular", "aten._pad_circular.default")


@lift("aten.roll.default")
def roll(b: Lifter, x: Value, shifts: Any, dims: Any = ()) -> Value:
    if not dims:
        flat = _roll(b, b.reshape(x, shape=(x.type.size,)), shifts[0], 0)
        return b.reshape(flat, shape=x.shape)
    for shift, dim in zip(shifts, dims):
        x = _roll(b, x, shift, dim % max(x.rank, 1)) if x.rank else x
    return x


def _roll(b: Lifter, x: Value, shift: Size, axis: int) -> Value:
    """The last ``shift`` elements brought to the front."""
    n = x.shape[axis]
    if n == 0 or n == 1:
        return x
    if isinstance(n, int) and isinstance(shift, int):
        cut = (-shift) % n
        if cut == 0:
            return x
        parts = [full_slice(x.type, axis, cut, n), full_slice(x.type, axis, 0, cut)]
        return b.concat(*(b.slice(x, **part) for part in parts), axis=axis)
    at = b.sub(b.iota(size=n, dtype=i64), b.to(shift, i64))
    return b.take(x, _wrapped(b, at, n), axis=axis)


@lift("aten.unfold.default")
def unfold(b: Lifter, x: Value, dim: int, size: int, step: int) -> Value:
    """Windows along an axis: a new last axis holds each window's elements."""
    if x.rank == 0:
        return b.fit(x, b.type)
    axis = dim % x.rank
    count = b.type.shape[axis]
    if size == step:
        cut = b.slice(x, **full_slice(x.type, axis, 0, count * size))
        wide = b.reshape(cut, shape=(*x.shape[:axis], count, size, *x.shape[axis + 1 :]))
    else:
        starts = b.reshape(b.mul(b.iota(size=count, dtype=i64), step), shape=(count, 1))
        wide = b.take(x, b.add(starts, b.iota(size=size, dtype=i64)), axis=axis)
    perm = tuple(i for i in range(wide.rank) if i != axis + 1)
    return b.transpose(wide, perm=(*perm, axis + 1))
