"""The micro-kernel family: a register tile of a product of matrices, explicit accumulators.

``c[r, j] = start[r, j] + sum over taps and k of a[r, k] * b[k, j]`` for ``rows`` x ``columns``
elements that stay in registers from the first k to the last.  A is read in place, one broadcast per
row; B comes in panels ``[K][columns]`` (see ``pack``) or in place with a stride.  A *tap* is a
further pair of blocks (A moved by a stride, B the next panel): a convolution sums over its window by
them without leaving the registers, the batch-reduce product of Georganas et al.

Functions are named by their parameters, so that equal ones are printed once in a program.
Source: E. Georganas et al., "Harnessing Deep Learning via a Single Building Block" (IPDPS 2020);
K. Goto, R. van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from oarlock.codegen import loops as L
from oarlock.codegen.body import Body
from oarlock.codegen.target import Target
from oarlock.ir.dim import Size, bounds
from oarlock.ir.types import DType, i32

CHAINS = 8  # independent sums that hide the latency of a multiply-add
LEAST_HALVED = 16  # lanes of a vector that has a register of half its width
GROUP = 3  # rows addressed from one pointer: base, + lda, + 2 lda


@dataclass(frozen=True)
class Micro:
    """One micro-kernel, or the family of all heights up to ``rows``.

    ``vectors`` of ``lanes`` columns; ``dtype`` is that of A, C and the sums (f32 or f64), ``weights``
    the storage of B; ``taps`` (0 to 2) counts loops over pairs of blocks; ``strided``: B has a row
    stride of its own; ``turned``: A is [K, rows], its rows adjacent and its stride between k.
    ``ahead``: a turned A is fetched for the tile after this one, whose rows are next in memory;
    ``far``: C is not in the caches, its lines are asked for before the sums are there; ``summing``:
    the sums of a turned A over k are added to ``sums`` besides.
    """

    rows: int
    vectors: int
    lanes: int
    dtype: DType
    weights: DType
    taps: int = 0
    strided: bool = False
    turned: bool = False
    ahead: bool = False
    far: bool = False
    summing: bool = False

    @property
    def columns(self) -> int:
        """Elements in a row of the tile."""
        return self.vectors * self.lanes

    @property
    def name(self) -> str:
        """The C name."""
        weights = "" if self.weights is self.dtype else f"_{self.weights}"
        more = f"_taps{self.taps}" if self.taps else ""
        shape = f"{self.rows}x{self.vectors}v{self.lanes}"
        flags = ("strided", "turned", "ahead", "far", "summing")
        more += "".join(f"_{flag}" for flag in flags if getattr(self, flag))
        return f"gemm_{self.dtype}{weights}_{shape}{more}"

    def narrow(self, columns: int) -> Micro:
        """As many vectors as ``columns`` of the last panel need, half as wide for a few."""
        if columns <= self.lanes // 2 and self.lanes >= LEAST_HALVED:
            return replace(self, vectors=1, lanes=self.lanes // 2)
        return replace(self, vectors=max(1, -(-columns // self.lanes)))


def tile(target: Target, dtype: DType, weights: DType | None = None, taps: int = 0) -> Micro:
    """The largest register tile of a target."""
    compute = L.compute_dtype(dtype)
    rows, vectors = {"avx512": (14, 2), "avx2": (6, 2), "neon": (8, 3)}.get(target.isa, (4, 2))
    lanes = target.lanes(compute.bytes)
    if lanes == 1:
        rows, vectors = 3, 3
    return Micro(rows, vectors, lanes, compute, weights or dtype, taps)


@dataclass(frozen=True)
class Arguments:
    """What a micro-kernel is called with: positions are elements, strides are between rows.

    ``start`` holds the first values of the sums: a bias with stride 0, or a C to add to.
    ``taps`` are (count, stride of A), the outer one first.
    """

    a: L.Address
    a_stride: L.Expr
    b: L.Address
    start: L.Address
    start_stride: L.Expr
    c: L.Address
    c_stride: L.Expr
    depth: L.Expr
    b_stride: L.Expr | None = None
    taps: tuple[tuple[L.Expr, L.Expr], ...] = ()
    sums: L.Address | None = None

    def exprs(self) -> tuple[L.Expr, ...]:
        """In the order of the C parameters."""
        more = (self.b_stride,) if self.b_stride is not None else ()
        flat = tuple(x for tap in self.taps for x in tap)
        ends = (self.start, self.start_stride, self.c, self.c_stride, self.depth)
        sums = (self.sums,) if self.sums is not None else ()
        return (self.a, self.a_stride, self.b, *more, *ends, *flat, *sums)


def call(
    body: Body, micro: Micro, heights: Sequence[int], rows: L.Expr, arguments: Arguments
) -> tuple[L.Function, ...]:
    """Call the kernel of ``rows`` rows, one of ``heights``; the helpers that the caller needs."""
    exprs = arguments.exprs()
    if len(heights) > 2:
        chooser = _chooser(replace(micro, rows=max(heights)), tuple(heights))
        body.call(chooser.name, rows, *exprs)
        return (chooser,)
    kernels = [function(replace(micro, rows=h)) for h in heights]
    if len(kernels) == 1:
        body.call(kernels[0].name, *exprs)
        return tuple(kernels)
    with body.if_(L.compare("eq", rows, heights[0])):
        body.call(kernels[0].name, *exprs)
    with body.else_():
        body.call(kernels[1].name, *exprs)
    return tuple(kernels)


def heights(height: Size, most: int) -> tuple[int, ...]:
    """The heights of tiles when rows are cut evenly."""
    low, high = bounds(height)
    if low == high and isinstance(height, int):
        tiles = max(1, -(-height // most))
        return tuple(sorted({max(1, height // tiles), max(1, -(-height // tiles))}, reverse=True))
    return tuple(range(min(most, high or most), 0, -1))


@lru_cache(maxsize=256)
def _chooser(micro: Micro, heights: tuple[int, ...]) -> L.Function:
    """One of several heights by a number."""
    body, rows, params = Body(), L.Var("rows", L.INDEX), _Parameters(micro)
    kernels = [function(replace(micro, rows=h)) for h in heights]
    _choose(body, rows, params, list(zip(kernels, heights)))
    name = f"{micro.name}_of{min(heights)}"
    return _helper(name, body, (rows, *params.params()), tuple(kernels))


def _choose(
    body: Body, rows: L.Expr, params: _Parameters, kernels: Sequence[tuple[L.Function, int]]
) -> None:
    """The last kernel is for every other number, so that C sees the tile written in any case."""
    (kernel, height), *others = kernels
    if not others:
        body.call(kernel.name, *params.exprs())
        return
    with body.if_(L.compare("eq", rows, height)):
        body.call(kernel.name, *params.exprs())
    with body.else_():
        _choose(body, rows, params, others)


class _Parameters:
    """The C parameters of a micro-kernel."""

    def __init__(self, micro: Micro) -> None:
        self.a = L.Pointer("a", micro.dtype, "param")
        self.b = L.Pointer("b", micro.weights, "param")
        self.start = L.Pointer("start", micro.dtype, "param")
        self.c = L.Pointer("out", micro.dtype, "param", written=True)
        names = ("lda", "lds", "ldc", "depth")
        self.lda, self.lds, self.ldc, self.depth = (L.Var(n, L.INDEX) for n in names)
        self.ldb = L.Var("ldb", L.INDEX) if micro.strided else None
        self.sums = L.Pointer("sums", micro.dtype, "param", written=True) if micro.summing else None
        self.taps = tuple(
            (L.Var(f"taps{i}", L.INDEX), L.Var(f"step{i}", L.INDEX)) for i in range(micro.taps)
        )

    def params(self) -> tuple[L.Var | L.Pointer, ...]:
        """In order; see Arguments.exprs."""
        more = (self.ldb,) if self.ldb is not None else ()
        flat = tuple(x for tap in self.taps for x in tap)
        ends = (self.start, self.lds, self.c, self.ldc, self.depth)
        sums = (self.sums,) if self.sums is not None else ()
        return (self.a, self.lda, self.b, *more, *ends, *flat, *sums)

    def exprs(self) -> tuple[L.Expr, ...]:
        """The parameters as arguments of another call."""
        zero = L.icon(0)
        return tuple(L.Address(p, zero) if isinstance(p, L.Pointer) else p for p in self.params())


def _helper(
    name: str,
    body: Body,
    params: tuple[L.Var | L.Pointer, ...],
    helpers: tuple[L.Function, ...] = (),
) -> L.Function:
    return L.Function(
        name, body.statements, params=params, is_kernel=False, inline=False, helpers=helpers
    )


@lru_cache(maxsize=256)
def function(micro: Micro) -> L.Function:
    """The C function of one height."""
    return _Builder(micro).build()


class _Builder:
    def __init__(self, micro: Micro) -> None:
        self.micro, self.body, self.p = micro, Body(), _Parameters(micro)
        self.body.reserve(*(x.name for x in self.p.params()))
        self.sums: dict[tuple[int, int], L.Var] = {}
        self.halves: list[tuple[int, L.Var]] = []

    def build(self) -> L.Function:
        """Load the sums, run over taps and depth, store them."""
        for r, j in self._places() if self.micro.far else ():
            self._fetch(L.Address(self.p.c, self._at(r, j, self.p.ldc)), 1)
        for r, j in self._places():
            first = L.load(self.p.start, self._at(r, j, self.p.lds), self.micro.lanes)
            self.sums[r, j] = self.body.variable(f"c{r}_{j}", first)
        half = max(1, self.micro.lanes // 2)
        zero = L.const(0, self.micro.dtype, half)
        self.halves = [(at, self.body.variable("sum", zero)) for at in self._halves(half)]
        self._taps(self.p.taps, L.icon(0), L.icon(0))
        for (r, j), total in self.sums.items():
            self.body.store(self.p.c, self._at(r, j, self.p.ldc), total)
        self._add_halves(half)
        found = _helper(self.micro.name, self.body, self.p.params())
        return replace(found, apart=self.micro.lanes > 1 and len(self.sums) > CHAINS)

    def _places(self) -> list[tuple[int, int]]:
        return [(r, j) for r in range(self.micro.rows) for j in range(self.micro.vectors)]

    def _at(self, r: int, j: int, stride: L.Expr) -> L.Expr:
        return stride * r + j * self.micro.lanes

    def _halves(self, half: int) -> list[int]:
        """Where the two halves of a register that cover all rows of A begin: they overlap."""
        return [0, self.micro.rows - half] if self.micro.summing else []

    def _add_halves(self, half: int) -> None:
        """All are read before one is stored, as some elements are in both."""
        to = self.p.sums
        if to is None:
            return
        totals = [self.body.let("total", L.load(to, L.icon(at), half) + v) for at, v in self.halves]
        for (at, _), total in zip(self.halves, totals):
            self.body.store(to, L.icon(at), total)

    def _fetch(self, place: L.Address, to_write: int) -> None:
        self.body.call("__builtin_prefetch", place, L.const(to_write, i32))

    def _taps(self, taps: Sequence[tuple[L.Expr, L.Expr]], offset: L.Expr, block: L.Expr) -> None:
        """Loops over the pairs of blocks; ``block`` counts those of B."""
        if not taps:
            self._depth(offset, block)
            return
        count, stride = taps[0]
        with self.body.loop("tap", 0, count) as i:
            self._taps(taps[1:], offset + i * stride, block * count + i)

    def _depth(self, offset: L.Expr, block: L.Expr) -> None:
        """The loop over k, several at once into sums of their own when the tile is small."""
        b, m = self.p.b, self.micro
        if m.taps:
            b = self.body.pointer("panel", b, block * (self.p.depth * m.columns))
        firsts = [L.icon(0)] if m.turned else [self.p.lda * r for r in range(0, m.rows, GROUP)]
        bases = [
            self.body.pointer(f"a{i * GROUP}", self.p.a, offset + at) for i, at in enumerate(firsts)
        ]
        chains = max(1, CHAINS // len(self.sums))
        if chains == 1:
            with self.body.loop("k", 0, self.p.depth) as k:
                if m.ahead:
                    self._fetch(L.Address(bases[0], k * self.p.lda + (2 * m.rows - 1)), 0)
                for at, total in self.halves:
                    part = L.load(bases[0], k * self.p.lda + at, total.lanes)
                    self.body.assign(total, total + part)
                self._step(bases, b, k, self.sums)
            return
        self._chained(bases, b, chains)

    def _chained(self, bases: Sequence[L.Pointer], b: L.Pointer, chains: int) -> None:
        sets = [self.sums]
        for i in range(1, chains):
            zero = L.const(0, self.micro.dtype, self.micro.lanes)
            sets.append({p: self.body.variable(f"d{i}_{p[0]}_{p[1]}", zero) for p in self.sums})
        whole = self.body.let("whole", L.binary("div", self.p.depth, L.icon(chains)) * chains)
        with self.body.loop("k", 0, whole, chains) as k:
            for i, sums in enumerate(sets):
                self._step(bases, b, k + i, sums)
        with self.body.loop("k", whole, self.p.depth) as k:
            self._step(bases, b, k, self.sums)
        for place, total in self.sums.items():
            for sums in sets[1:]:
                self.body.assign(total, total + sums[place])

    def _step(
        self,
        bases: Sequence[L.Pointer],
        b: L.Pointer,
        k: L.Expr,
        sums: dict[tuple[int, int], L.Var],
    ) -> None:
        """One k: a row of B times every element of a column of A."""
        m = self.micro
        row = k * (m.columns if self.p.ldb is None else self.p.ldb)
        with self.body.scope():
            right = [
                self.body.let(f"b{j}", L.load(b, row + j * m.lanes, m.lanes))
                for j in range(m.vectors)
            ]
            for r in range(m.rows):
                at = k * self.p.lda + r if m.turned else self.p.lda * (r % GROUP) + k
                base = bases[0] if m.turned else bases[r // GROUP]
                left = self.body.let(f"x{r}", L.load(base, at))
                for j in range(m.vectors):
                    total = sums[r, j]
                    self.body.assign(total, total + L.splat(left, m.lanes) * right[j])


def pack(matrix: np.ndarray, micro: Micro) -> np.ndarray:
    """``matrix[..., K, N]`` as panels [K][columns], flat; the last one as narrow as whole vectors
    allow, its missing columns 0."""
    *batch, depth, n = matrix.shape
    whole = n // micro.columns * micro.columns
    panels = matrix[..., :whole].reshape(*batch, depth, whole // micro.columns, micro.columns)
    parts = [np.moveaxis(panels, -2, -3).reshape(*batch, depth * whole)]
    if n > whole:
        width = micro.narrow(n - whole).columns
        last = np.zeros((*batch, depth, width), matrix.dtype)
        last[..., : n - whole] = matrix[..., whole:]
        parts.append(last.reshape(*batch, depth * width))
    return np.ascontiguousarray(np.concatenate(parts, -1))
