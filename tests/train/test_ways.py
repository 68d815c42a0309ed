"""Steps that decide on data are compiled for the way that calls take; another way is replayed."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import swa_utils

import oarlock
from tests.train.twins import EPS, Step, check

STEPS = {}
TOLERANCE = 256 * EPS[torch.float32] * 20  # roundings of sums of some hundred terms, once a step


def case(make):
    STEPS[make.__name__] = make
    return make


def batch(i):
    """The tenth batch is infinite."""
    draws = torch.Generator().manual_seed(i)
    x = torch.randn(8, 6, generator=draws)
    return x * (math.inf if i == 9 else 1.0), torch.randint(3, (8,), generator=draws)


class Trainer(Step):
    def __init__(self):
        self.model = nn.Sequential(
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Tanh(), nn.Linear(8, 3)
        )
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.seen, self.count, self.losses = 0, torch.zeros(()), []
        self.prepare()

    def prepare(self):
        pass

    def left(self):
        return [self.seen, self.count, self.losses]

    def loss(self, x, y):
        self.seen += 1
        self.count += 1
        return F.cross_entropy(self.model(x), y)

    def update(self, loss):
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.losses.append(loss.item())
        return loss.detach()


@case
class Asserted(Trainer):
    def step(self, x, y):
        loss = self.loss(x, y)
        assert torch.isfinite(loss), "the loss is not finite"
        return self.update(loss)


@case
class Raised(Trainer):
    def step(self, x, y):
        loss = self.loss(x, y)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"loss {loss.item()}")
        return self.update(loss)


@case
class AskedOfMath(Trainer):
    def step(self, x, y):
        loss = self.loss(x, y)
        if not math.isfinite(loss.item()):
            raise FloatingPointError("the loss is not finite")
        return self.update(loss)


@case
class AskedOfNorm(Trainer):
    def step(self, x, y):
        loss = self.loss(x, y)
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        if not torch.isfinite(norm):
            raise FloatingPointError("the norm is not finite")
        self.optimizer.step()
        return norm


@case
class Skipped(Trainer):
    def step(self, x, y):
        loss = self.loss(x, y)
        if torch.isfinite(loss):
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return loss.detach()


@case
class Scaled(Trainer):
    def prepare(self):
        self.scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=3)

    def left(self):
        return [*super().left(), self.scaler.get_scale(), self.scaler.state_dict()]

    def step(self, x, y):
        loss = self.loss(x, y)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.model.parameters(), 0.5)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach()


@pytest.mark.parametrize("name", STEPS)
def test_a_way_that_data_take_is_compiled(name):
    """An infinite batch ends the program before its updates: the replay does what eager does."""
    static = check(STEPS[name], batch, 14, TOLERANCE)
    assert "compiled (" in static.report() and "for one way of" in static.report()
    assert static.captures == 1, static.report()


def finite(i):
    return batch(i + 20)


class Switching(Trainer):
    """``RAdam`` updates in another way from its sixth step on."""

    def prepare(self):
        self.optimizer = torch.optim.RAdam(self.model.parameters(), lr=1e-2)

    def step(self, x, y):
        return self.update(self.loss(x, y))


class AveragedLate(Switching):
    """``ASGD`` averages from its third step on, by rates that it makes tensors of."""

    def prepare(self):
        self.optimizer = torch.optim.ASGD(self.model.parameters(), lr=1e-2, t0=3)


class Averaged(Trainer):
    """The first update of an average copies."""

    def prepare(self):
        self.average = swa_utils.AveragedModel(self.model)

    def left(self):
        return [*super().left(), *self.average.state_dict().values()]

    def step(self, x, y):
        loss = self.update(self.loss(x, y))
        if self.seen > 5:
            self.average.update_parameters(self.model)
        return loss


@pytest.mark.parametrize("make", [Switching, AveragedLate, Averaged])
def test_a_lasting_other_way_gets_a_program(make):
    static = check(make, finite, 14, TOLERANCE)
    core = getattr(static.tapes[0].executor, "core", static.tapes[0].executor)
    assert 2 <= core.count <= 3, static.report()


class Alternating(Trainer):
    def step(self, x, y):
        if x[0, 0] > 0:
            x = x.flip(1)
        return self.update(self.loss(x, y))


def test_a_way_that_changes_at_many_calls_is_replayed():
    static = check(
        Alternating, lambda i: (finite(i)[0].abs() * (-1) ** i, finite(i)[1]), 24, TOLERANCE
    )
    assert "in another way at many calls" in static.report()


def test_gradients_that_a_way_does_not_reach():
    """Eager leaves None there."""

    class Gated(Trainer):
        def step(self, x, y):
            hidden = self.model[0](x)
            if x[0, 0] > 0:
                hidden = self.model[1](hidden)
            return self.update(F.cross_entropy(self.model[4](hidden), y))

    check(Gated, lambda i: (finite(i)[0].abs() * (-1) ** (i // 4), finite(i)[1]), 16, TOLERANCE)


def test_printing_what_follows():
    class Printing(Trainer):
        def step(self, x, y):
            loss = self.update(self.loss(x, y))
            if self.seen % 4 == 0:
                print("step", self.seen)
            return loss

    static = check(Printing, finite, 9, TOLERANCE)
    assert "compiled (" in static.report()


def test_a_loop_that_data_bound_is_replayed():
    class Looping(Trainer):
        def step(self, x, y):
            while x.abs().max() > 1:
                x = x / 2
            return self.update(self.loss(x, y))

    assert "replayed" in check(Looping, finite, 4).report()


def test_the_state_that_a_call_replaces_is_read_again():
    class Recurrent(Step):
        def __init__(self):
            self.model = nn.LSTM(6, 4)
            self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-2)
            self.state = (torch.zeros(1, 2, 4), torch.zeros(1, 2, 4))

        def left(self):
            return list(self.state)

        def step(self, x):
            y, state = self.model(x, self.state)
            self.state = tuple(s.detach() for s in state)
            loss = (y - 1).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            return loss.detach()

    static = check(Recurrent, lambda i: (finite(i)[0].reshape(4, 2, 6),), 12, TOLERANCE)
    assert "compiled (" in static.report(), static.report()


def test_arguments_in_one_memory():
    """``tokens[:, :-1], tokens[:, 1:]``: the step changes neither."""
    model = nn.Linear(5, 5)

    def step(x, y):
        loss = F.mse_loss(model(x), y)
        model.zero_grad()
        loss.backward()
        return loss.detach()

    static = oarlock.to_static(step)
    for i in range(3):
        both = torch.randn(4, 6, generator=torch.Generator().manual_seed(i))
        loss = static(both[:, :-1], both[:, 1:])
        torch.testing.assert_close(loss, F.mse_loss(model(both[:, :-1]), both[:, 1:]).detach())
    assert "compiled (" in static.report(), static.report()
