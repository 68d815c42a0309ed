"""Compiled steps in float64, float32 and under autocast beside eager ones, 20 of each."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import oarlock
from tests.train.twins import EPS, Step, check

STEPS = 20
TERMS = 256  # of the longest sum, about: each step rounds as often
OPTIMIZERS = {
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-3),
}


class Sequence(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner, self.out = inner, nn.Linear(8, 3)

    def forward(self, x):
        y = self.inner(x)
        return self.out((y[0] if isinstance(y, tuple) else y).mean(1))


MODELS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3)), (8, 6)),
    "cnn": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.Tanh(),
            nn.AvgPool2d(2), nn.Flatten(), nn.Linear(128, 3),
        ),
        (4, 3, 8, 8),
    ),
    "lstm": (lambda: Sequence(nn.LSTM(6, 8, 2, dropout=0.1, batch_first=True)), (4, 5, 6)),
    "transformer": (
        lambda: Sequence(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)),
        (4, 5, 8),
    ),
}  # fmt: skip


@pytest.fixture(params=[torch.float64, torch.float32], ids=["f64", "f32"])
def dtype(request):
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(torch.float32)


def training(model, optimizer, autocast=None):
    class Training(Step):
        def __init__(self):
            self.model = MODELS[model][0]()
            self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
            oarlock.clip.ClipGradByGlobalNorm(0.5).attach(self.optimizer)

        def step(self, x, y):
            with torch.autocast("cpu", autocast, enabled=autocast is not None):
                loss = F.cross_entropy(self.model(x).float() if autocast else self.model(x), y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            return loss.detach()

    return Training


def batches(model):
    def batch(i):
        draws, shape = torch.Generator().manual_seed(i), MODELS[model][1]
        return torch.randn(shape, generator=draws), torch.randint(3, shape[:1], generator=draws)

    return batch


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", MODELS)
def test_a_dtype(model, optimizer, dtype):
    """Adam divides gradients that are zero but for roundings by their size: updates of ``lr``."""
    bound = TERMS * EPS[dtype] * STEPS
    slack = STEPS * 1e-3 if optimizer == "adam" and model == "transformer" else bound
    static = check(training(model, optimizer), batches(model), STEPS, slack)
    (step,) = static.tapes[0].executor.steps.values()
    inputs = {str(v.dtype) for v in step.recording.program.graph.inputs}
    assert ("f64" if dtype is torch.float64 else "f32") in inputs, inputs


@pytest.mark.parametrize("model", ["mlp", "cnn", "transformer"])
def test_autocast(model):
    """One bfloat16 more or less in a gradient is 2**-9 of it; clipped ones are below 0.5."""
    torch.set_default_dtype(torch.float32)
    static = check(
        training(model, "momentum", torch.bfloat16), batches(model), STEPS, STEPS * 2.0**-9
    )
    assert "compiled (" in static.report(), static.report()


def test_static_and_eager_steps_in_turn(dtype):
    check(training("cnn", "momentum"), batches("cnn"), STEPS, TERMS * EPS[dtype] * STEPS, True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scaled_sums_of_half_precision_are_rounded_once(dtype):
    """``beta * m + alpha * x @ y``, as Muon takes it: factors are not rounded, nor the product."""
    values = torch.Generator().manual_seed(0)
    given = [torch.randn(24, 24, generator=values).to(dtype) for _ in range(3)]
    m, x, y = (v.double() for v in given)
    exact = 3.4445 * m + 2.0315 * (x @ y)
    static = oarlock.to_static(
        lambda m, x, y: torch.addmm(m, x, y, beta=3.4445, alpha=2.0315), backend="compiled"
    )
    terms = 3.4445 * m.abs() + 2.0315 * (x.abs() @ y.abs())
    bound = exact.abs() * torch.finfo(dtype).eps / 2 + terms * 26 * torch.finfo(torch.float32).eps
    assert ((static(*given).double() - exact).abs() <= bound).all()
