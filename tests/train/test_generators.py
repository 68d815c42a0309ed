"""Compiled steps that draw again what they have drawn, or from generators of their own."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.utils.checkpoint import checkpoint, checkpoint_sequential  # noqa: E402

import oarlock  # noqa: E402
from oarlock.errors import UnsupportedError  # noqa: E402
from tests.train.twins import EPS, Step, check  # noqa: E402


def again(layer, x, **options):
    return checkpoint(layer, x, use_reentrant=False, **options)


FORWARDS = {
    "one layer": lambda s, x: again(s.model[0], x),
    "each layer": lambda s, x: again(s.model[2], again(s.model[1], again(s.model[0], x))),
    "draws around it": lambda s, x: F.dropout(again(s.model[0], F.dropout(x, 0.3)), 0.4),
    "in segments": lambda s, x: checkpoint_sequential(s.model, 2, x, use_reentrant=False),
    "reentrant": lambda s, x: checkpoint(s.model[1], s.model[0](x), use_reentrant=True),
    "inside of another": lambda s, x: again(lambda y: s.model[2](again(s.model[1], y)), x),
    "other masks": lambda s, x: again(s.model[0], x, preserve_rng_state=False),
    "a generator that is kept": lambda s, x: s.model(x) * torch.rand(6, generator=s.generator),
}
REPLAYED = {
    "a new generator": lambda s, x: (
        s.model(x) * torch.rand(6, generator=torch.Generator().manual_seed(4))
    ),
    "a generator that is seeded": lambda s, x: (
        s.model(x) * torch.rand(6, generator=s.generator.manual_seed(4))
    ),
}


class Layers(Step):
    def __init__(self, forward):
        layers = (nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Dropout(0.2)) for _ in range(3))
        self.model = nn.Sequential(*layers)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.forward, self.generator = forward, torch.Generator().manual_seed(3)

    def step(self, x):
        loss = self.forward(self, x).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach(), torch.rand(2)

    def left(self):
        return [self.generator.get_state()]


def run(forward):
    draws = torch.Generator().manual_seed(0)
    rows = [(torch.randn(4, 6, generator=draws),) for _ in range(4)]
    return check(lambda: Layers(forward), lambda i: rows[i], 4, 1024 * EPS[torch.float32])


@pytest.mark.parametrize("name", FORWARDS)
def test_numbers_are_eagers(name):
    static = run(FORWARDS[name])
    assert "compiled (" in static.report(), static.report()


@pytest.mark.parametrize("name", REPLAYED)
def test_generators_that_each_call_begins(name):
    assert "a generator that the code makes or seeds" in run(REPLAYED[name]).report()


@pytest.mark.parametrize("name", ["get_rng_state", "fork_rng"])
def test_the_state_of_the_shared_generator_is_refused(name):
    function = {"get_rng_state": torch.get_rng_state, "fork_rng": torch.random.fork_rng}[name]

    def step(x):
        function()
        return x + torch.rand(3)

    with pytest.raises(UnsupportedError, match=f"test_generators.py:\\d+: {name}: the state"):
        oarlock.to_static(step)(torch.ones(3))
