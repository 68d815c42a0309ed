"""Overloads that autograd calls: forms that keep values for the backward pass, and gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from oarlock.capture.lift.contraction import each
from oarlock.capture.lift.registry import Lifter, lift, rounded_once
from oarlock.ir import Size, Value, f32, i64
from oarlock.ir.dim import product


@lift("aten.new_empty_strided.default", "aten.empty_strided.default")
def empty_strided(b: Lifter, *rest: Any, **options: Any) -> Value:
    return b.full(0, b.type.shape, b.type.dtype)


# Activations


@lift("aten.threshold_backward.default")
def threshold_backward(b: Lifter, dy: Value, x: Value, threshold: Any) -> Value:
    return b.where(b.le(x, threshold), b.const(0.0, dy.dtype), dy)


@lift("aten.sigmoid_backward.default")
def sigmoid_backward(b: Lifter, dy: Value, y: Value) -> Value:
    return b.mul(dy, b.mul(y, b.sub(1.0, y)))


@lift("aten.tanh_backward.default")
def tanh_backward(b: Lifter, dy: Value, y: Value) -> Value:
    return b.mul(dy, b.sub(1.0, b.mul(y, y)))


@lift("aten.gelu_backward.default")
def gelu_backward(b: Lifter, dy: Value, x: Value, approximate: str = "none") -> Value:
    wide, x = b.to(dy, f32) if dy.dtype.bytes < 4 else dy, b.to(x, f32) if x.dtype.bytes < 4 else x
    if approximate == "none":
        cdf = b.mul(0.5, b.add(1.0, b.erf(b.mul(x, 1 / math.sqrt(2)))))
        pdf = b.mul(1 / math.sqrt(2 * math.pi), b.exp(b.mul(-0.5, b.mul(x, x))))
        return b.to(b.mul(wide, b.add(cdf, b.mul(x, pdf))), b.type.dtype)
    beta, kappa = math.sqrt(2 / math.pi), 0.044715
    square = b.mul(x, x)
    t = b.tanh(b.mul(beta, b.add(x, b.mul(kappa, b.mul(square, x)))))
    inner = b.mul(beta, b.add(1.0, b.mul(3 * kappa, square)))
    left = b.mul(0.5, b.add(1.0, t))
    right = b.mul(b.mul(b.mul(0.5, x), b.sub(1.0, b.mul(t, t))), inner)
    return b.to(b.mul(wide, b.add(left, right)), b.type.dtype)


@lift("aten.silu_backward.default")
def silu_backward(b: Lifter, dy: Value, x: Value) -> Value:
    y = b.sigmoid(x)
    return b.mul(dy, b.mul(y, b.add(1.0, b.mul(x, b.sub(1.0, y)))))


@lift("aten._log_softmax_backward_data.default")
def log_softmax_backward(b: Lifter, dy: Value, y: Value, dim: int, dtype: Any = None) -> Value:
    total = b.reduce_sum(dy, axes=(dim % max(dy.rank, 1),), keepdims=True) if dy.rank else dy
    return b.to(b.sub(dy, b.mul(b.exp(y), total)), b.type.dtype)


@lift("aten._softmax_backward_data.default")
def softmax_backward(b: Lifter, dy: Value, y: Value, dim: int, dtype: Any = None) -> Value:
    both = b.mul(dy, y)
    total = b.reduce_sum(both, axes=(dim % max(dy.rank, 1),), keepdims=True) if dy.rank else both
    return b.to(b.sub(both, b.mul(y, total)), b.type.dtype)


# Losses


@lift("aten.nll_loss_forward.default", "aten.nll_loss2d_forward.default")
def nll_loss(
    b: Lifter, x: Value, target: Value, weight: Any, reduction: int, ignored: int
) -> tuple[Value, Value]:
    """The loss and the total weight; reduction 0 is none, 1 the mean, 2 the sum."""
    axis = 0 if x.rank == 1 else 1
    counts, scale = _kept(b, x, target, weight, ignored, axis)
    picked = b.reduce_sum(b.where(counts, x, b.const(0.0, x.dtype)), axes=(axis,))
    loss = _unless_ignored(b, b.neg(b.mul(picked, scale)), target, ignored)
    everywhere = tuple(range(scale.rank))
    if reduction == 0 and loss.shape == b.out[0].shape:
        return loss, b.full(0.0, (), x.dtype)
    total = b.reduce_sum(scale, axes=everywhere)
    loss = b.reduce_sum(loss, axes=everywhere)
    return (b.div(loss, total) if reduction == 1 else loss), total


def _kept(
    b: Lifter, x: Value, target: Value, weight: Value | None, ignored: int, axis: int
) -> tuple[Value, Value]:
    """Where along ``axis`` the class of each place is, and the weight of each place."""
    classes = x.shape[axis]
    wide = b.reshape(target, shape=(*target.shape[:axis], 1, *target.shape[axis:]))
    ramp = b.reshape(b.iota(size=classes, dtype=i64), shape=(classes, *[1] * (x.rank - axis - 1)))
    counts = b.eq(wide, ramp)
    kept = b.cast(b.ne(target, ignored), dtype=x.dtype)
    if weight is None:
        return counts, kept
    zero = b.const(0, target.dtype)
    return counts, b.mul(kept, b.take(weight, b.where(b.ne(target, ignored), target, zero)))


def _unless_ignored(b: Lifter, value: Value, target: Value, ignored: int) -> Value:
    """``value``, and 0 at ignored places, whatever it is there: where all are, the mean is none."""
    return b.where(b.ne(target, ignored), value, b.const(0.0, value.dtype))


@lift("aten.nll_loss_backward.default", "aten.nll_loss2d_backward.default")
def nll_loss_backward(
    b: Lifter, dy: Value, x: Value, target: Value, weight: Any, reduction: int, ignored: int,
    total: Value,
) -> Value:  # fmt: skip
    axis = 0 if x.rank == 1 else 1
    counts, scale = _kept(b, x, target, weight, ignored, axis)
    dy = b.div(dy, total) if reduction == 1 else dy
    each_place = _unless_ignored(b, b.neg(b.mul(dy, scale)), target, ignored)
    each_place = b.reshape(each_place, shape=(*scale.shape[:axis], 1, *scale.shape[axis:]))
    return b.where(counts, each_place, b.const(0.0, x.dtype))


# Normalisation


@lift("aten.native_layer_norm.default")
def native_layer_norm(
    b: Lifter, x: Value, shape: Any, weight: Any, bias: Any, eps: float
) -> tuple[Value, ...]:
    axes = tuple(range(x.rank - len(shape), x.rank))
    wide = b.to(x, _wide(x))
    mean = b.mean(wide, axes=axes, keepdims=True)
    var = b.var(wide, axes=axes, keepdims=True, correction=0.0)
    rstd = b.rsqrt(b.add(var, eps))
    y = b.mul(b.sub(wide, mean), rstd)
    y = y if weight is None else b.mul(y, b.to(weight, wide.dtype))
    y = y if bias is None else b.add(y, b.to(bias, wide.dtype))
    return b.to(y, x.dtype), b.to(mean, b.out[1].dtype), b.to(rstd, b.out[2].dtype)


def _wide(x: Value) -> Any:
    return x.dtype if x.dtype.bytes >= 4 else f32


@lift("aten.native_layer_norm_backward.default")
def native_layer_norm_backward(
    b: Lifter, dy: Value, x: Value, shape: Any, mean: Value, rstd: Value, weight: Any, bias: Any,
    mask: Sequence[bool],
) -> list[Value]:  # fmt: skip
    first = x.rank - len(shape)
    inner, outer = tuple(range(first, x.rank)), tuple(range(first))
    wide = _wide(x)
    dy, x, mean, rstd = (b.to(v, wide) for v in (dy, x, mean, rstd))
    normal = b.mul(b.sub(x, mean), rstd)
    found = []
    if mask[0]:
        scaled = dy if weight is None else b.mul(dy, b.to(weight, wide))
        a = b.mean(scaled, axes=inner, keepdims=True)
        c = b.mean(b.mul(scaled, normal), axes=inner, keepdims=True)
        found.append(b.mul(rstd, b.sub(b.sub(scaled, a), b.mul(normal, c))))
    if mask[1] and weight is not None:
        found.append(b.reduce_sum(b.mul(dy, normal), axes=outer))
    if mask[2] and bias is not None:
        found.append(b.reduce_sum(dy, axes=outer))
    return [b.fit(v, t) for v, t in zip(found, b.out)]


@lift("aten.native_batch_norm.default")
def native_batch_norm(
    b: Lifter, x: Value, weight: Any, bias: Any, mean: Any, var: Any, training: bool,
    momentum: Any, eps: float,
) -> tuple[Value, ...]:  # fmt: skip
    wide, axes = b.to(x, _wide(x)), tuple(i for i in range(x.rank) if i != 1)
    channels = (x.shape[1], *[1] * (x.rank - 2))
    if training:
        centre = b.mean(wide, axes=axes)
        rstd = b.rsqrt(b.add(b.var(wide, axes=axes, correction=0.0), eps))
    else:
        centre, rstd = b.to(mean, wide.dtype), b.rsqrt(b.add(b.to(var, wide.dtype), eps))
    scale = rstd if weight is None else b.mul(rstd, b.to(weight, wide.dtype))
    y = b.mul(b.sub(wide, b.reshape(centre, shape=channels)), b.reshape(scale, shape=channels))
    y = y if bias is None else b.add(y, b.reshape(b.to(bias, wide.dtype), shape=channels))
    saved = (centre, rstd) if training else ()
    kept = [b.to(v, t.dtype) for v, t in zip(saved, b.out[1:])]
    return (b.to(y, x.dtype), *(kept or [b.full(0.0, t.shape, t.dtype) for t in b.out[1:]]))


@lift("aten.native_batch_norm_backward.default")
def native_batch_norm_backward(
    b: Lifter, dy: Value, x: Value, weight: Any, mean: Any, var: Any, save_mean: Any, save_rstd: Any,
    training: bool, eps: float, mask: Sequence[bool],
) -> list[Value]:  # fmt: skip
    wide, axes = _wide(x), tuple(i for i in range(x.rank) if i != 1)
    channels = (x.shape[1], *[1] * (x.rank - 2))
    dy, x = b.to(dy, wide), b.to(x, wide)
    centre = save_mean if training else b.to(mean, wide)
    rstd = save_rstd if training else b.rsqrt(b.add(b.to(var, wide), eps))
    centred = b.sub(x, b.reshape(b.to(centre, wide), shape=channels))
    rstd = b.to(rstd, wide)
    total = b.reduce_sum(dy, axes=axes)
    dot = b.reduce_sum(b.mul(dy, centred), axes=axes)
    scale = rstd if weight is None else b.mul(rstd, b.to(weight, wide))
    dx = dy
    if training:
        count = 1.0 / int(product([x.shape[i] for i in axes]))
        slope = b.mul(b.mul(dot, count), b.mul(rstd, rstd))
        dx = b.sub(dy, b.mul(centred, b.reshape(slope, shape=channels)))
        dx = b.sub(dx, b.reshape(b.mul(total, count), shape=channels))
    found = [b.mul(dx, b.reshape(scale, shape=channels))]  # torch's fakes give it whatever the mask
    found += [b.mul(dot, rstd)] if mask[1] and weight is not None else []
    found += [total] if mask[2] and weight is not None else []
    return [b.to(v, t.dtype) for v, t in zip(found, b.out)]


# Convolutions and pools


@lift("aten.convolution.default")
def convolution(
    b: Lifter, x: Value, w: Value, bias: Any, stride: Any, padding: Any, dilation: Any,
    transposed: bool, output_padding: Any, groups: int,
) -> Value:  # fmt: skip
    n = w.rank - 2
    single = x.rank == n + 1
    x = b.reshape(x, shape=(1, *x.shape)) if single else x
    more: dict[str, Any] = {
        "stride": each(stride, n), "padding": tuple((p, p) for p in each(padding, n)),
        "dilation": each(dilation, n), "groups": groups,
    }  # fmt: skip
    operands = (x, w) if bias is None else (x, w, bias)
    if transposed:
        y = b.conv_transpose(*operands, output_padding=each(output_padding, n), **more)
    else:
        y = b.conv(*operands, **more)
    return b.fit(y, b.type)


@lift("aten.convolution_backward.default")
def convolution_backward(
    b: Lifter, dy: Value, x: Value, w: Value, bias_sizes: Any, stride: Any, padding: Any,
    dilation: Any, transposed: bool, output_padding: Any, groups: int, mask: Sequence[bool],
) -> list[Value]:  # fmt: skip
    n = w.rank - 2
    more: dict[str, Any] = {
        "stride": each(stride, n), "padding": tuple((p, p) for p in each(padding, n)),
        "dilation": each(dilation, n), "groups": groups,
    }  # fmt: skip
    found = []
    if mask[0] and transposed:
        found.append(b.conv(dy, w, **more))
    elif mask[0]:
        found.append(b.conv_grad_input(dy, w, shape=x.shape, **more))
    if mask[1]:
        pair = (x, dy) if transposed else (dy, x)
        found.append(b.conv_grad_weight(*pair, shape=w.shape, **more))
    if mask[2]:
        found.append(b.reduce_sum(dy, axes=tuple(i for i in range(dy.rank) if i != 1)))
    return [b.fit(v, t) for v, t in zip(found, b.out)]


@lift("aten.max_pool2d_with_indices_backward.default")
def max_pool_backward(
    b: Lifter, dy: Value, x: Value, kernel: Any, stride: Any, padding: Any, dilation: Any,
    ceil: bool, indices: Any,
) -> Value:  # fmt: skip
    kernel = each(kernel, 2)
    single = x.rank == 3
    dy, x = (b.reshape(v, shape=(1, *v.shape)) if single else v for v in (dy, x))
    dx = b.max_pool_grad(
        dy, x, kernel=kernel, stride=each(stride, 2) if stride else kernel,
        padding=tuple((p, p) for p in each(padding, 2)), dilation=each(dilation, 2),
        ceil_mode=ceil,
    )  # fmt: skip
    return b.fit(dx, b.type)


# Attention


def _scores(
    b: Lifter, q: Value, k: Value, causal: bool, mask: Value | None, scale: float | None
) -> tuple[Value, float]:
    scale = float(scale) if scale is not None else 1 / math.sqrt(int(q.shape[-1]))
    scores = b.mul(b.matmul(q, b.transpose(k, perm=(0, 1, 3, 2))), scale)
    if mask is not None:
        scores = b.add(scores, b.to(mask, scores.dtype))
    if causal:
        rows, columns = scores.shape[-2:]
        row = b.reshape(b.iota(size=rows, dtype=i64), shape=(rows, 1))
        seen = b.le(b.iota(size=columns, dtype=i64), row)
        scores = b.where(seen, scores, b.const(-math.inf, scores.dtype))
    return scores, scale


def _without_dropout(dropout: float) -> None:
    if dropout:
        raise NotImplementedError("attention with dropout inside of its kernel")


@lift("aten._scaled_dot_product_flash_attention_for_cpu.default")
def flash_attention(
    b: Lifter, q: Value, k: Value, v: Value, dropout: float = 0.0, causal: bool = False,
    attn_mask: Any = None, scale: Any = None,
) -> tuple[Value, Value]:  # fmt: skip
    """The second result, the logarithm of each row's sum, is only read by the gradient."""
    _without_dropout(dropout)
    operands = (q, k, v) if attn_mask is None else (q, k, v, attn_mask)
    y = b.attention(*operands, scale=scale, causal=causal)
    scores, _ = _scores(b, q, k, causal, attn_mask, scale)
    return y, b.to(b.logsumexp(scores, axes=(3,)), b.out[1].dtype)


@lift("aten._scaled_dot_product_flash_attention_for_cpu_backward.default")
def flash_attention_backward(
    b: Lifter, dy: Value, q: Value, k: Value, v: Value, y: Value, logsumexp: Value, dropout: float,
    causal: bool, attn_mask: Any = None, scale: Any = None,
) -> tuple[Value, ...]:  # fmt: skip
    """Source: Dao et al., "FlashAttention" (2022), appendix B.4."""
    _without_dropout(dropout)
    turn = (0, 1, 3, 2)
    scores, factor = _scores(b, q, k, causal, attn_mask, scale)
    p = b.softmax(scores, axis=3)
    dp = b.matmul(dy, b.transpose(v, perm=turn))
    row = b.reduce_sum(b.mul(dp, p), axes=(3,), keepdims=True)
    ds = b.mul(b.mul(p, b.sub(dp, row)), factor)
    dv = b.matmul(b.transpose(p, perm=turn), dy)
    return b.matmul(ds, k), b.matmul(b.transpose(ds, perm=turn), q), dv


# Places


@lift("aten.embedding_dense_backward.default")
def embedding_backward(
    b: Lifter, dy: Value, indices: Value, count: Size, padding: int, by_frequency: bool
) -> Value:
    """Rows added up where their index says; those of the padding index left out."""
    if by_frequency:
        raise NotImplementedError("an embedding whose gradient is scaled by frequency")
    rows = int(product(indices.shape)) if indices.shape else 1
    width = dy.shape[-1]
    dy = b.reshape(dy, shape=(rows, width))
    at = b.reshape(indices, shape=(rows,))
    if padding >= 0:
        is_kept = b.reshape(b.ne(at, padding), shape=(rows, 1))
        dy = b.where(is_kept, dy, b.const(0.0, dy.dtype))
    return b.put(b.full(0.0, (count, width), dy.dtype), at, dy, axis=0, reduce="add")


@lift("aten.slice_backward.default")
def slice_backward(
    b: Lifter, dy: Value, sizes: Any, dim: int, start: int, end: int, step: int
) -> Value:
    axis, n = dim % len(sizes), sizes[dim]
    start = max(start + n if start < 0 else min(start, n), 0)
    if step == 1:
        return _padded(b, dy, axis, start, n)
    places = b.add(b.mul(b.iota(size=dy.shape[axis], dtype=i64), step), start)
    return b.put(b.full(0.0, sizes, dy.dtype), places, dy, axis=axis)


def _padded(b: Lifter, dy: Value, axis: int, start: int, size: int) -> Value:
    """``dy`` from place ``start`` on in zeros of ``size``."""
    low, high = [0] * dy.rank, [0] * dy.rank
    low[axis], high[axis] = start, size - start - dy.shape[axis]
    if low[axis] == 0 and high[axis] == 0:
        return dy
    return b.pad(dy, low=tuple(low), high=tuple(high), value=0.0)


@lift("aten.select_backward.default")
def select_backward(b: Lifter, dy: Value, sizes: Any, dim: int, index: int) -> Value:
    axis, n = dim % len(sizes), sizes[dim]
    wide = b.reshape(dy, shape=(*dy.shape[:axis], 1, *dy.shape[axis:]))
    return _padded(b, wide, axis, index % n, n)


@lift("aten.native_dropout_backward.default")
def native_dropout_backward(b: Lifter, dy: Value, mask: Value, scale: float) -> Value:
    return b.mul(dy, b.mul(b.to(mask, dy.dtype), scale))


# Lists of tensors


def _foreach(name: str, *overloads: str) -> None:
    """``aten._foreach_name``: the overload of one tensor for each place of the lists."""
    from oarlock.capture.lift.registry import LIFTS

    def call(b: Lifter, first: Sequence[Value], *rest: Any, **options: Any) -> list[Value]:
        out, common = b.out, b.common
        found = []
        for i, x in enumerate(first):
            others = [r[i] if isinstance(r, (list, tuple)) else r for r in rest]
            b.out, b.common = [out[i]], out[i].dtype
            found.append(LIFTS[name](b, x, *others, **options))
        b.out, b.common = out, common
        return found

    lift(*overloads)(call)


for _name, _forms in {
    "add": ("List", "Scalar", "ScalarList", "Tensor"),
    "sub": ("List", "Scalar", "ScalarList"),
    "mul": ("List", "Scalar", "ScalarList", "Tensor"),
    "div": ("List", "Scalar", "ScalarList", "Tensor"),
    "maximum": ("List", "Scalar", "ScalarList"),
    "minimum": ("List", "Scalar", "ScalarList"),
    "clamp_max": ("List", "Scalar", "ScalarList"),
    "clamp_min": ("List", "Scalar", "ScalarList"),
    "pow": ("List", "Scalar", "ScalarList"),
}.items():
    _single = {
        "add": "aten.add.Tensor", "sub": "aten.sub.Tensor", "mul": "aten.mul.Tensor",
        "div": "aten.div.Tensor", "maximum": "aten.maximum.default",
        "minimum": "aten.minimum.default", "clamp_max": "aten.clamp_max.default",
        "clamp_min": "aten.clamp_min.default", "pow": "aten.pow.Tensor_Tensor",
    }[_name]  # fmt: skip
    _foreach(_single, *(f"aten._foreach_{_name}.{form}" for form in _forms))

for _name in ("sqrt", "neg", "abs", "reciprocal", "sign", "exp", "rsqrt", "log"):
    _foreach(f"aten.{_name}.default", f"aten._foreach_{_name}.default")
_foreach("aten.copy.default", "aten._foreach_copy.default")


@lift("aten._foreach_norm.Scalar")
def foreach_norm(
    b: Lifter, tensors: Sequence[Value], ord: Any = 2, dtype: Any = None
) -> list[Value]:
    found = []
    for x, t in zip(tensors, b.out):
        x, axes = b.to(x, t.dtype), tuple(range(x.rank))
        if ord == 2:
            found.append(b.sqrt(b.reduce_sum(b.mul(x, x), axes=axes)))
        elif ord == math.inf:
            found.append(b.reduce_max(b.abs(x), axes=axes))
        elif ord == 1:
            found.append(b.reduce_sum(b.abs(x), axes=axes))
        else:
            raise NotImplementedError(f"_foreach_norm of order {ord}")
    return found


@lift("aten.lerp.Scalar", "aten.lerp.Tensor")
@rounded_once
def lerp(b: Lifter, x: Value, y: Value, weight: Any) -> Value:
    """``x + w (y - x)`` for ``|w| < 0.5``, else ``y - (y - x) (1 - w)``."""
    dtype = b.type.dtype
    step = b.sub(y, x)
    if isinstance(weight, (int, float)):
        if abs(weight) < 0.5:
            return b.add(x, b.mul(step, b.const(float(weight), dtype)))
        return b.sub(y, b.mul(step, b.const(1.0 - weight, dtype)))
    w = b.to(weight, dtype)
    near = b.add(x, b.mul(step, w))
    far = b.sub(y, b.mul(step, b.sub(b.const(1.0, dtype), w)))
    return b.where(b.lt(b.abs(w), 0.5), near, far)


_foreach("aten.lerp.Scalar", "aten._foreach_lerp.List", "aten._foreach_lerp.Scalar")


@lift("aten.addcmul.default")
@rounded_once
def addcmul(b: Lifter, x: Value, y: Value, z: Value, value: Any = 1) -> Value:
    scaled = y if isinstance(value, (int, float)) and value == 1 else (
        b.mul(y, b.to(value, b.type.dtype)))  # fmt: skip
    return b.add(x, b.mul(scaled, z))


@lift("aten.addcdiv.default")
@rounded_once
def addcdiv(b: Lifter, x: Value, y: Value, z: Value, value: Any = 1) -> Value:
    scaled = y if isinstance(value, (int, float)) and value == 1 else (
        b.mul(y, b.to(value, b.type.dtype)))  # fmt: skip
    return b.add(x, b.div(scaled, z))


for _name in ("addcmul", "addcdiv"):
    _foreach(
        f"aten.{_name}.default", f"aten._foreach_{_name}.Scalar",
        f"aten._foreach_{_name}.ScalarList",
    )  # fmt: skip
