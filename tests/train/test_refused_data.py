"""Data that torch refuses: a compiled step raises torch's error, and has changed nothing more."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import oarlock
from tests.train.twins import EPS, Step, check

KINDS = {
    "cross_entropy": lambda z, i: F.cross_entropy(z, i),
    "nll_loss": lambda z, i: F.nll_loss(F.log_softmax(z, 1), i),
    "gather": lambda z, i: z.gather(1, i[:, None]).mean(),
    "index": lambda z, i: z[torch.arange(4), i].mean(),
    "index_select": lambda z, i: z.index_select(1, i).mean(),
    "put": lambda z, i: (z * torch.zeros(4, 5).index_put((torch.arange(4), i), z[0, 0])).mean(),
    "scatter": lambda z, i: (z * torch.zeros(4, 5).scatter(1, i[:, None], 1.0)).mean(),
    "scatter_reduce": lambda z, i: (
        z * torch.zeros(4, 5).scatter_reduce(1, i[:, None], torch.ones(4, 1), "sum")
    ).mean(),
    "index_add": lambda z, i: z[0] @ torch.zeros(5).index_add(0, i, torch.ones(4)),
    "index_copy": lambda z, i: z[0] @ torch.zeros(5).index_copy(0, i, torch.ones(4)),
    "index_fill": lambda z, i: z[0] @ torch.zeros(5).index_fill(0, i, 1.0),
    "take": lambda z, i: (z[0, 0] * torch.take(torch.ones(5), i)).mean(),
    "one_hot": lambda z, i: (z * F.one_hot(i, 5)).mean(),
    "probabilities": lambda z, i: F.binary_cross_entropy(z.sigmoid().mean(1), i / 4),
    "rows": lambda z, i: F.embedding(i, z.T).mean(),
}


def batch(i):
    draws = torch.Generator().manual_seed(i)
    tokens = torch.randint(10, (4, 3), generator=draws)
    index = torch.randint(5, (4,), generator=draws)
    if i in (3, 6):
        index[2] = 5 if i == 3 else -6
    return tokens, index


@pytest.mark.parametrize("name", KINDS)
def test_indices_out_of_range(name):
    class Indexing(Step):
        def __init__(self):
            self.model = nn.Sequential(nn.Embedding(10, 8), nn.Dropout(0.2), nn.Linear(8, 5))
            self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-2)
            self.count = torch.zeros(())

        def left(self):
            return [self.count]

        def step(self, tokens, index):
            self.count += 1
            loss = KINDS[name](self.model(tokens).mean(1), index)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            return loss.detach()

    static = check(Indexing, batch, 9, 256 * EPS[torch.float32] * 9)
    assert "compiled (" in static.report(), static.report()


@pytest.mark.parametrize("token", [10, -1])
def test_tokens_out_of_range(token):
    """Negative ones too, which indexing would count from the end."""

    class Looking(Step):
        def __init__(self):
            self.model = nn.Embedding(10, 8)
            self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)

        def step(self, tokens):
            loss = self.model(tokens).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            return loss.detach()

    def given(i):
        return (torch.tensor([1, token if i == 3 else 2, i]),)

    check(Looking, given, 6, 256 * EPS[torch.float32] * 6)


@pytest.mark.parametrize(
    "divide", [torch.remainder, torch.fmod, torch.floor_divide, lambda a, b: 7 % b]
)
def test_integers_divided_by_zero(divide):
    class Dividing(Step):
        def __init__(self):
            self.model = nn.Linear(3, 3)
            self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)

        def step(self, divisor):
            loss = (self.model(torch.ones(3)) * divide(torch.full((3,), 7), divisor)).mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            return loss.detach()

    static = check(Dividing, lambda i: (torch.tensor([1, 2, i % 3]) + (i != 5),), 7, 1e-5)
    assert "compiled (" in static.report(), static.report()


def looked_up(index, end):
    table, found = torch.arange(15.0).view(5, 3), torch.zeros(2, 3)
    while found.sum() < end:
        found = found + F.embedding(index, table) + 1
    return found


def divided(index, end):
    if end > 1:
        return torch.div(torch.tensor([4, 4]), index, rounding_mode="floor")
    return index + 1


def largest(index, end):
    found = index[index > 0]
    return found.max() + found.amin() if end > 1 else found.sum()


@pytest.mark.parametrize("fn", [looked_up, divided, largest])
def test_programs_with_control_flow(fn):
    """Calls without gradients, by one program: what torch refuses is refused."""
    static = oarlock.to_static(fn, backend="compiled")
    with torch.no_grad():
        for row in ([1, 2], [0, -1], [0, 7], [-1, -2], [0, 2]):
            index, end = torch.tensor(row), torch.tensor(30.0)
            try:
                want = fn(index, end)
            except (IndexError, RuntimeError) as error:
                with pytest.raises(type(error), match=re.escape(str(error)[:30])):
                    static(index, end)
            else:
                assert torch.equal(static(index, end), want)
    assert static.captures == 1
