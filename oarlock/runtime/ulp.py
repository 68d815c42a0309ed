"""Distance of two arrays in units in the last place of an element type."""

from __future__ import annotations

import numpy as np

from oarlock.ir.types import DType, bf16

_BITS = {1: np.int8, 2: np.int16, 4: np.int32, 8: np.int64}
NEVER = np.iinfo(np.int64).max


def ulp_distance(a: np.ndarray, b: np.ndarray, dtype: DType | None = None) -> np.ndarray:
    """Representable numbers between ``a`` and ``b``, element by element, int64.

    Args: dtype: the element type of the storage; needed for bf16 only, whose storage is uint16.
    0 and -0 are equal, two NaN are equal, a NaN is ``NEVER`` from a number; of integers and
    booleans it is the absolute difference.  A distance of more than ``NEVER`` is ``NEVER``.
    """
    a, b = np.broadcast_arrays(np.asarray(a), np.asarray(b))
    dtype = dtype or DType.of(a.dtype)
    if not dtype.is_float:
        return _difference(a.astype(np.int64), b.astype(np.int64))
    nan_a, nan_b = _is_nan(a, dtype), _is_nan(b, dtype)
    distance = _difference(_ordered(a, dtype), _ordered(b, dtype))
    distance = np.where(nan_a | nan_b, NEVER, distance)
    return np.where(nan_a & nan_b, 0, distance)


def max_ulp(a: np.ndarray, b: np.ndarray, dtype: DType | None = None) -> int:
    """The largest distance; 0 of empty arrays."""
    distance = ulp_distance(a, b, dtype)
    return int(distance.max()) if distance.size else 0


def _is_nan(x: np.ndarray, dtype: DType) -> np.ndarray:
    return (x & 0x7FFF) > 0x7F80 if dtype is bf16 else np.isnan(x)


def _ordered(x: np.ndarray, dtype: DType) -> np.ndarray:
    """Bits as integers in the order of the numbers; both zeros are 0."""
    bits = x.copy(order="C").view(_BITS[dtype.bytes]).astype(np.int64)
    low = np.iinfo(_BITS[dtype.bytes]).min
    return np.where(bits < 0, low - bits, bits)


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``abs(a - b)``, saturated."""
    high, low = np.maximum(a, b), np.minimum(a, b)
    with np.errstate(over="ignore"):
        exact = high - low
    return np.where(exact < 0, NEVER, exact)
