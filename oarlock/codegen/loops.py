"""Loop IR: typed scalar and vector expressions, statements, functions.  One printer makes C of it.

Types: ``CType(dtype, lanes)``; ``lanes == 1`` is a scalar.  ``INDEX`` (int64_t) is for positions
and loop variables: plain arithmetic that never wraps.  i64 and the other integers wrap; both
convert with ``cast``.  Masks (``m8 m16 m32 m64``) exist as vectors alone: 0 or -1 in lanes as wide
as what was compared; scalars compare to ``bool``.  f16 and bf16 exist in memory alone: a load gives
f32 and a store rounds.

Constructors check and fold: use the functions (``binary``, ``compare``, ``select``, ``cast``,
``index``, or operators on expressions) rather than the classes.  A Python number next to an
expression becomes a constant of its type, and a scalar next to a vector is splat.

``index(size)`` turns an ``ir.Size`` into an INDEX expression.  Loop variables are ``ir.Dim``
symbols as well, so index algebra is polynomial arithmetic on sizes: ``index(i * n + j, {"i": var})``.
Symbols without an entry are program dims; the printer reads each from ``c->dims`` once per function.

``body.Body`` builds statements.  ``Function`` is a kernel or a helper; see ``c.printer``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from functools import cache

from oarlock.codegen.expressions import (
    INDEX,
    MASK_OF,
    SIGNED_OF,
    UNSIGNED_OF,
    Across,
    Address,
    Binary,
    Bits,
    Call,
    Cast,
    Compare,
    Const,
    CType,
    DimVar,
    Expr,
    Extract,
    Gather,
    Iota,
    Load,
    LoadStrided,
    Operand,
    Pointer,
    Select,
    Splat,
    Unary,
    Var,
    across,
    binary,
    bits,
    call,
    cast,
    compare,
    compute_dtype,
    const,
    extract,
    icon,
    index,
    index_,
    iota,
    load,
    m8,
    m16,
    m32,
    m64,
    maximum,
    minimum,
    number_of,
    operands,
    select,
    size_of_atom,
    splat,
    stride_of,
    to_bool,
    to_mask,
    u16,
    u32,
    u64,
    unary,
)  # fmt: skip
from oarlock.ir.types import bool_, f32, f64, i32, i64

__all__ = [
    "bool_", "f32", "f64", "i32", "i64",
    "Across", "Address", "Assign", "BEGIN", "Binary", "Bits", "Break", "CType", "Call",
    "CallStatement", "Cast", "Comment", "Compare", "Const", "Declare", "DeclareArray",
    "DeclarePointer", "DimVar", "END", "Expr", "Extract", "For", "Function", "Gather", "INDEX",
    "If", "Iota", "Load", "LoadStrided", "MASK_OF", "Operand", "Pointer", "Return", "SIGNED_OF",
    "Scope", "Select", "Splat", "Stmt", "Store", "StoreStrided", "TID", "UNSIGNED_OF", "Unary",
    "Var", "While", "across", "binary", "bits", "call", "cast", "compare", "compute_dtype",
    "const", "extract", "icon", "index", "index_", "iota", "load", "m16", "m32", "m64", "m8",
    "maximum", "minimum", "number_of", "operands", "select", "size_of_atom", "splat", "store",
    "stride_of", "to_bool", "to_mask", "u16", "u32", "u64", "unary", "walk",
]  # fmt: skip


class Stmt:
    """A statement."""


@dataclass(frozen=True)
class Declare(Stmt):
    """``type name = value``; ``mutable`` variables may be assigned later."""

    var: Var
    value: Expr | None = None
    mutable: bool = False


@dataclass(frozen=True)
class DeclareArray(Stmt):
    """A local array of ``count`` elements, 64-byte aligned; ``values`` make it static const."""

    pointer: Pointer
    count: int
    values: tuple[int | float, ...] = ()


@dataclass(frozen=True)
class DeclarePointer(Stmt):
    """A local pointer to ``address``; ``pointer.written`` decides const."""

    pointer: Pointer
    address: Address


@dataclass(frozen=True)
class Assign(Stmt):
    """``var = value``."""

    var: Var
    value: Expr


@dataclass(frozen=True)
class Store(Stmt):
    """Adjacent elements from ``pointer[index]``, rounded to its storage type."""

    pointer: Pointer
    index: Expr
    value: Expr


@dataclass(frozen=True)
class StoreStrided(Stmt):
    """``pointer[index + lane * stride] = value[lane]``."""

    pointer: Pointer
    index: Expr
    stride: Expr
    value: Expr


@dataclass(frozen=True)
class For(Stmt):
    """``for (var = start; var < stop; var += step)``; ``unroll`` asks for complete unrolling."""

    var: Var
    start: Expr
    stop: Expr
    body: tuple[Stmt, ...]
    step: int = 1
    unroll: bool = False


@dataclass(frozen=True)
class While(Stmt):
    condition: Expr
    body: tuple[Stmt, ...]


@dataclass(frozen=True)
class Break(Stmt):
    """Leaves the innermost loop."""


@dataclass(frozen=True)
class If(Stmt):
    condition: Expr
    then: tuple[Stmt, ...]
    else_: tuple[Stmt, ...] = ()


@dataclass(frozen=True)
class Return(Stmt):
    value: Expr | None = None


@dataclass(frozen=True)
class Comment(Stmt):
    text: str


@dataclass(frozen=True)
class CallStatement(Stmt):
    """A call for its effect; ``name`` as in Call."""

    name: str
    args: tuple[Expr, ...]


@dataclass(frozen=True)
class Scope(Stmt):
    """Statements in braces of their own."""

    body: tuple[Stmt, ...]


@dataclass(frozen=True)
class Function:
    """A C function.

    A kernel (``is_kernel``) has the standard signature (``c, begin, end, tid``), returns a status
    and reaches memory through ``pointers``; the printer declares them from the emitter's bindings.
    A helper has ``params`` (Var and Pointer) and may return a scalar or a vector.  ``helpers`` are
    the functions that this one calls.  An ``apart`` one needs all registers: no C compiler makes it
    a part of its caller, whose values would take some.
    """

    name: str
    body: tuple[Stmt, ...]
    pointers: tuple[Pointer, ...] = ()
    params: tuple[Var | Pointer, ...] = ()
    returns: CType | None = None
    comment: str = ""
    is_kernel: bool = True
    helpers: tuple[Function, ...] = field(default=())
    inline: bool = True
    apart: bool = False


BEGIN, END = Var("begin", INDEX), Var("end", INDEX)
TID = Var("tid", CType(i32))


def store(pointer: Pointer, position: Expr, value: Expr, stride: Expr | None = None) -> Stmt:
    """Store a scalar, or a vector with ``stride`` between elements (None: adjacent)."""
    if pointer.dtype.is_bool:
        value = to_bool(value)
    if value.lanes == 1 or stride is None or number_of(stride) == 1:
        return Store(pointer, position, value)
    return StoreStrided(pointer, position, stride, value)


@cache
def _field_names(cls: type) -> tuple[str, ...]:
    return tuple(f.name for f in fields(cls))


def walk(items: Iterable[object]) -> Iterator[object]:
    """Every statement and expression below ``items``, depth first."""
    stack = list(items)[::-1]
    while stack:
        item = stack.pop()
        if isinstance(item, (Expr, Stmt)):
            yield item
            for name in reversed(_field_names(type(item))):
                child = getattr(item, name)
                stack.extend(reversed(child) if isinstance(child, tuple) else (child,))
