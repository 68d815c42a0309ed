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


def items_of_different_sizes(x):
    out = []
    for i in range(x.shape[0]):
        if x[i] > 0:
            out.append(x[: i + 1])
        else:
            out.append(x[i:])
    total = 0
    for part in out:
        total = total + part.sum() * part.shape[0]
    last = out.pop()
    out.reverse()
    return total, last, torch.cat([last, *out]), out[::2], [len(part) for part in out]


def split_by_counts(x):
    e = (x > 0).long() + (x > 1).long()
    counts = torch.bincount(e, minlength=2)
    parts = x[e.argsort(stable=True)].split(counts.tolist())
    kept = []
    for i, part in enumerate(parts):
        if part.shape[0] > 0:
            kept.append(part * (i + 1))
    return torch.cat(kept), counts


def lists_in_a_list(x):
    found = []
    for row in x[:, None] * T([1.0, -1.0, 2.0]):
        places = []
        for i in range(row.shape[0]):
            if row[i] > 0:
                places.append(i)
        found.append(places)
    return found


def pops_before_it_appends(x):
    stack = []
    for op in x:
        if op < 0:
            b, a = stack.pop(), stack.pop()
            stack.append(a * 2 + b)
        else:
            stack.append(op * torch.ones(2))
    return stack[-1], len(stack)


def none_or_a_tuple(x):
    state = None
    for v in x:
        if v > 0:
            h = v if state is None else state[0] + v
            state = (h, v * 2)
    return torch.zeros(()) if state is None else state[0] * state[1]


def none_or_growing_rows(x):
    past = None
    for v in x:
        key = v.reshape(1)
        if v > 0:
            past = (key, key * 2) if past is None else (torch.cat([past[0], key]), past[1] + key)
    return past


def one_of_several(x):
    name, act = "none", torch.sin
    for v in x:
        if v > 1:
            name, act = "large", torch.cos
        elif v < -1:
            name, act = "small", torch.exp
        x = x + act(v)
    return name, x * 2 if name == "large" else x


def unread_after_the_break(x):
    y, n = x[:1], 0
    while True:
        y = torch.cat([y, y * 2])
        n += 1
        z = y.sum()
        if z > 20 or n == x.shape[0]:
            break
        y = y[-1:] + x[n]
    return z, n


def becomes_none(x):
    y = x[0]
    for v in x:
        if v < 0:
            y = None
        elif y is None:
            y = v
        else:
            y = y + v
    return y


def sums_of_earlier_items(x):
    rows = []
    for i in range(x.shape[0]):
        total = torch.zeros(())
        for j in range(i):
            if x[j] > x[i]:
                total = total + rows[j]
        rows.append(total + x[i])
    return rows[-1], torch.stack(rows)


class Row:
    def __init__(self, like):
        self.sum = torch.zeros_like(like)


class Store:
    def __init__(self):
        self.rows = []

    def add(self, row):
        if len(self.rows) == 0:
            self.rows.append(Row(row))
        self.rows[0].sum = self.rows[0].sum + row
        return self.rows[0].sum


def made_in_the_first_trip(x):
    store, k = Store(), x[0].int()
    total = torch.zeros(1)
    for i in range(k):
        total = torch.cat([total, store.add(x[i : i + 1])])
        if total[-1] > 4:
            break
    return total


def one_mask_in_and_out_of_a_branch(x):
    mask = x > 0
    kept = x[mask]
    if x.sum() > 1:
        kept = kept + torch.zeros_like(x).index_add(0, torch.arange(x.shape[0]), x)[mask]
    x = x.clone()
    x[mask] = kept
    return x


def empty_or_not(x):
    text = "too much" if x.sum() > 0 else ""
    pair = () if x.max() > 3 else (1, 2)
    if not text:
        x = x * 2
    return x * 3 if pair else x


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
    items_of_different_sizes: [T([1.0, -2.0, 3.0]), T([-1.0, 4.0]), T([1.0, -2.0, -3.0, 4.0])],
    split_by_counts: [T([1.0, -2.0, 3.0]), T([0.5, 0.25]), T([-1.0, -2.0, -3.0, -4.0])],
    lists_in_a_list: [T([1.0, -2.0]), T([0.5, 0.0, 3.0]), T([-1.0])],
    pops_before_it_appends: [T([1.0, 2.0, -1.0]), T([1.0, 2.0, 3.0, -1.0, -1.0])],
    none_or_a_tuple: [T([1.0, -2.0, 3.0]), T([-0.5]), T([-1.0, 2.0])],
    none_or_growing_rows: [T([1.0, -2.0, 3.0]), T([-0.5]), T([1.0, 2.0, 3.0, 4.0])],
    one_of_several: [T([0.1, 2.0]), T([-2.0, 0.1, -3.0]), T([0.5])],
    unread_after_the_break: [T([1.0, 2.0]), T([4.0, 5.0, 6.0, 7.0]), T([0.0, 9.0, 1.0])],
    one_mask_in_and_out_of_a_branch: [T([1.0, -2.0, 3.0]), T([0.5, -1.0, 0.25]), T([4.0, -1.0, 2.0, 1.0])],
    becomes_none: [T([1.0, -2.0, 3.0]), T([0.5, 1.0]), T([1.0, -2.0])],
    sums_of_earlier_items: [T([3.0, 2.0, 1.0]), T([1.0, 2.0]), T([2.0, 3.0, 1.0, 0.0])],
    made_in_the_first_trip: [T([2.0, 3.0]), T([3.0, 2.0, 1.0]), T([0.0, 1.0]), T([1.0, 9.0])],
    empty_or_not: [T([1.0, 2.0]), T([-4.0]), T([4.0, -9.0]), T([5.0, 1.0])],
    said: [T([0.0, 0.0]), T([4.5, 4.5, 4.5]), T([0.5, 2.5, 0.25]), T([0.5, -7.25, 0.0]),
           T([0.5, -77.0, 0.0]), torch.zeros(5)],
}  # fmt: skip
