"""Prelude functions in loop IR: one source for scalars and vectors of every width.

``FUNCTIONS[name](name, type, c_name)`` gives the Function for arguments of ``type``, or None when
the vector version goes lane by lane through the scalar one.  A definition is for one element type or
for all; f32 without one of its own goes through f64, which leaves it correctly rounded but for rare
cases (at most 0.501 ULP beyond the error of the f64 function).
"""

from __future__ import annotations

from collections.abc import Callable

from oarlock.codegen import loops as L
from oarlock.codegen.body import Body
from oarlock.ir.types import DType, f32, f64

Define = Callable[..., L.Expr]
Builder = Callable[[str, L.CType, str], "L.Function | None"]
FUNCTIONS: dict[str, Builder] = {}
_DEFINITIONS: dict[str, dict[DType | None, tuple[Define, bool]]] = {}


def function(
    name: str, dtype: DType | None = None, vector: bool = True
) -> Callable[[Define], Define]:
    """Register ``define(body, *args) -> result``; ``vector`` False: vectors go lane by lane."""

    def register(define: Define) -> Define:
        _DEFINITIONS.setdefault(name, {})[dtype] = (define, vector)
        FUNCTIONS[name] = _build
        return define

    return register


def _build(name: str, type: L.CType, c_name: str) -> L.Function | None:
    found = _DEFINITIONS[name]
    define, vector = found.get(type.dtype) or found.get(None) or (_through_f64(name), True)
    if type.lanes > 1 and not vector:
        return None
    params = tuple(L.Var("xyz"[i], type) for i in range(arity(name)))
    body = Body()
    body.reserve("x", "y", "z")
    result = define(body, *params)
    body.returns(result)
    return L.Function(c_name, body.statements, params=params, returns=result.type, is_kernel=False)


def arity(name: str) -> int:
    """How many operands a function of the table takes."""
    define, _ = next(iter(_DEFINITIONS[name].values()))
    return define.__code__.co_argcount - 1


def _through_f64(name: str) -> Define:
    def define(_: Body, *args: L.Expr) -> L.Expr:
        return L.cast(L.call(name, *(L.cast(a, f64) for a in args)), f32)

    return define


@function("min")
def _min(_: Body, x: L.Expr, y: L.Expr) -> L.Expr:
    return L.select(x < y, x, y)


@function("max")
def _max(_: Body, x: L.Expr, y: L.Expr) -> L.Expr:
    return L.select(x > y, x, y)


@function("maximum")
def _maximum(_: Body, x: L.Expr, y: L.Expr) -> L.Expr:
    """NaN of either operand is returned."""
    larger = L.maximum(x, y)
    return L.select(L.compare("ne", x, x), x, larger) if x.dtype.is_float else larger


@function("minimum")
def _minimum(_: Body, x: L.Expr, y: L.Expr) -> L.Expr:
    """NaN of either operand is returned."""
    smaller = L.minimum(x, y)
    return L.select(L.compare("ne", x, x), x, smaller) if x.dtype.is_float else smaller


# ---- f16 and bf16 --------------------------------------------------------------------------------


@function("decode_bf16")
def _decode_bf16(_: Body, x: L.Expr) -> L.Expr:
    return L.bits(L.cast(x, L.u32) << 16, f32)


@function("encode_bf16")
def _encode_bf16(b: Body, x: L.Expr) -> L.Expr:
    """Nearest, ties to even."""
    w = b.let("w", L.bits(x, L.u32))
    rounded = (w + 0x7FFF + ((w >> 16) & 1)) >> 16
    return L.cast(L.select(L.compare("ne", x, x), L.const(0x7FC0, L.u32), rounded), L.u16)


@function("decode_f16")
def _decode_f16(b: Body, x: L.Expr) -> L.Expr:
    w = b.let("w", L.cast(x, L.u32) << 16)
    sign = b.let("sign", w & 0x80000000)
    two = b.let("two", w + w)
    normal = b.let("normal", L.bits((two >> 4) + (0xE0 << 23), f32) * 2.0**-112)
    small = b.let("small", L.bits((two >> 17) | (126 << 23), f32) - 0.5)
    magnitude = L.select(two < (1 << 27), L.bits(small, L.u32), L.bits(normal, L.u32))
    return L.bits(sign | magnitude, f32)


@function("encode_f16")
def _encode_f16(b: Body, x: L.Expr) -> L.Expr:
    """Nearest, ties to even; the addition of a power of two does the rounding."""
    w = b.let("w", L.bits(x, L.u32))
    two = b.let("two", w + w)
    magnitude = L.bits(w & 0x7FFFFFFF, f32)
    scaled = b.let("scaled", (magnitude * 2.0**112) * 2.0**-110)
    bias = b.let("bias", L.maximum(two & 0xFF000000, L.const(0x71000000, L.u32)))
    shifted = b.let("shifted", L.bits(L.bits((bias >> 1) + 0x07800000, f32) + scaled, L.u32))
    finite = ((shifted >> 13) & 0x7C00) + (shifted & 0x0FFF)
    nan = L.const(0x7E00, L.u32)
    number = L.select(two > 0xFF000000, nan, finite)
    return L.cast(((w >> 16) & 0x8000) | number, L.u16)


def _round_half(name: str) -> None:
    @function(f"round_{name}")
    def _(_body: Body, x: L.Expr) -> L.Expr:
        stored = L.call(f"encode_{name}", x, dtype=L.u16)
        return L.call(f"decode_{name}", stored, dtype=f32)


_round_half("f16")
_round_half("bf16")
