"""Steps whose control flow sizes and plain numbers decide: compiled, a program for each way."""

from __future__ import annotations

import logging

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import oarlock
from oarlock.train import tier
from tests.train.test_step import assert_close, leaves


def rows(i, *shape):
    draws = torch.Generator().manual_seed(i)
    return torch.randn(*shape, 4, generator=draws)


class Trainer:
    """A recurrent cell that predicts the next row."""

    def __init__(self):
        torch.manual_seed(0)
        self.model = nn.ModuleDict({"cell": nn.GRUCell(4, 6), "out": nn.Linear(6, 4)})
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-2)
        self.calls, self.log = 0, []

    def update(self, loss):
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def loss(self, x, h):
        total = 0.0
        for t in range(x.shape[0] - 1):
            h = self.model["cell"](x[t], h)
            total = total + F.mse_loss(self.model["out"](h), x[t + 1])
        return total, h


class OverTime(Trainer):
    def step(self, x):
        loss, _ = self.loss(x, x.new_zeros(x.shape[1], 6))
        self.update(loss)
        return loss.detach()

    def given(self, i):
        return (rows(i, (5, 3, 7)[i % 3], 2),)


class OverTimeCounted(OverTime):
    """The count that is left makes three parts of the step."""

    def step(self, x):
        self.calls += 1
        return super().step(x)


class Accumulating(Trainer):
    def step(self, x):
        loss = F.mse_loss(self.model["out"](self.model["cell"](x)), x)
        loss.backward()
        self.calls += 1
        if self.calls % 3 == 0:
            self.optimizer.step()
            self.optimizer.zero_grad()
        return loss.detach()

    def given(self, i):
        return (rows(i, 2),)


class Numbered(Trainer):
    """An integer that decides, and scales the loss."""

    def step(self, i, x):
        loss = F.mse_loss(self.model["out"](self.model["cell"](x)), x) * (i + 1)
        if i % 4 == 1:
            loss = loss + self.model["out"].weight.abs().mean()
        self.update(loss)
        return loss.detach()

    def given(self, i):
        return i, rows(i, 2)


class Logging(Numbered):
    def step(self, i, x):
        loss = super().step(i, x)
        if i % 3 == 0:
            self.log.append((i, loss.item()))
        return loss.mul(2).detach()


class Carrying(Trainer):
    """The state of the last call comes with its history, which the step lets go."""

    def __init__(self):
        super().__init__()
        self.h = torch.zeros(2, 6)

    def step(self, x, h):
        loss, h = self.loss(x, h.detach())
        self.update(loss)
        return loss.detach(), h

    def given(self, i):
        return rows(i, 4, 2), self.h

    def take(self, found):
        self.h = found[1]


class Drawing(Trainer):
    """Numbers of the caller that draws take."""

    def step(self, most, rate, x):
        target = x[torch.randint(0, most, (2,))]
        found = F.dropout(self.model["cell"](x), rate)
        loss = F.mse_loss(self.model["out"](found), target)
        self.update(loss)
        return loss.detach()

    def given(self, i):
        return 1 + i % 2, (0.1, 0.5)[i % 3 > 0], rows(i, 2)


CASES = {
    c.__name__: c
    for c in (OverTime, OverTimeCounted, Accumulating, Numbered, Logging, Carrying, Drawing)
}


def tensors(found):
    return list(found) if isinstance(found, tuple) else [found]


@pytest.mark.parametrize("name", CASES)
def test_steps(name):
    ours, theirs = CASES[name](), CASES[name]()
    static = oarlock.to_static(ours.step)
    for i in range(12):
        torch.manual_seed(i)
        got = static(*ours.given(i))
        torch.manual_seed(i)
        want = theirs.step(*theirs.given(i))
        assert_close(tensors(got), tensors(want), i + 1)
        assert_close(
            leaves(ours.model, ours.optimizer), leaves(theirs.model, theirs.optimizer), i + 1
        )
        grads = [[p.grad is None for p in x.model.parameters()] for x in (ours, theirs)]
        assert grads[0] == grads[1]
        for one, found in ((ours, got), (theirs, want)):
            getattr(one, "take", lambda found: None)(found)
    assert ours.calls == theirs.calls and len(ours.log) == len(theirs.log)
    assert static.captures <= 2, static.report()
    args, kwargs = static.normal(*ours.given(12))
    tape = next(t for t in static.tapes if t.guard(args, kwargs))
    assert "compiled" in str(tape.executor), static.report()


def test_programs_are_for_ways_not_for_numbers():
    trainer = Numbered()
    static = oarlock.to_static(trainer.step)
    for i in range(12):
        static(*trainer.given(i))
    assert static.tapes[-1].executor.count == 2, static.report()


def test_more_lengths_than_programs(monkeypatch):
    """The first few have theirs; other lengths are replayed."""
    monkeypatch.setattr(tier, "MANY", 2)
    ours, theirs = OverTime(), OverTime()
    static = oarlock.to_static(ours.step)
    for i, length in enumerate((4, 5, 6, 7, 5, 6)):
        x = rows(i, length, 2)
        assert_close([static(x)], [theirs.step(x)], i + 1)
        assert_close(
            leaves(ours.model, ours.optimizer), leaves(theirs.model, theirs.optimizer), i + 1
        )
    assert "compiled" in static.report(), static.report()


def test_loops_of_many_operations_are_replayed(monkeypatch, caplog):
    monkeypatch.setattr(tier, "MOST", 100)
    trainer = OverTime()
    static = oarlock.to_static(trainer.step)
    with caplog.at_level(logging.INFO, logger="oarlock"):
        for length in (4, 5, 6):
            static(rows(0, length, 2))
    assert "loops of more than 100 operations" in static.report(), static.report()


def test_a_history_that_is_used_is_replayed():
    """Its gradient goes on in what has made the argument."""
    trainer, weight = Carrying(), torch.ones(6, requires_grad=True)

    @oarlock.to_static
    def step(x, h):
        loss, _ = trainer.loss(x, h)
        trainer.update(loss)
        return loss.detach()

    for i in range(3):
        weight.grad = None
        step(rows(i, 4, 2), torch.zeros(2, 6) + weight)
        assert weight.grad is not None and bool(weight.grad.any())
    assert "goes on outside of the function" in step.report(), step.report()
