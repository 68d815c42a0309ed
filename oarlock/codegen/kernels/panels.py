"""Panels ``[K][columns]`` of an operand that is known when the program runs.

Where columns are adjacent in memory, rows are copied; where k runs along memory, squares of
``lanes`` x ``lanes`` elements are transposed in registers by rounds of interleaving.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from oarlock.codegen import loops as L
from oarlock.codegen.body import Body
from oarlock.codegen.kernels import micro as M
from oarlock.ir.dim import Size
from oarlock.ir.types import DType, i32

LINE_BYTES = 64


@lru_cache(maxsize=16)
def turner(dtype: DType, lanes: int) -> L.Function:
    """``to[j * ldt + i] = from[i * ldf + j]`` for a square of ``lanes``."""
    body = Body()
    source = L.Pointer("from", dtype, "param")
    to = L.Pointer("to", dtype, "param", written=True)
    ldf, ldt = L.Var("ldf", L.INDEX), L.Var("ldt", L.INDEX)
    body.reserve("from", "to", "ldf", "ldt")
    rows = [body.let(f"r{i}", L.load(source, ldf * i, lanes)) for i in range(lanes)]
    half = lanes // 2
    for _ in range(lanes.bit_length() - 1):
        pairs = zip(rows[:half], rows[half:])
        rows = [
            body.let("z", L.call(name, a, b)) for a, b in pairs for name in ("zip_low", "zip_high")
        ]
    for j, row in enumerate(rows):
        body.store(to, ldt * j, row)
    params = (source, ldf, to, ldt)
    return L.Function(
        f"turn_{dtype}_{lanes}", body.statements, params=params, is_kernel=False, inline=False
    )


@dataclass
class Panels:
    """Packs panels of ``source[at]``, ``at`` over the symbols ``_k`` and ``_n`` and others bound."""

    body: Body
    helpers: dict[str, L.Function]
    source: L.Pointer
    at: Size
    columns: Size

    def pack(
        self,
        to: L.Address,
        micro: M.Micro,
        env: Mapping[str, L.Expr],
        column: L.Expr,
        first: L.Expr,
        count: L.Expr,
        is_clipped: bool,
        pitch: int = 0,
        shift: L.Expr = L.icon(0),
    ) -> None:
        """Rows [first, first + count) of the columns from ``column`` on; those beyond are 0.

        ``pitch``: elements between rows of the panel, its width by default; ``shift`` is added to
        every position of the source.
        """
        self.pitch, self.shift = pitch or micro.columns, shift
        left = self.body.let("left", L.index(self.columns) - column)
        step = L.stride_of(self.at, "_n")
        if step != 1 and L.stride_of(self.at, "_k") == 1:
            self._turned(to, micro, env, column, first, count, left)
            return
        if not is_clipped:
            self._rows(to, micro, env, column, first, count)
            return
        with self.body.if_(left >= L.icon(micro.columns)):
            self._rows(to, micro, env, column, first, count)
        with self.body.else_():
            self._edge(to, micro, env, column, first, count, left)

    def fetch(
        self, env: Mapping[str, L.Expr], column: L.Expr, width: int, first: L.Expr, count: L.Expr,
        part: L.Expr, parts: L.Expr,
    ) -> None:  # fmt: skip
        """Ask for one of ``parts`` of rows [first, first + count) of ``width`` columns, which are
        packed later: pieces of lines, far from each other."""
        steps = L.stride_of(self.at, "_k"), L.stride_of(self.at, "_n")
        if None in steps or 1 not in steps:
            return
        rows, along, stride = count, L.icon(width), steps[0]
        if steps[1] != 1:
            rows, along, stride = L.icon(width), count, steps[1]
        base = self.body.let("next", L.index(self.at, {**env, "_k": first, "_n": column}))
        low, high = (L.binary("div", (part + i) * rows, parts) for i in (0, 1))
        pieces = self.body.loop("r", low, high), self.body.loop("i", L.icon(0), along, self._line)
        with pieces[0] as r, pieces[1] as i:
            place = L.Address(self.source, base + r * L.index(stride or 0) + i)
            self.body.call("__builtin_prefetch", place, L.const(0, i32), L.const(2, i32))

    @property
    def _line(self) -> int:
        return LINE_BYTES // self.source.dtype.bytes

    def _at(self, env: Mapping[str, L.Expr]) -> L.Expr:
        return self.shift + L.index(self.at, env)

    def _rows(
        self, to: L.Address, micro: M.Micro, env: Mapping[str, L.Expr], column: L.Expr,
        first: L.Expr, count: L.Expr,
    ) -> None:  # fmt: skip
        body, lanes, step = self.body, micro.lanes, L.stride_of(self.at, "_n")
        with body.loop("k", L.icon(0), count) as k:
            for j in range(micro.vectors):
                at = self._at({**env, "_k": first + k, "_n": column + j * lanes})
                out = to.index + k * self.pitch + j * lanes
                if step is not None or lanes == 1:
                    stride = L.index(step) if step is not None else None
                    body.store(to.pointer, out, L.load(self.source, at, lanes, stride))
                    continue
                with body.loop("i", 0, lanes) as i:
                    place = {**env, "_k": first + k, "_n": column + j * lanes + i}
                    value = L.load(self.source, self._at(place))
                    body.store(to.pointer, out + i, value)

    def _edge(
        self, to: L.Address, micro: M.Micro, env: Mapping[str, L.Expr], column: L.Expr,
        first: L.Expr, count: L.Expr, left: L.Expr,
    ) -> None:  # fmt: skip
        """Element by element."""
        body, zero = self.body, L.const(0, micro.dtype)
        here = body.let("here", L.maximum(L.minimum(left, L.icon(micro.columns)), L.icon(0)))
        with body.loop("k", L.icon(0), count) as k:
            out = body.let("out", to.index + k * self.pitch)
            with body.loop("i", L.icon(0), here) as i:
                at = self._at({**env, "_k": first + k, "_n": column + i})
                body.store(to.pointer, out + i, L.load(self.source, at))
            with body.loop("i", here, micro.columns) as i:
                body.store(to.pointer, out + i, zero)

    def _turned(
        self, to: L.Address, micro: M.Micro, env: Mapping[str, L.Expr], column: L.Expr,
        first: L.Expr, count: L.Expr, left: L.Expr,
    ) -> None:  # fmt: skip
        """Squares, then what is left of the rows and of the columns."""
        body, lanes, width = self.body, micro.lanes, micro.columns
        here = body.let("here", L.maximum(L.minimum(left, L.icon(width)), L.icon(0)))
        stride = L.stride_of(self.at, "_n")
        base = body.let("base", self._at({**env, "_k": first, "_n": column}))
        wide, deep = L.icon(0), L.icon(0)
        if lanes > 1 and stride is not None and self.source.dtype is micro.dtype:
            helper = turner(micro.dtype, lanes)
            self.helpers[helper.name] = helper
            wide = body.let("wide", L.binary("div", here, L.icon(lanes)) * lanes)
            deep = body.let("deep", L.binary("div", count, L.icon(lanes)) * lanes)
            pitch = L.index(stride)
            squares = body.loop("k", L.icon(0), deep, lanes), body.loop("n", L.icon(0), wide, lanes)
            with squares[0] as k, squares[1] as n:
                source = L.Address(self.source, base + n * pitch + k)
                target = L.Address(to.pointer, to.index + k * self.pitch + n)
                body.call(helper.name, source, pitch, target, L.icon(self.pitch))
        for n0, n1, k0, k1 in ((L.icon(0), wide, deep, count), (wide, here, L.icon(0), count)):
            with body.loop("n", n0, n1) as n, body.loop("k", k0, k1) as k:
                at = self._at({**env, "_k": first + k, "_n": column + n})
                body.store(to.pointer, to.index + k * self.pitch + n, L.load(self.source, at))
        with body.loop("k", L.icon(0), count) as k, body.loop("n", here, width) as n:
            body.store(to.pointer, to.index + k * self.pitch + n, L.const(0, micro.dtype))
