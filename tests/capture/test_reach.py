"""Sizes that a model is traced at: large enough for its pyramids, whatever the example."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

import oarlock  # noqa: E402


def check(model, example, other, dynamic):
    program = oarlock.capture(model, (example,), dynamic={"x": dynamic})
    for x in (example, other):
        with torch.inference_mode():
            expected = model(x).numpy()
        got = oarlock.evaluate(program, x.numpy())
        bound = 2**-16 * max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(got, expected, rtol=0, atol=bound)


class Pyramid(nn.Module):
    """Halves H and W five times: f32[N,3,H,W] -> f32[N,4,H/32,W/32]."""

    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList(nn.Conv2d(3 if i == 0 else 4, 4, 2, 2) for i in range(5))

    def forward(self, x):
        for conv in self.down:
            x = F.relu(conv(x))
        return x - x.mean((2, 3), keepdim=True)


def test_a_pyramid_that_ends_in_one_place():
    torch.manual_seed(0)
    dynamic = {0: "N", 2: "H", 3: "W"}
    check(Pyramid().eval(), torch.randn(1, 3, 32, 32), torch.randn(2, 3, 96, 64), dynamic)


PADS = {
    "constant": lambda x: F.pad(x, (1, 2, 0, 3), value=0.5),
    "negative": lambda x: F.pad(x, (-1, 2)),
    "reflect": lambda x: F.pad(x, (2, 1), mode="reflect"),
    "replicate": lambda x: F.pad(x, (2, 3), mode="replicate"),
    "circular": lambda x: F.pad(x, (2, 1), mode="circular"),
    "by its size": lambda x: F.pad(x, (0, x.shape[-1] % 4)),
    "twice as large": lambda x: F.interpolate(x, scale_factor=2, mode="linear"),
    "as large": lambda x: F.interpolate(x, size=x.shape[-1] + 3),
}


@pytest.mark.parametrize("name", PADS)
def test_shapes_follow_the_dims(name):
    check(PADS[name], torch.randn(1, 4, 6), torch.randn(3, 4, 11), {0: "N", 2: "T"})


def test_a_cache_keyed_by_a_size():
    from functools import lru_cache

    @lru_cache
    def ramp(n):
        return torch.arange(n).float()

    check(lambda x: x + ramp(x.shape[1]), torch.randn(1, 5), torch.randn(2, 9), {0: "N", 1: "T"})
