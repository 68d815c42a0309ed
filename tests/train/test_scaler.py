"""Steps that torch keeps books of in Python: a gradient scaler, a queue at a place that data decide."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

import oarlock


def model_and_optimizer():
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def batch(i):
    draws = torch.Generator().manual_seed(i)
    return torch.randn(3, 4, generator=draws), torch.randint(2, (3,), generator=draws)


def scaled():
    model, optimizer = model_and_optimizer()
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=3)

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss.detach()

    return model, scaler, step


def test_a_gradient_scaler_is_captured_once():
    """It replaces the dict of its books in each step; infinite gradients skip one."""
    (model, scaler, step), (other, other_scaler, eager) = scaled(), scaled()
    static = oarlock.to_static(step)
    for i in range(8):
        x, y = batch(i)
        x = x * float("inf") if i == 4 else x
        torch.testing.assert_close(static(x, y), eager(x, y), equal_nan=True)
        assert scaler.get_scale() == other_scaler.get_scale()
        for a, b in zip(model.parameters(), other.parameters()):
            torch.testing.assert_close(a, b)
    assert static.captures == 1, static.report()


def queued():
    model, optimizer = model_and_optimizer()
    queue, place = torch.zeros(2, 9), torch.zeros(1, dtype=torch.long)

    def step(x, y):
        found = model(x)
        loss = F.cross_entropy(found, y) + (found @ queue.clone()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            at = int(place)
            queue[:, at : at + len(x)] = found.T
            place[0] = (at + len(x)) % 9
        return loss.detach()

    return queue, step


def test_a_place_that_data_decide_is_replayed():
    (queue, step), (other, eager) = queued(), queued()
    static = oarlock.to_static(step)
    for i in range(5):
        assert torch.equal(static(*batch(i)), eager(*batch(i)))
        assert torch.equal(queue, other)
    assert "replayed" in static.report(), static.report()


def test_what_was_refused_is_told():
    """Not that the next call has no operand."""
    model, optimizer = model_and_optimizer()

    @oarlock.to_static
    def step(x, y):
        found = model(x)
        drawn = torch.poisson(found.detach().softmax(1))
        loss = F.cross_entropy(found, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item(), drawn.max().item()

    step(*batch(0))
    step(*batch(1))
    assert "poisson" in step.report(), step.report()
