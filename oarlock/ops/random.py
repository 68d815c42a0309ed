"""Random numbers that depend on the seed, the run and the place alone.

Element ``i`` is made of word ``i % 4`` of block ``i // 4`` of Philox4x32-10: any thread can draw any
element, and every target draws the same bits.
"""

from __future__ import annotations

import numpy as np

from oarlock.ir import DType, Size, TensorType, bf16, f16, f32, f64, i64
from oarlock.ir.op import Op, Sample, op

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
_MASK = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Philox4x32-10 of uint64 counters [B, 4] that hold 32-bit words.

    Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011).
    """
    a, b, c, d = (counter[:, i] for i in range(4))
    k, m = key
    for _ in range(ROUNDS):
        p, q = a * np.uint64(MULTIPLIERS[0]), c * np.uint64(MULTIPLIERS[1])
        a, b, c, d = (
            (q >> _HALF) ^ b ^ np.uint64(k),
            q & _MASK,
            (p >> _HALF) ^ d ^ np.uint64(m),
            p & _MASK,
        )
        k, m = (k + WEYL[0]) & 0xFFFFFFFF, (m + WEYL[1]) & 0xFFFFFFFF
    return np.stack([a, b, c, d], -1)


def words(count: int, seed: int, run: int = 0) -> np.ndarray:
    """``count`` 32-bit words, as uint64; the counter is (block, run), the key is the seed."""
    block = np.arange(-(-count // 4), dtype=np.uint64)
    high = [np.uint64(run & 0xFFFFFFFF), np.uint64((run >> 32) & 0xFFFFFFFF)]
    columns = [block & _MASK, block >> _HALF, *(np.full_like(block, word) for word in high)]
    key = (seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF)
    return philox(np.stack(columns, -1), key).reshape(-1)[:count]


BITS = {f16: 11, bf16: 8, f32: 24, f64: 32}
GENERATOR = "oarlock.generator"
"""The state of a program that draws: its seed and how many draws it has made, i64[2]."""


def generator(seed: int = 0) -> np.ndarray:
    """The state before the first draw; ``seed`` is taken modulo 2**64."""
    return np.array([seed & (1 << 64) - 1, 0], np.uint64).view(np.int64)


class Draw(Op):
    """Base: ``run`` is an optional counter, i64[], that gives every run other numbers; or i64[2]:
    a number that is xored into the seed, and the counter."""

    def infer(self, run: TensorType | None = None) -> TensorType:
        types = () if run is None else (run,)
        if self.dtype not in BITS:
            raise self.fail(types, f"expected float elements, got {self.dtype}")
        if run is not None and run not in (TensorType(i64), TensorType(i64, (2,))):
            raise self.fail(types, f"expected a counter i64[] or a generator i64[2], got {run}")
        return TensorType(self.dtype, self.shape)

    def words(self, count: int, run: np.ndarray | None) -> np.ndarray:
        if run is None or not np.ndim(run):
            return words(count, self.seed, 0 if run is None else int(run))
        return words(count, self.seed ^ int(run[0]), int(run[1]))


@op("rand")
class Rand(Draw):
    """Uniform in [0, 1): the high bits of a word, as many as ``dtype`` holds, at most 32.

    Attrs:   seed: 64 bits.
    """

    shape: tuple[Size, ...] = ()
    dtype: DType = f32
    seed: int = 0
    samples = [
        Sample((), {"shape": (3, 7), "seed": 5}),
        Sample((np.array(3),), {"shape": (9,), "dtype": f64, "seed": 1 << 40}),
        Sample((np.array([-3, 1 << 33]),), {"shape": (9,), "seed": 1 << 40}),
        Sample((), {"shape": (0, 2)}),
    ]

    def reference(self, run: np.ndarray | None = None) -> np.ndarray:
        bits = BITS[self.dtype]
        drawn = self.words(int(np.prod(self.shape)), run) >> np.uint64(32 - bits)
        return (drawn * 2.0**-bits).reshape(self.shape)


@op("randn")
class RandN(Draw):
    """Normal, mean 0, deviation 1: words 2i and 2i + 1 give elements 2i and 2i + 1.

    ``sqrt(-2 log((w[2i] >> 8) + 1) / 2**24)`` times cos and sin of ``2 pi (w[2i+1] >> 8) / 2**24``.

    Source:  Box and Muller, "A note on the generation of random normal deviates" (1958).
    """

    shape: tuple[Size, ...] = ()
    dtype: DType = f32
    seed: int = 0
    samples = [
        Sample((), {"shape": (3, 7), "seed": 5}),
        Sample((np.array(3),), {"shape": (9,), "dtype": f64, "seed": 1 << 40}),
    ]

    def reference(self, run: np.ndarray | None = None) -> np.ndarray:
        count = int(np.prod(self.shape))
        drawn = (self.words(count + count % 2, run) >> np.uint64(8)).reshape(-1, 2)
        radius = np.sqrt(-2 * np.log((drawn[:, 0] + 1.0) * 2.0**-24))
        angle = 2 * np.pi * (drawn[:, 1] * 2.0**-24)
        pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)
        return pairs.reshape(-1)[:count].reshape(self.shape)
