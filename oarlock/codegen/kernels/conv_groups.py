"""Groups of a convolution that were computed as one, made exact where numbers are not finite.

Weights of 0 join small groups to fill a vector, and 0 times an infinity or NaN of another group is
NaN.  So a tile without a NaN is right as it is; every NaN is computed again from its own group.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from oarlock.codegen import loops as L
from oarlock.codegen.body import Body
from oarlock.codegen.kernels.micro import Micro


@dataclass(frozen=True)
class Groups:
    """``joined`` groups of ``channels`` in and ``columns`` out; K is (taps, joined, channels)."""

    joined: int
    channels: int
    columns: int
    taps: int


@lru_cache(maxsize=64)
def exact_groups(micro: Micro, groups: Groups) -> L.Function:
    """Recompute the NaN of a tile whose ``count`` columns from ``column`` of the block are real."""
    body = Body()
    a, b = L.Pointer("a", micro.dtype, "param"), L.Pointer("b", micro.weights, "param")
    start = L.Pointer("start", micro.dtype, "param")
    out = L.Pointer("out", micro.dtype, "param", written=True)
    lda, ldc, rows, column, count = (
        L.Var(n, L.INDEX) for n in ("lda", "ldc", "rows", "column", "count")
    )
    params = (a, lda, b, start, out, ldc, rows, column, count)
    body.reserve(*(p.name for p in params))
    poison = body.variable("poison", L.const(0, micro.dtype, micro.lanes))
    with body.loop("r", 0, rows) as r:
        for j in range(micro.vectors):
            value = L.load(out, r * ldc + j * micro.lanes, micro.lanes)
            body.assign(poison, poison + value * L.const(0, micro.dtype, micro.lanes))
    total = body.let("total", L.across("sum", poison))
    is_bad = body.if_(L.compare("ne", total, total))
    with is_bad, body.loop("r", 0, rows) as r, body.loop("j", L.icon(0), count) as j:
        old = body.let("old", L.load(out, r * ldc + j))
        with body.if_(L.compare("ne", old, old)):
            group = body.let("g", L.binary("div", column + j, L.icon(groups.columns)))
            acc = body.variable("acc", L.load(start, j))
            with body.loop("tap", 0, groups.taps) as tap:
                first = body.let("first", (tap * groups.joined + group) * groups.channels)
                with body.loop("i", 0, groups.channels) as i:
                    k = body.let("k", first + i)
                    term = L.load(a, r * lda + k) * L.load(b, k * micro.columns + j)
                    body.assign(acc, acc + term)
            body.store(out, r * ldc + j, acc)
    name = f"groups_{micro.dtype}_{micro.weights}_{micro.vectors}v{micro.lanes}"
    name += f"_{groups.joined}x{groups.channels}x{groups.columns}_taps{groups.taps}"
    return L.Function(name, body.statements, params=params, is_kernel=False, inline=False)
