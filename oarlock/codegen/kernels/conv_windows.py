"""Copies of the windows of a convolution, one row of (taps, channels) for each place of the result.

Channels lie last, so that a window's row of KW * C adjacent elements is copied at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from oarlock.codegen import loops as L
from oarlock.codegen.body import Body
from oarlock.codegen.indexing import strides_of
from oarlock.codegen.kernels.conv_window import Axis
from oarlock.ir.dim import Size, product


@dataclass
class Windows:
    """Of ``source``, a tensor [N, *spatial, channels] of ``shape``; ``rows`` are the extents of the
    result's batch and spatial axes; ``channels`` are copied from ``first`` on."""

    body: Body
    source: L.Pointer
    shape: Sequence[Size]
    axes: Sequence[Axis]
    rows: Sequence[Size]
    channels: int
    first: L.Expr
    lanes: int
    place: list[L.Expr] = field(default_factory=list)

    def copy(self, copy: L.Pointer, pitch: L.Expr, top: L.Expr, end: L.Expr) -> None:
        """The windows of rows [top, end), ``pitch`` elements apart."""
        extents = [L.index(n) for n in self.rows]
        with self.body.loop("m", top, end) as m:
            self.place = []
            rest: L.Expr = m
            for k in range(len(extents) - 1, 0, -1):
                self.place.insert(0, self.body.let("o", L.binary("mod", rest, extents[k])))
                rest = self.body.let("rest", L.binary("div", rest, extents[k]))
            to = self.body.let("to", (m - top) * pitch)
            batch = rest * L.index(strides_of(tuple(self.shape))[0])
            self._taps(copy, to, self.body.let("from", batch + self.first), 0)

    def _taps(self, copy: L.Pointer, to: L.Expr, source: L.Expr, depth: int) -> None:
        """Taps of an axis and of those inside it; ``source`` is the position found so far."""
        axis = self.axes[depth]
        if depth == len(self.axes) - 1:
            self._row(copy, to, source, axis)
            return
        stride = L.index(strides_of(tuple(self.shape))[depth + 1])
        run = self.channels * product(a.kernel for a in self.axes[depth + 1 :])
        start = self.body.let("at", self.place[depth] * axis.stride - axis.low)
        with self.body.loop("k", 0, axis.kernel) as k:
            here = self.body.let("to", to + k * run)
            at = self.body.let("at", start + k * axis.dilation)
            if axis.is_inside:
                self._taps(copy, here, self.body.let("from", source + at * stride), depth + 1)
                return
            with self.body.if_(_is_within(at, L.index(axis.size))):
                self._taps(copy, here, self.body.let("from", source + at * stride), depth + 1)
            with self.body.else_():
                self._move(copy, here, None, int(run))

    def _row(self, copy: L.Pointer, to: L.Expr, source: L.Expr, axis: Axis) -> None:
        """The taps of the innermost axis: adjacent when they are not spread."""
        every, c = self.shape[-1], self.channels
        start = self.body.let("at", self.place[-1] * axis.stride - axis.low)
        base = self.body.let("from", source + start * L.index(every))
        is_run = axis.kernel == 1 or (axis.dilation == 1 and every == c)
        if axis.is_inside:
            self._inner(copy, to, base, axis, is_run)
            return
        last = start + axis.reach
        inside = L.binary("and", L.compare("ge", start, 0), last < L.index(axis.size))
        with self.body.if_(inside):
            self._inner(copy, to, base, axis, is_run)
        with self.body.else_(), self.body.loop("k", 0, axis.kernel) as k:
            at = self.body.let("at", start + k * axis.dilation)
            here = self.body.let("to", to + k * c)
            with self.body.if_(_is_within(at, L.index(axis.size))):
                self._move(copy, here, self.body.let("from", source + at * L.index(every)), c)
            with self.body.else_():
                self._move(copy, here, None, c)

    def _inner(self, copy: L.Pointer, to: L.Expr, base: L.Expr, axis: Axis, is_run: bool) -> None:
        """A row of taps that lie inside."""
        c, step = self.channels, L.index(self.shape[-1] * axis.dilation)
        if is_run:
            self._move(copy, to, base, axis.kernel * c)
            return
        with self.body.loop("k", 0, axis.kernel) as k:
            at = self.body.let("from", base + k * step)
            self._move(copy, self.body.let("to", to + k * c), at, c)

    def _move(self, copy: L.Pointer, to: L.Expr, base: L.Expr | None, count: int) -> None:
        """``count`` adjacent elements, or zeros; the last vector overlaps the one before."""
        lanes = self.lanes
        while lanes > count:
            lanes //= 2
        lanes = lanes if lanes > 2 else 1
        whole = count // lanes * lanes

        def one(at: L.Expr) -> None:
            zero = L.const(0, copy.dtype, lanes)
            value = zero if base is None else L.load(self.source, base + at, lanes)
            self.body.store(copy, to + at, value)

        with self.body.loop("i", 0, whole, lanes) as i:
            one(i)
        if whole < count:
            one(L.icon(count - lanes))


def _is_within(at: L.Expr, size: L.Expr) -> L.Expr:
    return L.binary("and", L.compare("ge", at, 0), at < size)
