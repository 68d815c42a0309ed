"""Lists, dicts and sets that data decide."""

from __future__ import annotations

import collections

import torch

MISSING = collections.defaultdict(lambda: 5)


class Point:
    def __init__(self, at):
        self.at = at


def list_of_lists(x):
    found = x[x > 0]
    return sum(map(sum, torch.outer(found, found).tolist()))  # here


def list_of_lists_rewritten(x):
    found, total = x[x > 0], 0
    for row in torch.outer(found, found):
        total = total + row.sum().item()
    return total


def tensor_as_key(x):
    found = {int(x.sum()): x}
    found[x] = x  # here
    return found


def tensor_as_key_rewritten(x):
    found = {int(x.sum()): x}
    found[x.max().item()] = x
    return found[3]


def objects_in_a_list(x):
    points = []
    while x.sum() > 0:
        points.append(Point(x))  # here
        x = x - 1
    return [p.at for p in points]


def objects_in_a_list_rewritten(x):
    points = []
    while x.sum() > 0:
        points.append(x)
        x = x - 1
    return points


def lists_compared(x):
    a, b, n = [x], [x * 2], 0
    c = b
    while n < x.sum():
        c = a if n > 1 else b
        n += 1
        if c is a:  # here
            x = x - 1
    return x, c[0]


def lists_compared_rewritten(x):
    a, b, n = [x], [x * 2], 0
    c = b
    while n < x.sum():
        is_a = n > 1
        c = a if is_a else b
        n += 1
        if is_a:
            x = x - 1
    return x, c[0]


def changed_under_one_name(x):
    a, b, n = {"k": x}, {"k": x * 2}, 0
    c = b
    while n < x.sum():
        c = a if n > 1 else b
        n += 1
    a["k"] = x * 5
    return c["k"]  # here


def changed_under_one_name_rewritten(x):
    a, b, n = {"k": x}, {"k": x * 2}, 0
    c = b
    while n < x.sum():
        c = a if n > 1 else b
        n += 1
    a = {"k": x * 5}
    return c["k"] + a["k"] * 0


def pairs_at_run_time(x):
    return dict(zip(x[x > 0], x.nonzero()))  # here


def pairs_at_run_time_rewritten(x):
    found = []
    for row in x.nonzero():
        found.append(row)
    return torch.stack(found)


def key_of_a_defaultdict(x):
    return MISSING[int(x.sum())] * x  # here


def key_of_a_defaultdict_rewritten(x):
    missing = collections.defaultdict(lambda: 5)
    return missing[int(x.sum())] * x


def attribute_on_one_way(x):
    p, n = Point(x), 0
    while n < x.sum():
        if n > 1:
            p.extra = x
        n += 1
    return len(vars(p))  # here


def attribute_on_one_way_rewritten(x):
    p, n = Point(x), 0
    p.extra = x
    while n < x.sum():
        if n > 1:
            p.extra = x * 2
        n += 1
    return len(vars(p))


def text_of_a_deque(x):
    return f"{collections.deque([x.sum().item()])}"  # here


def text_of_a_deque_rewritten(x):
    return f"deque({list(collections.deque([x.sum().item()]))})"
