"""Generators that others can notice go on when they are asked to, or are refused."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from oarlock.capture.to_static import to_static
from oarlock.errors import UnsupportedError

X = ([0.1, 0.2, 0.3], [3.0, 1.0, 2.0], [1.0, 1.0, 1.0])


def first(items):
    for item in items:
        return item
    return None


CONSUMERS = {
    "for": first,
    "next": next,
    "enumerate": lambda g: first(enumerate(g)),
    "zip": lambda g: list(zip(g, [1, 2])),
    "map": lambda g: first(map(torch.neg, g)),
    "filter": lambda g: first(filter(lambda v: v is not None, g)),
    "any": lambda g: any(v is not None for v in g),
    "islice": lambda g: list(itertools.islice(g, 2)),
    "pairwise": lambda g: first(itertools.pairwise(g)),
    "takewhile": lambda g: first(itertools.takewhile(lambda v: True, g)),
    "dropwhile": lambda g: first(itertools.dropwhile(lambda v: False, g)),
    "filterfalse": lambda g: first(itertools.filterfalse(lambda v: False, g)),
    "accumulate": lambda g: first(itertools.accumulate(g)),
    "starmap": lambda g: first(itertools.starmap(lambda v: v * 2, ((v,) for v in g))),
    "chain": lambda g: first(itertools.chain(g, [1])),
    "groupby": lambda g: first(itertools.groupby(g, key=lambda v: 1))[0],
    "list": list,
}


@pytest.mark.parametrize("name", CONSUMERS)
def test_items_that_are_not_asked_for_are_not_made(name):
    consume = CONSUMERS[name]

    def fn(x):
        log, total = [], torch.zeros(3)

        def items():
            for i in range(4):
                log.append(i)
                total.add_(x)
                yield F.dropout(x, 0.5) * i

        found = consume(items())
        return found, log, total, torch.rand(1)

    agree(fn)


def follows_updates_of_the_loop(x):
    total, found = torch.zeros(3), 0

    def items():
        for i in range(4):
            total.add_(x)
            yield x * i
            x.mul_(2)

    for v in items():
        found = found + v * total * x
    return found


def prints(x):
    def items():
        for i in range(3):
            yield x * i
            print(i)

    return first(items())


def reads_what_the_loop_updates(x):
    def items():
        for i in range(3):
            yield x * i

    found = 0
    for v in items():
        found = found + v
        if v.sum() > 5:
            x.add_(1)
    return found


def reads_what_the_loop_assigns(x):
    table, k = {"k": 1.0}, 1

    def items():
        for i in range(3):
            yield x * i * table["k"] * k

    found = 0
    for i, v in enumerate(items()):
        found = found + v * i
        if v.sum() > 5:
            table["k"] = 2.0
            k = k + 1
    return found


def reads_what_the_loop_appends(x):
    rows = [x]

    def items():
        for row in rows:
            yield row * 2

    found = 0
    for v in items():
        found = found + v
        if len(rows) < 4:
            rows.append(v)
    return found


TURNS = [
    follows_updates_of_the_loop, prints, reads_what_the_loop_updates, reads_what_the_loop_assigns,
    reads_what_the_loop_appends,
]  # fmt: skip


@pytest.mark.parametrize("fn", TURNS)
def test_what_others_notice_comes_in_turn(fn):
    agree(fn)


def agree(fn):
    static = to_static(fn, backend="replay")
    for values in X:
        torch.manual_seed(0)
        want = fn(torch.tensor(values))
        torch.manual_seed(0)
        torch.testing.assert_close(static(torch.tensor(values)), want, rtol=0, atol=0)


def draws(x):
    def items():
        for i in range(4):
            yield F.dropout(x, 0.5) * i

    for v in items():
        if v.sum() > 5:
            break
    return v


def appends(x):
    log = []

    def items():
        for i in range(4):
            log.append(i)
            yield x * i

    for v in items():
        if v.sum() > 5:
            break
    return v, log


def updates(x):
    total = torch.zeros(3)

    def change(v):
        total.add_(v)
        return v

    for v in map(change, [x, x * 2, x * 3]):
        if v.sum() > 5:
            break
    return v, total


@pytest.mark.parametrize("fn", [draws, appends])
def test_data_end_what_others_notice(fn):
    agree(fn)


def test_data_that_end_a_map_which_others_notice_are_refused():
    with pytest.raises(UnsupportedError, match="an iterator that draws, updates or changes"):
        to_static(updates, backend="replay")(torch.tensor(X[0]))


def decides(x):
    def items():
        for i in range(4):
            if x.sum() > i:
                yield F.dropout(x, 0.5) * i

    return list(items())


def test_decisions_in_what_others_notice():
    agree(decides)


def some(x):
    return [2.0] if x.sum() > 1 else [2.0, 3.0]


def test_lengths_of_results_are_compared(monkeypatch):
    from oarlock.capture.tape import verify

    real = verify._outcome

    def longer(run, is_quiet=True):
        value, error = real(run, is_quiet)
        return (value if is_quiet else [*value, 4.0]), error

    monkeypatch.setattr(verify, "_outcome", longer)
    with pytest.raises(Exception, match="eager gives 1 values, the static function 2"):
        to_static(some, backend="replay")(torch.tensor(X[1]))
