"""Compiled steps with draws whose distribution tensors give: eager's numbers, and its errors."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.distributions import Bernoulli, Categorical, Normal  # noqa: E402

from tests.train.twins import EPS, Step, check  # noqa: E402

DRAWS = {
    "chances": lambda x: torch.bernoulli(x.sigmoid()),
    "turned chances": lambda x: torch.bernoulli(x.sigmoid().t()).t(),
    "one chance": lambda x: torch.bernoulli(x, 0.3),
    "chances into": lambda x: torch.empty_like(x).bernoulli_(x.sigmoid()),
    "chances into turned memory": lambda x: torch.empty_like(x.t()).bernoulli_(x.sigmoid()[0, :4]),
    "broadcast chances into": lambda x: torch.empty_like(x).bernoulli_(x[0].sigmoid()),
    "chances of another type into": lambda x: torch.zeros(4, 6).bernoulli_(x.sigmoid().double()),
    "means": lambda x: torch.normal(x, 0.1),
    "means and deviations": lambda x: torch.normal(x, x.exp()),
    "broadcast deviations": lambda x: torch.normal(x, x[0].exp()),
    "deviations": lambda x: torch.normal(0.5, x.exp()),
    "few": lambda x: torch.normal(x[:2, :2], x[:2, :2].exp()),
    "one of a row": lambda x: torch.multinomial(x.softmax(-1), 1),
    "several of a row": lambda x: torch.multinomial(x.softmax(-1), 3),
    "one of one row": lambda x: torch.multinomial(x[0].exp(), 1, replacement=True),
    "distributions": lambda x: (
        Bernoulli(logits=x).sample() + Categorical(logits=x).sample()[:, None] + Normal(x, 1).rsample()
    ),
}  # fmt: skip


class Drawing(Step):
    def __init__(self, draw, dtype):
        self.model = nn.Linear(6, 6, dtype=dtype)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.draw = draw

    def step(self, x):
        y = self.model(x)
        drawn = self.draw(y.detach())
        loss = (y * drawn.to(y.dtype).mean().tanh()).square().mean() + torch.rand(())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach(), drawn


def batch_of(dtype):
    return lambda i: (
        torch.randn(4, 6, dtype=dtype, generator=torch.Generator().manual_seed(i)) / 9,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", DRAWS)
def test_numbers_are_eagers(name, dtype):
    static = check(lambda: Drawing(DRAWS[name], dtype), batch_of(dtype), 4, 1024 * EPS[dtype])
    assert "compiled (" in static.report(), static.report()


REFUSED = {
    "chances over one": lambda x: torch.bernoulli(x + 0.5),
    "chances into": lambda x: torch.empty_like(x).bernoulli_(x + 0.5),
    "deviations below zero": lambda x: torch.normal(0.5, x + 0.5),
    "weights below zero": lambda x: torch.multinomial(x + 0.5, 1),
    "no weights": lambda x: torch.multinomial((x < 1).float(), 1),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_eager_refuses(name):
    """The second and fourth call."""

    class Constant(Drawing):
        def step(self, x):
            loss = self.model(x).mean()
            drawn = self.draw(x)
            self.optimizer.zero_grad()
            (loss + drawn.to(x.dtype).mean()).backward()
            self.optimizer.step()
            return loss.detach(), drawn

    def batch(i):
        return (torch.full((4, 6), [0.1, 3.0, 0.3, -2.0][i]),)

    static = check(lambda: Constant(REFUSED[name], torch.float32), batch, 4, 1024 * 2.0**-23)
    assert "compiled (" in static.report(), static.report()
