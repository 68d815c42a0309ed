"""Decisions on data whose ways can't be joined: the rest of the function follows each."""

from __future__ import annotations

import enum
import itertools

import pytest
import torch

from oarlock.capture.tape import capturing
from oarlock.capture.to_static import to_static

UP, DOWN = torch.tensor([1.0, 2.0]), torch.tensor([-1.0, -2.0])


def other_keys(x):
    found = {"x": x}
    if x.sum() > 0:
        found["up"] = x * 2
    else:
        found["down"] = x * 3
    return found


def other_functions(x):
    change = (lambda t: t * 2) if x.sum() > 0 else (lambda t: t - 2)
    return change(x) + change(x * 2)


def other_structures(x):
    if x.sum() > 0:
        return x, {"n": 1}
    return [x * 2]


def a_set(x):
    seen = set()
    for i in range(2):
        if x[i] > 1.5:
            seen.add(i)
    return x * len(seen), sorted(seen)


def raises_after(x):
    word = "up" if x.sum() > 0 else "down"
    if word == "down":
        raise ValueError(word)
    return x


CASES = [other_keys, other_functions, other_structures, a_set, raises_after]


def outcome(fn, x):
    x = x.clone().requires_grad_()
    try:
        out = fn(x)
    except ValueError as error:
        return str(error), None
    tensors = [t for t in torch.utils._pytree.tree_leaves(out) if isinstance(t, torch.Tensor)]
    sum(t.sum() for t in tensors).backward()
    return out, x.grad


@pytest.mark.parametrize("fn", CASES, ids=lambda fn: fn.__name__)
def test_each_way_goes_on_by_itself(fn):
    static = to_static(fn)
    for x in (UP, DOWN, UP * 5, DOWN * 5, torch.tensor([2.0, 1.0])):
        got, want = outcome(static, x), outcome(fn, x)
        assert str(got) == str(want)
        torch.testing.assert_close(got[1], want[1])
    assert len(static.tapes) == 1


def test_effects_happen_once_on_the_way_that_runs():
    log = []

    def fn(x):
        log.append("start")
        if x.sum() > 0:
            log.append("up")
            found = {"up": x}
        else:
            found = {"down": x}
        return found

    static = to_static(fn)
    for x in (UP, DOWN, UP):
        static(x)
    assert log == ["start", "up", "start", "start", "up"]
    assert len(static.tapes) == 1


def test_isinstance_knows_numbers_and_nothing_of_the_run():
    def fn(x):
        i = int(x.argmax())
        found = None
        for j in range(2):
            if x[j] > 1.5:
                found = x * j
        if not isinstance(i, int) or isinstance(found, torch.Tensor):
            return x
        return x * 0

    static = to_static(fn)
    for x in (UP, DOWN):
        torch.testing.assert_close(static(x), fn(x))


def test_the_order_of_keys_is_that_of_the_way_taken():
    def fn(x):
        found = {}
        if x.sum() > 0:
            found["b"], found["a"] = x, x * 2
        else:
            found["a"], found["b"] = x, x * 2
        return found, list(found)

    static = to_static(fn)
    for x in (UP, DOWN, UP):
        (got, names), (want, order) = static(x), fn(x)
        assert list(got) == list(want) and names == order


def test_a_mode_that_one_way_sets_decides_at_run_time():
    drop = torch.nn.Dropout(0.5)

    def fn(x):
        drop.train()
        if x.sum() > 0:
            drop.eval()
        return drop(x)

    static = to_static(fn)
    for x in (UP, DOWN, UP, DOWN):
        torch.manual_seed(0)
        want = fn(x)
        torch.manual_seed(0)
        assert torch.equal(static(x), want)


def optional_in_a_loop(x):
    """A decision in a loop on what a decision before it has settled."""
    mask = None if (x > 0).all() else x > 0
    for _ in range(int(x.sum().clamp(1, 3))):
        given = {"x": x}
        if mask is not None:
            given["mask"] = mask
        x = sum(v * 1.0 for v in given.values()) + len(given)
    return x


def test_a_loop_reads_what_a_decision_before_it_settled():
    static = to_static(optional_in_a_loop, backend="replay")
    for x in (UP, DOWN, torch.tensor([3.0, -1.0]), torch.tensor([5.0, 6.0])):
        assert torch.equal(static(x), optional_in_a_loop(x))
    assert static.captures == 1


def one_row_apart(x, w):
    """A way that no size of two calls takes can't be traced with either."""
    if x.shape[0] == 1:
        x = x.reshape(3)
    return x @ w


def test_a_way_that_sizes_seen_do_not_take_is_left_to_a_tape_of_its_own():
    static, w = to_static(one_row_apart, backend="replay"), torch.randn(3, 2)
    for n in (4, 5, 6, 1, 7):
        x = torch.randn(n, 3)
        assert torch.equal(static(x, w), one_row_apart(x, w))
    assert static.captures <= 3


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


TABLE = {Colour.RED: 2.0, Colour.BLUE: 3.0}


def test_keys_without_a_literal():
    static = to_static(
        lambda x, table: x * TABLE[Colour.RED] + table[Colour.BLUE], backend="replay"
    )
    for x in (UP, DOWN):
        assert torch.equal(static(x, {Colour.BLUE: x}), x * 2 + x)


def labelled(x):
    """Three decisions that fork, and one between them that does not."""
    found = {}
    if x[0] > 0:
        found["first"] = x + 1
    if x[1] > 0:
        x = x * 2
    for i in (2, 3):
        if x[i] > 0:
            found[f"at {i}"] = x - i
    return found, x


def test_a_way_that_forks_is_captured_once(monkeypatch):
    ways = []
    one = capturing._way
    monkeypatch.setattr(capturing, "_way", lambda *a: (ways.append(1), one(*a))[1])
    static = to_static(labelled)
    for signs in itertools.product((-1.0, 1.0), repeat=4):
        x = torch.tensor(signs) * torch.arange(1.0, 5.0)
        want, got = labelled(x), static(x)
        assert list(got[0]) == list(want[0])
        torch.testing.assert_close(got, want, rtol=0, atol=0)
    assert static.captures == 1 and len(ways) <= 8
