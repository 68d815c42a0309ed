"""Straight-line functions: structure, aliasing, state, gradients and modes as in eager."""

from __future__ import annotations

import sys
import traceback

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from oarlock.capture.to_static import to_static


def grads(fn, *inputs: torch.Tensor) -> list[torch.Tensor | None]:
    inputs = tuple(x.detach().clone().requires_grad_(x.is_floating_point()) for x in inputs)
    torch.manual_seed(3)
    out = fn(*inputs)
    out.sum().backward()
    return [out, *(x.grad for x in inputs)]


def same(fn, static, *inputs: torch.Tensor) -> None:
    for want, got in zip(grads(fn, *inputs), grads(static, *inputs)):
        torch.testing.assert_close(got, want, rtol=0, atol=0)


def test_structure_and_aliases():
    weight = nn.Parameter(torch.ones(3))

    def fn(x, options):
        y = x * options["scale"] + weight
        return {"x": x, "both": [y, y], "weight": weight}

    static = to_static(fn)
    x, scale = torch.randn(2, 3), torch.tensor(2.0)
    out = static(x, {"scale": scale})
    assert out["x"] is x and out["weight"] is weight and out["both"][0] is out["both"][1]
    torch.testing.assert_close(out["both"][0], x * scale + weight)
    weight.data.mul_(3)
    torch.testing.assert_close(static(x, {"scale": scale})["both"][0], x * scale + weight)
    assert len(static.tapes) == 1


def test_in_place_updates_reach_the_caller():
    def fn(x):
        x[0] = 1.0
        x.t()[1].mul_(2)
        return x

    a, b = torch.randn(3, 3), torch.randn(3, 3)
    for x in (a, b):
        want, static = fn(x.clone()), to_static(fn)
        assert static(x) is x
        torch.testing.assert_close(x, want, rtol=0, atol=0)


def test_dropout_and_double_backward():
    def fn(x):
        return F.dropout(x, 0.5).exp() * torch.rand(3)

    same(fn, to_static(fn), torch.randn(4, 3))

    def cube(x):
        return (x**3).sum()

    x = torch.randn(3, requires_grad=True)
    (first,) = torch.autograd.grad(to_static(cube)(x), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    torch.testing.assert_close(second, 6 * x)


def test_module_with_buffers():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.3))
    torch.manual_seed(0)
    other = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.3))
    static = to_static(model)
    assert isinstance(static, nn.Module)
    for _ in range(3):
        same(other, static, torch.randn(6, 4))
    for a, b in zip(model.state_dict().values(), other.state_dict().values()):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    static.eval(), other.eval()
    same(other, static, torch.randn(6, 4))


def test_modes_inside():
    layer = nn.Linear(3, 3)

    def fn(x):
        with torch.no_grad():
            scale = layer(x).mean()
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(x)
        return y.float() * scale

    same(fn, to_static(fn), torch.randn(2, 3))
    assert torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")


def test_an_error_names_the_line():
    def fn(x, index):
        return x[index]

    static = to_static(fn)
    static(torch.randn(3), torch.tensor(1))
    with pytest.raises(IndexError) as caught:
        static(torch.randn(3), torch.tensor(7))
    last = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert (last.filename, last.name, last.line) == (__file__, "fn", "return x[index]")
    assert torch.is_grad_enabled()


def test_no_frame_of_the_function_runs():
    ran, frames = [], []

    def fn(x):
        ran.append(1)
        return x + 1

    static = to_static(fn)
    static(torch.ones(2))
    sys.setprofile(lambda frame, event, arg: frames.append(frame.f_code))
    try:
        static(torch.ones(2))
    finally:
        sys.setprofile(None)
    assert "fn" not in {code.co_name for code in frames}
    assert ran == [1, 1]


def test_a_dtype_that_data_decide_is_not_baked_in():
    def fn(x):
        y = x.long() if x.sum() > 0 else x
        return torch.zeros(2, dtype=y.dtype)

    static = to_static(fn)
    for x in (torch.ones(2), -torch.ones(2)):
        assert static(x).dtype is fn(x).dtype
