"""A product of matrices, and how it is cut for the caches, registers and threads."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from oarlock.codegen import loops as L
from oarlock.codegen.kernels import micro as M
from oarlock.codegen.target import Target
from oarlock.ir.dim import Size, bounds, dim_min, product
from oarlock.ir.graph import Value

LEAST_TILES, MOST_TILES = 10, 32  # in a block of rows
SHARED = 2  # times as many rows where B is packed for them when the program runs
ALIASING = 4096  # bytes between rows that fall into one set of the first level cache
FEW_ROWS = 6  # that do not hurt then
CHUNK = 256  # of K: a panel fills the first level cache
DEEP = 2 * CHUNK  # K that is cut
SPAN = 4  # panels of an item when K is cut
JOINED, FAR_BYTES = 8, 1 << 23  # panels of items that one thread has, for an A that large
SHARES = 4  # items that threads should find then
WIDE = 6, 4  # rows and vectors of a tile whose rows of A evict each other
THREAD_WORK = 1 << 19  # multiply-adds worth a thread
LIKELY = 256  # a symbolic size
FETCHING_TILES = 8  # that ask for the panel of the next ones
FEW_TILES = 2  # by which a panel is not worth packing


@dataclass
class Product:
    """``output[batch, rows, n] = sum over k of a * b + bias``.

    ``rows`` are axes of the output that are one axis of the product.  ``a_at`` and ``b_at`` are the
    positions of a and b over the symbols ``_b0 .. _m _n _k``.  ``packed`` is b [.., K, N] when it is
    known at build time, ``bias`` [.., N] likewise.
    """

    output: Value
    batch: tuple[Size, ...]
    rows: tuple[Size, ...]
    columns: Size
    depth: Size
    a: Value
    a_at: Size
    b: Value
    b_at: Size
    packed: np.ndarray | None = None
    bias: Value | None = None
    bias_numbers: np.ndarray | None = None

    @property
    def height(self) -> Size:
        """M."""
        return product(self.rows)

    def reads(self) -> list[Value]:
        """What must be in memory besides the operands of the epilogue."""
        found = [self.a] if self.packed is not None else [self.a, self.b]
        return found + ([self.bias] if self.bias is not None and self.bias_numbers is None else [])


class Blocking:
    """The decisions about one product; nothing is emitted."""

    target: Target
    p: Product
    micro: M.Micro
    panels: Size
    blocks: Size
    span: int
    heights: tuple[int, ...]

    def _choose_micro(self, weights: L.DType) -> M.Micro:
        micro = M.tile(self.target, self.p.a.dtype, weights)
        ahead = self.is_turned and self._bytes_of_a() > 2 * self.target.cache_bytes
        if self._reads_b(micro):
            return replace(micro, strided=True, turned=self.is_turned, ahead=ahead)
        if self.is_turned:
            return replace(micro, turned=True, ahead=ahead)
        if self.is_cut and self._aliases() and micro.rows > WIDE[0] and micro.vectors < WIDE[1]:
            return replace(micro, rows=WIDE[0], vectors=WIDE[1])
        return micro

    def _reads_b(self, micro: M.Micro) -> bool:
        """B is read in place: whole panels, columns adjacent, few tiles."""
        p = self.p
        if p.packed is not None or not isinstance(p.height, int) or not isinstance(p.columns, int):
            return False
        step, pitch = L.stride_of(p.b_at, "_n"), L.stride_of(p.b_at, "_k")
        is_whole = p.columns % micro.columns == 0 and p.b.dtype is micro.dtype
        is_few = p.height <= FEW_TILES * micro.rows and not self.is_cut
        return is_whole and is_few and step == 1 and pitch is not None

    @property
    def is_turned(self) -> bool:
        """A is read in place, the rows of a column adjacent."""
        p = self.p
        step, stride = L.stride_of(p.a_at, "_k"), L.stride_of(p.a_at, "_m")
        is_same = p.a.dtype is L.compute_dtype(p.a.dtype)
        return is_same and stride == 1 and step is not None and step != 1 and p.height != 1

    @property
    def can_sum_a(self) -> bool:
        """The sums of A over k can be taken by the way: A is turned and large, two halves of a
        register cover the rows of every tile, and the first panel is whole."""
        p, micro = self.p, self.micro
        if not self.is_turned or not self.is_cut or p.batch or not isinstance(p.columns, int):
            return False
        covers = micro.lanes // 2 <= min(self.heights) <= max(self.heights) <= micro.lanes
        is_large = isinstance(p.height, int) and self._bytes_of_a() > 2 * self.target.cache_bytes
        return micro.lanes > 1 and covers and is_large and p.columns >= micro.columns

    @property
    def is_cut(self) -> bool:
        """K goes by chunks."""
        p = self.p
        is_deep = p.packed is None and isinstance(p.depth, int) and p.depth > DEEP
        in_place = p.a.dtype is L.compute_dtype(p.a.dtype) and (
            self.is_turned or L.stride_of(p.a_at, "_k") == 1
        )
        return is_deep and in_place and L.stride_of(p.a_at, "_m") is not None

    @property
    def chunk(self) -> int:
        """Values of k at once."""
        assert isinstance(self.p.depth, int), "K is cut"
        count = -(-self.p.depth // CHUNK)
        return -(-self.p.depth // count // 16) * 16

    def _span(self) -> int:
        """Panels of an item."""
        if not self.is_cut or not isinstance(self.panels, int):
            return 1
        shares = -(-SHARES // max(1, bounds(self.blocks * product(self.p.batch))[0]))
        return max(1, min(SPAN, self.panels // shares))

    def _joined(self) -> int:
        """Panels that one thread computes at once, its items joined, where A does not stay in the
        caches between them."""
        is_large = self.is_cut and self._bytes_of_a() >= FAR_BYTES
        return -(-JOINED // self.span) * self.span if is_large else self.span

    def _bytes_of_a(self) -> int:
        return _likely(self.p.height) * _likely(self.p.depth) * self.p.a.dtype.bytes

    @property
    def is_far(self) -> bool:
        """The output does not stay in the caches: its lines come from memory, to be written once."""
        p = self.p
        size = _likely(product(p.batch)) * _likely(p.height) * _likely(p.columns)
        return not self.is_cut and size * p.output.dtype.bytes >= FAR_BYTES

    @property
    def fetches_b(self) -> bool:
        """Panels of B come from far, and enough tiles pass by one to ask for the next meanwhile."""
        p = self.p
        size = _likely(p.columns) * _likely(p.depth) * p.b.dtype.bytes
        is_packed = p.packed is None and not self.micro.strided
        tiles = min(_likely(p.height) // self.micro.rows, self._tiles_per_block())
        return is_packed and size >= self.target.cache_bytes and tiles >= FETCHING_TILES

    def _tiles_per_block(self) -> int:
        depth = self.chunk if self.is_cut else _likely(self.p.depth)
        tile = depth * self.micro.dtype.bytes * self.micro.rows
        if self.p.packed is None and not self.micro.strided:
            return self._tiles_that_share(tile)
        return self.target.tiles_per_block(tile, LEAST_TILES, MOST_TILES)

    def _tiles_that_share(self, tile_bytes: int) -> int:
        """Tiles that pass by a panel packed for them: all where they nearly fit the cache."""
        tiles = -(-_likely(self.p.height) // self.micro.rows)
        if tiles * tile_bytes <= self.target.cache_bytes * 3 // 2:
            return max(tiles, 1)
        most = MOST_TILES if self.is_cut else SHARED * MOST_TILES
        return self.target.tiles_per_block(tile_bytes, LEAST_TILES, most)

    def _grain(self, items: Size) -> int:
        p = self.p
        work = _likely(p.height) * _likely(p.columns) * _likely(p.depth) * _likely(product(p.batch))
        return max(1, THREAD_WORK * max(1, _likely(items)) // max(1, work))

    def _block_rows(self) -> Size:
        """The most rows of a block."""
        return dim_min(self.p.height, (self._tiles_per_block() + 1) * self.micro.rows)

    def _copies_a(self) -> bool:
        """A is copied: it is narrow, its rows are not adjacent elements, or they evict each other."""
        p = self.p
        step, stride = L.stride_of(p.a_at, "_k"), L.stride_of(p.a_at, "_m")
        if self.micro.turned:
            return False
        if p.a.dtype is not self.micro.dtype or step != 1 or stride is None:
            return True
        few = isinstance(p.height, int) and p.height <= FEW_ROWS
        return self._aliases() and not few and not self.is_cut

    def _aliases(self) -> bool:
        """Rows of A fall into one set of the first level cache."""
        stride = L.stride_of(self.p.a_at, "_m")
        return isinstance(stride, int) and stride * self.p.a.dtype.bytes % ALIASING == 0

    def _copy_stride(self) -> Size:
        """Elements between copied rows: a vector more than a multiple of vectors, if there are any."""
        if self.micro.lanes == 1:
            return self.p.depth
        lanes = max(16, self.micro.lanes)
        return -(-self.p.depth // lanes) * lanes + lanes


def _likely(size: Size) -> int:
    low, high = bounds(size)
    return low if low == high else max(low, min(LIKELY, high or LIKELY))
