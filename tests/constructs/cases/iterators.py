"""Iterators that variables hold, taken from below decisions and in loops on data."""

import itertools

import torch

from tests.constructs.case import case, t

ROWS = (t(1.0, -2.0, 3.0, 0.5), t(-1.0, 2.0, -3.0, 4.0), t(-1.0, -2.0, -0.5, -4.0))


@case(*ROWS)
def next_below_a_decision(x):
    it = iter(x)
    first = next(it)
    if first > 0:
        first = first * next(it)
    return first + next(it)


@case(*ROWS, t(1.0, 1.0, 1.0, 1.0), t(2.0, 3.0, 4.0, -1.0))
def next_with_default_in_a_loop_on_data(x):
    it = iter([x[0], x[1], x[2]])
    total = x.sum() * 0
    while total.abs() < 3:
        v = next(it, None)
        if v is None:
            break
        total = total + v
    return total, next(it, x[3])


@case(t(1.0, -2.0, 3.0, 0.5), t(4.0, 2.0, -3.0, 4.0), t(0.5, 0.25, 0.125, 0.0))
def rest_of_a_loop(x):
    it = iter(x.unbind())
    head = x[0] * 0
    for v in it:
        head = head + v
        if head > 1:
            break
    tail = x[0] * 0
    for v in it:
        tail = tail + v * 2
    return head, tail


@case(t(1.0, -2.0, 3.0, 0.5), t(4.0, 2.0, -3.0, 4.0), t(0.5, 0.25, 0.125, 0.0))
def stop_iteration_by_data(x):
    it = iter(x)
    found = x[0] * 0
    try:
        while found < 4:
            v = next(it)
            if v > 0:
                found = found + v + next(it)
    except StopIteration:
        return found, True
    return found, False


def _pull(it, sign):
    return sign * next(it)


@case(t(1.0, -2.0, 3.0, 0.5), t(-4.0, 2.0, -3.0, 4.0))
def iterator_in_a_function(x):
    it = iter(list(x))
    a = _pull(it, 1)
    if a > 0:
        a = a + _pull(it, -1)
    return a * _pull(it, 2)


@case(t(1.0, -2.0, 3.0, 0.5), t(-4.0, 2.0, -3.0, 4.0), t(-4.0, -2.0, -3.0, -4.0))
def pairs_until_one_is_negative(x):
    pairs = zip(x, x[1:])
    total = x[0] * 0
    for a, b in pairs:
        total = total + a * b
        if total > 0:
            break
    for a, b in pairs:
        total = total - a
    return total


@case(t(1.0, -2.0, 3.0, 0.5), t(-4.0, 2.0, -3.0, 4.0), t(-4.0, -2.0, -3.0, -4.0))
def numbered_rest(x):
    rows = enumerate(x, 1)
    total = x[0] * 0
    for i, v in rows:
        total = total + i * v
        if v > 0:
            break
    left = [i for i, _ in rows]
    return total * len(left)


@case(t(1.0, -2.0, 3.0, 0.5), t(-4.0, 2.0, -3.0, 4.0), t(-4.0, -2.0, -3.0, -4.0))
def mapped_items(x):
    squares = map(lambda v: v * v, x)
    a = next(squares)
    if a > 2:
        a = a - next(squares)
    return a * next(squares)


@case(t(1.0, -2.0, 3.0, 0.5), t(4.0, 2.0, 3.0, 4.0))
def slices_of_one_iterator(x):
    it = iter(x)
    first = sum(itertools.islice(it, 2))
    if first > 0:
        first = first * next(it)
    return first + sum(it, x[0] * 0)


@case(t(1.0, -2.0, 3.0, 0.5), t(-4.0, 2.0, -3.0, 4.0), t(4.0, 2.0, 3.0, 4.0))
def counter_in_a_loop_on_data(x):
    ids = itertools.count(1)
    total = x.sum()
    while total > 1:
        total = total - next(ids)
    return total, next(ids)


class Reader:
    def __init__(self, items):
        self.it = iter(items)
        self.read = 0

    def take(self):
        self.read += 1
        return next(self.it, None)


@case(t(1.0, -2.0, 3.0, 0.5), t(-4.0, 2.0, -3.0, 4.0), t(4.0, 2.0, 3.0, 4.0))
def iterator_of_an_object(x):
    reader = Reader(x.unbind())
    v = reader.take()
    if v > 0:
        v = v + reader.take()
    if v > 1:
        v = v + reader.take()
    return v * 2, reader.read


@case(t(1.0, -2.0, 3.0, 0.5), t(-4.0, 2.0, -3.0, 4.0), t(4.0, 2.0, 3.0, 4.0))
def merged_runs(x):
    a, b = iter(sorted(x[:2].tolist())), iter(sorted(x[2:].tolist()))
    out = []
    p, q = next(a, None), next(b, None)
    while p is not None or q is not None:
        if q is None or (p is not None and p <= q):
            out.append(p)
            p = next(a, None)
        else:
            out.append(q)
            q = next(b, None)
    return torch.tensor(out)


@case(t(1.0, -2.0, 3.0, 0.5), t(-4.0, 2.0, -3.0, 4.0), t(4.0, 2.0, 3.0, 4.0))
def generators_inside_each_other(x):
    def positive(values):
        for v in values:
            if v > 0:
                yield v

    def doubled():
        yield x[0]
        yield from positive(x)

    return sum(doubled())
