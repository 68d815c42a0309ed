"""Distances in units in the last place."""

from __future__ import annotations

import numpy as np
import pytest

from oarlock.ir import bf16
from oarlock.runtime.ulp import NEVER, max_ulp, ulp_distance


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_neighbours(kind):
    x = np.array([1.0, -1.0, 0.0, 3.5], kind)
    assert ulp_distance(x, np.nextafter(x, kind(np.inf))).tolist() == [1, 1, 1, 1]
    assert ulp_distance(np.nextafter(kind(0), kind(-1)), np.nextafter(kind(0), kind(1))) == 2


def test_zeros_nan_and_infinity():
    a = np.array([0.0, np.nan, np.nan, np.inf], np.float32)
    b = np.array([-0.0, np.nan, 1.0, -np.inf], np.float32)
    assert ulp_distance(a, b).tolist()[:3] == [0, 0, NEVER]
    assert max_ulp(np.float64(np.inf), np.float64(-np.inf)) == NEVER


def test_other_types():
    assert ulp_distance(np.array([1, 5]), np.array([4, 5])).tolist() == [3, 0]
    assert max_ulp(np.array([0x3F80], np.uint16), np.array([0x3F82], np.uint16), bf16) == 2
    assert max_ulp(np.array([True]), np.array([False])) == 1
    low, high = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    assert max_ulp(np.array([low]), np.array([high])) == NEVER
    assert max_ulp(np.empty(0, np.float32), np.empty(0, np.float32)) == 0
