"""Steps that decide on Python numbers or leave some in objects: their tensors are compiled."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import lr_scheduler as schedules

import oarlock

STEPS = {}


def case(make):
    STEPS[make.__name__] = make
    return make


def batch(i):
    draws = torch.Generator().manual_seed(i)
    return torch.randn(4, 8, generator=draws), torch.randn(4, 1, generator=draws)


class Trainer:
    def __init__(self, momentum=0.9):
        self.model = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 1))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=momentum)
        self.left = {}

    def train(self, x, y):
        loss = F.mse_loss(self.model(x), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss


class Scheduled(Trainer):
    def __init__(self, plan):
        super().__init__()
        self.plan = plan(self.optimizer)

    def step(self, x, y):
        loss = self.train(x, y)
        self.plan.step()
        self.left["lr"] = self.optimizer.param_groups[0]["lr"]
        return loss


@case
def cosine():
    return Scheduled(lambda o: schedules.CosineAnnealingLR(o, 5))


@case
def milestones():
    return Scheduled(lambda o: schedules.MultiStepLR(o, [2, 4]))


@case
def one_after_another():
    def plan(optimizer):
        parts = [schedules.LinearLR(optimizer), schedules.ExponentialLR(optimizer, 0.9)]
        return schedules.SequentialLR(optimizer, parts, [3])

    return Scheduled(plan)


@case
class Logged(Trainer):
    def __init__(self):
        super().__init__()
        self.left |= {"losses": [], "best": float("inf"), "seen": 0}

    def step(self, x, y):
        loss = self.train(x, y)
        self.left["losses"].append(loss.item())
        self.left["seen"] += len(x)
        if loss.item() < self.left["best"]:
            self.left["best"] = loss.item()
        return loss.detach()


@case
class Hooked(Trainer):
    def __init__(self):
        super().__init__()
        means = self.left["means"] = []
        for layer in self.model:
            layer.register_forward_hook(lambda module, args, out: means.append(out.mean().item()))

    def step(self, x, y):
        return self.train(x, y)


@case
class Frozen(Trainer):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def step(self, x, y):
        self.calls += 1
        self.model[0].requires_grad_(self.calls % 2 == 0)
        loss = self.train(x, y)
        self.left["needs"] = [float(p.requires_grad) for p in self.model.parameters()]
        return loss


def told(left):
    return [x for value in left.values() for x in (value if isinstance(value, list) else [value])]


@pytest.mark.parametrize("name", STEPS)
def test_tensors_are_compiled_between_numbers(name):
    torch.manual_seed(0)
    plain = STEPS[name]()
    torch.manual_seed(0)
    ours = STEPS[name]()
    static = oarlock.to_static(ours.step)
    for i in range(7):
        want, got = plain.step(*batch(i)), static(*batch(i))
        torch.testing.assert_close(got, want)
        assert told(ours.left) == pytest.approx(told(plain.left), rel=1e-5), f"step {i}"
        for a, b in zip(ours.model.parameters(), plain.model.parameters(), strict=True):
            torch.testing.assert_close(a, b)
            assert a.requires_grad is b.requires_grad
    assert "with its numbers and objects by the replay" in static.report()


def test_a_step_whose_tensors_decide_is_compiled_for_one_way():
    ours = Trainer()

    def step(x, y):
        loss = F.mse_loss(ours.model(x), y)
        if torch.isfinite(loss):
            loss.backward()
            ours.left["n"] = ours.left.get("n", 0) + 1
        return loss

    static = oarlock.to_static(step)
    for i in range(4):
        x, y = batch(i)
        static(x * (float("inf") if i == 2 else 1.0), y)
    assert ours.left["n"] == 3 and "for one way of 1 decisions on data" in static.report()
