"""Python's numbers in a saved program: of the same type and value as eager code has, or an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import oarlock
from oarlock.errors import ModelError, UnsupportedError

TOO_LARGE = "an integer of more than 64 bits"


def saved(fn: Callable[..., Any], shown: list[tuple], path: Path) -> oarlock.Predictor:
    """A Predictor of the file, after calls that give what eager gives."""
    static = oarlock.to_static(fn, backend="replay")
    for call in shown:
        assert str(static(*call)) == str(fn(*call))
    static.save(path / "p.oar")
    return oarlock.Predictor(path / "p.oar")


def assert_same(found: Any, want: Any) -> None:
    if isinstance(want, tuple):
        for a, b in zip(found, want, strict=True):
            assert_same(a, b)
        return
    got, expected = np.asarray(found), np.asarray(want)
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, rtol=4e-16 * (got.dtype.kind == "f"), atol=0)


def products(x):
    n = int(x)
    return n * n, n * n * n + 1, n**2, n**11 // 3, (n - 1) ** 9


def powers(x):
    n = int(x)
    return 2**n, (-3) ** n, n**n, (n - 3) ** n, 1**n, 0**n, 2.0**-n, 2**-n if n > 0 else 1.0


def shifts(x):
    n = int(x)
    return 1 << n, -5 << n, 1000 >> n, -1000 >> n, n << 3, n >> 1


@pytest.mark.parametrize("fn", (products, powers, shifts))
def test_whole_numbers_stay_whole(fn: Callable[..., Any], tmp_path: Path):
    calls = [(torch.tensor(n),) for n in (3, 1, 12, 0, 15)]
    predictor = saved(fn, calls[:1], tmp_path)
    for call in calls:
        assert_same(predictor(*call), fn(*call))


def last_digit(x):
    n = int(x)
    while 0 < n % 10 < 9:
        n = n * 3
    return n % 10


def fibonacci(x):
    a, b = 0, 1
    for _ in range(int(x)):
        a, b = b, a + b
    return a


def doubled(x):
    return 2 ** int(x), 1 << int(x)


def of_a_float(x):
    return int(x.double() * 1e17)


@pytest.mark.parametrize(
    ("fn", "good", "bad"),
    [(last_digit, 3, 5), (fibonacci, 91, 93), (doubled, 62, 63), (of_a_float, 90, 100)],
)
def test_whole_numbers_of_more_than_64_bits_end_the_run(fn, good, bad, tmp_path: Path):
    predictor = saved(fn, [(torch.tensor(good),)], tmp_path)
    assert_same(predictor(torch.tensor(good)), fn(torch.tensor(good)))
    with pytest.raises(ModelError, match=TOO_LARGE):
        predictor(torch.tensor(bad))


def test_constants_of_more_than_64_bits_are_refused(tmp_path: Path):
    with pytest.raises(UnsupportedError, match=TOO_LARGE):
        saved(lambda x: int(x) * 3**41 % 10, [(torch.tensor(2),)], tmp_path)


def test_a_negative_power_that_python_makes_a_float(tmp_path: Path):
    predictor = saved(lambda x: 3 ** int(x), [(torch.tensor(2),)], tmp_path)
    with pytest.raises(ModelError, match="write float"):
        predictor(torch.tensor(-1))


def extremes(x):
    v, w = x.tolist()
    return max(v, w), min(v, w), max(v, 0.0), max(0.0, v), min(w, 1.0), min(1.0, w), max(v, w, 2.0)


def test_least_and_largest_compare_with_nan_as_python_does(tmp_path: Path):
    predictor = saved(extremes, [(torch.tensor([1.0, 2.0]),)], tmp_path)
    for pair in ([3.0, float("nan")], [float("nan"), 0.5], [-0.0, 0.0], [float("inf"), -1.0]):
        x = torch.tensor(pair)
        assert str(tuple(map(float, predictor(x)))) == str(extremes(x))
