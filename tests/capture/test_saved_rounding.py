"""``round(x, digits)`` in saved programs: to the bit what Python gives, also next to half way."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

import oarlock

DIGITS = (2, 1, 0, 3, 10, -1, -3)


def rounded(x):
    return [round(x.item(), d) for d in (2, 1, 0, 3, 10, -1, -3)]


def half_ways(rng: random.Random) -> list[float]:
    """Numbers next to half way between two that are rounded to, and others."""
    found = [2.675, 1.005, 1.115, 0.5, 2.5, -0.004, 1e22, 2.0**52 + 0.5, 15.0, 25.0, -2500.0, 1e300]
    for _ in range(300):
        tens = 10.0 ** rng.choice((-10, -3, -2, -1, 0, 1, 3))
        x = (rng.randrange(-(10**6), 10**6) + 0.5) * tens
        found += [x, np.nextafter(x, 9e99), np.nextafter(x, -9e99), rng.uniform(-1e7, 1e7)]
        found.append(struct.unpack("d", rng.randbytes(8))[0])
    return [float(x) for x in found if x == x and abs(x) != float("inf")]


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> oarlock.Predictor:
    path: Path = tmp_path_factory.mktemp("rounding") / "p.oar"
    static = oarlock.to_static(rounded, backend="replay")
    for x in (1.005, 2.5):
        static(torch.tensor(x, dtype=torch.float64))
    static.save(path)
    return oarlock.Predictor(path)


def test_floats_are_rounded_as_python_rounds(predictor: oarlock.Predictor):
    for x in half_ways(random.Random(0)):
        want = [round(x, d) for d in DIGITS]
        got = [float(y) for y in predictor(np.float64(x))]
        assert list(map(str, got)) == list(map(str, want)), x


def test_integers_are_rounded_to_tens(tmp_path: Path):
    def tens(n):
        n = int(n)
        return round(n, -1), round(n, -2), round(n, 3)

    static = oarlock.to_static(tens, backend="replay")
    for n in (24, 1235):
        static(torch.tensor(n))
    static.save(tmp_path / "p.oar")
    saved = oarlock.Predictor(tmp_path / "p.oar")
    for n in (5, 15, 25, -15, -25, 149, 150, 250, -250, 10**15 + 5):
        assert [int(x) for x in saved(np.int64(n))] == list(tens(n))
