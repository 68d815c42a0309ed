"""Whole models against eager, with a dynamic batch from a batch-1 example; refusals."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

import oarlock  # noqa: E402
from oarlock.errors import UnsupportedError, UserError  # noqa: E402


class Attend(nn.Module):
    """One pre-norm block over f32[N, T, 32], masked to the past."""

    def __init__(self):
        super().__init__()
        self.norm, self.qkv = nn.LayerNorm(32), nn.Linear(32, 96)
        self.out, self.mlp = nn.Linear(32, 32), nn.Sequential(nn.Linear(32, 64), nn.GELU())
        self.down = nn.Linear(64, 32)

    def forward(self, x):
        n, t, c = x.shape
        q, k, v = self.qkv(self.norm(x)).view(n, t, 3, 4, c // 4).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(n, t, c))
        return x + self.down(self.mlp(x))


def cnn():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Hardswish(), nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5), nn.Softmax(-1),
    )  # fmt: skip


MODELS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2)), (1, 6), {0: "N"}),
    "cnn": (cnn, (1, 3, 16, 16), {0: "N"}),
    "attention": (Attend, (1, 5, 32), {0: "N", 1: "T"}),
    "upsample": (
        lambda: nn.Sequential(nn.ConvTranspose2d(4, 3, 4, stride=2, padding=1), nn.Sigmoid()),
        (1, 4, 5, 5),
        {0: "N", 2: "H", 3: "W"},
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_equal_to_eager(name):
    make, shape, dynamic = MODELS[name]
    torch.manual_seed(0)
    model = make().eval()
    program = oarlock.capture(model, (torch.randn(shape),), dynamic={_first(model): dynamic})
    assert oarlock.parse(str(program)) == program
    for batch in (1, 3):
        x = torch.randn(batch, *shape[1:])
        with torch.inference_mode():
            expected = model(x).numpy()
        got = oarlock.evaluate(program, x.numpy())
        scale = np.abs(expected).max()
        np.testing.assert_allclose(got, expected, rtol=0, atol=256 * 2**-23 * max(scale, 1))


def _first(model):
    return "x" if isinstance(model, Attend) else "input"


def test_structures_are_rebuilt():
    def model(batch, *, scale=2.0):
        return {"sum": batch["a"] + batch["b"], "parts": [batch["a"] * scale, None]}

    x = torch.arange(4.0)
    program = oarlock.capture(model, ({"a": x, "b": x},), {"scale": 3.0})
    out = oarlock.evaluate(program, x.numpy(), x.numpy())
    np.testing.assert_array_equal(out["sum"], 2 * x.numpy())
    np.testing.assert_array_equal(out["parts"][0], 3 * x.numpy())
    assert out["parts"][1] is None


def test_every_node_knows_where_it_comes_from():
    program = oarlock.capture(Attend().eval(), (torch.randn(1, 5, 32),))
    linear = next(n for n in program.graph.nodes if n.name == "linear")
    assert linear.origin.module == "model.qkv"
    assert linear.origin.source.startswith("test_capture.py:")


def test_all_problems_at_once():
    def model(x):
        return torch.nonzero(x).sum() + torch.unique(x).sum()

    with pytest.raises(UnsupportedError) as error:
        oarlock.capture(model, (torch.randn(3, 3),))
    assert len(error.value.problems) == 2
    assert "test_capture.py:" in error.value.problems[0]
    assert "nonzero" in error.value.problems[0]
    assert "depends on data; use torch.where" in error.value.problems[1]


def test_a_decision_on_a_dynamic_size_is_refused():
    def model(x):
        return x * 2 if x.shape[0] == 7 else x

    with pytest.raises(UnsupportedError, match="does not hold for every size"):
        oarlock.capture(model, (torch.randn(1, 3),), dynamic={"x": {0: "N"}})


def test_dynamic_names_are_checked():
    with pytest.raises(UserError) as error:
        oarlock.capture(lambda x: x + 1, (torch.randn(2),), dynamic={"y": {0: "N"}})
    assert str(error.value) == "dynamic: no tensor 'y'; the tensors are x"
