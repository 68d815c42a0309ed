"""Pointwise primitives: one scalar out per scalar in, numpy broadcasting."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from oarlock.errors import TypeMismatch
from oarlock.ir import DType, TensorType, bf16, bool_, f16, f32, f64, i32, i64, u8
from oarlock.ir.op import Op, Sample, op
from oarlock.ops.rules import broadcast_shapes, same_dtype


class Pointwise(Op):
    """Base: result shape is the broadcast of the inputs."""

    pointwise = True
    accepts = "any"  # any, float, int, number, bits (int or bool)
    gives_bool = False
    sample_range = (-2.0, 2.0)

    def infer(self, *types: TensorType) -> TensorType:
        same_dtype(self, types)
        dtype = types[0].dtype
        words, holds = _ACCEPTS[self.accepts]
        if not holds(dtype):
            raise self.fail(types, f"expected {words} elements, got {dtype}")
        return TensorType(bool_ if self.gives_bool else dtype, broadcast_shapes(self, types))


_ACCEPTS: dict[str, tuple[str, Callable[[DType], bool]]] = {
    "any": ("any", lambda d: True),
    "float": ("float", lambda d: d.is_float),
    "int": ("integer", lambda d: d.is_int),
    "number": ("number", lambda d: not d.is_bool),
    "bits": ("integer or bool", lambda d: not d.is_float),
    "bool": ("bool", lambda d: d.is_bool),
}


class Unary(Pointwise):
    def infer(self, x: TensorType) -> TensorType:
        return super().infer(x)


class Binary(Pointwise):
    def infer(self, x: TensorType, y: TensorType) -> TensorType:
        return super().infer(x, y)


SPECIAL = np.array(
    [np.nan, np.inf, -np.inf, 0.0, -0.0, 1, -1, 0.5, -0.5, 1.5, 2.5, -2.5, 3, -3, 90, -90],
    np.float32,
)
WHOLE = np.array([0, 1, -1, 2, -2, 3, -3, 7, -7, 100, -100, 127])
_TYPES = {
    "any": (f32, f64, f16, bf16, i64, u8, bool_),
    "number": (f32, f64, f16, bf16, i64, i32, u8),
    "float": (f32, f64, f16, bf16),
    "int": (i64, i32, u8),
    "bits": (i64, i32, u8, bool_),
    "bool": (bool_,),
}


def _samples(arity: int, accepts: str, span: tuple[float, float]) -> list[Sample]:
    """Every element type, broadcasting, an empty tensor, and special values in all pairs."""
    types = _TYPES[accepts]
    shapes: list[tuple[tuple[int, ...], ...]] = [((5, 7), (5, 7)), ((3, 1, 17), (2, 1))]
    cases = [(types[0], shape) for shape in (*shapes, ((0, 3), (3,)))]
    cases += [(dtype, shapes[0]) for dtype in types[1:]]
    samples = [Sample(tuple(TensorType(d, s) for s in c[:arity]), {}, *span) for d, c in cases]
    for special in (SPECIAL, WHOLE):
        if any(dtype is DType.of(special.dtype) for dtype in types):
            pair = (special[:, None], special) if arity == 2 else (special,)
            samples.append(Sample(pair))
    return samples


def _declare(
    base: type[Pointwise],
    name: str,
    function: Callable[..., np.ndarray],
    equation: str,
    *,
    aten: tuple[str, ...] = (),
    onnx: tuple[str, int] | None = None,
    accepts: str = "any",
    gives_bool: bool = False,
    span: tuple[float, float] = (-2.0, 2.0),
) -> type[Op]:
    arity = 2 if base is Binary else 1
    body = {
        "__doc__": equation,
        "__module__": __name__,
        "accepts": accepts,
        "gives_bool": gives_bool,
        "sample_range": span,
        "samples": _samples(arity, accepts, span),
        "reference": lambda self, *arrays: function(*arrays),
    }
    title = "".join(part.title() for part in name.split("_"))
    return op(name, aten=aten, onnx=onnx)(type(title, (base,), body))


def unary(name: str, function: Callable[..., np.ndarray], equation: str, **facts: Any) -> type[Op]:
    """Declare a unary record; ATen has the same name unless ``aten`` says otherwise."""
    return _declare(Unary, name, function, equation, **{"aten": (f"aten.{name}.default",), **facts})


def binary(name: str, function: Callable[..., np.ndarray], equation: str, **facts: Any) -> type[Op]:
    """Declare a binary record."""
    return _declare(Binary, name, function, equation, **facts)


def _each(function: Callable[[float], float]) -> Callable[[np.ndarray], np.ndarray]:
    """A numpy function from a scalar one that numpy lacks."""
    vector = np.vectorize(function, otypes=[np.float64])
    return lambda x: (vector(x) if np.size(x) else np.asarray(x)).astype(x.dtype)


def _erfinv(p: float) -> float:
    """Newton on erf from the estimate of Giles, "Approximating the erfinv function" (2010)."""
    if math.isnan(p) or abs(p) >= 1:
        return math.copysign(math.inf, p) if abs(p) == 1 else math.nan
    w = math.log1p(-p * p)
    t = 4.330746750799873 + w / 2
    x = math.copysign(math.sqrt(max(math.sqrt(t * t - w / 0.147) - t, 0.0)), p)
    for _ in range(4):
        slope = 2 / math.sqrt(math.pi) * math.exp(-x * x)
        x -= (math.erf(x) - p) / slope if slope else 0.0
    return x


def _lgamma(x: float) -> float:
    try:
        return math.lgamma(x)
    except (ValueError, OverflowError):
        return math.inf


def _exact(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """Integers stay as they are."""
    return lambda x: function(x) if x.dtype.kind == "f" else x


FLOAT = {"accepts": "float"}
NUMBER = {"accepts": "number"}
POSITIVE = {"accepts": "float", "span": (0.1, 4.0)}

Neg = unary("neg", np.negative, "``-x``", onnx=("Neg", 13), **NUMBER)
Abs = unary("abs", np.abs, "``|x|``", onnx=("Abs", 13), **NUMBER)
Sign = unary(
    "sign",
    lambda x: np.subtract(x > 0, x < 0, dtype=np.int8).astype(x.dtype),
    "-1, 0 or 1; 0 of NaN",
    onnx=("Sign", 13),
    **NUMBER,
)
Exp = unary("exp", np.exp, "``e**x``", onnx=("Exp", 13), **FLOAT)
Exp2 = unary("exp2", np.exp2, "``2**x``", **FLOAT)
Expm1 = unary("expm1", np.expm1, "``e**x - 1``", **FLOAT)
Log = unary("log", np.log, "natural logarithm", onnx=("Log", 13), **POSITIVE)
Log2 = unary("log2", np.log2, "logarithm to base 2", **POSITIVE)
Log10 = unary("log10", np.log10, "logarithm to base 10", **POSITIVE)
Log1p = unary("log1p", np.log1p, "``log(1 + x)``", **POSITIVE)
Sqrt = unary("sqrt", np.sqrt, "square root", onnx=("Sqrt", 13), **POSITIVE)
Rsqrt = unary("rsqrt", lambda x: (1 / np.sqrt(x)).astype(x.dtype), "``1 / sqrt(x)``", **POSITIVE)
Reciprocal = unary(
    "reciprocal",
    lambda x: (1 / x).astype(x.dtype),
    "``1 / x``",
    onnx=("Reciprocal", 13),
    **POSITIVE,
)
Sin = unary("sin", np.sin, "sine, radians", onnx=("Sin", 7), **FLOAT)
Cos = unary("cos", np.cos, "cosine, radians", onnx=("Cos", 7), **FLOAT)
Tan = unary("tan", np.tan, "tangent, radians", accepts="float", onnx=("Tan", 7), span=(-1, 1))
Asin = unary(
    "asin", np.arcsin, "inverse of sin", accepts="float", onnx=("Asin", 7), span=(-0.99, 0.99)
)
Acos = unary(
    "acos", np.arccos, "inverse of cos", accepts="float", onnx=("Acos", 7), span=(-0.99, 0.99)
)
Atan = unary("atan", np.arctan, "inverse of tan, radians", onnx=("Atan", 7), **FLOAT)
Sinh = unary("sinh", np.sinh, "hyperbolic sine", onnx=("Sinh", 9), **FLOAT)
Cosh = unary("cosh", np.cosh, "hyperbolic cosine", onnx=("Cosh", 9), **FLOAT)
Tanh = unary("tanh", np.tanh, "hyperbolic tangent", onnx=("Tanh", 13), **FLOAT)
Asinh = unary("asinh", np.arcsinh, "inverse of sinh", onnx=("Asinh", 9), **FLOAT)
Acosh = unary(
    "acosh", np.arccosh, "inverse of cosh", accepts="float", onnx=("Acosh", 9), span=(1.1, 4)
)
Atanh = unary(
    "atanh", np.arctanh, "inverse of tanh", accepts="float", onnx=("Atanh", 9), span=(-0.9, 0.9)
)
Erf = unary("erf", _each(math.erf), "error function", onnx=("Erf", 13), **FLOAT)
Erfinv = unary("erfinv", _each(_erfinv), "inverse of erf", accepts="float", span=(-0.9, 0.9))
Lgamma = unary("lgamma", _each(_lgamma), "``log |gamma(x)|``", **POSITIVE)
Floor = unary("floor", _exact(np.floor), "towards -inf", onnx=("Floor", 13), **NUMBER)
Ceil = unary("ceil", _exact(np.ceil), "towards +inf", onnx=("Ceil", 13), **NUMBER)
Round = unary("round", _exact(np.rint), "to nearest, ties to even", onnx=("Round", 11), **NUMBER)
Trunc = unary("trunc", _exact(np.trunc), "towards 0", **NUMBER)
IsNan = unary("is_nan", np.isnan, "x is NaN", aten=(), onnx=("IsNaN", 13), gives_bool=True, **FLOAT)
IsInf = unary(
    "is_inf", np.isinf, "x is infinite", aten=(), onnx=("IsInf", 10), gives_bool=True, **FLOAT
)
IsFinite = unary("is_finite", np.isfinite, "x is finite", aten=(), gives_bool=True, **FLOAT)
LogicalNot = unary("logical_not", np.logical_not, "not x", aten=(), onnx=("Not", 1), accepts="bool")
BitNot = unary(
    "bit_not",
    np.invert,
    "every bit flipped; not x of bool",
    aten=("aten.bitwise_not.default",),
    onnx=("BitwiseNot", 18),
    accepts="bits",
)


def _pow(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if x.dtype.kind == "f":
        return np.power(x, y)
    base = np.where(y < 0, 0, np.power(x, np.maximum(y, 0)))
    inverse = np.where(x == 1, 1, np.where(x == -1, np.where(y % 2 == 0, 1, -1), 0))
    return np.where(y < 0, inverse, base).astype(x.dtype)


def _guarded(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """Integer division by zero is 0; numpy agrees but warns."""

    def call(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        if x.dtype.kind == "f":
            return function(x, y)
        return np.where(y == 0, 0, function(x, np.where(y == 0, 1, y))).astype(x.dtype)

    return call


def _floor_divide(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """As torch: floor of the exact quotient; division by zero gives inf or NaN."""
    if x.dtype.kind != "f":
        return np.floor_divide(x, y)
    return np.where(y == 0, x / y, np.floor_divide(x, y)).astype(x.dtype)


def _trunc_divide(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if x.dtype.kind == "f":
        return np.trunc(x / y)
    return (x - np.fmod(x, y)) // y


def _shift(function: Callable[..., np.ndarray], left: bool) -> Callable[..., np.ndarray]:
    """Shifts by the width or more give 0, or the sign when shifting right."""

    def call(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        width = x.dtype.itemsize * 8
        wide = (y < 0) | (y >= width)
        over = np.zeros_like(x) if left else np.where(x < 0, -1, 0).astype(x.dtype)
        return np.where(wide, over, function(x, np.where(wide, 0, y))).astype(x.dtype)

    return call


LOGIC = {"gives_bool": True}
BITS = {"accepts": "bits"}

Add = binary("add", np.add, "``x + y``; or, of bool", onnx=("Add", 14))
Sub = binary("sub", np.subtract, "``x - y``", onnx=("Sub", 14), **NUMBER)
Mul = binary("mul", np.multiply, "``x * y``; and, of bool", onnx=("Mul", 14))
Div = binary("div", np.divide, "``x / y``", onnx=("Div", 14), accepts="float", span=(0.5, 2))
FloorDiv = binary(
    "floor_div", _guarded(_floor_divide), "``floor(x / y)``; x // 0 of integers is 0", **NUMBER
)
Remainder = binary(
    "remainder", _guarded(np.remainder), "``x - floor(x / y) * y``, sign of y", **NUMBER
)
Fmod = binary("fmod", _guarded(np.fmod), "``x - trunc(x / y) * y``, sign of x", **NUMBER)
TruncDiv = binary("trunc_div", _guarded(_trunc_divide), "``trunc(x / y)``", **NUMBER)
Pow = binary("pow", _pow, "``x ** y``", onnx=("Pow", 15), accepts="number", span=(0.5, 2.5))
Maximum = binary("maximum", np.maximum, "the larger; NaN wins", onnx=("Max", 13))
Minimum = binary("minimum", np.minimum, "the smaller; NaN wins", onnx=("Min", 13))
Atan2 = binary("atan2", np.arctan2, "angle of the point (y, x), radians", **FLOAT)
Eq = binary("eq", np.equal, "``x == y``", onnx=("Equal", 13), **LOGIC)
Ne = binary("ne", np.not_equal, "``x != y``", **LOGIC)
Lt = binary("lt", np.less, "``x < y``", onnx=("Less", 13), **LOGIC)
Le = binary("le", np.less_equal, "``x <= y``", onnx=("LessOrEqual", 16), **LOGIC)
Gt = binary("gt", np.greater, "``x > y``", onnx=("Greater", 13), **LOGIC)
Ge = binary("ge", np.greater_equal, "``x >= y``", onnx=("GreaterOrEqual", 16), **LOGIC)
BitAnd = binary("bit_and", np.bitwise_and, "``x & y``", **BITS)
BitOr = binary("bit_or", np.bitwise_or, "``x | y``", **BITS)
BitXor = binary("bit_xor", np.bitwise_xor, "``x ^ y``", **BITS)
ShiftLeft = binary("shift_left", _shift(np.left_shift, True), "``x << y``", accepts="int")
ShiftRight = binary(
    "shift_right", _shift(np.right_shift, False), "``x >> y``, arithmetic", accepts="int"
)


@op("where", onnx=("Where", 16))
class Where(Pointwise):
    """``x`` where ``c`` is true, else ``y``."""

    samples = [
        Sample((TensorType(bool_, (5, 1)), TensorType(f32, (5, 7)), TensorType(f32, (7,)))),
        Sample((TensorType(bool_, (4,)), TensorType(i64, (4,)), TensorType(i64, ()))),
    ]

    def infer(self, c: TensorType, x: TensorType, y: TensorType) -> TensorType:
        types = (c, x, y)
        if not c.dtype.is_bool:
            raise self.fail(types, f"expected a bool condition, got {c.dtype}")
        same_dtype(self, types, (x, y))
        return TensorType(x.dtype, broadcast_shapes(self, types))

    def reference(self, c: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.where(c, x, y)


@op("cast", onnx=("Cast", 13))
class Cast(Pointwise):
    """``x`` as another element type; float to integer truncates, anything but 0 is true.

    A float outside the range of the integer type gives the nearest end, NaN gives 0.
    """

    dtype: DType = f32
    samples = [
        Sample((TensorType(f32, (5, 7)),), {"dtype": i64}),
        Sample((TensorType(i64, (9,)),), {"dtype": f32}),
        Sample((TensorType(f32, (9,)),), {"dtype": bool_}),
    ]

    def infer(self, x: TensorType) -> TensorType:
        if not isinstance(self.dtype, DType):
            raise TypeMismatch(f"cast({x}): expected an element type, got {self.dtype!r}")
        return x.with_dtype(self.dtype)

    def reference(self, x: np.ndarray) -> np.ndarray:
        if self.dtype.is_bool:
            return x != 0
        if self.dtype.is_float:
            return x.astype(np.float64 if self.dtype.bytes == 8 else np.float32)
        if x.dtype.kind == "f":
            return saturate(x, self.dtype)
        return x.astype(self.dtype.numpy)


def saturate(x: np.ndarray, dtype: DType) -> np.ndarray:
    """Float to integer, towards zero, clamped to the range; NaN gives 0."""
    info = np.iinfo(dtype.numpy)
    whole = np.trunc(np.nan_to_num(x.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf))
    high = whole >= float(info.max)
    low = whole <= float(info.min)
    inside = np.where(high | low, 0, whole).astype(dtype.numpy)
    return np.where(high, info.max, np.where(low, info.min, inside)).astype(dtype.numpy)
