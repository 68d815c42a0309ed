"""Symbolic sizes: integer polynomials over named symbols, with floordiv, mod, min and max.

A size is ``int | Dim``; arithmetic whose result is constant gives a plain ``int``.  Two dims are
equal when their canonical polynomials are, which is a proof; unequal dims may still have equal
values at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Union

from oarlock.errors import UserError

Bounds = tuple[int, Union[int, None]]
Atom = Union["Symbol", "Call"]
Monomial = tuple[Atom, ...]  # sorted by text, an atom repeated for its power


UNBOUNDED = -(1 << 62)
"""The low end of a number that may be negative."""


class Symbol:
    """A named size with an inclusive range; symbols of one name are the same size."""

    __slots__ = ("high", "low", "name")

    def __init__(self, name: str, low: int, high: int | None) -> None:
        self.name, self.low, self.high = name, low, high

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Symbol) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __str__(self) -> str:
        return self.name


class Call:
    """``floordiv``, ``mod``, ``min`` or ``max`` of two sizes that does not simplify."""

    __slots__ = ("_text", "a", "b", "kind")

    def __init__(self, kind: str, a: Size, b: Size) -> None:
        self.kind, self.a, self.b = kind, a, b
        if kind in ("min", "max"):
            self._text = f"{kind}({a}, {b})"
        else:
            sign = {"floordiv": "//", "mod": " % "}[kind]  # spaces: %b would read as a value
            self._text = f"({_wrap(a)}{sign}{_wrap(b)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Call) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __str__(self) -> str:
        return self._text


def _wrap(size: Size) -> str:
    text = str(size)
    return text if text.isidentifier() or text.isdigit() else f"({text})"


class Dim:
    """A symbol, or a polynomial of symbols: ``Dim("N", min=1, max=64) * 4 + 1``.

    Args: name: an identifier; min, max: inclusive range, elements; None is unbounded, below as for a
    number that need not be a size.
    """

    __slots__ = ("_hash", "_text", "terms")
    terms: tuple[tuple[Monomial, int], ...]

    def __init__(self, name: str, min: int | None = 1, max: int | None = None) -> None:
        if not (isinstance(name, str) and name.isascii() and name.isidentifier()):
            raise UserError(f"Dim({name!r}): expected an identifier such as 'N'")
        if name in ("min", "max"):
            raise UserError(f"Dim({name!r}): the name is taken by the function {name}")
        min = UNBOUNDED if min is None else min
        if UNBOUNDED < min < 0 or (max is not None and max < min):
            raise UserError(f"Dim({name!r}, min={min}, max={max}): expected 0 <= min <= max")
        self._set((((Symbol(name, min, max),), 1),))

    def _set(self, terms: tuple[tuple[Monomial, int], ...]) -> None:
        self.terms = terms
        self._text = _print(terms)
        self._hash = hash(self._text)

    @property
    def is_symbol(self) -> bool:
        """A bare symbol, not an expression."""
        return self.symbol is not None

    @property
    def symbol(self) -> Symbol | None:
        """The symbol when this is a bare one."""
        if len(self.terms) == 1 and self.terms[0][1] == 1 and len(self.terms[0][0]) == 1:
            atom = self.terms[0][0][0]
            return atom if isinstance(atom, Symbol) else None
        return None

    @property
    def name(self) -> str:
        """The name of a bare symbol, else the text of the expression."""
        return self._text

    def bounds(self) -> Bounds:
        """Inclusive (low, high); high None is unbounded."""
        return _bounds(self)

    def symbols(self) -> set[str]:
        """Names of the symbols in it."""
        return {symbol.name for symbol in self.atoms()}

    def atoms(self) -> set[Symbol]:
        """The symbols in it."""
        found: set[Symbol] = set()
        for monomial, _ in self.terms:
            for atom in monomial:
                if isinstance(atom, Symbol):
                    found.add(atom)
                else:
                    for part in (atom.a, atom.b):
                        found |= part.atoms() if isinstance(part, Dim) else set()
        return found

    def evaluate(self, env: Mapping[str, int]) -> int:
        """The value under ``env``.  Raises: UserError when a symbol is missing."""
        value = self.substitute(env)
        if isinstance(value, Dim):
            missing = ", ".join(sorted(value.symbols()))
            raise UserError(f"size {self}: no value for {missing}; got {dict(env)}")
        return value

    def substitute(self, env: Mapping[str, Size]) -> Size:
        """Replace symbols by sizes."""
        total: Size = 0
        for monomial, coefficient in self.terms:
            term: Size = coefficient
            for atom in monomial:
                term = term * _substitute_atom(atom, env)
            total = total + term
        return total

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dim) and self._text == other._text

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        return self._text

    __repr__ = __str__

    def __add__(self, other: Size) -> Size:
        return _sum([(self, 1), (other, 1)]) if _is_size(other) else NotImplemented

    def __sub__(self, other: Size) -> Size:
        return _sum([(self, 1), (other, -1)]) if _is_size(other) else NotImplemented

    def __rsub__(self, other: Size) -> Size:
        return _sum([(self, -1), (other, 1)]) if _is_size(other) else NotImplemented

    def __neg__(self) -> Size:
        return _sum([(self, -1)])

    def __mul__(self, other: Size) -> Size:
        return _multiply(self, other) if _is_size(other) else NotImplemented

    __radd__, __rmul__ = __add__, __mul__

    def __floordiv__(self, other: Size) -> Size:
        return _floordiv(self, other) if _is_size(other) else NotImplemented

    def __rfloordiv__(self, other: Size) -> Size:
        return _floordiv(other, self) if _is_size(other) else NotImplemented

    def __mod__(self, other: Size) -> Size:
        return _mod(self, other) if _is_size(other) else NotImplemented

    def __rmod__(self, other: Size) -> Size:
        return _mod(other, self) if _is_size(other) else NotImplemented

    def __bool__(self) -> bool:
        return True

    def __index__(self) -> int:
        raise TypeError(f"size {self} is symbolic, an int is needed here")


Size = Union[int, Dim]


def _is_size(x: object) -> bool:
    return isinstance(x, (int, Dim))


def _terms(size: Size) -> Iterable[tuple[Monomial, int]]:
    if isinstance(size, Dim):
        return size.terms
    return (((), int(size)),) if size else ()


def _make(terms: Mapping[Monomial, int]) -> Size:
    kept = [(monomial, c) for monomial, c in terms.items() if c]
    if not kept:
        return 0
    if len(kept) == 1 and not kept[0][0]:
        return kept[0][1]
    kept.sort(key=lambda term: (-len(term[0]), [str(atom) for atom in term[0]]))
    dim = Dim.__new__(Dim)
    dim._set(tuple(kept))
    return dim


def _sum(parts: Iterable[tuple[Size, int]]) -> Size:
    total: dict[Monomial, int] = {}
    for size, sign in parts:
        for monomial, c in _terms(size):
            total[monomial] = total.get(monomial, 0) + sign * c
    return _make(total)


def _multiply(a: Size, b: Size) -> Size:
    total: dict[Monomial, int] = {}
    for x, c in _terms(a):
        for y, d in _terms(b):
            monomial = tuple(sorted(x + y, key=str))
            total[monomial] = total.get(monomial, 0) + c * d
    return _make(total)


def _print(terms: tuple[tuple[Monomial, int], ...]) -> str:
    parts: list[str] = []
    for monomial, c in terms:
        factors = "*".join(str(atom) for atom in monomial)
        magnitude = (
            factors if abs(c) == 1 and factors else "*".join(filter(None, (str(abs(c)), factors)))
        )
        sign = "-" if c < 0 else "+"
        parts.append(magnitude if not parts and c > 0 else f"{sign}{magnitude}")
    return "".join(parts)


def _divide_monomial(monomial: Monomial, by: Monomial) -> Monomial | None:
    rest = list(monomial)
    for atom in by:
        if atom not in rest:
            return None
        rest.remove(atom)
    return tuple(rest)


def _split(a: Size, b: Size) -> tuple[Size, Size]:
    """``a == quotient * b + rest`` with every term that divides evenly in the quotient."""
    divisor = list(_terms(b))
    quotient: dict[Monomial, int] = {}
    rest: dict[Monomial, int] = {}
    if len(divisor) == 1:
        by, d = divisor[0]
        for monomial, c in _terms(a):
            left = _divide_monomial(monomial, by)
            if left is None or (c % d and left):
                rest[monomial] = c
            elif left or by:
                whole, part = (c // d, c % d)
                quotient[left] = quotient.get(left, 0) + whole
                if part:
                    rest[monomial] = part
            else:
                quotient[()] = quotient.get((), 0) + c // d
                if c % d:
                    rest[()] = c % d
        return _make(quotient), _make(rest)
    return _split_polynomial(a, b)


def _split_polynomial(a: Size, b: Size) -> tuple[Size, Size]:
    """Long division by leading terms; all or nothing."""
    lead, d = next(iter(_terms(b)))
    quotient: Size = 0
    rest = a
    for _ in range(16):
        if not isinstance(rest, Dim):
            break
        for monomial, c in rest.terms:
            left = _divide_monomial(monomial, lead)
            if left is not None and c % d == 0:
                step = _make({left: c // d})
                quotient, rest = quotient + step, rest - step * b
                break
        else:
            break
    return (quotient, rest) if rest == 0 else (0, a)


def _check_divisor(a: Size, b: Size) -> None:
    if b == 0:
        raise UserError(f"size {a} divided by zero")


def _floordiv(a: Size, b: Size) -> Size:
    _check_divisor(a, b)
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    quotient, rest = _split(a, b)
    if rest == 0 or _within(rest, b):
        return quotient
    if quotient != 0:
        return quotient + _floordiv(rest, b)
    exact, left = _split(without_mod(a), without_mod(b)) if _has_mod(a) or _has_mod(b) else (0, a)
    if left == 0:
        return exact
    shift, inner = _shifted_atom(a)
    if isinstance(inner, Call) and inner.kind == "floordiv" and _positive(b) and _positive(inner.b):
        return _floordiv(inner.a + inner.b * shift, inner.b * b)
    return _make({(Call("floordiv", a, b),): 1})


def _mod(a: Size, b: Size) -> Size:
    _check_divisor(a, b)
    if isinstance(a, int) and isinstance(b, int):
        return a % b
    _, rest = _split(a, b)
    if rest == 0 or _within(rest, b):
        return rest
    return _make({(Call("mod", rest, b),): 1})


def _has_mod(a: Size) -> bool:
    return isinstance(a, Dim) and " % " in a._text


def without_mod(a: Size) -> Size:
    """``a`` with ``x - k * (x // k)`` for every ``x % k``: padded and cut sizes as multiples of k."""
    if not isinstance(a, Dim) or not _has_mod(a):
        return a
    total: Size = 0
    for monomial, c in a.terms:
        term: Size = c
        for atom in monomial:
            term = term * _atom_without_mod(atom)
        total = total + term
    return total


def _atom_without_mod(atom: Atom) -> Size:
    if isinstance(atom, Symbol):
        return _make({(atom,): 1})
    a, b = without_mod(atom.a), without_mod(atom.b)
    if atom.kind == "mod" and _positive(b):
        return a - b * _rounded_down(a, b)
    if atom.kind == "floordiv" and _positive(b):
        return _rounded_down(a, b)
    return _APPLY[atom.kind](a, b)


def _rounded_down(a: Size, b: Size) -> Size:
    """``a // b`` for a positive b, by what is not negative."""
    high = bounds(a)[1]
    return -((b - 1 - a) // b) if high is not None and high <= 0 else a // b


def in_multiples(a: Size) -> Size:
    """``a`` without remainders where that makes it shorter: ``T - T % 4`` is ``4 * (T // 4)``."""
    shorter = without_mod(a)
    is_shorter = not isinstance(shorter, Dim) or len(shorter.terms) < len(list(_terms(a)))
    return shorter if is_shorter else a


def _shifted_atom(a: Size) -> tuple[int, Atom | None]:
    """``shift`` and ``atom`` where a is ``atom + shift``."""
    terms = [term for term in _terms(a) if term[0]]
    if len(terms) == 1 and terms[0][1] == 1 and len(terms[0][0]) == 1:
        return sum(c for monomial, c in _terms(a) if not monomial), terms[0][0][0]
    return 0, None


def _positive(a: Size) -> bool:
    return bounds(a)[0] > 0


def _within(rest: Size, b: Size) -> bool:
    """``0 <= rest < b``, proven."""
    return bounds(rest)[0] >= 0 and bounds(b - rest)[0] > 0


def dim_min(a: Size, b: Size) -> Size:
    """The smaller of two sizes, simplified where the ranges prove which."""
    return _extreme("min", a, b)


def dim_max(a: Size, b: Size) -> Size:
    """The larger of two sizes, simplified where the ranges prove which."""
    return _extreme("max", a, b)


def _extreme(kind: str, a: Size, b: Size) -> Size:
    low, high = bounds(b - a)
    if low >= 0:
        return a if kind == "min" else b
    if high is not None and high <= 0:
        return b if kind == "min" else a
    a, b = sorted((a, b), key=str)
    return _make({(Call(kind, a, b),): 1})


_APPLY: dict[str, Callable[[Size, Size], Size]] = {
    "floordiv": _floordiv,
    "mod": _mod,
    "min": dim_min,
    "max": dim_max,
}


def _substitute_atom(atom: Atom, env: Mapping[str, Size]) -> Size:
    if isinstance(atom, Symbol):
        return env[atom.name] if atom.name in env else _make({(atom,): 1})
    a, b = (x.substitute(env) if isinstance(x, Dim) else x for x in (atom.a, atom.b))
    return _APPLY[atom.kind](a, b)


def _interval_product(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    corners = [0.0 if 0 in (x, y) else x * y for x in a for y in b]
    return min(corners), max(corners)


_INFINITE = float("inf")
PROVABLE = 80  # characters of a size whose bounds are worth a search


@lru_cache(maxsize=65536)
def _bounds_of_text(dim: Dim, _ranges: tuple[tuple[str, int, int | None], ...]) -> Bounds:
    low, high = 0.0, 0.0
    for monomial, c in dim.terms:
        term = (float(c), float(c))
        for atom in monomial:
            term = _interval_product(term, _atom_interval(atom))
        low, high = low + term[0], high + term[1]
    low, high = max(low, _low_by_parts(dim)), min(high, -_low_by_parts(-dim))
    floor = -(1 << 62) if low == -_INFINITE else int(low)
    return floor, None if high == _INFINITE else int(high)


def _low_by_parts(dim: Size) -> float:
    """A lower bound that knows ``a // d <= a / d``, ``min(a, b) <= a`` and the like.

    One such atom, linear in ``dim``, is replaced by what bounds it; the rest follows from that.
    """
    if not isinstance(dim, Dim):
        return float(dim)
    if len(dim._text) > PROVABLE:
        return -_INFINITE
    for monomial, c in dim.terms:
        if len(monomial) != 1 or not isinstance(monomial[0], Call):
            continue
        atom = monomial[0]
        rest = _sum([(dim, 1), (_make({monomial: c}), -1)])
        if atom.kind == "floordiv" and isinstance(atom.b, int) and atom.b > 0:
            numerator = atom.a if c < 0 else atom.a - (atom.b - 1)
            scaled = bounds(rest * atom.b + numerator * c)[0]
            return float(-(-scaled // atom.b)) if scaled > -(1 << 62) else -_INFINITE
        if atom.kind in ("min", "max"):
            lows = [float(bounds(rest + part * c)[0]) for part in (atom.a, atom.b)]
            return max(lows) if (atom.kind == "min") == (c < 0) else min(lows)
    return -_INFINITE


def _bounds(dim: Dim) -> Bounds:
    ranges = tuple(sorted((s.name, s.low, s.high) for s in dim.atoms()))
    return _bounds_of_text(dim, ranges)


def _interval(size: Size) -> tuple[float, float]:
    low, high = bounds(size)
    return float(low), _INFINITE if high is None else float(high)


def _atom_interval(atom: Atom) -> tuple[float, float]:
    if isinstance(atom, Symbol):
        return float(atom.low), _INFINITE if atom.high is None else float(atom.high)
    (a, b), (c, d) = _interval(atom.a), _interval(atom.b)
    if atom.kind == "min":
        return min(a, c), min(b, d)
    if atom.kind == "max":
        return max(a, c), max(b, d)
    if atom.kind == "mod":
        return (0.0, d - 1) if c > 0 else (-_INFINITE, _INFINITE)
    if c > 0:
        quotients = [_floor_quotient(x, y) for x in (a, b) for y in (c, d)]
        return min(quotients), max(quotients)
    return -_INFINITE, _INFINITE


def _floor_quotient(x: float, y: float) -> float:
    if abs(x) == _INFINITE:
        return 0.0 if y == _INFINITE else x
    return (0.0 if x >= 0 else -1.0) if y == _INFINITE else x // y


def bounds(size: Size) -> Bounds:
    """Inclusive (low, high) of a size; high None is unbounded."""
    return size.bounds() if isinstance(size, Dim) else (int(size), int(size))


def evaluate_size(size: Size, env: Mapping[str, int]) -> int:
    """The value of a size under ``env``."""
    return size.evaluate(env) if isinstance(size, Dim) else int(size)


def substitute_size(size: Size, env: Mapping[str, Size]) -> Size:
    """Replace symbols of a size."""
    return size.substitute(env) if isinstance(size, Dim) else size


def product(sizes: Iterable[Size]) -> Size:
    """The product of sizes; 1 for none."""
    total: Size = 1
    for size in sizes:
        total = total * size
    return total


def solve_linear(size: Dim, name: str, env: Mapping[str, int], got: int) -> int | None:
    """The value of ``name`` that makes ``size`` equal ``got``, or None."""
    at_0, at_1 = (size.substitute({**env, name: n}) for n in (0, 1))
    if isinstance(at_0, Dim) or isinstance(at_1, Dim) or at_0 == at_1:
        return None
    value = (got - at_0) // (at_1 - at_0)
    return value if value >= 0 and size.substitute({**env, name: value}) == got else None
