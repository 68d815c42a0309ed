"""The one module with private torch names: fake tensors, their shape environment, symbols."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import sympy
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

from oarlock.errors import UserError
from oarlock.ir import Dim, Size, dim_max, dim_min

HINTS = (7, 11, 13, 17, 19, 23, 29, 31)


class Shapes:
    """A fake tensor mode whose symbols are Oarlock's dims.

    Dynamic sizes are traced with distinctive primes, never with the sizes of the example, so
    that 1 is an ordinary size.
    """

    def __init__(self) -> None:
        self.env = _Decisions(specialize_zero_one=False, duck_shape=False)
        self.mode = FakeTensorMode(allow_non_fake_inputs=True, shape_env=self.env)
        self.dims: dict[str, Dim] = {}
        self.hints: dict[str, int] = {}
        self.symbols: dict[sympy.Symbol, str] = {}

    def hint(self, dim: Dim) -> int:
        """The size that ``dim`` is traced with, inside its range."""
        if dim.name not in self.hints:
            low, high = dim.bounds()
            free = [h for h in HINTS if h not in self.hints.values()]
            wanted = max(free[0] if free else 37 + 2 * len(self.hints), low)
            self.hints[dim.name] = wanted if high is None else min(wanted, high)
            self.dims[dim.name] = dim
        return self.hints[dim.name]

    def fake_input(self, shape: Sequence[Size], dtype: torch.dtype) -> torch.Tensor:
        """A fake tensor of ``shape``; its Dims become symbols."""
        real = torch.empty([self.hint(s) if isinstance(s, Dim) else s for s in shape], dtype=dtype)
        kinds = [DimDynamic.DYNAMIC if isinstance(s, Dim) else DimDynamic.STATIC for s in shape]
        fake = self.mode.from_tensor(real, symbolic_context=StatelessSymbolicContext(kinds))
        for size, got in zip(shape, fake.shape):
            if isinstance(size, Dim):
                self.symbols[got.node.expr] = size.name
        return fake

    def fake_constant(self, tensor: torch.Tensor) -> torch.Tensor:
        """A fake stand-in of a real tensor."""
        return self.mode.from_tensor(tensor, static_shapes=True)

    def size(self, value: Any) -> Size:
        """An int or SymInt as a Size."""
        if isinstance(value, torch.SymInt):
            return self._convert(value.node.expr)
        return int(value)

    def guards(self) -> list[tuple[str, str]]:
        """What Python decided on symbolic sizes and cannot hold for all: (condition, source)."""
        found = []
        for expr, source in getattr(self.env, "decisions", ()):
            names = {
                s: sympy.Symbol(n, integer=True, positive=True) for s, n in self.symbols.items()
            }
            condition = sympy.simplify(expr.subs(names)) if hasattr(expr, "subs") else expr
            if condition in (True, sympy.true) or isinstance(condition, sympy.Ne):
                continue
            if not self._holds(condition):
                found.append((str(condition), source))
        return found

    def _holds(self, condition: Any) -> bool:
        """Proven by the declared ranges."""
        if not isinstance(condition, (sympy.Ge, sympy.Gt, sympy.Le, sympy.Lt)):
            return False
        try:
            difference = self._convert(sympy.expand(condition.gts - condition.lts))
        except UserError:
            return False
        low = difference if isinstance(difference, int) else difference.bounds()[0]
        return low >= (1 if isinstance(condition, (sympy.Gt, sympy.Lt)) else 0)

    def _convert(self, expr: Any) -> Size:
        if expr.is_Integer:
            return int(expr)
        if expr.is_Symbol:
            name = self.symbols.get(expr, str(expr))
            if name not in self.dims:
                raise UserError(f"a size that depends on data: {expr}")
            return self.dims[name]
        parts = [self._convert(arg) for arg in expr.args]
        return _apply(type(expr).__name__, parts, expr)


def _apply(kind: str, parts: list[Size], expr: Any) -> Size:
    total = parts[0]
    if kind == "Pow":
        base, power = parts
        if isinstance(power, int) and power >= 0:
            total = 1
            for _ in range(power):
                total = total * base
            return total
    for part in parts[1:]:
        if kind == "Add":
            total = total + part
        elif kind == "Mul":
            total = total * part
        elif kind in ("FloorDiv", "CleanDiv"):
            total = total // part
        elif kind in ("Mod", "PythonMod"):
            total = total % part
        elif kind == "Min":
            total = dim_min(total, part)
        elif kind == "Max":
            total = dim_max(total, part)
        else:
            raise UserError(f"a size that is no polynomial: {expr}")
    if kind in ("Add", "Mul", "FloorDiv", "CleanDiv", "Mod", "PythonMod", "Min", "Max"):
        return total
    raise UserError(f"a size that is no polynomial: {expr}")


class _Decisions(ShapeEnv):
    """Keeps what the captured code decides on symbolic sizes: (condition, ``file.py:line``).

    Decisions inside an ATen call (the choice of a backend, of a memory format) do not change what
    is computed and are left out.
    """

    def evaluate_expr(self, orig_expr: Any, *args: Any, **kwargs: Any) -> Any:
        result = super().evaluate_expr(orig_expr, *args, **kwargs)
        source = _deciding_line()
        if source is not None and result in (True, False, sympy.true, sympy.false):
            condition = orig_expr if result else sympy.Not(orig_expr)
            self.__dict__.setdefault("decisions", []).append((condition, source))
        return result


_MACHINERY = ("/torch/fx/", "/torch/__init__.py", "/torch_private.py", "/sympy/")


def _deciding_line() -> str | None:
    """The user's line that asks for a condition, or None inside an ATen call.

    An expansion (``expand_by_torch``) is recorded, so what it decides counts.
    """
    frame, inside, expanding = sys._getframe(2), False, False
    while frame is not None:
        code = frame.f_code
        if code.co_name == "expand_by_torch":
            expanding = True
        elif code.co_name == "__torch_dispatch__" and not expanding:
            return None
        elif not any(part in code.co_filename for part in _MACHINERY):
            library = "/torch/" in code.co_filename and "/torch/nn/" not in code.co_filename
            inside = inside or library
            if not library and not (expanding and "/oarlock/capture/" in code.co_filename):
                where = f"{code.co_filename.rsplit('/', 1)[-1]}:{frame.f_lineno}"
                return where if expanding or not inside else None
        frame = frame.f_back
    return None


def is_fake(tensor: torch.Tensor) -> bool:
    return isinstance(tensor, FakeTensor)
