"""Calls in inference mode, and tensors made in it; arguments whose rows are the same memory."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from oarlock.capture.to_static import to_static

VIEWS = {
    "view": lambda x: x.view(-1) * 2,
    "rows": lambda x: [row * 2 for row in x],
    "detach": lambda x: x.detach(),
    "item": lambda x: x[0],
    "turned": lambda x: x.T.contiguous(),
    "attention": lambda x: F.scaled_dot_product_attention(x[None], x[None], x[None])[0],
}


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("is_made_inside", [False, True])
def test_views_in_inference_mode(name, is_made_inside):
    fn = VIEWS[name]
    with torch.inference_mode(is_made_inside):
        x = torch.randn(3, 4)
    static = to_static(fn)
    with torch.inference_mode():
        found, want = static(x), fn(x)
    for a, b in zip(found, want):
        assert torch.equal(a, b) and a.is_inference() == b.is_inference()


class Keeping(torch.nn.Module):
    """Keeps what it is given for the next call."""

    def __init__(self):
        super().__init__()
        self.last = torch.zeros(2)

    def forward(self, x):
        x, self.last = x + self.last, x
        return x


def test_state_that_inference_mode_has_left():
    static, eager = to_static(Keeping()), Keeping()
    for i in range(4):
        with torch.inference_mode(i % 2 == 0):
            x = torch.full((2,), float(i))
            assert torch.equal(static(x), eager(x))


def test_tensors_of_inference_mode_are_not_saved():
    with torch.inference_mode():
        x = torch.randn(3, 4)
    static = to_static(torch.nn.BatchNorm1d(4))
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved"):
        static(x)


def test_arguments_whose_rows_are_one():
    """They are put back after a call that is tried on copies."""
    inner = torch.randn(3, requires_grad=True) * 1
    rows = torch.randn(1, 3).expand(4, 3)
    before = rows.clone()
    assert torch.equal(to_static(lambda x, y: x * y)(inner, rows), inner * rows)
    assert torch.equal(rows, before) and rows.stride() == (0, 1)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_arguments_with_a_history(mode):
    """What they need outside is what the code sees."""
    x = torch.randn(3, requires_grad=True) * 2
    static = to_static(lambda x: (x + 1, x.requires_grad, x.is_leaf))
    with mode():
        assert static(x)[1:] == (True, False)
    assert static(x)[1:] == (True, False)
