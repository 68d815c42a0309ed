"""``compare`` without an engine: bounds and distances."""

from __future__ import annotations

import numpy as np
import pytest

from oarlock.ir import bf16, f32, i64
from oarlock.runtime import compare as c


def test_distance():
    a = np.array([1, np.nan, np.inf, -np.inf], np.float32)
    assert c.max_abs(a, a.copy(), f32) == 0
    assert c.max_abs(a, np.array([1.5, np.nan, np.inf, -np.inf], np.float32), f32) == 0.5
    assert c.max_abs(a, np.array([1, 0, np.inf, -np.inf], np.float32), f32) == np.inf
    assert c.max_abs(a, np.array([1, np.nan, np.inf, np.inf], np.float32), f32) == np.inf
    assert c.max_abs(a, a[:2], f32) == np.inf
    assert c.max_abs(np.array([3]), np.array([5]), i64) == 2
    assert c.max_abs(np.array([0x3F80], np.uint16), np.array([0x4000], np.uint16), bf16) == 1


def test_bound():
    x = np.array([-2.0, np.inf, np.nan], np.float32)
    assert c.rounding_bound(x, f32, 4.0) == pytest.approx(16 * 2.0**-23 * 2 * 2)
    assert c.rounding_bound(np.array([7]), i64, 100.0) == 0


def test_flatten():
    x, y, z = (np.zeros(i) for i in range(3))
    assert [v.shape for v in c.flatten({"a": (x, [y]), "b": None, "c": z})] == [(0,), (1,), (2,)]
