"""What code of a tape holds for a number: plain, symbolic, a truth, one that may be missing or a tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from oarlock.ir import Value

SYMBOLS = (torch.SymInt, torch.SymFloat, torch.SymBool)


@dataclass(frozen=True, eq=False)
class Truth:
    """A bool that the program computes, bool[]."""

    value: Value


@dataclass(frozen=True, eq=False)
class Maybe:
    """``value``, or None where ``flag`` is false; the value is then zeros.

    ``unbound``: where it is false, the variable has no value, rather than None.
    """

    flag: Truth
    value: Any
    unbound: bool = False


@dataclass(frozen=True, eq=False)
class Either:
    """``number`` where ``flag`` is true; else ``wide``, a tensor without axes or a number of a wider
    kind, which has the number in its own type where that is true.

    ``number`` is plain where it is the same on all ways.
    """

    flag: Truth
    number: Any
    wide: Any


def is_symbolic(x: Any) -> bool:
    return isinstance(x, (Truth, *SYMBOLS))


def kind_of(x: Any) -> type:
    """int, float or bool."""
    if isinstance(x, (bool, Truth, torch.SymBool)):
        return bool
    return int if isinstance(x, (int, torch.SymInt)) else float


def wide_of(*items: Any) -> Any:
    """The item of the widest kind: a tensor, a float, an integer, a bool."""
    inner = [x.wide if isinstance(x, Either) else x for x in items]
    tensors = [x for x in inner if isinstance(x, torch.Tensor)]
    return tensors[0] if tensors else max(inner, key=lambda x: _KINDS.index(kind_of(x)))


def is_narrow(x: Any, wide: Any) -> bool:
    """A number, of a narrower kind than ``wide`` has."""
    if isinstance(x, torch.Tensor):
        return False
    return isinstance(wide, torch.Tensor) or kind_of(x) is not kind_of(wide)


_KINDS = [bool, int, float]
