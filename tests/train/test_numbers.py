"""Python numbers that data decide, in compiled steps: their values, types and errors are Python's."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from tests.train.twins import EPS, Step, check  # noqa: E402

NUMBERS = {
    "a quotient": lambda n, x: 1.0 / n,
    "a quotient of an int": lambda n, x: 6 / n,
    "a remainder": lambda n, x: 7 % n,
    "a root": lambda n, x: n**0.5,
    "an inverse root": lambda n, x: n**-0.5,
    "an inverse": lambda n, x: n**-1,
    "a power": lambda n, x: 2.0**n,
    "the least": lambda n, x: min(2.0, n),
    "the largest of three": lambda n, x: max(0.5, n, x),
    "a float": lambda n, x: float(n) * 2,
    "a quotient of the least": lambda n, x: 1 / max(1, n),
}
VALUES = [1.0, 2.0, 0.0, 4.0, -3.0, 0.5]


class Counting(Step):
    """The number is the mean of the batch; it scales the loss."""

    def __init__(self, number):
        self.model = nn.Linear(3, 3)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        self.number = number

    def step(self, x, scale):
        loss = self.model(x).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        scaled = self.number(x.mean().item(), scale)
        for p in self.model.parameters():
            p.grad.mul_(scaled)
        self.optimizer.step()
        return loss.detach(), scaled


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_data(name):
    """In some calls they are none that Python gives; some are complex."""
    static = check(
        lambda: Counting(NUMBERS[name]), lambda i: (torch.full((2, 3), VALUES[i]), 0.25),
        len(VALUES), 1024 * EPS[torch.float32],
    )  # fmt: skip
    assert "compiled (" in static.report(), static.report()


@pytest.mark.parametrize("name", ["a quotient", "a remainder", "an inverse root"])
def test_numbers_of_the_caller(name):
    class Given(Counting):
        def step(self, x, scale):
            loss = self.model(x).square().mean() * self.number(scale, scale)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            return loss.detach()

    check(
        lambda: Given(NUMBERS[name]), lambda i: (torch.ones(2, 3), VALUES[i]), 4,
        1024 * EPS[torch.float32],
    )  # fmt: skip


def test_whole_quotients():
    """Python's are those of exact arithmetic: 1 // 0.1 is 9."""
    numbers = [0.1, 0.3, 0.0, 2.0]
    check(
        lambda: Counting(lambda n, x: 1.0 // n),
        lambda i: (torch.full((2, 3), numbers[i], dtype=torch.float64).float(), 0.1),
        4, 1024 * EPS[torch.float32],
    )  # fmt: skip


def test_types_that_data_decide():
    """An int where it is the largest, else a float: the dtype of a tensor that is made of it."""

    class Typed(Counting):
        def step(self, x, scale):
            loss, number = super().step(x, scale)
            return loss, torch.as_tensor(max(1, x.mean().item())), number

    check(
        lambda: Typed(lambda n, x: x), lambda i: (torch.full((2, 3), [3.0, 0.5][i % 2]), 0.5), 6,
        1024 * EPS[torch.float32],
    )  # fmt: skip


class Averaging(Step):
    """The running statistics are means over all calls."""

    def __init__(self):
        self.model = nn.Sequential(
            nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=None), nn.Linear(4, 1)
        )
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)

    def step(self, x):
        loss = self.model(x).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def between(self, i):
        self.model.train(i % 4 != 2)


def test_batch_norm_over_all_calls():
    draws = torch.Generator().manual_seed(0)
    rows = [(torch.randn(5, 3, generator=draws),) for _ in range(8)]
    static = check(Averaging, lambda i: rows[i], 8, 1024 * EPS[torch.float32])
    assert "replayed" not in static.report(), static.report()
