"""Complex numbers as pairs, and Fourier transforms as products with matrices of roots."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

import oarlock  # noqa: E402
from oarlock.errors import UnsupportedError  # noqa: E402

real = torch.view_as_real


def rotary(x):
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
    angle = torch.arange(x.shape[1]).float()[:, None] * torch.tensor([1.0, 0.1, 0.01])
    return real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(2)


CASES = {
    "rfft": lambda x: real(torch.fft.rfft(x)),
    "rfft of an odd length": lambda x: real(torch.fft.rfft(x, n=5)),
    "fft": lambda x: real(torch.fft.fft(x, norm="ortho")),
    "fft along an axis": lambda x: real(torch.fft.fft(x, dim=1)),
    "there and back": lambda x: torch.fft.irfft(torch.fft.rfft(x), n=x.shape[-1]),
    "2d there and back": lambda x: torch.fft.irfft2(torch.fft.rfft2(x) * 2, s=x.shape[-2:]),
    "ifft2": lambda x: real(torch.fft.ifft2(torch.fft.fft2(x))),
    "abs": lambda x: torch.fft.rfft(x).abs(),
    "angle": lambda x: torch.angle(torch.complex(x, x.flip(-1) + 0.5)),
    "quotient": lambda x: real(torch.complex(x, x + 1) / torch.complex(x * x + 1, x)),
    "einsum": lambda x: real(torch.einsum("nij,nkj->nik", torch.complex(x, -x), torch.complex(x, x))),
    "rotary": rotary,
    "stft": lambda x: real(
        torch.stft(x[:, 0], 4, hop_length=2, window=torch.hann_window(4), return_complex=True)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_equal_to_eager(name):
    function = CASES[name]
    torch.manual_seed(0)
    x = torch.randn(1, 4, 6)
    program = oarlock.capture(function, (x,), dynamic={"x": {0: "N"}})
    x = torch.randn(3, 4, 6)
    got, expected = oarlock.evaluate(program, x.numpy()), function(x).numpy()
    bound = 64 * 2**-23 * np.abs(expected).max()
    np.testing.assert_allclose(got, expected, rtol=0, atol=bound)


class FourierLayer(nn.Module):
    """The lowest modes of f32[N,C,H,W] mixed by complex weights, the others dropped."""

    def __init__(self, channels=3, modes=2):
        super().__init__()
        shape = (channels, channels, modes, modes)
        self.modes, self.weight = modes, nn.Parameter(torch.randn(shape, dtype=torch.cfloat))

    def forward(self, x):
        m = self.modes
        spectrum = torch.fft.rfft2(x)
        kept = torch.zeros_like(spectrum)
        low = torch.einsum("bixy,ioxy->boxy", spectrum[:, :, :m, :m], self.weight)
        kept[:, :, :m, :m] = low
        return torch.fft.irfft2(kept, s=x.shape[-2:])


def test_fourier_layer_with_dynamic_sizes():
    torch.manual_seed(0)
    model = FourierLayer().eval()
    dynamic = {"x": {0: "N", 2: "H", 3: "W"}}
    program = oarlock.capture(model, (torch.randn(1, 3, 8, 8),), dynamic=dynamic)
    predictor = oarlock.Predictor(program, threads=1)
    for shape in ((1, 3, 8, 8), (3, 3, 6, 10)):
        x = torch.randn(shape)
        with torch.inference_mode():
            expected = model(x).numpy()
        for got in (oarlock.evaluate(program, x.numpy()), predictor(x.numpy())):
            np.testing.assert_allclose(got, expected, rtol=0, atol=256 * 2**-23)


def test_a_complex_result_is_refused():
    with pytest.raises(UnsupportedError, match="1 things") as error:
        oarlock.capture(torch.fft.rfft, (torch.randn(4),))
    assert error.value.problems == ("result 0 is complex; return torch.view_as_real(x)",)
