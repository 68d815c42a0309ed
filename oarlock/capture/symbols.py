"""Sympy expressions over torch's size symbols: to Sizes, to nodes, and to proofs about them."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import sympy

from oarlock.errors import UserError
from oarlock.ir import Builder, Dim, DType, Size, Value, bounds, dim_max, dim_min, f64, i64
from oarlock.ir.dim import Symbol, in_multiples

Dims = Mapping[sympy.Symbol, Dim]
ENUMERATED = 4096  # combinations of sizes that are tried one by one

_SIZES: dict[str, Callable[[Any, Any], Size]] = {
    "Add": lambda a, b: a + b,
    "Mul": lambda a, b: a * b,
    "FloorDiv": lambda a, b: a // b,
    "CleanDiv": lambda a, b: a // b,
    "Mod": lambda a, b: a % b,
    "PythonMod": lambda a, b: a % b,
    "Min": dim_min,
    "Max": dim_max,
}


_QUOTIENTS = ("CeilToInt", "FloorToInt", "TruncToInt")


def size_of(expr: Any, dims: Dims) -> Size:
    """``expr`` as a Size.  Raises: UserError when it is none, or depends on data."""
    if expr.is_Integer:
        return int(expr)
    if expr.is_Symbol:
        if expr not in dims:
            raise UserError(f"a size that depends on data: {expr}")
        return dims[expr]
    kind = type(expr).__name__
    if kind in _QUOTIENTS and type(expr.args[0]).__name__ == "IntTrueDiv":
        a, b = (size_of(arg, dims) for arg in expr.args[0].args)
        if kind == "CeilToInt" or bounds(a)[0] >= 0:
            return (a + b - 1) // b if kind == "CeilToInt" else a // b
    parts = [size_of(arg, dims) for arg in expr.args] if kind in (*_SIZES, "Pow") else []
    if kind == "Pow" and isinstance(parts[1], int) and parts[1] >= 0:
        return math.prod([parts[0]] * parts[1])
    if kind not in _SIZES:
        raise UserError(f"a size that is no polynomial: {readable(expr, dims)}")
    total = parts[0]
    for part in parts[1:]:
        total = _SIZES[kind](total, part)
    return in_multiples(total)


def value_of(b: Builder, expr: Any, dims: Dims) -> Value:
    """Nodes that compute ``expr``, an i64[] or f64[].  Raises: NotImplementedError."""
    try:
        size = size_of(expr, dims)
        return b.const(size, i64) if isinstance(size, int) else b.size(dim=size)
    except UserError:
        pass
    if expr.is_number:
        return b.const(float(expr), f64)
    if expr.is_Symbol:
        raise NotImplementedError(f"a number that depends on data: {expr}")
    kind = type(expr).__name__
    return _number(b, kind, [value_of(b, arg, dims) for arg in expr.args], expr)


_FLOATS = {
    "Add": "add", "Mul": "mul", "Min": "minimum", "Max": "maximum", "Pow": "pow",
    "FloatPow": "pow", "FloatTrueDiv": "div", "IntTrueDiv": "div", "PowByNatural": "pow",
    "FloorDiv": "floor_div", "Mod": "remainder", "PythonMod": "remainder",
}  # fmt: skip
_UNARY = {
    "sqrt": "sqrt", "exp": "exp", "log": "log", "log2": "log2", "cos": "cos", "sin": "sin",
    "tanh": "tanh", "asin": "asin", "acos": "acos", "atan": "atan", "cosh": "cosh", "sinh": "sinh",
    "tan": "tan",
}  # fmt: skip
_ROUNDINGS = {
    "FloorToInt": "floor", "CeilToInt": "ceil", "TruncToInt": "trunc", "RoundToInt": "round",
    "TruncToFloat": "trunc", "floor": "floor", "ceiling": "ceil",
}  # fmt: skip


def _number(b: Builder, kind: str, parts: list[Value], expr: Any) -> Value:
    wide = [_cast(b, x, f64) for x in parts]
    if kind == "ToFloat":
        return wide[0]
    if kind in _ROUNDINGS:
        rounded = getattr(b, _ROUNDINGS[kind])(wide[0])
        return rounded if kind == "TruncToFloat" else _cast(b, rounded, i64)
    name = kind.removeprefix("OpaqueUnaryFn_")
    if name in _UNARY:
        return getattr(b, _UNARY[name])(wide[0])
    if kind not in _FLOATS:
        raise NotImplementedError(f"a number computed from sizes: {expr}")
    total = wide[0]
    for part in wide[1:]:
        total = getattr(b, _FLOATS[kind])(total, part)
    return _cast(b, total, i64) if expr.is_integer and kind not in ("FloatPow",) else total


def _cast(b: Builder, x: Value, dtype: DType) -> Value:
    return x if x.dtype is dtype else b.cast(x, dtype=dtype)


def readable(expr: Any, dims: Dims) -> str:
    """``expr`` with the names of the dims."""
    names = {s: sympy.Symbol(str(d), integer=True) for s, d in dims.items()}
    return str(expr.xreplace(names)) if hasattr(expr, "xreplace") else str(expr)


def holds(condition: Any, dims: Dims) -> bool:
    """``condition`` is true for every admissible value of the dims: proven, or tried one by one."""
    if condition in (True, sympy.true):
        return True
    if condition in (False, sympy.false):
        return False
    if isinstance(condition, sympy.And):
        return all(holds(part, dims) for part in condition.args)
    if isinstance(condition, sympy.Or) and any(holds(part, dims) for part in condition.args):
        return True
    if isinstance(condition, sympy.Not) and isinstance(
        condition.args[0], sympy.logic.boolalg.Boolean
    ):
        inner = sympy.logic.boolalg.to_nnf(condition, simplify=False)
        if inner != condition:
            return holds(inner, dims)
    return _proven(condition, dims) or _enumerated(condition, dims)


def _proven(condition: Any, dims: Dims) -> bool:
    if not isinstance(condition, sympy.core.relational.Relational):
        return False
    try:
        difference = size_of(sympy.expand(condition.lhs - condition.rhs), dims)
    except UserError:
        return False
    low, high = bounds(difference)
    below = high is not None and high < 0
    if isinstance(condition, sympy.Eq):
        return difference == 0
    if isinstance(condition, sympy.Ne):
        return low > 0 or below
    if isinstance(condition, (sympy.Ge, sympy.Gt)):
        return low >= (0 if isinstance(condition, sympy.Ge) else 1)
    return below or (isinstance(condition, sympy.Le) and high == 0)


def _enumerated(condition: Any, dims: Dims) -> bool:
    used = [dims[s] for s in condition.free_symbols if s in dims]
    if len(used) < len(condition.free_symbols):
        return False
    atoms = {atom.name: atom for dim in used for atom in dim.atoms()}
    if any(atom.high is None for atom in atoms.values()):
        return False
    ranges = [range(atom.low, (atom.high or 0) + 1) for atom in atoms.values()]
    if math.prod(map(len, ranges)) > ENUMERATED:
        return False
    for sizes in itertools.product(*ranges):
        env = dict(zip(atoms, sizes))
        values = {s: dims[s].evaluate(env) for s in condition.free_symbols}
        if condition.xreplace({s: sympy.Integer(v) for s, v in values.items()}) != sympy.true:
            return False
    return True


SEARCHED = 4096  # sizes tried for the bound of a condition with divisions


def comparisons(condition: Any) -> list[Any]:
    """Which side of a ``Min`` or ``Max`` inside ``condition`` could be taken for granted."""
    found = []
    for part in sympy.preorder_traversal(condition):
        if type(part).__name__ in ("Min", "Max") and len(part.args) == 2:
            a, b = part.args
            found += [sympy.Ge(a, b), sympy.Le(a, b)]
    return found


def linear_bound(condition: Any, dims: Dims) -> tuple[str, int | None, int | None] | None:
    """``(name, low, high)`` when ``condition`` only bounds one dim; None for another form."""
    if not isinstance(condition, (sympy.Ge, sympy.Gt, sympy.Le, sympy.Lt)):
        return None
    line = _line(condition.gts - condition.lts, dims)
    if line is None:
        return _least(condition, dims)
    name, slope, start = line
    start -= isinstance(condition, (sympy.Gt, sympy.Lt))
    if slope > 0:  # start + slope * n >= 0
        return name, -(start // slope), None
    return name, None, start // -slope


def exceptions(condition: Any, dims: Dims, limit: int) -> tuple[str, list[int]] | None:
    """The dim, and its few admissible values for which ``condition`` is false; None when unknown."""
    found = _ends(condition, dims)
    if found is None:
        return _residues(condition, dims)
    atom, test, low, high = found
    above = [] if high is None else range(high + 1, (atom.high or 0) + 1)
    values = [n for n in [*range(atom.low, low), *above] if not test(n)]
    return (atom.name, values) if len(values) <= limit else _residues(condition, dims)


def true_from(condition: Any, dims: Dims) -> tuple[str, int] | None:
    """The dim, and its least value from which on ``condition`` is true; None when unknown."""
    found = _ends(condition, dims)
    return None if found is None or found[3] is not None else (found[0].name, found[2])


def true_until(condition: Any, dims: Dims) -> tuple[str, int] | None:
    """The dim, and its largest value until which ``condition`` is true; None when unknown."""
    found = _test(condition, dims)
    if found is None:
        return None
    atom, test = found
    wrong = next((n for n in range(atom.low, atom.low + SEARCHED) if not test(n)), atom.low)
    return (atom.name, wrong - 1) if wrong > atom.low else None


_TESTS: dict[type, Callable[[int, int], bool]] = {
    sympy.Ge: operator.ge, sympy.Gt: operator.gt, sympy.Le: operator.le, sympy.Lt: operator.lt,
    sympy.Eq: operator.eq, sympy.Ne: operator.ne,
}  # fmt: skip
Ends = tuple[Symbol, Callable[[int], bool], int, "int | None"]


def _test(condition: Any, dims: Dims) -> tuple[Symbol, Callable[[int], bool]] | None:
    """The only dim that decides, and the test of one value of it."""
    if type(condition) not in _TESTS:
        return None
    try:
        difference = size_of(sympy.expand(condition.lhs - condition.rhs), dims)
    except UserError:
        return None
    names = difference.symbols() if isinstance(difference, Dim) else set()
    if len(names) != 1 or not isinstance(difference, Dim):
        return None
    (atom,) = {a for dim in dims.values() for a in dim.atoms() if a.name in names}
    decide = _TESTS[type(condition)]
    return atom, lambda n: decide(difference.evaluate({atom.name: n}), 0)


def _ends(condition: Any, dims: Dims) -> Ends | None:
    """The dim that decides, the test of one value, and the range in which the test is proven.

    Above the range (from ``low`` to the end when ``high`` is None) the dim has an end as well.
    """
    found = _test(condition, dims)
    if found is None:
        return None
    atom, test = found
    if atom.low < -SEARCHED:  # a number of the run
        return None
    last = SEARCHED if atom.high is None else min(atom.high, SEARCHED)
    wrong = [n for n in range(atom.low, last + 1) if not test(n)]
    low = wrong[-1] + 1 if wrong else atom.low
    if low <= last and _holds_within(condition, dims, Dim(atom.name, low, atom.high)):
        return atom, test, low, None
    if atom.high is None or atom.high > SEARCHED or not wrong:
        return None
    return atom, test, atom.low, wrong[0] - 1


def _holds_within(condition: Any, dims: Dims, dim: Dim) -> bool:
    narrow = {s: d.substitute({dim.name: dim}) for s, d in dims.items()}
    return holds(condition, {s: d for s, d in narrow.items() if isinstance(d, Dim)})


PERIOD = 64  # the longest period of a condition that is tried in every class of sizes


def _residues(condition: Any, dims: Dims) -> tuple[str, list[int]] | None:
    """The dim, and two sizes of every class modulo its period for which ``condition`` is false."""
    used = [s for s in condition.free_symbols if s in dims]
    period = _period(condition)
    if len(used) != 1 or not 1 < period <= PERIOD or not dims[used[0]].is_symbol:
        return None
    dim = dims[used[0]]
    low, high = dim.bounds()
    tried = [n for k in (0, 2) for n in range(low + k * period, low + (k + 1) * period)]
    tried = [n for n in tried if high is None or n <= high]
    return dim.name, [n for n in tried if condition.xreplace({used[0]: sympy.Integer(n)}) == False]  # noqa: E712


def _period(expr: Any) -> int:
    """After how many sizes ``expr`` is the same again; 0 when it is never."""
    kind = type(expr).__name__
    if kind in ("Mod", "PythonMod") and expr.args[1].is_Integer:
        inner = _period_within(expr.args[0])
        return math.lcm(int(expr.args[1]), inner) if inner else 0
    if expr.is_Symbol:
        return 0
    periods = [_period(arg) for arg in expr.args]
    return math.lcm(*periods) if all(periods) else 0


def _period_within(expr: Any) -> int:
    """The period of a polynomial inside of a Mod, apart from that of the Mod."""
    if expr.is_Symbol or expr.is_Integer:
        return 1
    if type(expr).__name__ in ("Add", "Mul"):
        periods = [_period_within(arg) for arg in expr.args]
        return math.lcm(*periods) if all(periods) else 0
    return _period(expr)


def _line(expr: Any, dims: Dims) -> tuple[str, int, int] | None:
    """``(name, slope, start)`` of ``start + slope * name``; None for another form."""
    try:
        size = size_of(sympy.expand(expr), dims)
    except UserError:
        return None
    names = size.symbols() if isinstance(size, Dim) else set()
    if len(names) != 1:
        return None
    assert isinstance(size, Dim)
    if any(len(monomial) > 1 or not all(map(_is_plain, monomial)) for monomial, _ in size.terms):
        return None
    (name,) = names
    start, next_ = _at(size, name, 0), _at(size, name, 1)
    return name, next_ - start, start


def _is_plain(atom: Any) -> bool:
    return isinstance(atom, Symbol)


def _least(condition: Any, dims: Dims) -> tuple[str, int, None] | None:
    """A lower bound of one dim from which on a condition with divisions is proven."""
    try:
        size = size_of(sympy.expand(condition.gts - condition.lts), dims)
    except UserError:
        return None
    difference = size - isinstance(condition, (sympy.Gt, sympy.Lt))
    names = difference.symbols() if isinstance(difference, Dim) else set()
    if len(names) != 1 or not isinstance(difference, Dim):
        return None
    (name,) = names
    low = next((n for n in range(1, SEARCHED) if _at(difference, name, n) >= 0), None)
    if low is None:
        return None
    proven = bounds(difference.substitute({name: Dim(name, min=low)}))[0] >= 0
    return (name, low, None) if proven else None


def _at(size: Size, name: str, n: int) -> int:
    return size.evaluate({name: n}) if isinstance(size, Dim) else size
