"""Compiled steps in training loops as people write them: bf16 autocast, accumulated gradients,
schedules, eager and static steps in turn."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import oarlock  # noqa: E402
from tests.train.test_compiled import twins  # noqa: E402
from tests.train.test_step import OPTIMIZERS, Made, assert_close, batches, leaves  # noqa: E402


def perceptron(make_step: Any, optimizer: str = "adam") -> Any:
    def make() -> Made:
        model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
        chosen = OPTIMIZERS[optimizer](model.parameters())
        return model, chosen, make_step(model, chosen)

    return make


def with_loop(model: nn.Module, optimizer: Any) -> Any:
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        total = 0.0
        for a, b in zip(x.chunk(4), y.chunk(4)):
            loss = F.cross_entropy(model(a), b) / 4
            loss.backward()
            total = total + loss.detach()
        optimizer.step()
        return total

    return step


def with_flag(model: nn.Module, optimizer: Any) -> Any:
    def step(x: Any, y: Any, update: bool) -> Any:
        loss = F.cross_entropy(model(x), y) / 3
        loss.backward()
        if update:
            optimizer.step()
            optimizer.zero_grad()
        return loss.detach()

    return step


def bf16(model: nn.Module, optimizer: Any) -> Any:
    def step(x: Any, y: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


@pytest.mark.parametrize("optimizer", ["sgd-momentum", "adam"])
def test_micro_batches_in_a_loop(optimizer):
    (model, o, step), (other, p, eager) = twins(perceptron(with_loop, optimizer))
    static = oarlock.to_static(step)
    for _ in range(2):
        for batch in batches(8, 6):
            assert_close([static(*batch)], [eager(*batch)], 2)
    assert_close(leaves(model, o), leaves(other, p), 6)
    assert "compiled (" in static.report() and "replayed" not in static.report()


def test_micro_batches_by_calls():
    (model, o, step), (other, p, eager) = twins(perceptron(with_flag))
    static = oarlock.to_static(step)
    given = batches(8, 6)
    for i in range(12):
        batch = (*given[i % 3], i % 3 == 2)
        assert_close([static(*batch)], [eager(*batch)], 2)
        assert_close(leaves(model, o), leaves(other, p), i + 1)
        for a, b in zip(model.parameters(), other.parameters()):
            assert (a.grad is None) == (b.grad is None)
            if a.grad is not None:
                assert_close([a.grad], [b.grad], i + 1)
    assert "compiled (" in static.report() and "replayed" not in static.report()


@pytest.mark.parametrize(
    "schedule",
    [
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 10),
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=20, cycle_momentum=False),
        lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda t: 0.9**t),
    ],
    ids=["cosine", "one-cycle", "lambda"],
)
def test_schedules_and_eager_steps_in_between(schedule):
    (model, o, step), (other, p, eager) = twins(perceptron(with_loop, "sgd-momentum"))
    static, schedules = oarlock.to_static(step), (schedule(o), schedule(p))
    for i, batch in enumerate(batches(8, 6) * 3):
        mine = step if i % 3 == 2 else static
        assert_close([mine(*batch)], [eager(*batch)], i + 1)
        for one in schedules:
            one.step()
        assert_close(leaves(model, o), leaves(other, p), i + 1)
    assert "compiled (" in static.report()


def test_bf16_autocast_steps():
    """Static and eager stay as near to float64 as each other, in the loss and in the parameters."""
    (model, _, step), (other, _, eager) = twins(perceptron(bf16, "sgd-momentum"))
    torch.manual_seed(0)
    exact, q, _ = perceptron(bf16, "sgd-momentum")()
    exact.double()
    static = oarlock.to_static(step)
    apart = [0.0, 0.0]
    for x, y in batches(32, 6) * 3:
        results = static(x, y), eager(x, y)
        want = F.cross_entropy(exact(x.double()), y)
        want.backward()
        q.step(), q.zero_grad()
        for i, (loss, m) in enumerate(zip(results, (model, other))):
            pairs = [(loss, want), *zip(m.parameters(), exact.parameters())]
            apart[i] += sum(float((a.detach() - b.detach()).abs().mean()) for a, b in pairs)
    assert apart[0] <= 1.5 * apart[1], apart
    assert "compiled (" in static.report(), static.report()
