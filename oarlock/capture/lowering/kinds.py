"""The numbers that code of a tape holds: plain, symbolic, truth values, values that may be missing."""

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


def is_symbolic(x: Any) -> bool:
    return isinstance(x, (Truth, *SYMBOLS))


def kind_of(x: Any) -> type:
    """int, float or bool."""
    if isinstance(x, (bool, Truth, torch.SymBool)):
        return bool
    return int if isinstance(x, (int, torch.SymInt)) else float
