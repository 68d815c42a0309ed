"""Pointwise overloads, activations, comparisons, reductions and normalisations."""

from __future__ import annotations

from typing import Any

from oarlock.capture.lift.registry import LIFTS, Lifter, lift, rounded_once
from oarlock.ir import Dim, Value, bool_, f32

_FLOAT_UNARY = [
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "sqrt",
    "rsqrt",
    "reciprocal",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "erf",
    "erfinv",
    "lgamma",
]
for _name in _FLOAT_UNARY:

    def _unary(b: Lifter, x: Value, _name: str = _name) -> Value:
        return getattr(b, _name)(b.to(x, b.type.dtype))

    LIFTS.setdefault(f"aten.{_name}.default", _unary)


@rounded_once
def _scaled(b: Lifter, x: Any, y: Any, alpha: Value) -> Value:
    """``x + alpha * y``"""
    return b.add(b.to(x, b.type.dtype), b.mul(b.to(y, b.type.dtype), alpha))


@lift("aten.add.Tensor", "aten.add.Scalar")
def add(b: Lifter, x: Any, y: Any, alpha: Any = 1) -> Value:
    if alpha != 1:
        return _scaled(b, x, y, b.to(alpha, b.type.dtype))
    return b.add(b.to(x, b.type.dtype), b.to(y, b.type.dtype))


@rounded_once
def _less(b: Lifter, x: Any, y: Any, alpha: Value) -> Value:
    """``x - alpha * y``"""
    return b.sub(b.to(x, b.type.dtype), b.mul(b.to(y, b.type.dtype), alpha))


@lift("aten.sub.Tensor", "aten.sub.Scalar")
def sub(b: Lifter, x: Any, y: Any, alpha: Any = 1) -> Value:
    if alpha != 1:
        return _less(b, x, y, b.to(alpha, b.type.dtype))
    return b.sub(b.to(x, b.type.dtype), b.to(y, b.type.dtype))


@lift("aten.rsub.Scalar", "aten.rsub.Tensor")
def rsub(b: Lifter, x: Any, y: Any, alpha: Any = 1) -> Value:
    return sub(b, y, x, alpha)


def _binary(name: str, *overloads: str) -> None:
    def call(b: Lifter, x: Any, y: Any) -> Value:
        return getattr(b, name)(b.to(x, b.type.dtype), b.to(y, b.type.dtype))

    lift(*overloads)(call)


@lift("aten.mul.Tensor", "aten.mul.Scalar")
@rounded_once
def mul(b: Lifter, x: Any, y: Any) -> Value:
    return b.mul(b.to(x, b.type.dtype), b.to(y, b.type.dtype))


_binary("remainder", "aten.remainder.Tensor", "aten.remainder.Scalar")
_binary("fmod", "aten.fmod.Tensor", "aten.fmod.Scalar")
_binary("floor_div", "aten.floor_divide.default", "aten.floor_divide.Scalar")
_binary("maximum", "aten.maximum.default", "aten.clamp_min.default", "aten.clamp_min.Tensor")
_binary("minimum", "aten.minimum.default", "aten.clamp_max.default", "aten.clamp_max.Tensor")
_binary("atan2", "aten.atan2.default")
_binary("bit_and", "aten.bitwise_and.Tensor", "aten.bitwise_and.Scalar")
_binary("bit_or", "aten.bitwise_or.Tensor", "aten.bitwise_or.Scalar")
_binary("bit_xor", "aten.bitwise_xor.Tensor", "aten.bitwise_xor.Scalar")


@lift("aten.div.Tensor", "aten.div.Scalar", "aten.div.Tensor_mode", "aten.div.Scalar_mode")
def div(b: Lifter, x: Any, y: Any, rounding_mode: str | None = None) -> Value:
    if rounding_mode is None:
        return _quotient(b, x, y)
    name = {"floor": "floor_div", "trunc": "trunc_div"}[rounding_mode]
    return getattr(b, name)(b.to(x, b.type.dtype), b.to(y, b.type.dtype))


@rounded_once
def _quotient(b: Lifter, x: Any, y: Any) -> Value:
    return b.div(b.to(x, b.type.dtype), b.to(y, b.type.dtype))


@lift("aten.pow.Tensor_Scalar", "aten.pow.Tensor_Tensor", "aten.pow.Scalar")
def pow(b: Lifter, x: Any, y: Any) -> Value:
    x = b.to(x, b.type.dtype)
    if isinstance(y, (int, float)) and y == 2:
        return b.mul(x, x)
    if isinstance(y, (int, float)) and y == 0.5 and x.dtype.is_float:
        return b.sqrt(x)
    return b.pow(x, b.to(y, b.type.dtype))


def _comparison(name: str) -> None:
    def call(b: Lifter, x: Any, y: Any) -> Value:
        return getattr(b, name)(b.to(x, b.common or x.dtype), b.to(y, b.common or x.dtype))

    lift(f"aten.{name}.Tensor", f"aten.{name}.Scalar")(call)


for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    _comparison(_name)


def _truth(b: Lifter, x: Value) -> Value:
    return x if x.dtype is bool_ else b.ne(x, b.const(0, x.dtype))


@lift("aten.logical_not.default")
def logical_not(b: Lifter, x: Value) -> Value:
    return b.logical_not(_truth(b, x))


@lift("aten.logical_and.default")
def logical_and(b: Lifter, x: Value, y: Value) -> Value:
    return b.bit_and(_truth(b, x), _truth(b, y))


@lift("aten.logical_or.default")
def logical_or(b: Lifter, x: Value, y: Value) -> Value:
    return b.bit_or(_truth(b, x), _truth(b, y))


@lift("aten.where.self", "aten.where.ScalarSelf", "aten.where.ScalarOther", "aten.where.Scalar")
def where(b: Lifter, c: Value, x: Any, y: Any) -> Value:
    return b.where(_truth(b, c), b.to(x, b.type.dtype), b.to(y, b.type.dtype))


@lift("aten.masked_fill.Scalar", "aten.masked_fill.Tensor")
def masked_fill(b: Lifter, x: Value, mask: Value, value: Any) -> Value:
    return b.where(mask, b.to(value, x.dtype), x)


@lift("aten.clamp.default", "aten.hardtanh.default", "aten.clip.default")
def clamp(b: Lifter, x: Value, min: Any = None, max: Any = None) -> Value:
    x = b.to(x, b.type.dtype)
    if isinstance(min, (Dim, Value)) or isinstance(max, (Dim, Value)):
        x = x if min is None else b.maximum(x, b.to(min, x.dtype))
        return x if max is None else b.minimum(x, b.to(max, x.dtype))
    return b.clamp(x, low=min, high=max)


@lift("aten.relu6.default")
def relu6(b: Lifter, x: Value) -> Value:
    return b.clamp(x, low=0.0, high=6.0)


@lift("aten.gelu.default")
def gelu(b: Lifter, x: Value, approximate: str = "none") -> Value:
    return b.gelu(x, approximate=approximate)


@lift("aten.leaky_relu.default")
def leaky_relu(b: Lifter, x: Value, negative_slope: float = 0.01) -> Value:
    return b.leaky_relu(x, slope=float(negative_slope))


@lift("aten.elu.default")
def elu(b: Lifter, x: Value, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Value:
    return b.elu(x, alpha=float(alpha), scale=float(scale), input_scale=float(input_scale))


@lift("aten.softplus.default")
def softplus(b: Lifter, x: Value, beta: float = 1, threshold: float = 20) -> Value:
    return b.softplus(x, beta=float(beta), threshold=float(threshold))


@lift("aten.log_sigmoid.default")
def log_sigmoid(b: Lifter, x: Value) -> Value:
    return b.log_sigmoid(x)


@lift("aten.glu.default")
def glu(b: Lifter, x: Value, dim: int = -1) -> Value:
    return b.glu(x, axis=dim)


@lift("aten.softmax.int", "aten._softmax.default")
def softmax(b: Lifter, x: Value, dim: int, dtype: Any = None) -> Value:
    return b.softmax(b.to(x, b.type.dtype), axis=dim)


@lift("aten.log_softmax.int", "aten._log_softmax.default")
def log_softmax(b: Lifter, x: Value, dim: int, dtype: Any = None) -> Value:
    return b.log_softmax(b.to(x, b.type.dtype), axis=dim)


@lift("aten.layer_norm.default")
def layer_norm(
    b: Lifter, x: Value, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5,
    enable: bool = True,
) -> Value:  # fmt: skip
    y = b.layer_norm(x, *([] if weight is None else [weight]), axes=len(shape), eps=eps) if (
        bias is None or weight is None) else b.layer_norm(x, weight, bias, axes=len(shape), eps=eps)  # fmt: skip
    return b.add(y, bias) if weight is None and bias is not None else y


@lift("aten.group_norm.default")
def group_norm(
    b: Lifter, x: Value, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5,
    enable: bool = True,
) -> Value:  # fmt: skip
    return b.group_norm(x, *(v for v in (weight, bias) if v is not None), groups=groups, eps=eps)


@lift("aten.rms_norm.default")
def rms_norm(b: Lifter, x: Value, shape: Any, weight: Any = None, eps: Any = None) -> Value:
    eps = 2**-23 if eps is None and x.dtype is f32 else eps
    return b.rms_norm(x, *([] if weight is None else [weight]), axes=len(shape), eps=eps)


@lift("aten.batch_norm.default")
def batch_norm(
    b: Lifter, x: Value, weight: Any, bias: Any, mean: Any, var: Any, training: bool,
    momentum: float, eps: float, enable: bool,
) -> Value:  # fmt: skip
    if training and mean is not None:
        raise NotImplementedError("batch norm in training mode; call model.eval()")
    if mean is None:
        axes = tuple(i for i in range(x.rank) if i != 1)
        mean, var = b.mean(x, axes=axes), b.var(x, axes=axes, correction=0.0)
    if weight is None and bias is not None:
        weight = b.full(1.0, bias.shape, bias.dtype)
    return b.batch_norm(x, mean, var, *(v for v in (weight, bias) if v is not None), eps=eps)


@lift("aten.instance_norm.default")
def instance_norm(
    b: Lifter, x: Value, weight: Any, bias: Any, mean: Any, var: Any, use_input_stats: bool,
    momentum: float, eps: float, enable: bool,
) -> Value:  # fmt: skip
    if not use_input_stats:
        return batch_norm(b, x, weight, bias, mean, var, False, momentum, eps, enable)
    axes = tuple(range(2, x.rank))
    centred = b.sub(x, b.mean(x, axes=axes, keepdims=True))
    square = b.mean(b.mul(centred, centred), axes=axes, keepdims=True)
    y = b.mul(centred, b.rsqrt(b.add(square, eps)))
    for apply, affine in ((b.mul, weight), (b.add, bias)):
        if affine is not None:
            y = apply(y, b.reshape(affine, shape=(*affine.shape, *[1] * len(axes))))
    return y


@lift("aten.dropout.default", "aten.feature_dropout.default", "aten.alpha_dropout.default")
def dropout(b: Lifter, x: Value, p: float, train: bool) -> Value:
    if train and p > 0:
        raise NotImplementedError("dropout in training mode; call model.eval()")
    return x


def _axes(x: Value, dim: Any) -> tuple[int, ...]:
    dims = range(x.rank) if dim is None or dim == [] else [dim] if isinstance(dim, int) else dim
    return tuple(d % max(x.rank, 1) for d in dims)


def _reduction(name: str, *overloads: str) -> None:
    def call(b: Lifter, x: Value, dim: Any = None, keepdim: bool = False, dtype: Any = None):
        x = b.to(x, b.type.dtype)
        return getattr(b, name)(x, axes=_axes(x, dim), keepdims=keepdim)

    lift(*overloads)(call)


_reduction("reduce_sum", "aten.sum.default", "aten.sum.dim_IntList")
_reduction("mean", "aten.mean.default", "aten.mean.dim")
_reduction("reduce_max", "aten.amax.default", "aten.max.default")
_reduction("reduce_min", "aten.amin.default", "aten.min.default")
_reduction("logsumexp", "aten.logsumexp.default")
_reduction("reduce_prod", "aten.prod.default", "aten.prod.dim_int")


def _truth_reduction(name: str, record: str) -> None:
    def call(b: Lifter, x: Value, dim: Any = None, keepdim: bool = False) -> Value:
        found = getattr(b, record)(_truth(b, x), axes=_axes(x, dim), keepdims=keepdim)
        return b.to(found, b.type.dtype)

    forms = (f"{name}.default", f"{name}.dim", f"{name}.dims", f"_is_{name}_true.default")
    lift(*(f"aten.{form}" for form in forms))(call)


_truth_reduction("any", "reduce_max")
_truth_reduction("all", "reduce_min")


@lift("aten.var.correction")
def var(b: Lifter, x: Value, dim: Any = None, correction: Any = 1, keepdim: bool = False) -> Value:
    correction = 1.0 if correction is None else float(correction)
    return b.var(x, axes=_axes(x, dim), keepdims=keepdim, correction=correction)


@lift("aten.cumsum.default")
def cumsum(b: Lifter, x: Value, dim: int, dtype: Any = None) -> Value:
    return b.cumsum(b.to(x, b.type.dtype), axis=dim)


@lift("aten.to.dtype", "aten._to_copy.default", "aten.type_as.default", "aten.to.other")
@lift("aten.to.dtype_layout", "aten.to.device")
def to(b: Lifter, x: Value, *rest: Any, **options: Any) -> Value:
    return b.to(x, b.type.dtype)
