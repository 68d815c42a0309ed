"""C literals."""

from __future__ import annotations

import math

from oarlock.ir.types import DType


def literal(value: int | float, dtype: DType) -> str:
    """``value`` of ``dtype``: hex floats, exact; inf and nan by overflow-free constant builtins.

    f32 values are rounded to f32 first.
    """
    if dtype.is_float:
        return _float(float(value), dtype)
    if dtype.is_bool:
        return "1" if value else "0"
    return _int(int(value), dtype)


def _float(value: float, dtype: DType) -> str:
    suffix = "" if dtype.name == "f64" else "f"
    if suffix:
        value = _round_to_f32(value)
    if math.isnan(value):
        return f'__builtin_nan{suffix}("")'
    if math.isinf(value):
        text = f"__builtin_inf{suffix}()"
        return text if value > 0 else f"(-{text})"
    text = _shorten(abs(value)) + suffix
    return f"(-{text})" if math.copysign(1.0, value) < 0 else text


def _round_to_f32(value: float) -> float:
    import numpy as np

    with np.errstate(over="ignore"):
        return float(np.float32(value))


def _shorten(value: float) -> str:
    """Small whole numbers in decimal, the rest in hexadecimal without trailing zeros."""
    if value == int(value) and value < 1e6:
        return f"{int(value)}.0"
    mantissa, exponent = value.hex().split("p")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}p{exponent}"


def _int(value: int, dtype: DType) -> str:
    if dtype.name == "index":
        text = str(abs(value)) if abs(value) < 1 << 31 else f"INT64_C({abs(value)})"
        return f"(-{text})" if value < 0 else text
    if dtype.kind == "uint":
        return f"UINT64_C({value})" if dtype.bytes == 8 else f"{value}u"
    wide = dtype.bytes == 8
    if value == -(1 << (63 if wide else 31)):
        return "INT64_MIN" if wide else "INT32_MIN"
    text = f"INT64_C({abs(value)})" if wide else str(abs(value))
    return f"(-{text})" if value < 0 else text
