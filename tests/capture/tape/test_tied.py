"""Tensors that several modules share, until they do not, and the other way round."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import oarlock


def made():
    torch.manual_seed(0)
    net = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
    net[1].weight = net[0].weight
    return net


def trained(net):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    def step(x):
        loss = net[1](net[0](x)).pow(2).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


def applied(net):
    return lambda x: net[1](net[0](x))


@pytest.mark.parametrize("backend", ["replay", "auto"])
@pytest.mark.parametrize("make", [applied, trained])
def test_weights_that_are_tied_and_untied(make, backend):
    nets = made(), made()
    static, eager = oarlock.to_static(make(nets[0]), backend=backend), make(nets[1])
    for i in range(8):
        x = torch.randn(4, 3, generator=torch.Generator().manual_seed(i))
        torch.testing.assert_close(static(x), eager(x))
        for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
            torch.testing.assert_close(a, b)
        for net in nets:
            if i == 2:
                net[1].weight = nn.Parameter(net[0].weight.detach() * 2)
            if i == 4:
                net[0].weight.data = net[1].weight.data
            if i == 6:
                net[1].weight = net[0].weight
