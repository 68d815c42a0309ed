"""Overloads without a lift of their own, recorded through PyTorch's decompositions."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402

import oarlock  # noqa: E402

X, Y = torch.linspace(-2, 2, 12).reshape(3, 4), torch.linspace(1, 3, 12).reshape(3, 4)
CASES = {
    "sinc": (torch.sinc, (X,)),
    "logaddexp": (lambda x, y: torch.logaddexp(x, y), (X, Y)),
    "lerp": (lambda x, y: torch.lerp(x, y, 0.3), (X, Y)),
    "smooth_l1": (lambda x, y: F.smooth_l1_loss(x, y), (X, Y)),
    "huber": (lambda x, y: F.huber_loss(x, y), (X, Y)),
    "cosine_similarity": (lambda x, y: F.cosine_similarity(x, y), (X, Y)),
    "addcmul": (lambda x, y: torch.addcmul(x, x, y, value=0.5), (X, Y)),
    "nan_to_num": (lambda x: torch.nan_to_num(x / x.round()), (X,)),
    "cross_entropy": (lambda x: F.cross_entropy(x, torch.tensor([1, 0, 3])), (X,)),
}
DYNAMIC = ("lerp", "addcmul", "smooth_l1", "logaddexp")


@pytest.mark.parametrize("name", CASES)
def test_equal_to_eager(name):
    function, inputs = CASES[name]
    dynamic = {n: {0: "N"} for n, _ in zip("xy", inputs)} if name in DYNAMIC else None
    program = oarlock.capture(function, inputs, dynamic=dynamic)
    got = oarlock.evaluate(program, *(x.numpy() for x in inputs))
    np.testing.assert_allclose(got, function(*inputs).numpy(), rtol=2**-20, atol=2**-22)


def test_an_expansion_that_contains_itself_is_called():
    program = oarlock.capture(torch.special.zeta, (Y.abs() + 2, X.abs() + 4))
    assert [n.name for n in program.graph.nodes] == ["aten_call"]


@pytest.mark.parametrize("function", [torch.nextafter, torch.igamma])
def test_scalars_through_pytorch(function):
    x, y = torch.tensor(1.5), torch.tensor(2.5)
    program = oarlock.capture(lambda x, y: function(x, y), (x, y))
    assert oarlock.evaluate(program, x.numpy(), y.numpy()) == function(x, y).numpy()


def test_a_cell_whose_weights_are_used_at_every_step():
    torch.manual_seed(0)
    cell = torch.nn.GRUCell(3, 4)

    def model(x):
        h = x.new_zeros(x.shape[0], 4)
        for t in range(3):
            h = cell(x[:, t], h)
        return h

    program = oarlock.capture(model, (torch.randn(1, 3, 3),), dynamic={"x": {0: "N"}})
    x = torch.randn(2, 3, 3)
    expected = model(x).detach().numpy()
    np.testing.assert_allclose(oarlock.evaluate(program, x.numpy()), expected, atol=2**-20)
