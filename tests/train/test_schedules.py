"""Compiled steps of every optimizer whose options a schedule changes between calls: one program."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")
from torch import nn, optim  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import oarlock  # noqa: E402
from tests.train.twins import EPS, Step, check  # noqa: E402

CALLS = 12


def one_cycle(optimizer, **options):
    return optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=2 * CALLS, **options)


def cyclic(optimizer):
    return optim.lr_scheduler.CyclicLR(optimizer, 1e-3, 1e-2, step_size_up=3)


def decaying(optimizer):
    return optim.lr_scheduler.ExponentialLR(optimizer, 0.9)


def by_hand(optimizer):
    """Every option that is a number."""

    class Schedule:
        def step(self):
            for group in optimizer.param_groups:
                for key in ("lr", "weight_decay", "eps", "alpha", "rho", "lr_decay"):
                    if type(group.get(key)) is float and group[key]:
                        group[key] *= 0.9
                if "betas" in group:
                    group["betas"] = tuple(math.sqrt(x) for x in group["betas"])

    return Schedule()


CASES = {
    "sgd momentum": (optim.SGD, {"lr": 0.02, "momentum": 0.9}, one_cycle),
    "sgd foreach": (optim.SGD, {"lr": 0.02, "momentum": 0.9, "foreach": True}, cyclic),
    "sgd fused": (optim.SGD, {"lr": 0.02, "momentum": 0.9, "fused": True}, one_cycle),
    "adam": (optim.Adam, {"lr": 0.01}, one_cycle),
    "adam foreach": (optim.Adam, {"lr": 0.01, "foreach": True, "amsgrad": True}, cyclic),
    "adam fused": (optim.Adam, {"lr": 0.01, "fused": True}, one_cycle),
    "adamw": (optim.AdamW, {"lr": 0.01, "maximize": True}, one_cycle),
    "adamw fused": (optim.AdamW, {"lr": 0.01, "fused": True}, by_hand),
    "adamw by hand": (optim.AdamW, {"lr": 0.01}, by_hand),
    "nadam": (optim.NAdam, {"lr": 0.01}, one_cycle),
    "adamax": (optim.Adamax, {"lr": 0.01}, by_hand),
    "rmsprop": (optim.RMSprop, {"lr": 0.01, "momentum": 0.5}, one_cycle),
    "rmsprop by hand": (optim.RMSprop, {"lr": 0.01, "weight_decay": 0.1}, by_hand),
    "adagrad": (optim.Adagrad, {"lr": 0.01, "lr_decay": 0.1}, by_hand),
    "adagrad fused": (optim.Adagrad, {"lr": 0.01, "lr_decay": 0.1, "fused": True}, decaying),
    "adadelta": (optim.Adadelta, {"lr": 0.5}, by_hand),
    "rprop": (optim.Rprop, {"lr": 0.01}, decaying),
    "asgd": (optim.ASGD, {"lr": 0.01, "foreach": False}, decaying),
    "asgd foreach": (optim.ASGD, {"lr": 0.01, "foreach": True, "t0": 4}, decaying),
    "adafactor": (optim.Adafactor, {"lr": 0.01, "weight_decay": 0.1}, decaying),
    "muon": (optim.Muon, {"lr": 0.01}, decaying),
}


class Scheduled(Step):
    def __init__(self, kind, options, schedule):
        self.model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3))
        if kind is optim.Muon:
            self.model = nn.Sequential(nn.Linear(6, 12, False), nn.Tanh(), nn.Linear(12, 3, False))
        self.optimizer = kind(self.model.parameters(), **options)
        self.schedule = schedule(self.optimizer)

    def step(self, x, y):
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def between(self, i):
        self.schedule.step()


def batch(i):
    draws = torch.Generator().manual_seed(i)
    return torch.randn(8, 6, generator=draws), torch.randint(3, (8,), generator=draws)


@pytest.mark.parametrize("name", CASES)
def test_options_change_between_calls(name):
    static = check(lambda: Scheduled(*CASES[name]), batch, CALLS, 4096 * EPS[torch.float32])
    assert "compiled (" in static.report(), static.report()
    programs = [getattr(t.executor, "core", t.executor).count for t in static.tapes]
    assert sum(programs) <= 2  # the first may be of its own: without gradients from before


def test_what_no_option_tells_is_not_taken_for_granted():
    """A number that the code reads elsewhere in a group."""
    model = nn.Linear(3, 2)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    optimizer.param_groups[0]["scales"] = [1.0, 2.0]

    def step(x):
        loss = model(x).square().mean() * optimizer.param_groups[0]["scales"][0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    static, x = oarlock.to_static(step), torch.ones(2, 3)
    for i in range(5):
        optimizer.param_groups[0]["scales"][0] = float(i)
        want = model(x).square().mean().item() * i
        assert math.isclose(float(static(x)), want, rel_tol=1e-6, abs_tol=1e-6)
