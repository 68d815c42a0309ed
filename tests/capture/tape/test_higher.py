"""Functions that torch calls: autograd functions, transforms, checkpoints, hooks."""

from __future__ import annotations

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from oarlock import Predictor
from oarlock.capture.to_static import to_static


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, grad):
        return grad * 3


def custom(x, w):
    return Double.apply(x * w).sum()


def gradient(x, w):
    return torch.func.grad(lambda y: (y * w).sin().sum())(x) * x


def mapped(x, w):
    return torch.vmap(lambda row: (row * w).sum() + row)(x)


def jacobian(x, w):
    return torch.func.jacrev(lambda y: (y * w).tanh())(x[0])


def hooked(x, w):
    y = x * w
    y.register_hook(lambda g: g * 5 * w)
    return (y * y).sum()


def checkpointed(x, w):
    y = checkpoint(lambda a: torch.dropout(a * w, 0.5, True).exp(), x, use_reentrant=False)
    return y * x


def double(x, w):
    (g,) = torch.autograd.grad((x * w).pow(3).sum(), x, create_graph=True)
    return g.sum() + x.sum()


@pytest.mark.parametrize("fn", [custom, gradient, mapped, jacobian, hooked, checkpointed, double])
def test_values_and_gradients(fn):
    static = to_static(fn)
    for seed in range(3):
        found = []
        for call in (fn, static):
            torch.manual_seed(seed)
            x = torch.randn(2, 3, requires_grad=True)
            w = torch.randn(3, requires_grad=True)
            out = call(x, w)
            out.sum().backward()
            found.append([out, x.grad, w.grad])
        for a, b in zip(*found):
            torch.testing.assert_close(b, a, rtol=0, atol=0)
    assert len(static.tapes) == 1


def test_a_seed_is_set_at_every_call():
    def fn(x):
        torch.manual_seed(5)
        return x + torch.rand(2)

    static, x = to_static(fn), torch.zeros(2)
    torch.manual_seed(1)
    for _ in range(3):
        torch.testing.assert_close(static(x), fn(x), rtol=0, atol=0)
        torch.rand(3)
    predictor = Predictor(static.programs[0], threads=1)
    first, second = (predictor(x.numpy()) for _ in range(2))
    assert first.tolist() == second.tolist()
