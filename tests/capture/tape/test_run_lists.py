"""Sequences of run-time length through Python's own functions."""

from __future__ import annotations

import copy

import pytest
import torch

from oarlock.capture.to_static import to_static
from oarlock.errors import UnsupportedError


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


def grown(x):
    items, total = [x], 0
    for v in items:
        total = total + v * 2
        if total.sum() > 2 and len(items) < 4:
            items.append(v)
    return total, len(items)


def grown_until(x):
    items, total = [x], x * 0
    for v in items:
        if v.sum() > 20:
            break
        total = total + v * 2
        if total.sum() > 2:
            items.append(v * 2)
    return total, len(items)


def grown_at_run_time(x):
    items, total = [v for v in x if v > 0], 0
    for v in items:
        total = total + v
        if total < 10 and len(items) < 8:
            items.append(v + 1)
    return total, items


def shrunk(x):
    items, total = [x, x + 1, x + 2], 0
    for v in items:
        total = total + v * 2
        if total.sum() > 20:
            items.pop()
    return total, len(items)


def given(x):
    items, total = [x], 0

    def each():
        for v in items:
            yield v * 2

    for v in each():
        total = total + v
        if total.sum() > 2 and len(items) < 4:
            items.append(v)
    return total


@pytest.mark.parametrize("fn", [grown, grown_until, grown_at_run_time, shrunk, given])
def test_lists_that_a_loop_over_them_changes(fn):
    static = to_static(fn, backend="replay")
    for values in ([0.1, 0.2, 0.3], [3.0, 1.0, 2.0], [1.0, 1.0, 1.0], [0.5, 1.0, 1.0]):
        torch.testing.assert_close(static(torch.tensor(values)), fn(torch.tensor(values)))
    assert static.captures == 1


def counted(x):
    items, total = [x, x + 1], 0
    for i, v in enumerate(items):
        total = total + v * i
        if total.sum() > 2 and len(items) < 4:
            items.append(v)
    return total


def beside(x):
    items, total = [x, x + 1], 0
    for i, v in zip([1, 2, 3], items):
        total = total + v * i
        if total.sum() > 2 and len(items) < 4:
            items.append(v)
    return total


@pytest.mark.parametrize("fn", [counted, beside])
def test_lists_below_an_iterator_that_data_change_are_refused(fn):
    with pytest.raises(UnsupportedError, match="data decide how long a list is that a loop goes"):
        to_static(fn, backend="replay")(torch.tensor([0.1, 0.2, 0.3]))
