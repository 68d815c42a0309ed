"""Philox against the published vectors; what the draws depend on; their distribution."""

from __future__ import annotations

import numpy as np
import pytest

from oarlock.ir import bf16, f16, f32, f64
from oarlock.ops.random import Rand, RandN, philox, words

# Random123, kat_vectors: philox4x32, 10 rounds.
PUBLISHED = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip


def numbers(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "expected"), PUBLISHED)
def test_philox_gives_the_published_words(counter, key, expected):
    low, high = numbers(key)
    got = philox(np.array([numbers(counter)], np.uint64), (low, high))
    assert got[0].tolist() == numbers(expected)


def test_words_depend_on_place_seed_and_run_alone():
    assert words(5, 7).tolist() == words(40, 7)[:5].tolist()
    streams = [words(40, seed, run).tolist() for seed in (0, 1, 1 << 32) for run in (0, 1, 1 << 32)]
    assert len({tuple(s) for s in streams}) == len(streams)


@pytest.mark.parametrize(("dtype", "bits"), [(f64, 32), (f32, 24), (f16, 11), (bf16, 8)])
def test_rand_is_a_multiple_of_its_last_bit_below_one(dtype, bits):
    x = Rand(shape=(4096,), dtype=dtype, seed=3).reference()
    assert np.all(x * 2.0**bits == np.floor(x * 2.0**bits))
    assert x.min() >= 0 and x.max() <= 1 - 2.0**-bits


def moments(x: np.ndarray) -> list[float]:
    return [float(np.mean(x**k)) for k in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    ("record", "expected", "spread"),
    [
        (Rand, [1 / 2, 1 / 3, 1 / 4, 1 / 5], [0.29, 0.30, 0.29, 0.27]),
        (RandN, [0, 1, 0, 3], [1, 1.42, 3.88, 9.8]),
    ],
)
def test_moments_within_five_deviations(record, expected, spread):
    n = 1 << 16
    got = moments(record(shape=(n,), dtype=f64, seed=11).reference())
    assert np.all(np.abs(np.subtract(got, expected)) < 5 * np.array(spread) / np.sqrt(n))


def test_run_counter_gives_other_numbers():
    op = RandN(shape=(8,), seed=1)
    first, again, second = (op.reference(np.array(n)) for n in (1, 1, 2))
    assert first.tolist() == again.tolist() != second.tolist()
