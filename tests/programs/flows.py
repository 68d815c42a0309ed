"""Small programs whose flow data decide, and calls; asserts in here are not rewritten by pytest."""

from __future__ import annotations

from typing import Any

import torch

T = torch.tensor


def updates_of_bits(x):
    m = x > 0
    m |= x < -1
    m &= x < 2
    m ^= x == 0.5
    k = (x * 4).long()
    k |= 1
    return m, k


def bytes_decide(x):
    n = 0
    while (x < 4.0).byte().any() and n < 5:
        x = x * 2
        n += 1
    return x, n


def values_that_are_there(x):
    total = torch.zeros(())
    for v in x.unique():
        total = total + v * (x == v).sum()
    return total, x.unique()


def first_rows(x):
    order = x.argsort(descending=True)
    seen = []
    for i in range(x.shape[0]):
        if x[order[i]] < 0:
            continue
        seen.append(int(order[i]))
    return seen


def bound_in_the_loop(x):
    n = 0
    while n < x.shape[0] and x[n] > 0:
        y = x * n
        n += 1
        if n == 3:
            x = y - x
    return x, n


def one_of_two_ends(x):
    cache = None
    out = []
    for row in x:
        cache = row if cache is None else torch.cat([cache, row])
        out.append(cache.sum())
    if x.sum() > 3:
        return {"kind": torch.stack(out), "n": 1}
    return {"kind": torch.stack(out) * 2, "n": 2}


def rebinds_a_list(x):
    kept = []
    for v in x:
        kept = [*kept, v * 2] if v > 0 else kept
    return torch.stack([*kept, x.sum()])


def said(x, n: float = 2.0):
    if x.sum() > 10:
        raise ValueError(f"sum {x.sum():.2f} of {x.shape[0]} is over {n} at %s and %.1f" % (
            x.max(), x.min()))  # fmt: skip
    k = 0
    while k < x.shape[0]:
        assert x[k] < 3 - k, f"trip {k}: {x[k].item():8.3f} {x} {{x}} {x > 0}"
        if x[k] < -5:
            if x[k] < -50:
                raise KeyError("far", k)
            raise IndexError("low: {} {:>9.2e}".format(x[k], x[k].item()))  # noqa: UP032
        k += 1
    return x * 2


def counts_what_leads(x):
    n = 0
    while n < x.shape[0] and x[n] > 0:
        n += 1
    return n


def larger_of_two(x):
    y = max(x[0], x[-1])
    return y * 2, [v for v in x.tolist() if v > 0]


def replaces_a_list(x):
    best, run = [], []
    for v in x:
        run = [*run, v] if v > 0 else []
        if len(run) > len(best):
            best = run
    return len(best)


CALLS: dict[Any, list[Any]] = {
    updates_of_bits: [T([0.5, -2.0, 3.0]), T([1.0, -0.5])],
    bytes_decide: [T([1.0, 3.0]), T([0.1, 0.2, 9.0])],
    values_that_are_there: [T([1.0, 2.0, 1.0]), T([3.0]), T([2.0, 2.0, 2.0, 5.0])],
    first_rows: [T([1.0, -1.0, 2.0]), T([-3.0, 4.0]), T([5.0, 1.0, 2.0, -1.0])],
    bound_in_the_loop: [T([1.0, 2.0]), T([1.0, 1.0, 1.0, -1.0]), T([-1.0, 2.0, 3.0])],
    one_of_two_ends: [torch.ones(2, 3), torch.ones(3, 2) * 0.1, torch.ones(2, 3) * 0.1],
    rebinds_a_list: [T([1.0, -2.0, 3.0]), T([-1.0]), T([4.0, 5.0])],
    counts_what_leads: [T([1.0, 2.0]), T([1.0, 1.0, -1.0]), T([-1.0, 2.0, 3.0])],
    larger_of_two: [T([1.0, 2.0]), T([3.0, 1.0, -1.0]), T([-1.0, -2.0, -3.0])],
    replaces_a_list: [T([1.0, 2.0]), T([3.0, -1.0, 1.0, 2.0, -1.0]), T([-1.0])],
    said: [T([0.0, 0.0]), T([4.5, 4.5, 4.5]), T([0.5, 2.5, 0.25]), T([0.5, -7.25, 0.0]),
           T([0.5, -77.0, 0.0]), torch.zeros(5)],
}  # fmt: skip
