"""Numbers and sizes that a run decides, as symbols that torch's fake kernels can compute with.

Every symbol has a hint, so that kernels can decide; what was decided is kept by ``Shapes`` like the
decisions on the sizes of inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sympy
import torch

from oarlock.capture.arrays import torch_dtype
from oarlock.capture.lowering.alike import Alike
from oarlock.capture.torch_private import Decision, Shapes, outside_modes
from oarlock.ir import Builder, Dim, Size, TensorType, Value

HINT = 3
Scope = tuple[set[Any], dict[Value, Any], dict[Value, Dim]]


class _Lazy(dict):
    """Dims by torch symbol; a number gets a dim, by ``bind_size``, when it is first used as a size."""

    def __init__(self, owner: RunTimeShapes) -> None:
        super().__init__()
        self.owner = owner

    def __contains__(self, symbol: object) -> bool:
        return super().__contains__(symbol) or symbol in self.owner.numbers

    def __missing__(self, symbol: Any) -> Dim:
        return self.owner.bind(symbol)


class RunTimeShapes(Shapes):
    """Shapes whose symbols may also be numbers of the program: ``numbers`` by torch symbol."""

    def __init__(self, b: Builder) -> None:
        super().__init__()
        self.b = b
        self.numbers: dict[sympy.Symbol, Value] = {}
        self.symbols = _Lazy(self)
        self.count = 0
        self.given: set[str] = set()  # dims of the inputs
        self.alike = Alike()
        self.made: dict[Value, Any] = {}  # numbers that open blocks have made of values
        self.bound: dict[Value, Dim] = {}  # and dims

    def fresh(self, name: str = "k", least: int | None = 0) -> Dim:
        """A new symbol of the program."""
        self.count += 1
        dim = Dim(f"{name}{self.count}", least)
        self.dims[dim.name] = dim
        return dim

    def bind(self, symbol: sympy.Symbol) -> Dim:
        """The dim that holds the number of ``symbol`` from here on."""
        value = self.numbers[symbol]
        key = self.alike.of(value)
        if key not in self.bound:
            self.bound[key] = self.fresh("n", None)
            self.b.bind_size(value, size=self.bound[key])
        self.symbols[symbol] = dim = self.bound[key]
        if key in self.made and dim.name not in self.symints:
            self.symints[dim.name] = self.made[key]  # torch knows one size by one symbol
        return dim

    def dim_of(self, value: Value, name: str, hint: int | None = None) -> Dim:
        """The dim that holds a number which is never negative, from here on."""
        key = self.alike.of(value)
        if key not in self.bound:
            self.bound[key] = dim = self.fresh(name)
            self.b.bind_size(value, size=dim)
            if hint is not None:
                self.hints[dim.name] = hint
        return self.bound[key]

    def number_of(self, value: Value) -> Any:
        """A SymInt or SymFloat that stands for an i64[] or f64[] value."""
        key = self.alike.of(value)
        if key not in self.made:
            self.count += 1
            hint = HINT + self.count % 5 if value.dtype.is_int else 0.5 + self.count
            self.made[key] = number = self.unspecified(hint, f"number{self.count}")
            self.numbers[number.node.expr] = value
        return self.made[key]

    def is_number(self, expr: Any) -> bool:
        """``expr`` is computed from numbers that are no dims yet."""
        known = self.numbers.keys()
        return any(s in known and not dict.__contains__(self.symbols, s) for s in expr.free_symbols)

    def fake(self, type: TensorType) -> torch.Tensor:
        """A dense fake tensor of this type."""
        shape = [self.symbolic(size) for size in type.shape]
        with outside_modes(), self.mode, torch.inference_mode(False):  # torch may want a view
            return torch.empty(shape, dtype=torch_dtype(type.dtype))

    def strided(self, sizes: Any, strides: Any, dtype: torch.dtype) -> torch.Tensor:
        """A fake tensor as torch lays it out."""
        with outside_modes(), self.mode, torch.inference_mode(False):
            return torch.empty_strided(sizes, strides, dtype=dtype)

    def symbolic(self, size: Size) -> Any:
        """``size`` as an int or SymInt."""
        atoms = size.atoms() if isinstance(size, Dim) else set()
        for atom in sorted(atoms, key=str):
            if atom.name not in self.symints:
                dim = Dim(atom.name, atom.low, atom.high)
                with outside_modes():
                    self._introduce(dim)
        return self.number(size)

    def _introduce(self, dim: Dim) -> None:
        """Make a symbol of torch for ``dim``; torch takes one of a size for greater than 0."""
        if dim.bounds()[0] > 0:
            self.fake_input((dim,), torch.float32, (HINT,))
            return
        number = self.unspecified(self.hint(dim, HINT), dim.name)
        self.symbols[number.node.expr] = dim
        self.symints[dim.name] = number

    def narrowed(self, decisions: Sequence[Decision]) -> Dim | None:
        """Only inputs can be asked to be of other sizes."""
        dim = super().narrowed(decisions)
        return dim if dim is not None and dim.name in self.given else None

    def scope(self) -> Scope:
        """The numbers that have dims now, and what is known by values; given back when a block ends."""
        return {s for s in self.symbols if s in self.numbers}, dict(self.made), dict(self.bound)

    def restore(self, scope: Scope) -> None:
        """Take the dims of the numbers that got theirs since."""
        kept, self.made, self.bound = scope
        for symbol in [s for s in self.symbols if s in self.numbers and s not in kept]:
            del self.symbols[symbol]
