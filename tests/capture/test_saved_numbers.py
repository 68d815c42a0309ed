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


def scaled(x):
    scale = 2
    if x.sum() > 0:
        scale = x.max()
    return x * scale, scale - x, scale > 1, x[:1] / scale


def mean_of_positive(x):
    total, n = 0, 0
    for v in x:
        if v > 0:
            total, n = total + v, n + 1
    return total / max(n, 1), n


def last_place(x):
    at = 0
    while x.sum() < 20:
        at, x = x.argmax(), x.flip(0) * 2 + 1
    return x[at], at, x[: at + 1].sum()


def set_back(x):
    best = x[0]
    for v in x:
        if v > best:
            best = v
        elif v < 0:
            best = 0
    return x - best


def sum_of_floats(x):
    total, count = 0, 0
    for v in x.tolist():
        if v > 1:
            total += v
        elif v < -1:
            count, total = count + 1, total - 1
    return total * 1.0, total + 0.5, total / 2, total > 3, count


def halved(x):
    n, trips = int(x[0]), 0
    while n > 4:
        n, trips = n / 2, trips + 1
    return n / 4, trips


MIXED = (scaled, mean_of_positive, last_place, set_back, sum_of_floats, halved)
VALUES = ([1.0, 5.0, 2.0], [-1.0, -5.0, 0.5], [30.0, 2.0], [4.0, -2.0, 3.0, 9.0])


@pytest.mark.parametrize("fn", MIXED)
def test_numbers_that_others_replace(fn: Callable[..., Any], tmp_path: Path):
    """A number or a tensor, an int or a float: what follows is done with the one that it is."""
    predictor = saved(fn, [(torch.tensor(v),) for v in VALUES[:3:2]], tmp_path)
    for values in VALUES:
        for a, b in zip(leaves(predictor(torch.tensor(values))), leaves(fn(torch.tensor(values)))):
            np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-6)


def leaves(x: Any) -> list[Any]:
    return list(x) if isinstance(x, tuple) else [x]


def replaced(n: Any, finish: Callable[..., Any]) -> Callable[..., Any]:
    def fn(x):
        found = n
        while x.sum() < 20:
            found, x = x.max(), x * 2 + 1
        return finish(found, x)

    return fn


@pytest.mark.parametrize(
    ("fn", "error"),
    [
        (replaced(0, lambda n, x: 1 / n), "ZeroDivisionError: division by zero"),
        (replaced(2**24 + 1, lambda n, x: n), "an integer that f32 does not hold"),
        (replaced(3, lambda n, x: torch.arange(3) * n), "a Python int, where .* for a tensor"),
        (replaced(3, lambda n, x: torch.stack([n, x[0]])), "a Python int, where .* for a tensor"),
    ],
)
def test_a_number_for_which_the_program_is_not_made_ends_the_run(fn, error, tmp_path: Path):
    few, many = torch.tensor([0.5, 3.0]), torch.tensor([40.0, 2.0])
    predictor = saved(fn, [(few,)], tmp_path)
    assert_same(predictor(few), fn(few))
    with pytest.raises(ModelError, match=error):
        predictor(many)


def test_a_number_that_stays_is_exact(tmp_path: Path):
    """Also where a tensor that may replace it has fewer digits."""
    fn = replaced(2**24 + 1, lambda n, x: n > 2**24)
    predictor = saved(fn, [(torch.tensor([0.5, 3.0]),)], tmp_path)
    assert predictor(torch.tensor([40.0, 2.0]))
    assert not predictor(torch.tensor([0.5, 3.0]))


def test_texts_of_the_run_are_no_values(tmp_path: Path):
    with pytest.raises(UnsupportedError, match="a text with values of the run"):
        saved(lambda x: x * 2 if f"{int(x)}" == "1" else x, [(torch.tensor(2),)], tmp_path)


def counted_truths(x):
    ok = True
    if x.sum() > 0:
        ok = (x > 1).any()
    return ok + True


def multiplied_by_a_truth(x):
    ok = False
    if x.sum() > 0:
        ok = (x > 1).any()
    return x * ok


def test_truths_that_may_be_numbers_are_not_counted(tmp_path: Path):
    static = oarlock.to_static(counted_truths, backend="replay")
    for x in (torch.ones(2), -torch.ones(2)):
        assert static(x) == counted_truths(x)
    with pytest.raises(UnsupportedError, match="arithmetic of truths"):
        static.save(tmp_path / "p.oar")
    calls = [(torch.tensor([1.0, 2.0]),), (torch.tensor([-1.0, -2.0]),)]
    predictor = saved(multiplied_by_a_truth, calls[:1], tmp_path)
    for call in calls:
        assert_same(predictor(*call), multiplied_by_a_truth(*call))
