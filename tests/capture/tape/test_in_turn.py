"""Generators that decide on data, and whose consumers change what they read, item by item."""

from __future__ import annotations

import itertools
from collections import deque

import pytest
import torch

from oarlock.capture.to_static import to_static
from oarlock.errors import UnsupportedError

X = [[-1.0, 0.5], [1.0, 0.5], [2.0, 3.0], [-3.0, -3.0]]


def multiples(x, y):
    k = 0
    while k < x.sum():
        yield y * k
        k += 1


def by_tensor(x):
    y = x.clone()

    def items():
        k = 0
        while k < x.sum():
            yield y * k
            k += 1

    total = x
    for v in items():
        y.add_(1)
        total = total + v
    return total


def by_variable(x):
    n = 1.0

    def items():
        k = 0
        while k < x.sum():
            yield x * n
            k += 1

    total = x
    for v in items():
        n = n + 1
        total = total + v
    return total


def by_list(x):
    held = [x]

    def items():
        k = 0
        while k < x.sum():
            yield held[0] + k
            k += 1

    total = x
    for v in items():
        held[0] = held[0] * 2
        total = total + v
    return total


def by_list_that_grows(x):
    rows = [x]

    def items():
        i = 0
        while i < len(rows):
            yield rows[i]
            i += 1

    total = x
    for v in items():
        if v.sum() > 0 and len(rows) < 5:
            rows.append(v - 1)
        total = total + v
    return total


def by_run_time_dict(x):
    seen = {v: v * 2 for v in x.tolist()}

    def items():
        k = 0
        while k < x.sum():
            yield x * len(seen)
            k += 1

    total = x
    for v in items():
        seen[len(seen) * 100] = 2
        total = total + v
    return total


def by_run_time_set(x):
    seen = {v for v in x.tolist() if v > 0}

    def items():
        k = 0
        while k < x.sum():
            yield x * len(seen)
            k += 1

    total = x
    for v in items():
        seen.add(len(seen) * 100)
        total = total + v
    return total


def by_deque(x):
    rows = deque([x])

    def items():
        i = 0
        while i < len(rows) and x.sum() > i:
            yield rows[i]
            i += 1

    total = x
    for v in items():
        if len(rows) < 3:
            rows.append(v + 1)
        total = total + v
    return total


def that_ends_as_the_consumer_says(x):
    rows = [x]

    def items():
        while rows[-1].sum() < 10:
            yield rows[-1]

    total = x
    for v in items():
        rows.append(v.abs() + 1)
        total = total + v
    return total


class Stack:
    def __init__(self):
        self.total, self.n = torch.zeros(2), 0

    def items(self, x):
        k = 0
        while x.sum() > k:
            yield x * k + self.n
            k += 1


def of_a_method(x):
    stack = Stack()
    for v in stack.items(x):
        stack.total = stack.total + v
    return stack.total


def by_attribute(x):
    stack = Stack()
    for v in stack.items(x):
        stack.total = stack.total + v
        stack.n += 1
    return stack.total


def with_tests_in_a_for_loop(x):
    y = x.clone()

    def items():
        for k in range(5):
            if k < x.sum():
                yield y * k
            yield y

    total = x
    for v in items():
        y.add_(1)
        total = total + v
        if total.sum() > 20:
            break
    return total


def with_break_and_else(x):
    y = x.clone()

    def items():
        for k in range(5):
            if k >= x.sum():
                break
            yield y * k
            y.mul_(2)
        else:
            yield x * 100

    total = x
    for v in items():
        y.add_(1)
        total = total + v
        if total.sum() > 20:
            break
    return total


def at_several_places(x):
    y = x.clone()

    def items():
        yield y
        yield y * 2
        if x.sum() > 1:
            yield y * 3

    total = x
    for v in items():
        y.add_(1)
        total = total + v
    return total


def inside_another(x):
    y = x.clone()

    def items():
        yield y
        yield from multiples(x, y)

    total = x
    for v in items():
        y.add_(1)
        total = total + v
    return total


def that_is_sent_to(x):
    log = []

    def items():
        log.append(1)
        count = 0
        while True:
            got = yield x * count
            log.append(got)
            count += 1
            if got is not None and got.sum() > 3:
                return

    running = items()
    next(running)
    total = x
    for v in (x, x * 2, x * 3):
        try:
            total = total + running.send(v)
        except StopIteration:
            break
    return total, len(log)


def that_counts(x):
    n = 0

    def items():
        nonlocal n
        while n < x.sum():
            n += 1
            yield x * n

    total = x
    for v in items():
        n += 1
        total = total + v
    return total, n


def in_a_comprehension(x):
    y = x.clone()
    return [v + y.add_(1).sum() for v in multiples(x, y)]


def in_zip(x):
    y = x.clone()
    total = x
    for i, v in zip(range(3), multiples(x, y)):
        y.add_(i)
        total = total + v
    return total


def in_a_variable(x):
    y = x.clone()

    def items():
        for k in range(5):
            if k < x.sum():
                yield y * k

    running = items()
    first = next(running, x)
    y.add_(1)
    return first + next(running, x)


def begun_by_a_decision(x):
    y = x.clone()

    def items():
        for k in range(3):
            yield y * k

    running = items()
    total = next(running) if x.sum() > 0 else x * 5
    y.add_(100)
    for v in running:
        total = total + v
    return total


def expression_with_a_test(x):
    y = x.clone()
    total = x
    for v in (y * k for k in range(4) if y.sum() < k * 3):
        y.add_(1)
        total = total + v
    return total


def by_filter(x):
    y = x.clone()
    total = x
    for v in filter(lambda k: (y.sum() > k).item(), range(5)):
        y.sub_(0.5)
        total = total + v
    return total


def by_takewhile(x):
    y = x.clone()
    total = x
    for v in itertools.takewhile(lambda k: y.sum() > k, range(5)):
        y.sub_(0.5)
        total = total + v
    return total


def by_accumulate(x):
    held = [x]
    total = x
    for v in itertools.accumulate([x, x * 2, x * 3], lambda p, q: p + q + held[0]):
        held[0] = held[0] + 1
        total = total + v
    return total


PROGRAMS = [
    by_tensor, by_variable, by_list, by_list_that_grows, by_run_time_dict,
    by_run_time_set, by_deque, that_ends_as_the_consumer_says, of_a_method,
    by_attribute, with_tests_in_a_for_loop, with_break_and_else, at_several_places, inside_another,
    that_is_sent_to, that_counts, in_a_comprehension, in_zip, in_a_variable, begun_by_a_decision,
    expression_with_a_test, by_filter, by_takewhile, by_accumulate,
]  # fmt: skip


@pytest.mark.parametrize("fn", PROGRAMS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("first", [0, 2])
def test_items_come_in_turn(fn, first):
    """One program for all inputs, whichever comes first."""
    static = to_static(fn, backend="replay")
    for values in [X[first], *X]:
        got, want = static(torch.tensor(values)), fn(torch.tensor(values))
        torch.testing.assert_close(got, want, rtol=0, atol=0)
    assert len(static.tapes) == 1


def grows_with_the_function_around(xs):
    """What follows a loop that has changed nothing of what the generator reads."""
    y = xs[0]
    for v in [xs[0], xs[1]]:

        def parts():
            for e in v:  # noqa: B023
                if e > 0:
                    yield e * 2

        for p in parts():
            y = y + p
    return y


def test_variables_that_change_when_the_items_are_taken():
    static = to_static(grows_with_the_function_around, backend="replay")
    for seed in range(3):
        torch.manual_seed(seed)
        xs = torch.randn(2, 4)
        assert torch.equal(static(xs), grows_with_the_function_around(xs))


def waits_for_a_result(x):
    def inner():
        yield x
        return x * 2

    def items():
        result = yield from inner()
        yield result

    return list(items())


def test_results_of_generators_reach_who_waits_for_them():
    static = to_static(waits_for_a_result, backend="replay")
    x = torch.tensor(X[1])
    torch.testing.assert_close(static(x), waits_for_a_result(x), rtol=0, atol=0)


def sends_through(x):
    y = x.clone()

    def inner():
        k = 0
        while k < x.sum():
            y.add_(1)
            yield y * k
            k += 1

    def items():
        yield from inner()

    running = items()
    found = next(running, x)
    return found + running.send(x)


def test_what_is_sent_through_is_refused():
    with pytest.raises(UnsupportedError, match=r"send\(\) to a generator that yields from another"):
        to_static(sends_through, backend="replay")(torch.tensor(X[2]))


def widens_what_is_of_the_function_around(x):
    best, k = None, 0

    def step():
        nonlocal best, k
        while k < x.sum():
            best = x * k if best is None else best + k
            k += 1

    if x.sum() > 1:
        step()
    return x if best is None else best


def test_loops_over_variables_of_the_function_around():
    static = to_static(widens_what_is_of_the_function_around, backend="replay")
    for values in X:
        x = torch.tensor(values)
        assert torch.equal(static(x), widens_what_is_of_the_function_around(x))


def expressions_over_rows(x):
    rows = [r for r in x if r.sum() > 0]
    rows.extend(r + 1 for r in list(rows))
    return rows, torch.stack(tuple(r * 2 for r in rows) or (x[0],))


def asked_by_in(x):
    return x + (2 in (v for v in x[:, 0].nonzero().squeeze(1)))


def expressions_over_rows_that_change(x):
    rows = [r for r in x if r.sum() > 0]
    total = x[0] * 0
    for v in (r * 2 for r in rows):
        total = total + v
        rows[0] = rows[0] + 1
        rows[-1] = rows[-1] * 2
    return total


@pytest.mark.parametrize(
    "fn", [expressions_over_rows, expressions_over_rows_that_change, asked_by_in]
)
def test_generator_expressions_over_run_time_lists(fn):
    static = to_static(fn, backend="replay")
    for seed in range(4):
        torch.manual_seed(seed)
        x = torch.randn(4, 2)
        torch.testing.assert_close(static(x), fn(x), rtol=0, atol=0)
    assert len(static.tapes) == 1
