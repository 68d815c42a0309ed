"""Whole training steps: parameters, buffers and optimizer state as eager leaves them."""

from __future__ import annotations

import copy
import sys

import pytest
import torch
from torch import nn

import oarlock
import oarlock.train.clip as clip
from oarlock.capture.to_static import StaticFunction, to_static

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


def test_a_schedule_of_rate_and_momentum_needs_one_tape():
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, 20)

    def step(x):
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()

    static = to_static(step)
    for _ in range(6):
        static(torch.ones(2, 3))
        schedule.step()
    assert len(static.tapes) == 1


def test_endless_specialisations_end_as_plain_python(monkeypatch):
    monkeypatch.setattr(sys.modules[StaticFunction.__module__], "LIMIT", 3)
    static = to_static(lambda x, mode: x + len(mode))
    with pytest.warns(UserWarning, match="run as plain Python"):
        found = [float(static(torch.zeros(()), "a" * n)) for n in range(6)]
    assert found == [0, 1, 2, 3, 4, 5] and len(static.tapes) == 3


def test_the_switch_turns_captured_functions_off():
    ran = []

    def fn(x):
        ran.append(1)
        return x

    static = to_static(fn)
    static(torch.ones(1))
    before = len(ran)
    oarlock.enable_to_static(False)
    try:
        static(torch.ones(1))
    finally:
        oarlock.enable_to_static(True)
    assert len(ran) == before + 1


class Kept:
    def __init__(self):
        self.count, self.scale, self.seen = 0, 2.0, []


def test_an_object_that_a_call_is_given_changes():
    def f(x, kept):
        kept.count += 1
        kept.seen.append(kept.scale)
        return x * kept.count * kept.scale, len(kept.seen)

    mine, other, static = Kept(), Kept(), to_static(f)
    for i in range(5):
        mine.scale = other.scale = 2.0 if i < 3 else 3.0
        (a, n), (b, m) = static(torch.ones(2), mine), f(torch.ones(2), other)
        assert torch.equal(a, b) and int(n) == m and vars(mine) == vars(other)
    assert static.captures <= 3  # count and scale become numbers of the tape
