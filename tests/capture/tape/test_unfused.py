"""Fused inference kernels of attention: replays call them as eager does, programs compute the same."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from oarlock.capture.to_static import StaticFunction
from oarlock.capture.unfused import attention, encoder_layer
from oarlock.evaluate import evaluate

PADDING = torch.tensor([[0, 0, 1, 1], [0, 1, 0, 0], [1, 1, 1, 1]]).bool()
CAUSAL = torch.ones(4, 4).triu(1).bool()
MASKS = {
    "none": (None, None), "keys": (PADDING, 1), "pairs": (CAUSAL, 0),
    "heads": ((PADDING[:, None, None] | CAUSAL).expand(3, 2, 4, 4), 2),
}  # fmt: skip


def assert_close(got, want):
    """Within rounding of sums of 32 terms, each of a few operations."""
    bound = 256 * np.finfo(np.float32).eps * max(1.0, float(np.nanmax(np.abs(want))))
    np.testing.assert_allclose(got, want, rtol=0, atol=bound)


def layer(**options):
    torch.manual_seed(0)
    return nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True, **options).eval()


@pytest.mark.parametrize("mask", MASKS)
@torch.no_grad()
def test_attention_is_that_of_the_kernel(mask):
    a, x = layer().self_attn, torch.randn(3, 4, 16)
    weights = (a.in_proj_weight, a.in_proj_bias, a.out_proj.weight, a.out_proj.bias)
    held, kind = MASKS[mask]
    for need, average in itertools.product((True, False), repeat=2):
        args = (x, x, x, 16, 2, *weights, held, need, average, kind)
        for got, want in zip(attention(*args), torch._native_multi_head_attention(*args)):
            assert (got is None) is (want is None)
            if want is not None:
                assert_close(got.numpy(), want.numpy())


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("is_first", [False, True])
@pytest.mark.parametrize("is_gelu", [False, True])
@torch.no_grad()
def test_an_encoder_layer_is_that_of_the_kernel(mask, is_first, is_gelu):
    m = layer()
    a, x = m.self_attn, torch.randn(3, 4, 16)
    args = (
        x, 16, 2, a.in_proj_weight, a.in_proj_bias, a.out_proj.weight, a.out_proj.bias, is_gelu,
        is_first, 1e-5, m.norm1.weight, m.norm1.bias, m.norm2.weight, m.norm2.bias,
        m.linear1.weight, m.linear1.bias, m.linear2.weight, m.linear2.bias, *MASKS[mask],
    )  # fmt: skip
    want = torch._transformer_encoder_layer_fwd(*args)
    assert_close(encoder_layer(*args).numpy(), want.numpy())


class Encoder(nn.Module):
    def __init__(self, is_first):
        super().__init__()
        self.layers = nn.TransformerEncoder(layer(norm_first=is_first), 2)

    def forward(self, x, padding):
        return self.layers(x, src_key_padding_mask=padding)


ROWS = ([[0, 0, 1], [0, 0, 0]], [[0, 0, 1, 1, 1], [0] * 5], [[0, 1, 0, 0, 1], [0, 0, 1, 1, 1]],
        [[0, 0, 0, 1]], [[1, 0, 0, 1]])  # fmt: skip


@pytest.mark.filterwarnings("ignore:enable_nested_tensor", "ignore:The PyTorch API of nested")
@pytest.mark.parametrize("is_first", [False, True])
@torch.no_grad()
def test_encoders_with_padding(is_first):
    """What is left aligned becomes a nested tensor in eager code: padding is 0 in the result."""
    model = Encoder(is_first).eval()
    static = StaticFunction(model.forward, backend="replay")
    calls = [(torch.randn(len(r), len(r[0]), 16), torch.tensor(r).bool()) for r in ROWS]
    for call in calls:
        assert torch.equal(static(*call), model(*call))
    assert len(static.tapes) == 1
    (program,) = static.programs
    for call in calls:
        assert_close(evaluate(program, *[x.numpy() for x in call]), model(*call).numpy())


class Itself(nn.Module):
    """Attention of a sequence to itself."""

    def __init__(self):
        super().__init__()
        self.mix = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x):
        return self.mix(x, x, x)[0]


@pytest.mark.parametrize("model", [layer(activation="gelu"), Itself().eval()])
@torch.no_grad()
def test_attention_and_layers_are_replayed(model):
    """As plain calls, whose sums may come in another order than the kernel's over several threads."""
    static = StaticFunction(model.forward, backend="replay")
    for n in (3, 5):
        x = torch.randn(2, n, 16)
        assert_close(static(x).numpy(), model(x).numpy())
    (program,) = static.programs
    assert_close(evaluate(program, x.numpy()), model(x).numpy())
