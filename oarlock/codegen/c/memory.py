"""Prelude functions written as text: memory access, lanes, conversions, bits.

Each builder takes (prelude, type, name) and returns the definition of that function for ``type``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from oarlock.codegen import loops as L
from oarlock.codegen.body import Body
from oarlock.codegen.c.functions import FUNCTIONS, arity
from oarlock.codegen.c.literals import literal
from oarlock.codegen.c.names import function_name, scalar_name
from oarlock.ir.types import DType, bf16, bool_, f16, f32, f64, i8, i32, i64

if TYPE_CHECKING:
    from oarlock.codegen.c.prelude import Prelude

TextBuilder = Callable[["Prelude", L.CType, str], str]
_BY_NAME = {
    "bool": bool_,
    "index": i64,
    **DType.all,
    **{d.name: d for d in (L.u16, L.u32, L.u64, L.m8, L.m16, L.m32, L.m64)},
}


def text_builder(name: str) -> TextBuilder | None:
    """The builder of ``name``: by the whole name, or by what is before ``_`` (cast, bits, across)."""
    return _TEXTS.get(name) or _FAMILIES.get(name.partition("_")[0])


def _define(returns: str, name: str, args: str, *lines: str) -> str:
    body = "\n".join(f"  {line}" for line in lines)
    return f"static inline {returns} {name}({args}) {{\n{body}\n}}\n"


def _value_type(type: L.CType) -> L.CType:
    return L.CType(L.compute_dtype(type.dtype), type.lanes)


def _is_half(dtype: DType) -> bool:
    return dtype in (f16, bf16)


def _load(p: Prelude, type: L.CType, name: str) -> str:
    returns, me = p.vector(_value_type(type)), function_name(name, type)
    args = f"const {scalar_name(type.dtype)} *p"
    if _is_half(type.dtype):
        decode = p.require(f"decode_{type.dtype}", L.CType(L.u16, type.lanes))
        if type.lanes == 1:
            return _define(returns, me, args, f"return {decode}(*p);")
        read = p.require("load", L.CType(L.u16, type.lanes))
        return _define(returns, me, args, f"return {decode}({read}(p));")
    return _define(returns, me, args, f"return *(const {returns}_u *)(const void *)p;")


def _store(p: Prelude, type: L.CType, name: str) -> str:
    value, me = p.vector(_value_type(type)), function_name(name, type)
    args = f"{scalar_name(type.dtype)} *p, {value} v"
    if _is_half(type.dtype):
        encode = p.require(f"encode_{type.dtype}", L.CType(f32, type.lanes))
        if type.lanes == 1:
            return _define("void", me, args, f"*p = {encode}(v);")
        write = p.require("store", L.CType(L.u16, type.lanes))
        return _define("void", me, args, f"{write}(p, {encode}(v));")
    return _define("void", me, args, f"*({value}_u *)(void *)p = v;")


def _load_strided(p: Prelude, type: L.CType, name: str) -> str:
    args = f"const {scalar_name(type.dtype)} *p, int64_t stride"
    return _pick(p, type, name, args, [f"{i} * stride" for i in range(type.lanes)])


def _gather(p: Prelude, type: L.CType, name: str) -> str:
    index = p.vector(L.CType(i64, type.lanes))
    args = f"const {scalar_name(type.dtype)} *p, {index} at"
    return _pick(p, type, name, args, [f"at[{i}]" for i in range(type.lanes)])


def _pick(p: Prelude, type: L.CType, name: str, args: str, places: list[str]) -> str:
    returns, me = p.vector(_value_type(type)), function_name(name, type)
    bits = p.vector(L.CType(L.u16, type.lanes)) if _is_half(type.dtype) else returns
    items = ", ".join(f"p[{place}]" for place in places)
    made = f"({bits}){{{items}}}"
    if _is_half(type.dtype):
        made = f"{p.require(f'decode_{type.dtype}', L.CType(L.u16, type.lanes))}({made})"
    return _define(returns, me, args, f"return {made};")


def _store_strided(p: Prelude, type: L.CType, name: str) -> str:
    value, me = p.vector(_value_type(type)), function_name(name, type)
    args = f"{scalar_name(type.dtype)} *p, int64_t stride, {value} v"
    lines = []
    if _is_half(type.dtype):
        bits = p.vector(L.CType(L.u16, type.lanes))
        encode = p.require(f"encode_{type.dtype}", L.CType(f32, type.lanes))
        lines.append(f"const {bits} w = {encode}(v);")
    source = "w" if lines else "v"
    lines += [f"p[{i} * stride] = {source}[{i}];" for i in range(type.lanes)]
    return _define("void", me, args, *lines)


def _splat(p: Prelude, type: L.CType, name: str) -> str:
    vector, me = p.vector(type), function_name(name, type)
    items = ", ".join(["x"] * type.lanes)
    return _define(vector, me, f"{scalar_name(type.dtype)} x", f"return ({vector}){{{items}}};")


def _iota(p: Prelude, type: L.CType, name: str) -> str:
    vector, me = p.vector(type), function_name(name, type)
    items = ", ".join(literal(i, type.dtype) for i in range(type.lanes))
    return _define(vector, me, "void", f"return ({vector}){{{items}}};")


def _zip(p: Prelude, type: L.CType, name: str) -> str:
    """Lanes of two vectors in turns: of their lower or upper halves."""
    vector, me = p.vector(type), function_name(name, type)
    start = 0 if name == "zip_low" else type.lanes // 2
    lanes = [i + k * type.lanes for i in range(start, start + type.lanes // 2) for k in (0, 1)]
    order = ", ".join(map(str, lanes))
    body = f"return __builtin_shufflevector(x, y, {order});"
    return _define(vector, me, f"{vector} x, {vector} y", body)


def _select(p: Prelude, type: L.CType, name: str) -> str:
    vector, me = p.vector(type), function_name(name, type)
    mask = p.vector(L.CType(L.MASK_OF[type.dtype.bytes], type.lanes))
    chosen = f"({vector})((m & ({mask})a) | (~m & ({mask})b))"
    return _define(vector, me, f"{mask} m, {vector} a, {vector} b", f"return {chosen};")


def _extreme(p: Prelude, type: L.CType, name: str) -> str:
    """``x < y ? x : y`` (min) or ``x > y ? x : y``: of floats an instruction of x86, which gcc does
    not find in a select."""
    me, size = function_name(name, type), type.lanes * type.dtype.bytes
    suffix = {f32: "ps", f64: "pd"}.get(type.dtype)
    is_register = 16 <= size <= p.target.vector_bytes and p.target.isa.startswith("avx")
    if suffix is None or not is_register:
        return p.written(name, type)
    vector = p.vector(type)
    order, current = "<" if name == "min" else ">", 4  # the rounding mode that is set
    every = "(int16_t)-1" if type.dtype is f32 else "(uint8_t)-1"
    rest = {16: "(x, y)", 32: "256(x, y)", 64: f"512_mask(x, y, x, {every}, {current})"}[size]
    select = p.require("select", type)
    mask = p.vector(L.CType(L.MASK_OF[type.dtype.bytes], type.lanes))
    lines = (
        "#ifdef __clang__", f"return {select}(({mask})(x {order} y), x, y);",
        "#else", f"return ({vector})__builtin_ia32_{name}{suffix}{rest};", "#endif",
    )  # fmt: skip
    return _define(vector, me, f"{vector} x, {vector} y", *lines)


def _compare(p: Prelude, type: L.CType, name: str) -> str:
    """Of vectors of several registers, half by half: gcc would compare lane by lane."""
    from oarlock.codegen.c.printer import SYMBOL

    vector, me, op = p.vector(type), function_name(name, type), name.partition("_")[2]
    mask, args = (
        p.vector(L.CType(L.MASK_OF[type.dtype.bytes], type.lanes)),
        f"{vector} x, {vector} y",
    )
    if type.lanes * type.dtype.bytes <= p.target.vector_bytes:
        return _define(mask, me, args, f"return ({mask})(x {SYMBOL[op]} y);")
    part = L.CType(type.dtype, type.lanes // 2)
    half, bits = p.vector(part), p.vector(L.CType(L.MASK_OF[type.dtype.bytes], part.lanes))
    of_half = p.require(name, part)
    return _define(
        mask, me, args,
        f"union {{ {vector} whole; {half} half[2]; }} a, b;",
        f"union {{ {mask} whole; {bits} half[2]; }} found;",
        "a.whole = x;",
        "b.whole = y;",
        *(f"found.half[{i}] = {of_half}(a.half[{i}], b.half[{i}]);" for i in (0, 1)),
        "return found.whole;",
    )  # fmt: skip


def _bits(p: Prelude, type: L.CType, name: str) -> str:
    source, me = scalar_name(type.dtype), function_name(name, type)
    target = scalar_name(_BY_NAME[name.partition("_")[2]])
    union = f"union {{ {source} from; {target} to; }} u;"
    return _define(target, me, f"{source} x", union, "u.from = x;", "return u.to;")


def _across(p: Prelude, type: L.CType, name: str) -> str:
    from oarlock.codegen.c.printer import Printer

    vector, me = p.vector(type), function_name(name, type)
    op, half = name.partition("_")[2], type.lanes // 2
    part = L.CType(type.dtype, half)
    a, b = L.Var("a", part), L.Var("b", part)
    combined = Printer(p).value(_combine(op, a, b))
    returns = scalar_name(type.dtype)
    if half == 1:
        lanes = [f"const {returns} {x} = v[{i}];" for i, x in enumerate("ab")]
        return _define(returns, me, f"{vector} v", *lanes, f"return {combined};")
    narrow = p.vector(part)
    rest = p.require(name, part)
    split = f"union {{ {vector} whole; {narrow} half[2]; }} u;"
    halves = [f"const {narrow} {x} = u.half[{i}];" for i, x in enumerate("ab")]
    end = f"return {rest}({combined});"
    return _define(returns, me, f"{vector} v", split, "u.whole = v;", *halves, end)


def _combine(op: str, a: L.Expr, b: L.Expr) -> L.Expr:
    simple = {"sum": "add", "prod": "mul", "or": "or", "and": "and", "max": "max", "min": "min"}
    return L.binary(simple[op], a, b) if op in simple else L.call(op, a, b)


def _cast(p: Prelude, type: L.CType, name: str) -> str:
    source, me = p.vector(type), function_name(name, type)
    dtype = _BY_NAME[name.partition("_")[2]]
    target = p.vector(L.CType(dtype, type.lanes))
    args = f"{source} x"
    if dtype.kind == "mask":
        return _define(target, me, args, f"return {_as_mask(p, type, dtype)};")
    if dtype.is_bool:  # from a mask
        narrow = p.vector(L.CType(i8, type.lanes))
        return _define(
            target, me, args, f"return ({target})(__builtin_convertvector(x, {narrow}) & 1);"
        )
    if type.dtype.is_float and not dtype.is_float:
        return _define(target, me, args, *_float_to_int(p, type, dtype))
    return _define(target, me, args, f"return __builtin_convertvector(x, {target});")


def _as_mask(p: Prelude, type: L.CType, dtype: DType) -> str:
    target = p.vector(L.CType(dtype, type.lanes))
    wide = f"__builtin_convertvector(x, {target})"
    return wide if type.dtype.kind == "mask" else f"-{wide}"


def _float_to_int(p: Prelude, type: L.CType, dtype: DType) -> list[str]:
    """Towards zero, clamped to the range of ``dtype``; NaN gives 0."""
    bits, signed = 8 * dtype.bytes, dtype.is_signed
    low, high = (-(1 << (bits - 1)), 1 << (bits - 1)) if signed else (0, 1 << bits)
    below, above = literal(float(low), type.dtype), literal(float(high), type.dtype)
    if type.lanes == 1:
        least, most = literal(low, dtype), literal(high - 1, dtype)
        inside = f"x > {below} ? ({scalar_name(dtype)})x : {least}"
        ends = f"x >= {above} ? {most} : {inside}"
        return ["if (!(x == x)) return 0;", f"return ({scalar_name(dtype)})({ends});"]
    middle = i64 if dtype.bytes == 8 or dtype is L.u32 else i32
    least, most = literal(low, middle), literal(high - 1, middle)
    mask, wide = (p.vector(L.CType(d, type.lanes)) for d in (L.MASK_OF[type.dtype.bytes], middle))
    keep, floats = p.require("select", type), p.vector(type)
    target = p.vector(L.CType(dtype, type.lanes))
    same = dtype.bytes == middle.bytes
    result = f"({target})z" if same else f"__builtin_convertvector(z, {target})"
    return [
        f"const {mask} big = ({mask})(x >= {above}), small = ({mask})(x <= {below});",
        f"const {mask} inside = ({mask})(x > {below}) & ~big;",
        f"const {wide} y = __builtin_convertvector({keep}(inside, x, ({floats}){{0}}), {wide});",
        f"const {wide} most = __builtin_convertvector(big, {wide}) & {most};",
        f"const {wide} least = __builtin_convertvector(small, {wide}) & {least};",
        f"const {wide} z = y | most | least;",
        f"return {result};",
    ]


def _any(p: Prelude, type: L.CType, name: str) -> str:
    """Whether any lane of a mask is set."""
    vector, me = p.vector(type), function_name(name, type)
    integer = L.CType(L.SIGNED_OF[type.dtype.bytes], type.lanes)
    fold = p.require("across_or", integer)
    return _define("uint8_t", me, f"{vector} m", f"return (uint8_t)({fold}(m) != 0);")


def _sqrt(p: Prelude, type: L.CType, name: str) -> str:
    """Correctly rounded; an instruction wherever there is one."""
    me, suffix = function_name(name, type), "f" if type.dtype is f32 else ""
    if type.lanes > 1:
        return per_lane(p, type, name)
    scalar = scalar_name(type.dtype)
    return _define(scalar, me, f"{scalar} x", f"return __builtin_sqrt{suffix}(x);")


def _scaled(p: Prelude, type: L.CType, name: str) -> str:
    """``x * 2**n``, rounded once, k being n: an instruction for whole registers of AVX-512."""
    me = function_name(name, type)
    integers = L.CType(L.SIGNED_OF[type.dtype.bytes], type.lanes)
    if p.target.isa != "avx512" or type.lanes * type.dtype.bytes != p.target.vector_bytes:
        return _scaled_twice(p, L.Var("x", type), L.Var("n", type), L.Var("k", integers), me)
    vector = p.vector(type)
    args = f"{vector} x, {vector} n, {p.vector(integers)} k"
    suffix, mask, of_gcc = (
        ("ps", "uint16_t", "int16_t") if type.dtype is f32 else ("pd", "uint8_t", "uint8_t")
    )
    current = 4  # the rounding mode that is set
    call = f"__builtin_ia32_scalef{suffix}512_mask(x, n, x, (OL_ALL)-1, {current})"
    calls = [f"return ({vector}){call.replace('OL_ALL', all_)};" for all_ in (mask, of_gcc)]
    lines = ("#ifdef __clang__", calls[0], "#else", calls[1], "#endif")  # masks of other types
    return _define(vector, me, args, "(void)k;", *(lines if mask != of_gcc else calls[:1]))


def _scaled_twice(p: Prelude, x: L.Var, n: L.Var, k: L.Var, name: str) -> str:
    """In two steps, so that results below the normal range round once."""
    from oarlock.codegen.c.printer import Printer

    body = Body()
    body.reserve("x", "n", "k")
    bias, width = (127, 23) if x.dtype is f32 else (1023, 52)
    half = body.let("half", k >> 1)
    powers = [L.bits((i + bias) << width, x.dtype) for i in (half, body.let("other", k - half))]
    body.returns(x * powers[0] * powers[1])
    return Printer(p).function(
        L.Function(name, body.statements, params=(x, n, k), returns=x.type, is_kernel=False)
    )


_TWO_OVER_PI = (
    "0, 0, 0xa2f9836e, 0x4e441529, 0xfc2757d1, 0xf534ddc0, 0xdb629599, 0x3c439041, 0xfe5163ab,",
    "0xdebbc561, 0xb7246e3a, 0x424dd2e0, 0x06492eea, 0x09d1921c, 0xfe1deb1c, 0xb129a73e,",
    "0xe88235f5, 0x2ebb4484, 0xe99c7026, 0xb45f7e41, 0x3991d639, 0x835339f4, 0x9c845f8b,",
    "0xbdf9283b, 0x1ff897ff, 0xde05980f, 0xef2f118b, 0x5a0a6d1f, 0x6d367ecf, 0x27cb09b7,",
    "0x4f463f66, 0x9e5fea2d, 0x7527bac7, 0xebe5f17b, 0x3d0739f7, 0x8a5292ea, 0x6bfb5fb1,",
    "0x1f8d5d08, 0x56033046, 0xfc7b6bab, 0xf0cfbc20, 0x9af4361d",
)


def _turns(p: Prelude, type: L.CType, name: str) -> str:
    """``x * 2/pi`` modulo 4, in units of 2**-126, for 2**20 <= |x| < inf (Payne and Hanek)."""
    bits = p.require("bits_u64", type)
    lines = [
        "static const uint32_t table[] = {",
        *(f"    {row}" for row in _TWO_OVER_PI),
        "};",
        f"const uint64_t w = {bits}(x);",
        "const uint64_t m = (w & UINT64_C(0xfffffffffffff)) | UINT64_C(0x10000000000000);",
        "const int64_t at = (int64_t)((w >> 52) & 2047) - 1075 + 62;",
        "const uint32_t *t = table + (at >> 5);",
        "const int shift = (int)(at & 31);",
        "uint32_t sum[6] = {0, 0, 0, 0, 0, 0};",
        "for (int part = 0; part < 2; ++part) {",
        "  const uint64_t factor = part ? m >> 32 : m & UINT64_C(0xffffffff);",
        "  uint64_t carry = 0;",
        "  for (int i = part; i < 6; ++i) {",
        "    const int k = 5 - (i - part);",
        "    const uint64_t pair = ((uint64_t)t[k] << 32) | t[k + 1];",
        "    const uint64_t word = (pair << shift) >> 32;",
        "    carry += word * factor + sum[i];",
        "    sum[i] = (uint32_t)carry;",
        "    carry >>= 32;",
        "  }",
        "}",
        "*high = ((uint64_t)sum[5] << 32) | sum[4];",
        "*low = ((uint64_t)sum[3] << 32) | sum[2];",
    ]
    return _define(
        "void", function_name(name, type), "double x, uint64_t *high, uint64_t *low", *lines
    )


def _large_rest(p: Prelude, type: L.CType, name: str) -> str:
    """``x - k * pi/2`` in [-pi/4, pi/4] for large x; NaN for inf and NaN."""
    if type.lanes > 1:
        return per_lane(p, type, name)
    lines = [
        "uint64_t high = 0, low = 0;",
        "if (!(x - x == 0)) return x - x;",
        "if (x > -0x1p-10 && x < 0x1p-10) return 0;",
        f"{p.require('turns', type)}(x, &high, &low);",
        "high = (high << 2) | (low >> 62);",
        "low <<= 2;",
        "const int down = (int)(high >> 63);",
        "if (down) {",
        "  high = ~high;",
        "  low = ~low;",
        "}",
        "const double part = (double)high * 0x1p-64 + (double)low * 0x1p-128;",
        "const double rest = part * 0x1.921fb54442d18p+0;",
        "return (x < 0) != down ? -rest : rest;",
    ]
    return _define("double", function_name(name, type), "double x", *lines)


def _large_quadrant(p: Prelude, type: L.CType, name: str) -> str:
    """The k of ``large_rest`` modulo 4, with the sign of x."""
    if type.lanes > 1:
        return per_lane(p, type, name)
    lines = [
        "uint64_t high = 0, low = 0;",
        "if (!(x - x == 0)) return 0;",
        "if (x > -0x1p-10 && x < 0x1p-10) return 0;",
        f"{p.require('turns', type)}(x, &high, &low);",
        "const double k = (double)((high >> 62) + ((high >> 61) & 1));",
        "return x < 0 ? -k : k;",
    ]
    return _define("double", function_name(name, type), "double x", *lines)


def _c_div(p: Prelude, type: L.CType, name: str) -> str:
    """C's division of integers, where it is defined."""
    scalar, me = scalar_name(type.dtype), function_name(name, type)
    return _define(scalar, me, f"{scalar} x, {scalar} y", f"return ({scalar})(x / y);")


def per_lane(p: Prelude, type: L.CType, name: str) -> str:
    """A vector function of one or two vectors by its scalar version."""
    vector, me = p.vector(type), function_name(name, type)
    scalar = p.require(name, type.with_lanes(1))
    names = "xy"[: arity(name) if name in FUNCTIONS else 1]
    args = ", ".join(f"{vector} {x}" for x in names)
    items = ", ".join(f"{x}[i]" for x in names)
    loop = f"for (int i = 0; i < {type.lanes}; ++i) r[i] = {scalar}({items});"
    return _define(vector, me, args, f"{vector} r = x;", p.unroll(), loop, "return r;")


_TEXTS: dict[str, TextBuilder] = {
    "load": _load,
    "store": _store,
    "load_strided": _load_strided,
    "store_strided": _store_strided,
    "gather": _gather,
    "splat": _splat,
    "iota": _iota,
    "select": _select,
    "min": _extreme,
    "max": _extreme,
    "any": _any,
    "scaled": _scaled,
    "sqrt": _sqrt,
    "c_div": _c_div,
    "turns": _turns,
    "zip_high": _zip,
    "zip_low": _zip,
    "large_rest": _large_rest,
    "large_quadrant": _large_quadrant,
}
_FAMILIES: dict[str, TextBuilder] = {
    "bits": _bits, "across": _across, "cast": _cast, "compare": _compare,
}  # fmt: skip
