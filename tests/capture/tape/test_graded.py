"""Gradients of leaves that some ways of a decision set."""

from __future__ import annotations

import pytest
import torch

from oarlock.capture.to_static import to_static
from oarlock.errors import UnsupportedError

UP, DOWN = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([-1.0, -2.0, -3.0])


def leaf():
    return torch.ones(3).requires_grad_()


def there_on_one_way(x):
    w = leaf()
    if x.sum() > 0:
        (w * x).sum().backward()
    return x * 2 if w.grad is None else x + w.grad


def there_on_both_ways(x):
    w = leaf()
    if x.sum() > 0:
        (w * x).sum().backward()
    else:
        (w * w).sum().backward()
    return w.grad


def gone_on_one_way(x):
    w = leaf()
    (w * x).sum().backward()
    if x.sum() > 0:
        w.grad = None
    return x if w.grad is None else w.grad * 2


def read_inside(x):
    w = leaf()
    if x.sum() > 0:
        (w * x).sum().backward()
        x = x + w.grad
    else:
        assert w.grad is None
    return x


def set_again_after(x):
    w = leaf()
    if x.sum() > 0:
        (w * x).sum().backward()
    (w * 3).sum().backward()
    return w.grad


def added_up_in_a_loop(x):
    w, n = leaf(), x.abs().sum()
    (w * x).sum().backward()
    while n > 0:
        (w * n).sum().backward()
        n = n - 1
    return w.grad


FUNCTIONS = [there_on_one_way, there_on_both_ways, gone_on_one_way, read_inside, set_again_after,
             added_up_in_a_loop]  # fmt: skip


@pytest.mark.parametrize("fn", FUNCTIONS, ids=lambda f: f.__name__)
def test_what_eager_does(fn):
    static = to_static(fn, backend="replay")
    for x in (UP, DOWN, UP):
        assert torch.equal(static(x), fn(x))


def made_on_one_way(x):
    w, total = leaf(), torch.zeros(3)
    for _ in range(3):
        if x.sum() > 0:
            w = (w.detach() - x).requires_grad_()
        (grad,) = torch.autograd.grad((w * w).sum(), w)
        total = total + grad
        x = x - 1
    return total, w.detach()


def test_leaves_made_on_one_way_join():
    static = to_static(made_on_one_way, backend="replay")
    for x in (UP, DOWN, UP * 5, UP):
        for got, want in zip(static(x), made_on_one_way(x)):
            assert torch.equal(got, want)
    assert static.captures == 1
    assert "else" in str(static.tapes[0])
    assert str(static.tapes[0]).count("return") == 1


def switched_on_one_way(x):
    w = torch.ones(3)
    if x.sum() > 0:
        w.requires_grad_()
    return w.requires_grad


def test_leaves_switched_on_one_way_are_told_apart():
    static = to_static(switched_on_one_way, backend="replay")
    assert [static(x) for x in (UP, DOWN, UP)] == [True, False, True]


def from_some_trip_on(x):
    w, n = leaf(), x.sum()
    while n > 0:
        if w.grad is not None:
            x = x + w.grad
        (w * n).sum().backward()
        n = n - 1
    return x


def there_after_some_trip(x):
    w, n = leaf(), x.sum()
    while n > 0:
        (w * n).sum().backward()
        n = n - 1
    return x if w.grad is None else x + w.grad


@pytest.mark.parametrize("fn", [from_some_trip_on, there_after_some_trip])
def test_gradients_that_a_loop_may_set_are_refused(fn):
    with pytest.raises(UnsupportedError, match="the gradient of a tensor is read, which is there"):
        to_static(fn, backend="replay")(UP)
