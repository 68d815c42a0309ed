"""Matrix products, convolutions, pooling, attention."""

from __future__ import annotations

from typing import Any

from oarlock.capture.lift.registry import Lifter, lift
from oarlock.ir import Value


@lift("aten.linear.default")
def linear(b: Lifter, x: Value, w: Value, bias: Any = None) -> Value:
    return b.linear(x, w) if bias is None else b.linear(x, w, bias)


@lift("aten.matmul.default", "aten.mm.default", "aten.bmm.default", "aten.mv.default")
def matmul(b: Lifter, x: Value, y: Value) -> Value:
    left = b.reshape(x, shape=(1, *x.shape)) if x.rank == 1 else x
    right = b.reshape(y, shape=(*y.shape, 1)) if y.rank == 1 else y
    return b.fit(b.matmul(left, right), b.type)


@lift("aten.addmm.default", "aten.baddbmm.default")
def addmm(b: Lifter, bias: Value, x: Value, y: Value, beta: Any = 1, alpha: Any = 1) -> Value:
    product = b.matmul(x, y)
    product = product if alpha == 1 else b.mul(product, float(alpha))
    bias = bias if beta == 1 else b.mul(bias, float(beta))
    return b.add(product, bias)


def _each(value: Any, n: int) -> tuple[int, ...]:
    values = [value] if isinstance(value, int) else list(value)
    return tuple(values * n if len(values) == 1 else values)


@lift(
    "aten.conv1d.default", "aten.conv2d.default", "aten.conv3d.default", "aten.conv1d.padding",
    "aten.conv2d.padding", "aten.conv3d.padding",
)  # fmt: skip
def conv(
    b: Lifter, x: Value, w: Value, bias: Any = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Value:  # fmt: skip
    n = w.rank - 2
    dilation = _each(dilation, n)
    if isinstance(padding, str):
        spans = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, w.shape[2:])]
        pads = tuple((s // 2, s - s // 2) for s in spans)
    else:
        pads = tuple((p, p) for p in _each(padding, n))
    single = x.rank == w.rank - 1
    x = b.reshape(x, shape=(1, *x.shape)) if single else x
    operands = (x, w) if bias is None else (x, w, bias)
    y = b.conv(*operands, stride=_each(stride, n), padding=pads, dilation=dilation, groups=groups)
    return b.fit(y, b.type)


@lift("aten.conv_transpose1d.default", "aten.conv_transpose2d.input", "aten.conv_transpose3d.input")
def conv_transpose(
    b: Lifter, x: Value, w: Value, bias: Any = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Value:  # fmt: skip
    n = w.rank - 2
    operands = (x, w) if bias is None else (x, w, bias)
    return b.conv_transpose(
        *operands, stride=_each(stride, n), padding=tuple((p, p) for p in _each(padding, n)),
        output_padding=_each(output_padding, n), dilation=_each(dilation, n), groups=groups,
    )  # fmt: skip


def _spatial(b: Lifter, x: Value, n: int) -> Value:
    return b.reshape(x, shape=(1, *x.shape)) if x.rank == n + 1 else x


@lift("aten.max_pool1d.default", "aten.max_pool2d.default", "aten.max_pool3d.default")
def max_pool(
    b: Lifter, x: Value, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False,
) -> Value:  # fmt: skip
    n = len(kernel)
    y = b.max_pool(
        _spatial(b, x, n), kernel=tuple(kernel), stride=_each(stride or kernel, n),
        padding=tuple((p, p) for p in _each(padding, n)), dilation=_each(dilation, n),
        ceil_mode=ceil_mode,
    )  # fmt: skip
    return b.fit(y, b.type)


@lift("aten.avg_pool1d.default", "aten.avg_pool2d.default", "aten.avg_pool3d.default")
def avg_pool(
    b: Lifter, x: Value, kernel: Any, stride: Any = (), padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor: Any = None,
) -> Value:  # fmt: skip
    n = len(kernel)
    y = b.avg_pool(
        _spatial(b, x, n), kernel=_each(kernel, n), stride=_each(stride or kernel, n),
        padding=tuple((p, p) for p in _each(padding, n)), ceil_mode=ceil_mode,
        count_include_pad=count_include_pad, divisor=divisor or 0,
    )  # fmt: skip
    return b.fit(y, b.type)


@lift("aten.adaptive_avg_pool1d.default", "aten.adaptive_avg_pool2d.default")
def adaptive_avg_pool(b: Lifter, x: Value, size: Any) -> Value:
    return b.adaptive_avg_pool(x, size=tuple(size))


@lift("aten.scaled_dot_product_attention.default")
def attention(
    b: Lifter, q: Value, k: Value, v: Value, mask: Any = None, dropout: float = 0.0,
    causal: bool = False, scale: Any = None, enable_gqa: bool = False,
) -> Value:  # fmt: skip
    if q.rank == 3:
        q, k, v = (b.reshape(x, shape=(x.shape[0], 1, *x.shape[1:])) for x in (q, k, v))
        mask = b.reshape(mask, shape=(mask.shape[0], 1, *mask.shape[1:])) if (
            mask is not None and mask.rank == 3) else mask  # fmt: skip
    if q.rank != 4:
        raise NotImplementedError(f"attention of rank {q.rank}")
    operands = (q, k, v) if mask is None else (q, k, v, mask)
    return b.fit(b.attention(*operands, scale=scale, causal=causal), b.type)
