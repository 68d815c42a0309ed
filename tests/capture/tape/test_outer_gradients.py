"""Gradients that eager code gives to parameters, or takes from them, between calls of a step."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import oarlock


class Heads(nn.Module):
    """The second one is not used by the step."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = nn.Linear(3, 2), nn.Linear(3, 2)


def trained(kind):
    net = Heads()
    optimizer = getattr(torch.optim, kind)(net.parameters(), lr=0.1)

    def step(x):
        net.one(x).pow(2).mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return net, step


def clipped(_):
    net = Heads()

    def step(x):
        net.one(x).pow(2).mean().backward()
        norm = nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        net.one.zero_grad()
        return norm

    return net, step


def asked(_):
    net = Heads()

    def step(x):
        y = net.one(x).pow(2).mean()
        (slope,) = torch.autograd.grad(y, [net.one.weight])
        known = net.one.weight.grad
        return slope if known is None else slope + known

    return net, step


def summed(_):
    net = Heads()

    def step(x):
        net.one(x).pow(2).mean().backward()
        found = [p.grad.sum() for p in net.parameters() if p.grad is not None]
        net.one.zero_grad()
        return torch.stack(found)

    return net, step


def counted(_):
    """A pass gives the gradients that the code reads after it: none that is there before counts."""
    net = Heads()

    def step(x):
        net.one(x).pow(2).mean().backward()
        return sum(p.grad.sum() for p in net.one.parameters())

    return net, step


MAKERS = [trained, clipped, asked, summed, counted]


@pytest.mark.parametrize("backend", ["replay", "auto"])
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize("make", MAKERS)
def test_gradients_that_are_there_or_not(make, kind, backend):
    (net, step), (twin, eager) = make(kind), make(kind)
    static = oarlock.to_static(step, backend=backend)
    for i in range(8):
        for one in (net, twin):
            if i in (3, 5):
                one.two(torch.ones(1, 3)).sum().backward()
                one.one.weight.grad = torch.ones(2, 3)
            if i == 6:
                one.zero_grad()
        x = torch.ones(4, 3) * (i + 1)
        torch.testing.assert_close(static(x), eager(x))
        grads = [[p.grad for p in one.parameters()] for one in (net, twin)]
        assert [g is None for g in grads[0]] == [g is None for g in grads[1]]
        for a, b in zip([*net.parameters(), *grads[0]], [*twin.parameters(), *grads[1]]):
            torch.testing.assert_close(a, b)
    if make is counted:
        assert static.captures <= 2
