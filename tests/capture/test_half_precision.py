"""Python numbers next to tensors of half precision: torch rounds the result alone."""

from __future__ import annotations

import pytest
import torch

from oarlock import to_static

FUNCTIONS = {
    "mul": lambda x, y, z: x * 0.3,
    "div": lambda x, y, z: x / 0.3,
    "rdiv": lambda x, y, z: 0.3 / z,
    "scalar tensor": lambda x, y, z: x * torch.tensor(0.3),
    "chain": lambda x, y, z: ((x * 0.3 + 0.7) * 1.1 - 0.2) / 0.9,
    "addcmul": lambda x, y, z: torch.addcmul(x, y, z, value=0.3),
    "addcdiv": lambda x, y, z: torch.addcdiv(x, y, z, value=0.3),
    "lerp": lambda x, y, z: torch.lerp(x, y, 0.3),
    "softmax": lambda x, y, z: torch.softmax(x * 0.3, -1),
}


def given(dtype):
    torch.manual_seed(0)
    x, y = torch.randn(2, 17, 33).to(dtype)
    return x, y, x.flip(1).abs() + 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_one_rounding(name, dtype):
    function, args = FUNCTIONS[name], given(dtype)
    static = to_static(function, backend="compiled")
    assert torch.equal(static(*args), function(*args))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("op", [torch.add, torch.sub], ids=lambda f: f.__name__)
def test_alpha_is_rounded_before(op, dtype):
    x, y, _ = given(dtype)
    static = to_static(lambda x, y: op(x, y, alpha=0.3), backend="compiled")
    got, want = static(x, y), op(x, y, alpha=0.3)
    assert (got != want).double().mean() < 0.01  # sums that end near the middle of two numbers
