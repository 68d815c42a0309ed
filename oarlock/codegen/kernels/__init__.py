"""Kernels of the ops that loop nests do not cover: one maker per op, found by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np

from oarlock.codegen.kernel import Kernel
from oarlock.codegen.target import Target
from oarlock.ir.graph import Node, Value

if TYPE_CHECKING:
    from oarlock.codegen.fuse import Group

ConstantOf = Callable[[Value], "np.ndarray | None"]


class Maker(Protocol):
    """Builds the kernels of one op."""

    takes_epilogue: bool

    def accepts(self, node: Node, target: Target) -> bool:
        """Whether ``build`` covers the node; otherwise it is decomposed, if it can be."""
        ...

    def build(self, group: Group, target: Target, constant: ConstantOf) -> Kernel:
        """The kernel of ``group.anchor`` and its epilogue.

        ``constant`` gives the storage of a value known at build time, else None.
        """
        ...


KERNELS: dict[str, Maker] = {}


def maker_for(node: Node, target: Target) -> Maker | None:
    """The maker that builds a node on a target."""
    maker = KERNELS.get(node.name)
    return maker if maker is not None and maker.accepts(node, target) else None
