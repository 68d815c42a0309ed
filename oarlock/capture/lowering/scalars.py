"""Numbers of a tape as nodes: exact integer and double arithmetic, truth values."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import sympy
import torch

from oarlock.capture.lowering import failures, rounding, whole
from oarlock.capture.lowering.kinds import SYMBOLS, Maybe, Truth, is_symbolic, kind_of
from oarlock.capture.lowering.run_time import RunTimeShapes
from oarlock.capture.symbols import holds, size_of
from oarlock.ir import Builder, DType, Value, bool_, f64, i64

DTYPES: dict[type, DType] = {bool: bool_, int: i64, float: f64}


class Scalars:
    """Arithmetic of a tape's numbers."""

    def __init__(self, b: Builder, shapes: RunTimeShapes) -> None:
        self.b, self.shapes = b, shapes

    # ---- to values

    def value(self, x: Any, dtype: DType | None = None) -> Value:
        """``x`` as a scalar of its own type, or of ``dtype``."""
        found = self._value(x)
        return found if dtype in (None, found.dtype) else self.b.cast(found, dtype=dtype)

    def _value(self, x: Any) -> Value:
        if isinstance(x, Truth):
            return x.value
        if isinstance(x, SYMBOLS):
            return self.expression(x.node.expr)
        kind = kind_of(x)
        return whole.const(self.b, x) if kind is int else self.b.const(x, DTYPES[kind])

    def expression(self, expr: Any) -> Value:
        """Nodes that compute a sympy expression: i64[], f64[] or bool[].

        Raises: NotImplementedError for a function that there is no op for.
        """
        if expr in self.shapes.numbers:
            return self.shapes.numbers[expr]
        if not self.shapes.is_number(expr) and expr.is_integer and not expr.is_Boolean:
            size = size_of(expr, self.shapes.symbols)
            return whole.const(self.b, size) if isinstance(size, int) else self.b.size(dim=size)
        kind = type(expr).__name__
        if kind in ("BooleanTrue", "BooleanFalse"):
            return self.b.const(kind == "BooleanTrue", bool_)
        if expr.is_Number:
            is_whole = expr.is_Integer
            return whole.const(self.b, int(expr)) if is_whole else self.b.const(float(expr), f64)
        parts = [self.expression(arg) for arg in expr.args]
        if kind in _RELATIONS:
            return self.compare(_RELATIONS[kind], *parts)
        if kind in _LOGIC:
            return self._chain(_LOGIC[kind], parts)
        if kind == "Not":
            return self.b.logical_not(parts[0])
        if all(p.dtype is i64 for p in parts):
            if kind in _WHOLE:
                return self._chain(_WHOLE[kind], parts)
            if kind == "Pow":
                return whole.power(self.b, parts[0], int(expr.args[1]))
        if kind in ("FloatTrueDiv", "IntTrueDiv"):
            return self.b.div(*(self._wide(p) for p in parts))
        if kind in _ROUNDED:
            return self.b.cast(getattr(self.b, _ROUNDED[kind])(self._wide(parts[0])), dtype=i64)
        if kind == "ToFloat":
            return self._wide(parts[0])
        if kind in _WIDE:
            return self._chain(_WIDE[kind], [self._wide(p) for p in parts])
        raise NotImplementedError(f"a number computed as {expr}")

    def _wide(self, x: Value) -> Value:
        return x if x.dtype is f64 else self.b.cast(x, dtype=f64)

    def _chain(self, name: str, parts: list[Value]) -> Value:
        return functools.reduce(functools.partial(self._two, name), parts)

    def _two(self, name: str, x: Value, y: Value) -> Value:
        checked = whole.CHECKED.get(name) if x.dtype is i64 else None
        return checked(self.b, x, y) if checked else getattr(self.b, name)(x, y)

    def compare(self, name: str, x: Value, y: Value) -> Value:
        """A comparison as Python makes it."""
        if x.dtype is not y.dtype:
            wide = f64 if f64 in (x.dtype, y.dtype) else i64
            x, y = (v if v.dtype is wide else self.b.cast(v, dtype=wide) for v in (x, y))
        return getattr(self.b, name)(x, y)

    # ---- from values

    def number(self, value: Value) -> Any:
        """What Python code holds for a scalar value."""
        if value.dtype.is_bool:
            return Truth(value)
        wide = f64 if value.dtype.is_float else i64
        return self.shapes.number_of(
            value if value.dtype is wide else self.b.cast(value, dtype=wide)
        )

    def truth(self, x: Any) -> Any:
        """``bool(x)`` of a number: a plain bool, or a Truth."""
        if isinstance(x, Truth) or not is_symbolic(x):
            return x if isinstance(x, Truth) else bool(x)
        value = self._value(x)
        if value.dtype is bool_:
            return Truth(value)
        return Truth(self.b.ne(value, self.b.const(0, value.dtype)))

    # ---- arithmetic

    def compute(self, func: Callable[..., Any], args: tuple) -> Any:
        """``func(*args)``, some of them symbolic.  Raises: NotImplementedError."""
        failures.before(self, func, args)
        found = self._computed(func, args)
        failures.after(self, func, args, found)
        return found

    def _computed(self, func: Callable[..., Any], args: tuple) -> Any:
        whole = [isinstance(x, (int, torch.SymInt)) and not isinstance(x, bool) for x in args]
        if func in _EXACT and all(whole):
            return _NATIVE.get(func, func)(*args)
        if func in _COMPARISONS and all(whole):
            known = self.decided(func(*args))
            if known is not None:
                return known
        rule = _RULES.get(func)
        if rule is None:
            raise NotImplementedError(
                f"{getattr(func, '__name__', func)} of a number known at run time"
            )
        return rule(self, *args)

    def decided(self, condition: Any) -> bool | None:
        """What a condition on sizes always is; None when that is not known."""
        if isinstance(condition, bool):
            return condition
        expr, dims = condition.node.expr, self.shapes.symbols
        if self.shapes.is_number(expr):
            return None
        if holds(expr, dims):
            return True
        return False if holds(sympy.Not(expr), dims) else None

    def arithmetic(self, name: str, *args: Any, wide: bool = False) -> Any:
        """An op on numbers: in f64 when one is a float, or always; else in i64."""
        dtype = f64 if wide or any(kind_of(x) is float for x in args) else i64
        values = [self.value(x, dtype) for x in args]
        found = getattr(self.b, name)(*values) if len(values) == 1 else self._two(name, *values)
        return self.number(found)


_RELATIONS = {
    "Equality": "eq", "Unequality": "ne", "StrictLessThan": "lt", "LessThan": "le",
    "StrictGreaterThan": "gt", "GreaterThan": "ge",
}  # fmt: skip
_LOGIC = {"And": "bit_and", "Or": "bit_or", "Xor": "bit_xor"}
_WHOLE = {
    "Add": "add", "Mul": "mul", "FloorDiv": "floor_div", "CleanDiv": "floor_div", "Mod": "remainder",
    "PythonMod": "remainder", "Min": "minimum", "Max": "maximum",
}  # fmt: skip
_WIDE = {
    "Add": "add",
    "Mul": "mul",
    "Min": "minimum",
    "Max": "maximum",
    "FloatPow": "pow",
    "Pow": "pow",
}
_ROUNDED = {
    "FloorToInt": "floor",
    "CeilToInt": "ceil",
    "TruncToInt": "trunc",
    "RoundToInt": "round",
}

_EXACT = {
    operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod, operator.neg,
    operator.pos, min, max,
}  # fmt: skip
_COMPARISONS = (
    operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge,
)  # fmt: skip
_NATIVE: dict[Any, Callable[..., Any]] = {
    min: lambda *xs: _extreme(torch.sym_min, xs),
    max: lambda *xs: _extreme(torch.sym_max, xs),
}


def _extreme(pick: Callable[..., Any], items: Any) -> Any:
    items = items[0] if len(items) == 1 else items
    total = items[0]
    for item in items[1:]:
        total = pick(total, item)
    return total


def _simple(name: str, wide: bool = False) -> Callable[..., Any]:
    return lambda s, *args: s.arithmetic(name, *args, wide=wide)


def _comparison(name: str) -> Callable[..., Any]:
    return lambda s, x, y: Truth(s.compare(name, s.value(x), s.value(y)))


def _logic(name: str) -> Callable[..., Any]:
    def rule(s: Scalars, x: Any, y: Any) -> Any:
        if kind_of(x) is bool and kind_of(y) is bool:
            return Truth(getattr(s.b, name)(s.value(x), s.value(y)))
        return s.arithmetic(name, x, y)

    return rule


def _whole(name: str) -> Callable[..., Any]:
    """Rounded to an integer."""

    def rule(s: Scalars, x: Any) -> Any:
        if kind_of(x) is not float:
            return s.number(s.value(x, i64))
        rounded = getattr(s.b, name)(s.value(x))
        whole.require_fit(s.b, rounded)
        return s.number(s.b.cast(rounded, dtype=i64))

    return rule


def _round(s: Scalars, x: Any, digits: Any = None) -> Any:
    return _whole("round")(s, x) if digits is None else rounding.rounded(s, x, digits)


def _power(s: Scalars, x: Any, y: Any) -> Any:
    if float in (kind_of(x), kind_of(y)) or _is_negative(y):
        return s.arithmetic("pow", x, y, wide=True)
    exponent = s.value(y, i64) if is_symbolic(y) else int(y)
    return s.number(whole.power(s.b, s.value(x, i64), exponent))


def _is_negative(x: Any) -> bool:
    """A negative number, or ``-n`` of one of the run, which is taken for negative."""
    return (
        x.node.expr.could_extract_minus_sign()
        if isinstance(x, torch.SymInt)
        else (not is_symbolic(x) and x < 0)
    )


def _shifted(func: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """``x << n`` and ``x >> n`` by the power of 2."""

    def rule(s: Scalars, x: Any, n: Any) -> Any:
        return s.compute(func, (x, s.compute(operator.pow, (2, n)) if is_symbolic(n) else 2**n))

    return rule


def _pick(is_better: str) -> Callable[..., Any]:
    """The first of the items that no later one is better than, as Python's ``min`` and ``max``."""

    def rule(s: Scalars, *items: Any) -> Any:
        items = items[0] if len(items) == 1 else items
        if len({kind_of(x) for x in items}) > 1:
            raise NotImplementedError("min and max of an int and a float known at run time")
        total = s.value(items[0])
        for item in map(s.value, items[1:]):
            total = s.b.where(s.compare(is_better, item, total), item, total)
        return s.number(total)

    return rule


def _negated(s: Scalars, x: Any) -> Any:
    found = s.truth(x)
    return Truth(s.b.logical_not(found.value)) if isinstance(found, Truth) else not found


def _identical(s: Scalars, x: Any, y: Any) -> Any:
    if isinstance(x, Maybe) and y is None:
        return Truth(s.b.logical_not(s.value(x.flag)))
    return x is y


def _different(s: Scalars, x: Any, y: Any) -> Any:
    found = _identical(s, x, y)
    return _negated(s, found)


_RULES: dict[Any, Callable[..., Any]] = {
    operator.add: _simple("add"), operator.sub: _simple("sub"), operator.mul: _simple("mul"),
    operator.truediv: _simple("div", True), operator.floordiv: _simple("floor_div"),
    operator.mod: _simple("remainder"), operator.pow: _power, pow: _power,
    operator.neg: _simple("neg"), operator.invert: lambda s, x: s.arithmetic("sub", -1, x), operator.pos: lambda s, x: x, operator.abs: _simple("abs"),
    abs: _simple("abs"), min: _pick("lt"), max: _pick("gt"),
    operator.eq: _comparison("eq"), operator.ne: _comparison("ne"), operator.lt: _comparison("lt"),
    operator.le: _comparison("le"), operator.gt: _comparison("gt"), operator.ge: _comparison("ge"),
    operator.and_: _logic("bit_and"), operator.or_: _logic("bit_or"), operator.xor: _logic("bit_xor"),
    operator.lshift: _shifted(operator.mul), operator.rshift: _shifted(operator.floordiv),
    operator.not_: _negated, operator.truth: lambda s, x: s.truth(x), bool: lambda s, x: s.truth(x),
    int: _whole("trunc"), float: lambda s, x: s.number(s.value(x, f64)), round: _round,
    math.trunc: _whole("trunc"), math.floor: _whole("floor"), math.ceil: _whole("ceil"),
    operator.is_: _identical, operator.is_not: _different,
    **{getattr(math, n): _simple(n, True) for n in ("sqrt", "exp", "log", "log2", "sin", "cos",
       "tan", "tanh", "asin", "acos", "atan", "sinh", "cosh", "pow", "fabs") if n != "fabs"},
    math.fabs: _simple("abs", True),
    math.isnan: lambda s, x: Truth(s.b.is_nan(s.value(x, f64))),
    math.isfinite: lambda s, x: Truth(s.b.is_finite(s.value(x, f64))),
    math.isinf: lambda s, x: Truth(s.b.eq(s.b.abs(s.value(x, f64)), s.b.const(math.inf, f64))),
}  # fmt: skip
