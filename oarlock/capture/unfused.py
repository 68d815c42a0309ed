"""What torch's fused inference kernels of attention and encoder layers compute, by plain calls.

``nn.MultiheadAttention`` and ``nn.TransformerEncoderLayer`` call them in evaluation mode where no
gradient is wanted; fakes and programs take the plain calls in their place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F


def attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, width: int, heads: int,
    in_weight: torch.Tensor, in_bias: torch.Tensor, out_weight: torch.Tensor,
    out_bias: torch.Tensor, mask: torch.Tensor | None = None, need_weights: bool = True,
    average: bool = True, mask_type: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:  # fmt: skip
    """``aten::_native_multi_head_attention``; a query that may see no key gets NaN."""
    turned = {id(x): x.transpose(1, 0) for x in (query, key, value)}
    q, k, v = (turned[id(x)] for x in (query, key, value))
    keys, pairs = _masks(mask, mask_type)
    out, weights = F.multi_head_attention_forward(
        q, k, v, width, heads, in_weight, in_bias, None, None, False, 0.0, out_weight, out_bias,
        False, keys, need_weights or mask is not None, pairs, average_attn_weights=average,
    )  # fmt: skip
    return out.transpose(1, 0), weights if need_weights else None


def _masks(mask: torch.Tensor | None, kind: int | None) -> tuple[Any, Any]:
    """Where keys are held back, and pairs: kinds 1, and 0 or, by head, 2."""
    if mask is None:
        return None, None
    mask = mask.bool()
    if kind == 1:
        return mask, None
    return None, mask.flatten(0, 1) if mask.dim() == 4 else mask


def encoder_layer(
    x: torch.Tensor, width: int, heads: int, in_weight: torch.Tensor, in_bias: torch.Tensor,
    out_weight: torch.Tensor, out_bias: torch.Tensor, is_gelu: bool, is_norm_first: bool,
    eps: float, weight_1: torch.Tensor, bias_1: torch.Tensor, weight_2: torch.Tensor,
    bias_2: torch.Tensor, up: torch.Tensor, up_bias: torch.Tensor, down: torch.Tensor,
    down_bias: torch.Tensor, mask: torch.Tensor | None = None, mask_type: int | None = None,
) -> torch.Tensor:  # fmt: skip
    """``aten::_transformer_encoder_layer_fwd``"""
    there = getattr(x, _ROWS, None)
    if there is not None:
        mask, mask_type = there.logical_not(), 1

    def mix(y: torch.Tensor) -> torch.Tensor:
        given = (in_weight, in_bias, out_weight, out_bias, mask, False, False, mask_type)
        return attention(y, y, y, width, heads, *given)[0]

    def feed(y: torch.Tensor) -> torch.Tensor:
        y = F.linear(y, up, up_bias)
        return F.linear(F.gelu(y) if is_gelu else F.relu(y), down, down_bias)

    def norm_1(y: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(y, (width,), weight_1, bias_1, eps)

    def norm_2(y: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(y, (width,), weight_2, bias_2, eps)

    if is_norm_first:
        x = x + mix(norm_1(x))
        return _with_rows(x + feed(norm_2(x)), there)
    x = norm_1(x + mix(x))
    return _with_rows(norm_2(x + feed(x)), there)


# ---- rows of several lengths, which ``nn.TransformerEncoder`` makes of a mask of padding


def rows_of(x: torch.Tensor, mask: torch.Tensor, mask_check: bool = True) -> torch.Tensor:
    """``aten::_nested_tensor_from_mask``: the padded tensor, which knows what is there."""
    return _with_rows(x.clone(), mask)


def is_left_aligned(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """``aten::_nested_tensor_from_mask_left_aligned``: each row is there up to its end."""
    return (mask[:, 1:] <= mask[:, :-1]).all()


def padded(x: torch.Tensor, padding: float, size: Any = None) -> torch.Tensor:
    """``aten::to_padded_tensor``"""
    there = getattr(x, _ROWS, None)
    if there is None:
        raise NotImplementedError("to_padded_tensor of what no mask has made")
    return torch.where(there.unsqueeze(-1), x, padding)


def _with_rows(x: torch.Tensor, there: torch.Tensor | None) -> torch.Tensor:
    if there is not None:
        setattr(x, _ROWS, there)
    return x


_ROWS = "_oarlock_rows"
UNFUSED: dict[str, Callable[..., Any]] = {
    "aten::_native_multi_head_attention": attention,
    "aten::_transformer_encoder_layer_fwd": encoder_layer,
    "aten::_nested_tensor_from_mask": rows_of,
    "aten::to_padded_tensor": padded,
}
