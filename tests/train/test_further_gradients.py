"""Steps that take gradients and give what eager code differentiates further."""

from __future__ import annotations

import pytest
import torch
import torch.nn as nn

import oarlock

LAYER = nn.Linear(3, 3)


def penalty(x):
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(LAYER(x).tanh().sum(), x, create_graph=True)
    return (slope.norm() - 1) ** 2


def updated(x):
    p = x.clone()
    for _ in range(3):
        (slope,) = torch.autograd.grad((p**4).sum(), p, create_graph=True)
        p = p - 0.01 * slope if slope.norm() > 0.1 else p
    return p


def retained(x):
    loss = LAYER(x).tanh().sum()
    loss.backward(retain_graph=True)
    return loss


def beside(x):
    loss, other = LAYER(x).tanh().sum(), (x * 2).exp()
    torch.autograd.grad(loss, LAYER.weight)
    return other


def used_up(x):
    hidden = LAYER(x)
    loss = hidden.tanh().sum()
    loss.backward()
    return loss.exp()


def followed(fn, x):
    x = x.clone().requires_grad_()
    LAYER.zero_grad()
    try:
        fn(x).sum().backward()
    except RuntimeError as error:
        return str(error)[:40]
    return [None if p.grad is None else p.grad.tolist() for p in (x, *LAYER.parameters())]


@pytest.mark.parametrize(
    "fn", [penalty, updated, retained, beside, used_up], ids=lambda f: f.__name__
)
def test_gradients_are_eagers(fn):
    static = oarlock.to_static(fn)
    for scale in (1.0, 0.5, 2.0):
        x = torch.tensor([0.3, -0.6, 0.9]) * scale
        assert followed(static, x) == followed(fn, x)
    assert (static.tapes[0].executor is not None) == (fn is used_up)
