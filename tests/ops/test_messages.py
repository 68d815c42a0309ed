"""Numbers and tensors in messages are printed as PyTorch prints them."""

from __future__ import annotations

import numpy as np
import pytest

from oarlock.ops.messages import escaped, field, filled, tensor_text

torch = pytest.importorskip("torch")

SHAPES = ((), (1,), (3,), (30,), (2, 3), (3, 1, 2), (0,), (0, 2), (40, 40), (7, 1, 30))
SCALES = (1e-6, 1e-2, 1.0, 1e3, 1e9)


@pytest.mark.parametrize("shape", SHAPES)
def test_tensors(shape):
    generator = torch.Generator().manual_seed(len(shape))
    for scale in SCALES:
        x = torch.randn(shape, generator=generator) * scale
        special = x.clone()
        special.reshape(-1)[:1] = float("nan")
        special.reshape(-1)[1:2] = float("-inf")
        whole = x.clamp(-1e6, 1e6)
        for one in (x, x.double(), x.round(), special, whole.long(), whole.int(), x > 0):
            assert tensor_text(one.numpy()) == str(one)


def test_formats():
    values = [np.float32(2.5), np.float64(0.1), np.array([1, 2])]
    text = escaped("{a} ") + field(0) + field(1, "", ">8.3f") + field(0, "t") + field(2, "t")
    assert filled(text, values) == "{a} 2.5   0.100tensor(2.5000)tensor([1, 2])"
    assert filled("{0} as it is", []) == "{0} as it is"
