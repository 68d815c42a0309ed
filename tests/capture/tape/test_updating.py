"""Which tapes change what they are given: such a call can't be made again when a check fails in it."""

import pytest
import torch

from oarlock import to_static


def own_tensor(x, y):
    out = torch.zeros(4)
    out.index_add_(0, torch.tensor([0]), x.sum()[None])
    out[1:].mul_(2)
    return out + y.sum()


def copy_of_argument(x, y):
    out = y.clone()
    out[0] = 3
    return out * x.sum()


def argument(x, y):
    y.add_(1)
    return x + y.sum()


def view_of_argument(x, y):
    y.view(2, 1)[0] = 1
    return x + y.sum()


def maybe_view_of_argument(x, y):
    y.reshape(2, 1).add_(1)
    return x + y.sum()


def argument_in_a_branch(x, y):
    out = torch.zeros(2)
    if x.sum() > 0:
        out = y
    out.add_(1)
    return out * 2


def argument_in_a_loop(x, y):
    out, n = torch.zeros(2), 0
    while n < x.sum():
        out.add_(1)
        out = y
        n = n + 1
    return out * 2


def gradient(x, y):
    w = y.clone().requires_grad_()
    (w * x.sum()).sum().backward()
    return w.grad


@pytest.mark.parametrize("fn", [own_tensor, copy_of_argument], ids=lambda f: f.__name__)
def test_tensors_of_its_own(fn):
    assert not updates(fn)


@pytest.mark.parametrize(
    "fn",
    [
        argument,
        view_of_argument,
        maybe_view_of_argument,
        argument_in_a_branch,
        argument_in_a_loop,
        gradient,
    ],
    ids=lambda f: f.__name__,
)
def test_what_it_is_given(fn):
    assert updates(fn)


def updates(fn):
    static = to_static(fn)
    for _ in range(2):
        mine, theirs = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0])
        assert torch.equal(static(torch.ones(3, 2), mine), fn(torch.ones(3, 2), theirs))
        assert torch.equal(mine, theirs)
    (tape,) = static.tapes
    return tape.is_updating
