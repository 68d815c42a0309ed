"""The unit of generated code: one C function over a range of parallel items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from oarlock.codegen.loops import Function
from oarlock.ir.dim import Size
from oarlock.ir.graph import Node, Value


@dataclass(frozen=True)
class Constant:
    """Packed weights or a table: ``name`` is that of a "constant" pointer of the function."""

    name: str
    array: np.ndarray


@dataclass
class Kernel:
    """Computes ``nodes``: items [begin, end) of ``extent`` on one thread.

    ``function.pointers`` lists the buffers in the order ``reads`` then ``writes``, then constants
    and scratch; ``grain`` is the least number of items worth a thread; ``scratch_bytes`` is per
    thread; ``slow`` says why a portable slow path was used; ``in_place`` are pairs of ``inplace``.
    """

    name: str
    nodes: tuple[Node, ...]
    reads: tuple[Value, ...]
    writes: tuple[Value, ...]
    function: Function
    constants: tuple[Constant, ...] = ()
    extent: Size = 1
    grain: int = 1
    scratch_bytes: Size = 0
    slow: str | None = None
    in_place: tuple[tuple[Value, Value], ...] = ()
