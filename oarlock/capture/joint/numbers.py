"""Python numbers that change from call to call, while a step is recorded.

A ``Number`` is the node behind a ``torch.SymFloat``, ``SymInt`` or ``SymBool``: arithmetic on it
records f64 (i64) nodes, so that a learning rate or ``step.item()`` stays exact double arithmetic.
What comes from the caller (an option of an optimizer) may be asked for its truth: the answer becomes
a ``Guard``.  What comes from tensors may not, but where a call has shown the way that data take.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from oarlock.ir import Value, bool_, f64, i64

_DIVISIONS = ("div", "floor_div", "remainder")
Compute = Callable[[Sequence[Any]], Any]


class DataDependent(NotImplementedError):
    """The code asks for a plain number that depends on data."""


@dataclass(frozen=True)
class Guard:
    """What a number from the caller was when the code asked; ``compute`` gives it for new ones."""

    compute: Compute
    expected: Any

    def holds(self, given: Sequence[Any]) -> bool:
        return self.compute(given) == self.expected


@dataclass
class Scope:
    """``b`` records; ``guards`` collects what was asked; ``where`` says which line asks."""

    b: Any
    guards: list[Guard]
    where: Callable[[], str]
    decide: Callable[[Value, bool], bool] | None = None  # on data, where their way is known
    require: Callable[[Value], None] | None = None  # what Python raises an error without


class Number:
    """``hint``: the number in this recording; ``value``: its node, made when it is needed;
    ``compute``: it from the caller's numbers, None when it depends on tensors; ``is_mixed``: an int
    or a float, as data decide, here a float."""

    is_mixed = is_fixed = False  # fixed: the same in all runs

    def __init__(
        self, scope: Scope, hint: Any, make: Callable[[], Value], compute: Compute | None
    ) -> None:
        self.scope, self.hint, self.make, self.compute = scope, hint, make, compute
        self._value: Value | None = None

    @property
    def value(self) -> Value:
        """f64[], i64[] or bool[]."""
        if self._value is None:
            self._value = self.make()
        return self._value

    # What torch asks of a node

    def is_int(self) -> bool:
        return type(self.hint) is int

    def is_float(self) -> bool:
        return type(self.hint) is float

    def is_bool(self) -> bool:
        return type(self.hint) is bool

    def is_nested_int(self) -> bool:
        return False

    def has_hint(self) -> bool:
        return True

    def is_symbolic(self) -> bool:
        return True

    def is_constant(self) -> bool:
        return False

    def maybe_as_int(self) -> None:
        return None

    maybe_as_float = maybe_as_bool = nested_int = maybe_as_int

    def wrap_int(self, x: int) -> Number:
        return self._constant(int(x))

    def wrap_float(self, x: float) -> Number:
        return self._constant(float(x))

    def wrap_bool(self, x: bool) -> Number:
        return self._constant(bool(x))

    def _constant(self, x: Any) -> Number:
        dtype = {bool: bool_, int: i64, float: f64}[type(x)]
        found = Number(self.scope, x, lambda: self.scope.b.const(x, dtype), lambda given: x)
        found.is_fixed = True
        return found

    def _known(self) -> Any:
        """The plain number, which this recording is then made for.  Raises: DataDependent."""
        if self.compute is None:
            if self.scope.decide is not None and type(self.hint) is bool:
                return self.scope.decide(self.value, self.hint)
            raise DataDependent(
                f"{self.scope.where()}: the code asks for a plain number of a tensor's element, "
                f"whose value is known at run time only"
            )
        self.scope.guards.append(Guard(self.compute, self.hint))
        return self.hint

    def guard_int(self, file: str = "", line: int = 0) -> int:
        return int(self._known())

    def guard_float(self, file: str = "", line: int = 0) -> float:
        return float(self._known())

    def guard_bool(self, file: str = "", line: int = 0) -> bool:
        return bool(self._known())

    guard_size_oblivious = guard_bool

    def expect_true(self, file: str = "", line: int = 0) -> bool:
        """What torch takes for granted, such as ``x >= 0`` in ``x ** 0.5``."""
        return True

    def statically_known_true(self, file: str = "", line: int = 0) -> bool:
        """What torch may leave out where it is certain."""
        return False

    def bool_(self) -> bool:
        return self.guard_bool()

    def int_(self) -> int:
        return self.guard_int()

    def sym_float(self) -> Number:
        return self if self.is_float() else self._unary(float, lambda b, x: b.cast(x, dtype=f64))

    def neg(self) -> Number:
        return self._unary(operator.neg, lambda b, x: b.neg(x))

    def abs(self) -> Number:
        return self._unary(abs, lambda b, x: b.abs(x))

    def sym_sqrt(self) -> Number:
        return self.sym_float()._unary(math.sqrt, lambda b, x: b.sqrt(x))

    def sym_not(self) -> Number:
        return self._unary(operator.not_, lambda b, x: b.logical_not(x))

    def _unary(self, plain: Callable[[Any], Any], build: Callable[[Any, Value], Value]) -> Number:
        compute, b = self.compute, self.scope.b
        found = Number(
            self.scope, plain(self.hint), lambda: build(b, self.value),
            None if compute is None else (lambda given: plain(compute(given))),
        )  # fmt: skip
        found.is_mixed = self.is_mixed and plain is not float
        return found

    def _require(self, holds: Callable[[Any], bool], record: str, bound: float) -> None:
        """End runs in which Python raises an error for this number."""
        compute = self.compute
        if self.is_fixed or self.scope.require is None:
            return
        if compute is not None:
            self.scope.guards.append(Guard(lambda given: holds(compute(given)), True))
            return
        b = self.scope.b
        self.scope.require(getattr(b, record)(b.cast(self.value, dtype=f64), b.const(bound, f64)))

    def _require_power(self, exponent: Number) -> None:
        """``self ** exponent`` is a real number."""
        n = exponent.hint if exponent.is_fixed else -0.5
        if n != int(n):
            self._require(lambda x: x > 0 or x == 0 < n, "gt" if n < 0 else "ge", 0.0)
        elif n < 0:
            self._require(lambda x: x != 0, "ne", 0.0)

    def lesser(self, a: Any, b: Any) -> Any:
        """``min(a, b)`` of numbers of which this recording does not know one."""
        return self._picked(a, b, "lt")

    def greater(self, a: Any, b: Any) -> Any:
        return self._picked(a, b, "gt")

    def _picked(self, a: Any, b: Any, record: str) -> Any:
        """``b`` where it comes before ``a``, else ``a``."""
        if isinstance(a, (bool, torch.SymBool)) or isinstance(b, (bool, torch.SymBool)):
            raise DataDependent(f"{self.scope.where()}: min or max of a truth value and a number")
        first, second = (number_of(x) or self._constant(x) for x in (a, b))
        plain, build = getattr(operator, record), self.scope.b
        mine, theirs = first.compute, second.compute
        is_mixed = first.is_int() != second.is_int()

        def make() -> Value:
            x, y = (
                build.cast(n.value, dtype=f64) if is_mixed and n.is_int() else n.value
                for n in (first, second)
            )
            return build.where(getattr(build, record)(y, x), y, x)

        def pick(x: Any, y: Any) -> Any:
            return y if plain(y, x) else x

        compute = None
        if mine is not None and theirs is not None:
            compute = lambda given: pick(mine(given), theirs(given))  # noqa: E731
        hint = pick(first.hint, second.hint)
        found = Number(self.scope, float(hint) if is_mixed else hint, make, compute)
        found.is_mixed = is_mixed or first.is_mixed or second.is_mixed
        return symbolic(found)

    def _binary(
        self, other: Number, plain: Callable[[Any, Any], Any], record: str, wide: bool = False
    ) -> Number:
        if record in _DIVISIONS:
            other._require(lambda x: x != 0, "ne", 0.0)
        elif record == "pow":
            self._require_power(other)
        found = self._combined(other, plain, record, wide)
        is_float = record == "div" or any(x.is_float() and not x.is_mixed for x in (self, other))
        found.is_mixed = (self.is_mixed or other.is_mixed) and not is_float
        return found

    def _combined(
        self, other: Number, plain: Callable[[Any, Any], Any], record: str, wide: bool
    ) -> Number:
        mine, theirs = self.compute, other.compute
        wide = wide or self.is_float() or other.is_float()

        def make() -> Value:
            b = self.scope.b
            parts = [
                b.cast(x.value, dtype=f64) if wide and not x.is_float() else x.value
                for x in (self, other)
            ]
            return getattr(b, record)(*parts)

        compute = None
        if mine is not None and theirs is not None:
            compute = lambda given: plain(mine(given), theirs(given))  # noqa: E731
        return Number(self.scope, plain(self.hint, other.hint), make, compute)

    def __str__(self) -> str:
        return f"number {self.hint}"

    def _graph_repr(self) -> str:
        return str(self)


_BINARY: dict[str, tuple[Callable[[Any, Any], Any], str, bool]] = {
    "add": (operator.add, "add", False),
    "sub": (operator.sub, "sub", False),
    "mul": (operator.mul, "mul", False),
    "truediv": (operator.truediv, "div", True),
    "float_truediv": (operator.truediv, "div", True),
    "int_truediv": (operator.truediv, "div", True),
    "floordiv": (operator.floordiv, "floor_div", False),
    "int_floordiv": (operator.floordiv, "floor_div", False),
    "mod": (operator.mod, "remainder", False),
    "pow": (operator.pow, "pow", True),
    "float_pow": (operator.pow, "pow", True),
    "pow_by_natural": (operator.pow, "pow", False),
    "sym_max": (max, "maximum", False),
    "sym_min": (min, "minimum", False),
    "eq": (operator.eq, "eq", False),
    "ne": (operator.ne, "ne", False),
    "lt": (operator.lt, "lt", False),
    "le": (operator.le, "le", False),
    "gt": (operator.gt, "gt", False),
    "ge": (operator.ge, "ge", False),
    "and_": (operator.and_, "bit_and", False),
    "or_": (operator.or_, "bit_or", False),
}


def _method(plain: Callable[[Any, Any], Any], record: str, wide: bool) -> Callable[..., Number]:
    return lambda self, other: self._binary(other, plain, record, wide)


for _name, _facts in _BINARY.items():
    setattr(Number, _name, _method(*_facts))

_SYMBOLIC = (torch.SymFloat, torch.SymInt, torch.SymBool)


def symbolic(number: Number) -> Any:
    """The number as Python code sees it."""
    kind = {bool: torch.SymBool, int: torch.SymInt, float: torch.SymFloat}[type(number.hint)]
    return kind(number)


def is_free(x: Any) -> bool:
    """A number that the caller may change from call to call: one that f64 holds exactly."""
    return type(x) is float or (type(x) is int and abs(x) <= 2**53)


def number_of(x: Any) -> Number | None:
    """The Number behind a symbolic number, else None."""
    node = x.node if isinstance(x, _SYMBOLIC) else None
    return node if isinstance(node, Number) else None


def plain(x: Any) -> Any:
    """The example of a symbolic number; anything else as it is."""
    number = number_of(x)
    return x if number is None else number.hint


def settled(x: Any) -> Any:
    """A symbolic number as the plain one that the recording is made for; anything else as it is.

    Raises: DataDependent.
    """
    number = number_of(x)
    return x if number is None else number._known()


def sizes_of(func: Any, args: tuple, kwargs: dict[str, Any]) -> list[Number]:
    """The numbers that a call takes as sizes, axes or counts: not those that it computes with."""
    found: list[Number] = []
    for i, argument in enumerate(func._schema.arguments):
        value = args[i] if i < len(args) else kwargs.get(argument.name)
        items = value if isinstance(value, (list, tuple)) else (value,)
        numbers = [n for n in map(number_of, items) if n is not None and n.is_int()]
        found += numbers if numbers and "int" in str(argument.type).lower() else []
    return found
