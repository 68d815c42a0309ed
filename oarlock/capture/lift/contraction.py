"""Matrix products, convolutions, attention."""

from __future__ import annotations

from typing import Any

from oarlock.capture.lift.registry import Lifter, lift
from oarlock.ir import Value, bf16, f16, f32
from oarlock.ir.dim import product


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
    wide = _wide(x)
    found = _scaled_sum(b, bias, b.matmul(b.to(x, wide), b.to(y, wide)), beta, alpha)
    return b.to(found, x.dtype)


def _wide(x: Value) -> Any:
    """What torch adds up in: results of half precision are rounded once."""
    return f32 if x.dtype in (bf16, f16) else x.dtype


def _scaled_sum(b: Lifter, bias: Value, product: Value, beta: Any, alpha: Any) -> Value:
    """``beta * bias + alpha * product``; a beta of 0 ignores the bias, NaN and all."""
    product = product if alpha == 1 else b.mul(product, b.to(alpha, product.dtype))
    if beta == 0:
        return product
    bias = b.to(bias, product.dtype)
    return b.add(product, bias if beta == 1 else b.mul(bias, b.to(beta, product.dtype)))


@lift("aten.addbmm.default")
def addbmm(b: Lifter, bias: Value, x: Value, y: Value, beta: Any = 1, alpha: Any = 1) -> Value:
    product = b.reduce_sum(b.matmul(x, y), axes=(0,))
    return _scaled_sum(b, bias, b.broadcast_to(product, shape=b.type.shape), beta, alpha)


@lift("aten.addmv.default")
def addmv(b: Lifter, bias: Value, x: Value, y: Value, beta: Any = 1, alpha: Any = 1) -> Value:
    return _scaled_sum(b, bias, matmul(b, x, y), beta, alpha)


@lift("aten.bilinear.default")
def bilinear(b: Lifter, x: Value, y: Value, w: Value, bias: Any = None) -> Value:
    """``sum(x[i] * w[o, i, j] * y[j])`` over i and j, for every o."""
    o, i, j = w.shape
    turned = b.reshape(b.transpose(w, perm=(1, 0, 2)), shape=(i, o * j))
    left = b.reshape(b.linear(x, b.transpose(turned, perm=(1, 0))), shape=(*x.shape[:-1], o, j))
    right = b.reshape(y, shape=(*y.shape[:-1], 1, j))
    z = b.reduce_sum(b.mul(left, right), axes=(left.rank - 1,))
    return z if bias is None else b.add(z, bias)


def each(value: Any, n: int) -> tuple[int, ...]:
    """One value per spatial axis."""
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
    dilation = each(dilation, n)
    if isinstance(padding, str):
        spans = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, w.shape[2:])]
        pads = tuple((s // 2, s - s // 2) for s in spans)
    else:
        pads = tuple((p, p) for p in each(padding, n))
    single = x.rank == w.rank - 1
    x = b.reshape(x, shape=(1, *x.shape)) if single else x
    operands = (x, w) if bias is None else (x, w, bias)
    y = b.conv(*operands, stride=each(stride, n), padding=pads, dilation=dilation, groups=groups)
    return b.fit(y, b.type)


@lift("aten.conv_transpose1d.default", "aten.conv_transpose2d.input", "aten.conv_transpose3d.input")
def conv_transpose(
    b: Lifter, x: Value, w: Value, bias: Any = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Value:  # fmt: skip
    n = w.rank - 2
    single = x.rank == w.rank - 1
    x = b.reshape(x, shape=(1, *x.shape)) if single else x
    operands = (x, w) if bias is None else (x, w, bias)
    y = b.conv_transpose(
        *operands, stride=each(stride, n), padding=tuple((p, p) for p in each(padding, n)),
        output_padding=each(output_padding, n), dilation=each(dilation, n), groups=groups,
    )  # fmt: skip
    return b.fit(y, b.type)


@lift("aten.scaled_dot_product_attention.default")
def attention(
    b: Lifter, q: Value, k: Value, v: Value, mask: Any = None, dropout: float = 0.0,
    causal: bool = False, scale: Any = None, enable_gqa: bool = False,
) -> Value:  # fmt: skip
    if q.rank != 4 or (k.shape[0] != q.shape[0] or k.shape[:2] != v.shape[:2]):
        if enable_gqa:
            raise NotImplementedError(f"attention of rank {q.rank} with shared heads")
        q, k, v, mask = _of_rank_4(b, q, k, v, mask)
    operands = (q, k, v) if mask is None else (q, k, v, mask)
    return b.fit(b.attention(*operands, scale=scale, causal=causal), b.type)


def _of_rank_4(
    b: Lifter, q: Value, k: Value, v: Value, mask: Value | None
) -> tuple[Value, Value, Value, Value | None]:
    """Leading axes broadcast to those of the result, then [B, H] of them."""
    lead = b.type.shape[:-2]
    heads = lead[-1] if len(lead) > 1 else 1
    batch = product(lead[:-1] if len(lead) > 1 else lead)

    def turned(x: Value) -> Value:
        wide = (*lead, *x.shape[-2:])
        x = x if x.shape == wide else b.broadcast_to(x, shape=wide)
        return b.reshape(x, shape=(batch, heads, *x.shape[-2:]))

    return turned(q), turned(k), turned(v), turned(mask) if mask and mask.rank > 2 else mask


@lift("aten._grouped_mm.default")
def grouped_mm(
    b: Lifter, x: Value, w: Value, offs: Value | None = None, bias: Any = None, out_dtype: Any = None
) -> Value:  # fmt: skip
    if offs is None or bias is not None or x.rank != 2 or w.rank != 3:
        raise NotImplementedError("a grouped product other than x[S, K], w[E, K, N], offs[E]")
    return b.grouped_matmul(x, w, offs)
