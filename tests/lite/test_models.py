"""Captured models as C, equal to eager."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

import oarlock  # noqa: E402
from oarlock.lite import build  # noqa: E402
from tests.lite.harness import any_compiler, compile_strictly, stream  # noqa: E402

BATCH = 2


class Recurrent(nn.Module):
    """Both directions, the last step."""

    def __init__(self, kind):
        super().__init__()
        self.rnn = kind(6, 10, num_layers=2, batch_first=True, bidirectional=True)

    def forward(self, x):
        return self.rnn(x)[0][:, -1]


class Tokens(nn.Module):
    """Embedding, attention with a causal mask, a head."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(20, 16)
        self.layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        self.head = nn.Linear(16, 20)

    def forward(self, ids):
        n = ids.shape[1]
        mask = torch.triu(torch.full((n, n), float("-inf")), 1)
        return self.head(self.layer(self.table(ids), mask)).log_softmax(-1)


class Picture(nn.Module):
    """Strided, depthwise and grouped convolutions, pools, a resize."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.SiLU(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.GroupNorm(2, 8), nn.GELU(),
            nn.Conv2d(8, 12, 1, groups=2), nn.MaxPool2d(3, 2, 1), nn.Upsample(scale_factor=2),
            nn.ConvTranspose2d(12, 4, 2, stride=2), nn.AdaptiveAvgPool2d(3),
        )  # fmt: skip

    def forward(self, x):
        return self.body(x).flatten(1)


class Ranked(nn.Module):
    """The largest, sums along an axis, choices by index."""

    def forward(self, x):
        values, order = x.topk(4)
        return values.cumsum(-1), torch.gather(x, -1, order.flip(-1)), x.argmax(-1)


MODELS = {
    "lstm": (lambda: Recurrent(nn.LSTM), lambda g: torch.randn(BATCH, 5, 6, generator=g)),
    "gru": (lambda: Recurrent(nn.GRU), lambda g: torch.randn(BATCH, 5, 6, generator=g)),
    "tokens": (Tokens, lambda g: torch.randint(0, 20, (BATCH, 7), generator=g)),
    "picture": (Picture, lambda g: torch.randn(BATCH, 3, 16, 16, generator=g)),
    "ranked": (Ranked, lambda g: torch.randn(BATCH, 9, generator=g)),
}


def packaged(model, example, target, tmp_path):
    program = oarlock.capture(model, (example,))
    package = build(program, target, tmp_path / "net")
    return package, compile_strictly(package, tmp_path / "built", any_compiler(), ("-O2",))


@pytest.mark.parametrize("target", ["c99", "native"])
@pytest.mark.parametrize("name", MODELS)
def test_equal_to_eager(name, target, tmp_path):
    make, draw = MODELS[name]
    torch.manual_seed(0)
    model, generator = make().eval(), torch.Generator().manual_seed(1)
    package, binary = packaged(model, draw(generator), target, tmp_path)
    xs = [draw(generator) for _ in range(3)]
    for x, got in zip(xs, stream(package, binary, [[x.numpy()] for x in xs])):
        with torch.inference_mode():
            expected = model(x)
        results = expected if isinstance(expected, tuple) else (expected,)
        assert len(got) == len(results)
        for g, e in zip(got, (r.numpy() for r in results)):
            bound = 128 * 2**-23 * max(1.0, float(np.abs(e).max()))
            np.testing.assert_allclose(g, e, rtol=0, atol=bound if e.dtype.kind == "f" else 0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_other_element_types(dtype, tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.LayerNorm(16), nn.Linear(16, 4))
    model = model.eval().to(dtype)
    x = torch.randn(BATCH, 8).to(dtype)
    program = oarlock.capture(model, (x,))
    package, binary = packaged(model, x, "native", tmp_path)
    raw = x.view(torch.uint16).numpy() if dtype is torch.bfloat16 else x.numpy()
    ((got,),) = stream(package, binary, [[raw]])
    expected = oarlock.evaluate(program, raw)
    assert got.dtype == expected.dtype
    from oarlock.runtime.ulp import ulp_distance

    distance = ulp_distance(got, expected, program.graph.outputs[0].dtype)
    assert np.median(distance) <= 2
