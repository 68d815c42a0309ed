"""Data that torch refuses: a compiled step raises torch's error, and has changed nothing more."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.train.twins import EPS, Step, check

KINDS = {
    "cross_entropy": lambda z, i: F.cross_entropy(z, i),
    "nll_loss": lambda z, i: F.nll_loss(F.log_softmax(z, 1), i),
    "gather": lambda z, i: z.gather(1, i[:, None]).mean(),
    "index": lambda z, i: z[torch.arange(4), i].mean(),
    "index_select": lambda z, i: z.index_select(1, i).mean(),
    "put": lambda z, i: (z * torch.zeros(4, 5).index_put((torch.arange(4), i), z[0, 0])).mean(),
    "scatter": lambda z, i: (z * torch.zeros(4, 5).scatter(1, i[:, None], 1.0)).mean(),
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
