"""Types, expressions and index algebra of the loop IR; see ``loops``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Union

import numpy as np

from oarlock.ir.dim import Dim, Size, Symbol, bounds
from oarlock.ir.types import DType, bf16, bool_, decode, encode, f16, f32, i8, i16, i32, i64, u8

index_ = DType("index", 8, "int", "int64")
u16 = DType("u16", 2, "uint", "uint16")
u32 = DType("u32", 4, "uint", "uint32")
u64 = DType("u64", 8, "uint", "uint64")
m8, m16, m32, m64 = (DType(f"m{8 * n}", n, "mask", f"int{8 * n}") for n in (1, 2, 4, 8))
MASK_OF = {1: m8, 2: m16, 4: m32, 8: m64}
SIGNED_OF = {1: i8, 2: i16, 4: i32, 8: i64}
UNSIGNED_OF = {1: u8, 2: u16, 4: u32, 8: u64}


@dataclass(frozen=True)
class CType:
    """A scalar (lanes 1) or a vector of ``lanes`` elements."""

    dtype: DType
    lanes: int = 1

    def with_lanes(self, lanes: int) -> CType:
        return CType(self.dtype, lanes)

    def __str__(self) -> str:
        return self.dtype.name if self.lanes == 1 else f"{self.dtype.name}x{self.lanes}"


INDEX = CType(index_)


def compute_dtype(dtype: DType) -> DType:
    """The type that values of ``dtype`` have in registers: f32 for f16 and bf16."""
    return f32 if dtype in (f16, bf16) else dtype


@dataclass(frozen=True)
class Pointer:
    """Memory of elements of ``dtype``.

    ``source``: "buffer" (a tensor: bound by the emitter), "constant" (packed weights, bound by the
    emitter), "scratch" (this thread's scratch, at ``offset`` bytes), "param" (a function's
    parameter) or "local" (an array or a pointer declared in the body).
    """

    name: str
    dtype: DType
    source: str = "buffer"
    written: bool = False
    offset: Size = 0


class Expr:
    """An expression with a ``type``; arithmetic operators build expressions."""

    type: CType

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def lanes(self) -> int:
        return self.type.lanes

    def __add__(self, other: Operand) -> Expr:
        return binary("add", self, other)

    def __radd__(self, other: Operand) -> Expr:
        return binary("add", other, self)

    def __sub__(self, other: Operand) -> Expr:
        return binary("sub", self, other)

    def __rsub__(self, other: Operand) -> Expr:
        return binary("sub", other, self)

    def __mul__(self, other: Operand) -> Expr:
        return binary("mul", self, other)

    def __rmul__(self, other: Operand) -> Expr:
        return binary("mul", other, self)

    def __truediv__(self, other: Operand) -> Expr:
        return binary("div", self, other)

    def __rtruediv__(self, other: Operand) -> Expr:
        return binary("div", other, self)

    def __and__(self, other: Operand) -> Expr:
        return binary("and", self, other)

    def __or__(self, other: Operand) -> Expr:
        return binary("or", self, other)

    def __xor__(self, other: Operand) -> Expr:
        return binary("xor", self, other)

    def __lshift__(self, other: Operand) -> Expr:
        return binary("shl", self, other)

    def __rshift__(self, other: Operand) -> Expr:
        return binary("shr", self, other)

    def __neg__(self) -> Expr:
        return unary("neg", self)

    def __lt__(self, other: Operand) -> Expr:
        return compare("lt", self, other)

    def __le__(self, other: Operand) -> Expr:
        return compare("le", self, other)

    def __gt__(self, other: Operand) -> Expr:
        return compare("gt", self, other)

    def __ge__(self, other: Operand) -> Expr:
        return compare("ge", self, other)


Operand = Union[Expr, int, float, bool]


@dataclass(frozen=True, eq=False)
class Const(Expr):
    """A number; printed by ``c.literals``."""

    value: int | float
    type: CType


@dataclass(frozen=True, eq=False)
class Var(Expr):
    """A local variable, a scalar parameter, or ``begin``, ``end``, ``tid`` of a kernel."""

    name: str
    type: CType


@dataclass(frozen=True, eq=False)
class DimVar(Expr):
    """The value of a program's dim."""

    name: str
    type: CType = INDEX


@dataclass(frozen=True, eq=False)
class Load(Expr):
    """``lanes`` adjacent elements from ``pointer[index]``, converted to the compute type."""

    pointer: Pointer
    index: Expr
    type: CType


@dataclass(frozen=True, eq=False)
class LoadStrided(Expr):
    """Elements ``pointer[index + lane * stride]``."""

    pointer: Pointer
    index: Expr
    stride: Expr
    type: CType


@dataclass(frozen=True, eq=False)
class Gather(Expr):
    """Elements ``pointer[index[lane]]`` of a vector of positions (i64 or i32)."""

    pointer: Pointer
    index: Expr
    type: CType


@dataclass(frozen=True, eq=False)
class Unary(Expr):
    """``neg`` or ``not`` (bits of integers and masks, logic of bools)."""

    op: str
    a: Expr
    type: CType


@dataclass(frozen=True, eq=False)
class Binary(Expr):
    """``add sub mul div mod and or xor shl shr min max``.

    Integers wrap.  div and mod: floats, and INDEX operands >= 0 with a positive divisor.  shl, shr:
    counts in range.  min, max: ``a < b ? a : b``, so NaN in ``a`` gives ``b``.
    """

    op: str
    a: Expr
    b: Expr
    type: CType


@dataclass(frozen=True, eq=False)
class Compare(Expr):
    """``eq ne lt le gt ge``: a bool, or a mask for vectors."""

    op: str
    a: Expr
    b: Expr
    type: CType


@dataclass(frozen=True, eq=False)
class Select(Expr):
    """``condition ? a : b`` per lane."""

    condition: Expr
    a: Expr
    b: Expr
    type: CType


@dataclass(frozen=True, eq=False)
class Cast(Expr):
    """Value conversion, defined for every input; see ``cast``."""

    a: Expr
    type: CType


@dataclass(frozen=True, eq=False)
class Bits(Expr):
    """The same bits as another type of the same size."""

    a: Expr
    type: CType


@dataclass(frozen=True, eq=False)
class Splat(Expr):
    """A scalar in every lane."""

    a: Expr
    type: CType


@dataclass(frozen=True, eq=False)
class Iota(Expr):
    """The vector 0, 1, ..., lanes - 1."""

    type: CType


@dataclass(frozen=True, eq=False)
class Extract(Expr):
    """One lane of a vector."""

    a: Expr
    lane: int
    type: CType


@dataclass(frozen=True, eq=False)
class Across(Expr):
    """``sum``, ``max``, ``min``, ``prod``, ``or`` or ``and`` over the lanes of a vector."""

    op: str
    a: Expr
    type: CType


@dataclass(frozen=True, eq=False)
class Call(Expr):
    """A prelude function (``exp``, ``floor_div``, ...) or a helper ``Function`` by its C name."""

    name: str
    args: tuple[Expr, ...]
    type: CType


@dataclass(frozen=True, eq=False)
class Address(Expr):
    """``pointer + index``, an argument of a call or the start of a local pointer."""

    pointer: Pointer
    index: Expr
    type: CType = INDEX


def const(value: int | float | bool, dtype: DType, lanes: int = 1) -> Expr:
    """A constant; floats are rounded and integers wrap to the type."""
    stored, dtype = dtype, compute_dtype(dtype)
    if dtype.is_float:
        number: int | float = float(value)
        if stored is not dtype:
            number = float(decode(encode(np.float64(number), stored), stored))
    elif dtype.is_bool:
        number = int(bool(value))
    else:
        number = _wrap(int(value), dtype)
    return splat(Const(number, CType(dtype)), lanes)


def _wrap(value: int, dtype: DType) -> int:
    bits = 8 * dtype.bytes
    value &= (1 << bits) - 1
    return value - (1 << bits) if dtype.kind != "uint" and value >> (bits - 1) else value


def icon(value: int) -> Expr:
    """An INDEX constant."""
    return Const(value, INDEX)


def splat(a: Expr, lanes: int) -> Expr:
    """``a`` in every lane; a vector of ``lanes`` is returned as it is."""
    if a.lanes == lanes:
        return a
    assert a.lanes == 1, f"a vector of {a.lanes} lanes where {lanes} are needed"
    if a.dtype.is_bool:
        return (
            to_mask(Splat(a, CType(bool_, lanes)), 4)
            if isinstance(a, Compare)
            else Splat(a, CType(bool_, lanes))
        )
    return Splat(a, a.type.with_lanes(lanes))


def operands(a: Operand, b: Operand) -> tuple[Expr, Expr]:
    """Both as expressions of one type: numbers become constants, scalars are splat."""
    if not isinstance(a, Expr):
        assert isinstance(b, Expr), "one operand must be an expression"
        a = const(a, b.dtype)
    if not isinstance(b, Expr):
        b = const(b, a.dtype)
    lanes = max(a.lanes, b.lanes)
    return splat(a, lanes), splat(b, lanes)


def number_of(a: Expr) -> int | float | None:
    """The value when ``a`` is a constant, splat or not."""
    if isinstance(a, Splat):
        a = a.a
    return a.value if isinstance(a, Const) else None


def binary(op: str, a: Operand, b: Operand) -> Expr:
    """``Binary``, with index arithmetic folded."""
    a, b = operands(a, b)
    if a.dtype.kind in ("mask", "bool") or b.dtype.kind in ("mask", "bool"):
        a, b = _same_logic(a, b)
    assert a.dtype == b.dtype, f"{op} of {a.type} and {b.type}"
    if a.dtype is index_:
        return _fold_index(op, a, b)
    return Binary(op, a, b, a.type)


def _same_logic(a: Expr, b: Expr) -> tuple[Expr, Expr]:
    """Masks of one width, or bools."""
    if a.lanes == 1:
        return a, b
    width = next((x.dtype.bytes for x in (a, b) if x.dtype.kind == "mask"), 1)
    return to_mask(a, width), to_mask(b, width)


_FOLD = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a // b,
    "mod": lambda a, b: a % b,
    "min": min,
    "max": max,
}


def _fold_index(op: str, a: Expr, b: Expr) -> Expr:
    x, y = number_of(a), number_of(b)
    if a.lanes == 1:
        if op in ("div", "mod") and y == 0:
            return icon(0)  # the extent of a loop that does not run
        if x is not None and y is not None and op in _FOLD:
            return icon(_FOLD[op](int(x), int(y)))
        if (op in ("add", "sub") and y == 0) or (op in ("mul", "div") and y == 1):
            return a
        if (op == "add" and x == 0) or (op == "mul" and x == 1):
            return b
        if (op == "mul" and 0 in (x, y)) or (op == "mod" and y == 1):
            return icon(0)
    return Binary(op, a, b, a.type)


def unary(op: str, a: Expr) -> Expr:
    """``neg`` or ``not``."""
    value = number_of(a)
    if op == "neg" and value is not None and a.dtype.is_float:
        return const(-value, a.dtype, a.lanes)
    if op == "not" and a.dtype.is_bool and a.lanes > 1:
        a = to_mask(a, 1)
    return Unary(op, a, a.type)


def minimum(a: Operand, b: Operand) -> Expr:
    """``a < b ? a : b``."""
    return binary("min", a, b)


def maximum(a: Operand, b: Operand) -> Expr:
    """``a > b ? a : b``."""
    return binary("max", a, b)


def compare(op: str, a: Operand, b: Operand) -> Expr:
    """A bool for scalars, a mask as wide as the operands for vectors."""
    a, b = operands(a, b)
    if a.lanes > 1 and (a.dtype.kind in ("mask", "bool") or b.dtype.kind in ("mask", "bool")):
        a, b = to_bool(a), to_bool(b)
    assert a.dtype == b.dtype, f"{op} of {a.type} and {b.type}"
    dtype = bool_ if a.lanes == 1 else MASK_OF[a.dtype.bytes]
    return Compare(op, a, b, CType(dtype, a.lanes))


def select(condition: Expr, a: Operand, b: Operand) -> Expr:
    """``condition ? a : b`` per lane."""
    a, b = operands(a, b)
    lanes = max(a.lanes, condition.lanes)
    a, b = splat(a, lanes), splat(b, lanes)
    if lanes > 1 and (a.dtype.kind in ("mask", "bool") or b.dtype.kind in ("mask", "bool")):
        a, b = _same_logic(a, b)
    assert a.dtype == b.dtype, f"select of {a.type} and {b.type}"
    if lanes > 1:
        condition = to_mask(splat(condition, lanes), a.dtype.bytes)
    return Select(condition, a, b, a.type)


def to_mask(a: Expr, width: int) -> Expr:
    """A vector bool or mask as a mask of ``width`` bytes per lane."""
    target = CType(MASK_OF[width], a.lanes)
    return a if a.type == target else Cast(a, target)


def to_bool(a: Expr) -> Expr:
    """A mask as bool (0 or 1 in a byte)."""
    return Cast(a, CType(bool_, a.lanes)) if a.dtype.kind == "mask" else a


def cast(a: Expr, dtype: DType) -> Expr:
    """Convert values: float to integer truncates and clamps to the range, NaN gives 0; integers
    wrap; to bool is ``!= 0``; to f16 and bf16 rounds, in an f32.
    """
    if dtype in (f16, bf16):
        wide = cast(a, f32)
        return Call(f"round_{dtype.name}", (wide,), wide.type)
    if a.dtype == dtype:
        return a
    if dtype.is_bool:
        return a if a.dtype.kind == "mask" else compare("ne", a, 0)
    value = number_of(a)
    if value is not None and not (a.dtype.is_float and not dtype.is_float):
        return const(value, dtype, a.lanes) if dtype is not index_ else Const(value, INDEX)
    if isinstance(a, Splat):
        return splat(cast(a.a, dtype), a.lanes)
    if a.dtype.kind == "mask":
        a = to_bool(a)
    return Cast(a, CType(dtype, a.lanes))


def bits(a: Expr, dtype: DType) -> Expr:
    """Reinterpret as ``dtype``."""
    assert a.dtype.bytes == dtype.bytes, f"bits of {a.type} as {dtype}"
    return Bits(a, CType(dtype, a.lanes))


def iota(lanes: int, dtype: DType) -> Expr:
    """0, 1, ..., lanes - 1."""
    return Iota(CType(dtype, lanes)) if lanes > 1 else const(0, dtype)


def load(pointer: Pointer, position: Expr, lanes: int = 1, stride: Expr | None = None) -> Expr:
    """Elements at ``position + lane * stride`` (stride None: adjacent); stride 0 is a splat."""
    type = CType(compute_dtype(pointer.dtype), lanes)
    if lanes == 1 or stride is None or number_of(stride) == 1:
        return Load(pointer, position, type)
    if number_of(stride) == 0:
        return splat(Load(pointer, position, type.with_lanes(1)), lanes)
    return LoadStrided(pointer, position, stride, type)


def call(name: str, *args: Expr, dtype: DType | None = None) -> Expr:
    """A function of the prelude; the result has the type of the first argument, or ``dtype``."""
    lanes = max(a.lanes for a in args)
    spread = tuple(splat(a, lanes) for a in args)
    return Call(name, spread, CType(dtype or spread[0].dtype, lanes))


def across(op: str, a: Expr) -> Expr:
    """Reduce over the lanes."""
    return a if a.lanes == 1 else Across(op, a, a.type.with_lanes(1))


def extract(a: Expr, lane: int) -> Expr:
    """One lane."""
    return a if a.lanes == 1 else Extract(a, lane, a.type.with_lanes(1))


def index(size: Size, env: Mapping[str, Expr] = {}) -> Expr:
    """``size`` as an INDEX expression; ``env`` gives the variable of a symbol."""
    if isinstance(size, int):
        return icon(size)
    total: Expr | None = None
    for monomial, c in sorted(size.terms, key=lambda term: term[1] < 0):
        term: Expr = icon(abs(c))
        for atom in monomial:
            term = _atom(atom, env) * term if number_of(term) == 1 else term * _atom(atom, env)
        if total is None:
            total = term if c > 0 else icon(0) - term
        else:
            total = total + term if c > 0 else total - term
    assert total is not None
    return total


def _atom(atom: object, env: Mapping[str, Expr]) -> Expr:
    if isinstance(atom, Symbol):
        return env[atom.name] if atom.name in env else DimVar(atom.name)
    a, b = index(atom.a, env), index(atom.b, env)  # type: ignore[attr-defined]
    kind = atom.kind  # type: ignore[attr-defined]
    if kind in ("min", "max"):
        return binary(kind, a, b)
    if bounds(atom.a)[0] >= 0 and bounds(atom.b)[0] > 0:  # type: ignore[attr-defined]
        return binary({"floordiv": "div", "mod": "mod"}[kind], a, b)
    return call({"floordiv": "floor_div", "mod": "remainder"}[kind], a, b)


def stride_of(size: Size, name: str) -> Size | None:
    """The coefficient of symbol ``name`` when ``size`` is affine in it, else None."""
    if isinstance(size, int):
        return 0
    total: Size = 0
    for monomial, c in size.terms:
        inside = [a for a in monomial if _mentions(a, name)]
        if not inside:
            continue
        if len(inside) > 1 or not isinstance(inside[0], Symbol):
            return None
        rest: Size = c
        for atom in monomial:
            if atom is not inside[0]:
                rest = rest * size_of_atom(atom)
        total = total + rest
    return total


def size_of_atom(atom: object) -> Dim:
    """One factor of a monomial as a size."""
    dim = Dim.__new__(Dim)
    dim._set((((atom,), 1),))  # type: ignore[arg-type]
    return dim


def _mentions(atom: object, name: str) -> bool:
    if isinstance(atom, Symbol):
        return atom.name == name
    parts = (atom.a, atom.b)  # type: ignore[attr-defined]
    return any(isinstance(p, Dim) and name in p.symbols() for p in parts)
