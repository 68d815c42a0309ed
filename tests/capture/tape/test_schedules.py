"""Learning-rate schedules stepped inside a static training step."""

from __future__ import annotations

import bisect
import copy

import pytest
import torch
from torch.optim import lr_scheduler as schedules

from oarlock.capture.to_static import to_static


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def adam(model):
    return torch.optim.Adam(model.parameters(), lr=0.01)


def warmed(optimizer):
    parts = [schedules.LinearLR(optimizer), schedules.ExponentialLR(optimizer, 0.9)]
    return schedules.SequentialLR(optimizer, parts, [4])


def in_three(optimizer):
    parts = [
        schedules.LinearLR(optimizer, total_iters=4),
        schedules.StepLR(optimizer, 2),
        schedules.CosineAnnealingLR(optimizer, 3),
    ]
    return schedules.SequentialLR(optimizer, parts, [3, 7])


def of(name, *args, **options):
    return lambda o: getattr(schedules, name)(o, *args, **options)


def chained(optimizer):
    parts = [schedules.ConstantLR(optimizer, 0.3, 4), schedules.ExponentialLR(optimizer, 0.9)]
    return schedules.ChainedScheduler(parts, optimizer=optimizer)


CASES = {
    "one_cycle": (sgd, of("OneCycleLR", 0.2, total_steps=14)),
    "one_cycle_of_betas": (adam, of("OneCycleLR", 0.02, total_steps=14, three_phase=True)),
    "cosine": (adam, of("CosineAnnealingLR", 5)),
    "warm_restarts": (sgd, of("CosineAnnealingWarmRestarts", 3, 2)),
    "lambda": (adam, of("LambdaLR", lambda n: min((n + 1) / 5, (n + 1) ** -0.5))),
    "multiplied": (sgd, of("MultiplicativeLR", lambda n: 0.9 if n % 2 else 0.99)),
    "steps": (sgd, of("StepLR", 3)),
    "milestones": (sgd, of("MultiStepLR", [2, 5, 5, 9], 0.5)),
    "polynomial": (sgd, of("PolynomialLR", 8, 2.0)),
    "cyclic": (sgd, of("CyclicLR", 0.01, 0.1, step_size_up=3, mode="triangular2")),
    "cyclic_of_betas": (adam, of("CyclicLR", 0.01, 0.1, step_size_up=3)),
    "averaging": (sgd, lambda o: torch.optim.swa_utils.SWALR(o, swa_lr=0.05, anneal_epochs=5)),
    "warmed": (sgd, warmed),
    "in_three": (sgd, in_three),
    "chained": (sgd, chained),
    "plateau": (sgd, of("ReduceLROnPlateau", patience=1, cooldown=1)),
}


def trained(name: str, model: torch.nn.Module, batches: list, is_static: bool):
    make, plan = CASES[name]
    optimizer = make(model)
    schedule = plan(optimizer)

    def step(x, y):
        loss = torch.nn.functional.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step(*([loss.detach()] if name == "plateau" else []))
        return loss

    run = to_static(step, backend="replay") if is_static else step
    losses = [run(x, y).detach() for x, y in batches]
    if is_static:
        assert run.captures <= 2
    group = {k: v for k, v in optimizer.param_groups[0].items() if k != "params"}
    return losses, group, getattr(schedule, "last_epoch", None), list(model.parameters())


@pytest.mark.parametrize("name", CASES)
def test_a_step_with_a_schedule_is_eagers(name: str):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    batches = [(torch.randn(4, 8), torch.randn(4, 1)) for _ in range(12)]
    want = trained(name, copy.deepcopy(model), batches, False)
    got = trained(name, model, batches, True)
    assert str(got[1]) == str(want[1]) and got[2] == want[2]
    for a, b in zip((*got[0], *got[3]), (*want[0], *want[3]), strict=True):
        assert torch.equal(a, b)


class Counted:
    def __init__(self):
        self.calls, self.total = 0, torch.zeros(2)

    def __call__(self, x):
        self.calls += 1
        place = bisect.bisect_right([2, 5], self.calls)
        self.total.add_(x * [1.0, 10.0, 100.0][place])
        return self.total * 1


def test_a_place_among_numbers_is_a_number_of_the_run():
    ours, plain = Counted(), Counted()
    static = to_static(ours, backend="replay")
    for _ in range(8):
        assert torch.equal(static(torch.ones(2)), plain(torch.ones(2)))
    assert static.captures <= 2


class Phased:
    """Each phase is a plain number that code which is not converted needs."""

    def __init__(self):
        self.calls, self.total = 0, torch.zeros(2)

    def __call__(self, x):
        self.calls += 1
        self.total.add_(x)
        return self.total.roll(self.calls // 3) * "ab".count("a" * int(self.calls > 2))


def test_an_assumption_that_inputs_settle_is_a_condition_of_the_call():
    ours, plain = Phased(), Phased()
    static = to_static(ours, backend="replay")
    for _ in range(7):
        assert torch.equal(static(torch.ones(2)), plain(torch.ones(2)))
