"""Sequences of run-time length through Python's own functions."""

from __future__ import annotations

import copy

import pytest
import torch

from oarlock.capture.to_static import to_static


def fallen(x):
    found = []
    while x.sum() > 0:
        found.append(x.sum().item())
        x = x - 1
    return found


def filtered(x):
    out = x
    for v in filter(lambda v: x[v[0]] > 1, x.nonzero()):
        out = out + v
    return out


def is_high(row):
    return row[0] > 1


def some_and_all(x):
    rows = x.nonzero()
    low = [v[0] < 2 for v in rows]
    return x + any(map(is_high, rows)) + all(low)


def best_by_key(x):
    return max(x.nonzero(), key=lambda v: -v[0]), min(v[0] for v in x.nonzero())


def best_of_numbers(x):
    return max(fallen(x), default=7.0), min(fallen(x), default=3.0)


def in_order(x):
    found = fallen(x)
    copied = copy.deepcopy(found)
    copied.sort()
    return sorted(found), sorted(found, reverse=True), copied, found


def by_tuples(x):
    return sorted([(x[0].item(), 1), (x[1].item(), 0), (x[0].item(), 0)])


def steps_of_the_run(x):
    total = x
    for i in range(0, 7, int(x.sum().clamp(1, 3))):
        total = total + i
    return total


def repeated(x):
    found = fallen(x)
    found *= 2
    return found


CASES = [
    filtered, some_and_all, best_by_key, best_of_numbers, in_order, by_tuples, steps_of_the_run,
    repeated,
]  # fmt: skip
GIVEN = [torch.tensor(v) for v in ([1.0, 2.0, 0.0], [3.0, 1.0, 1.0], [0.0, 4.0, 0.0], [0.0] * 3)]


def outcome(fn, x):
    try:
        return fn(x)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("fn", CASES, ids=lambda f: f.__name__)
def test_one_capture_serves_all_lengths(fn):
    static = to_static(fn, backend="replay")
    for x in GIVEN:
        got, want = outcome(static, x), outcome(fn, x)
        if isinstance(want, str):
            assert got == want
        else:
            torch.testing.assert_close(got, want, rtol=0, atol=0)
    assert static.captures == 1
