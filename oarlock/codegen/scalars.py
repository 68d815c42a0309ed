"""What each pointwise op computes on expressions: one table, scalars and vectors alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from oarlock.codegen import loops as L
from oarlock.ir.graph import Node
from oarlock.ir.types import DType

Rule = Callable[..., L.Expr]


def _calls(name: str) -> Rule:
    return lambda *args: L.call(name, *args)


def _binary(op: str) -> Rule:
    return lambda a, b: L.binary(op, a, b)


def _compare(op: str) -> Rule:
    return lambda a, b: L.compare(op, a, b)


def _for_floats(name: str) -> Rule:
    """A function of floats that leaves integers as they are."""
    return lambda a: L.call(name, a) if a.dtype.is_float else a


def _logical_not(a: L.Expr) -> L.Expr:
    a = L.cast(a, L.bool_)
    return L.unary("not", a)


def _is_nan(a: L.Expr) -> L.Expr:
    return L.compare("ne", a, a)


def _magnitude(a: L.Expr) -> L.Expr:
    return L.call("abs", a)


def _extreme(op: str, logic: str) -> Rule:
    def rule(a: L.Expr, b: L.Expr) -> L.Expr:
        is_logic = a.dtype.is_bool or a.dtype.kind == "mask"
        return L.binary(logic, a, b) if is_logic else L.call(op, a, b)

    return rule


def _arithmetic(op: str, logic: str) -> Rule:
    def rule(a: L.Expr, b: L.Expr) -> L.Expr:
        is_logic = a.dtype.is_bool or a.dtype.kind == "mask"
        return L.binary(logic if is_logic else op, a, b)

    return rule


_INFINITY = float("inf")
RULES: dict[str, Rule] = {
    "neg": lambda a: L.unary("neg", a),
    "abs": _magnitude,
    "sign": _calls("sign"),
    "reciprocal": lambda a: L.const(1.0, a.dtype, a.lanes) / a,
    "rsqrt": lambda a: L.const(1.0, a.dtype, a.lanes) / L.call("sqrt", a),
    "is_nan": _is_nan,
    "is_inf": lambda a: L.compare("eq", _magnitude(a), _INFINITY),
    "is_finite": lambda a: L.compare("lt", _magnitude(a), _INFINITY),
    "logical_not": _logical_not,
    "bit_not": lambda a: L.unary("not", a),
    "add": _arithmetic("add", "or"),
    "sub": _arithmetic("sub", "xor"),
    "mul": _arithmetic("mul", "and"),
    "div": _binary("div"),
    "maximum": _extreme("maximum", "or"),
    "minimum": _extreme("minimum", "and"),
    "bit_and": _binary("and"),
    "bit_or": _binary("or"),
    "bit_xor": _binary("xor"),
    "pow": lambda a, b: L.call("pow" if a.dtype.is_float else "pow_int", a, b),
    "where": lambda c, a, b: L.select(c, a, b),
    **{op: _compare(op) for op in ("eq", "ne", "lt", "le", "gt", "ge")},
    **{op: _for_floats(op) for op in ("floor", "ceil", "round", "trunc")},
    **{
        op: _calls(op)
        for op in [
            "exp",
            "exp2",
            "expm1",
            "log",
            "log2",
            "log10",
            "log1p",
            "sqrt",
            "sin",
            "cos",
            "tan",
            "asin",
            "acos",
            "atan",
            "sinh",
            "cosh",
            "tanh",
            "asinh",
            "acosh",
            "atanh",
            "erf",
            "erfinv",
            "lgamma",
            "floor_div",
            "remainder",
            "fmod",
            "trunc_div",
            "atan2",
            "shift_left",
            "shift_right",
        ]
    },
}
CHEAP = frozenset(
    [
        "neg",
        "abs",
        "add",
        "sub",
        "mul",
        "maximum",
        "minimum",
        "bit_and",
        "bit_or",
        "bit_xor",
        "bit_not",
        "where",
        "cast",
        "eq",
        "ne",
        "lt",
        "le",
        "gt",
        "ge",
        "logical_not",
        "is_nan",
        "is_inf",
        "is_finite",
        "sign",
        "const",
        "iota",
        "size",
    ]
)


def pointwise(node: Node, args: Sequence[L.Expr]) -> L.Expr:
    """The expression of a pointwise node; f16 and bf16 results are rounded at once."""
    dtype = node.output.dtype
    if node.name == "cast":
        return convert(args[0], dtype)
    result = RULES[node.name](*_unified(args))
    return rounded(result, dtype)


def _unified(args: Sequence[L.Expr]) -> list[L.Expr]:
    lanes = max(a.lanes for a in args)
    return [L.splat(a, lanes) for a in args]


def convert(a: L.Expr, dtype: DType) -> L.Expr:
    """``cast``, also of masks."""
    return L.cast(a, dtype)


def rounded(a: L.Expr, dtype: DType) -> L.Expr:
    """What a store and a load would give."""
    return L.cast(a, dtype) if L.compute_dtype(dtype) is not dtype else a
