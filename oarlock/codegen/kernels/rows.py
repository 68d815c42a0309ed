"""What kernels along one axis share: x seen as [outer, n, inner], one row per pair."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from oarlock.codegen import loops as L
from oarlock.codegen.body import Body
from oarlock.codegen.kernel import Kernel
from oarlock.codegen.nests import describe, kernel_name, pointers_of
from oarlock.codegen.operands import operands_of
from oarlock.ir.dim import Size, product
from oarlock.ir.graph import Node, Value


@dataclass
class AxisKernel:
    """A kernel of one node in the making."""

    node: Node
    axis: int
    body: Body = field(default_factory=Body)
    pointers: dict[Value, L.Pointer] = field(init=False)

    def __post_init__(self) -> None:
        self.axis %= self.node.inputs[0].rank
        self.reads = tuple(dict.fromkeys(operands_of(self.node)))
        self.pointers = pointers_of(self.reads, self.node.outputs)
        self.body.reserve(*(p.name for p in self.pointers.values()))

    @property
    def n(self) -> Size:
        """Elements of a row of the first input."""
        return self.node.inputs[0].shape[self.axis]

    @property
    def outer(self) -> Size:
        return product(self.node.inputs[0].shape[: self.axis])

    @property
    def inner(self) -> Size:
        return product(self.node.inputs[0].shape[self.axis + 1 :])

    @contextmanager
    def rows(self) -> Iterator[tuple[L.Expr, L.Expr]]:
        """A loop over the rows of this call: the outer and the inner index."""
        inner = L.index(self.inner)
        with self.body.loop("row", L.BEGIN, L.END) as row:
            outer = self.body.let("outer", L.binary("div", row, inner))
            yield outer, self.body.let("column", L.binary("mod", row, inner))

    def at(self, outer: L.Expr, k: L.Expr, column: L.Expr, n: Size | None = None) -> L.Expr:
        """The position of element ``k`` of a row of ``n``."""
        size = L.index(self.n if n is None else n)
        return (outer * size + k) * L.index(self.inner) + column

    def kernel(
        self,
        extent: Size,
        grain: int = 1,
        scratch: Sequence[L.Pointer] = (),
        scratch_bytes: Size = 0,
        in_place: tuple[tuple[Value, Value], ...] = (),
    ) -> Kernel:
        """The finished kernel."""
        function = L.Function(
            kernel_name([self.node]),
            self.body.statements,
            (*self.pointers.values(), *scratch),
            comment=describe([self.node]),
        )
        return Kernel(
            function.name,
            (self.node,),
            self.reads,
            tuple(self.node.outputs),
            function,
            extent=extent,
            grain=grain,
            scratch_bytes=scratch_bytes,
            in_place=in_place,
        )
