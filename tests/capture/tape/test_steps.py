"""Whole training steps: parameters, buffers and optimizer state as eager leaves them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import oarlock.train.clip as clip
from oarlock.capture.to_static import to_static

MAKE = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
}


def steps(make, is_static: bool, clipped: bool) -> list[torch.Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 2)
    )
    optimizer = make(model.parameters())
    if clipped:
        clip.ClipGradByGlobalNorm(0.1).attach(optimizer)

    def step(x, y):
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    call = to_static(step) if is_static else step
    losses = []
    for _ in range(8):
        optimizer.param_groups[0]["lr"] *= 0.9
        losses.append(call(torch.randn(6, 3), torch.randint(0, 2, (6,))).detach())
    if is_static:
        assert len(call.tapes) == 1
    return [*losses, *(x.clone() for x in model.state_dict().values())]


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("clipped", [False, True])
def test_a_step_is_eagers(name: str, clipped: bool):
    want, got = (copy.deepcopy(steps(MAKE[name], s, clipped)) for s in (False, True))
    for a, b in zip(want, got):
        torch.testing.assert_close(b, a, rtol=0, atol=0)
