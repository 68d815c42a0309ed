"""Captured models through the compiled engine against eager, at other sizes than the example's."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

import oarlock  # noqa: E402
from oarlock.errors import InputError  # noqa: E402


def mlp():
    return nn.Sequential(
        nn.Linear(6, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 2), nn.Softmax(-1)
    )


def cnn():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2),
        nn.Flatten(1, 2), nn.Flatten(), nn.Linear(32, 5),
    )  # fmt: skip


MODELS = {"mlp": (mlp, (1, 6)), "cnn": (cnn, (1, 3, 16, 16))}


@pytest.mark.parametrize("name", MODELS)
def test_engine_equals_eager(name):
    make, shape = MODELS[name]
    torch.manual_seed(0)
    model = make().eval()
    program = oarlock.capture(model, (torch.randn(shape),), dynamic={"input": {0: "N"}})
    predictor = oarlock.Predictor(program, threads=1)
    for batch in (1, 3):
        x = torch.randn(batch, *shape[1:])
        with torch.inference_mode():
            expected = model(x).numpy()
        bound = 64 * 2**-23 * max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(predictor(x.numpy()), expected, rtol=0, atol=bound)


def test_a_wrong_input_leaves_the_predictor_working():
    program = oarlock.capture(mlp().eval(), (torch.randn(1, 6),), dynamic={"input": {0: "N"}})
    predictor = oarlock.Predictor(program, threads=1)
    with pytest.raises(InputError):
        predictor(np.zeros((2, 7), np.float32))
    assert predictor(np.zeros((2, 6), np.float32)).shape == (2, 2)
