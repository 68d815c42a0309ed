"""Fused kernels of PyTorch's optimizers and scalers, in the arithmetic of its loops over tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def _require_unscaled(grad_scale: Any, found_inf: Any) -> None:
    if grad_scale is not None or found_inf is not None:
        raise NotImplementedError("a fused optimizer under a GradScaler")


def _decayed(grad: Any, p: Any, weight_decay: Any, maximize: bool) -> Any:
    """What is descended along, with the slope of the penalty on ``p``."""
    grad = -grad if maximize else grad
    return grad.add(p, alpha=weight_decay) if weight_decay != 0 else grad


def _adam(decoupled: bool) -> Callable[..., None]:
    def step(
        params: Any, grads: Any, averages: Any, squares: Any, largest: Any, steps: Any, *,
        lr: Any, beta1: float, beta2: float, weight_decay: float, eps: float, amsgrad: bool,
        maximize: bool, grad_scale: Any = None, found_inf: Any = None,
    ) -> None:  # fmt: skip
        _require_unscaled(grad_scale, found_inf)
        for i, p in enumerate(params):
            grad = _decayed(grads[i], p, 0.0 if decoupled else weight_decay, maximize)
            count = steps[i].double()
            if weight_decay != 0 and decoupled:
                p.mul_(1 - lr * weight_decay)
            averages[i].lerp_(grad, 1 - beta1)
            squares[i].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
            first, second = 1 - beta1**count, (1 - beta2**count).sqrt()
            square = squares[i]
            if amsgrad:
                largest[i].copy_(torch.maximum(largest[i], square))
                square = largest[i]
            denominator = (square.sqrt() / second.to(p.dtype)).add_(eps)
            p.sub_(averages[i] * (lr / first).to(p.dtype) / denominator)

    return step


def _sgd(
    params: Any, grads: Any, buffers: Any, *, weight_decay: float, momentum: float, lr: Any,
    dampening: float, nesterov: bool, maximize: bool, is_first_step: bool, grad_scale: Any = None,
    found_inf: Any = None,
) -> None:  # fmt: skip
    _require_unscaled(grad_scale, found_inf)
    for i, p in enumerate(params):
        grad = _decayed(grads[i], p, weight_decay, maximize)
        if momentum != 0:
            if is_first_step:
                buffers[i].copy_(grad)
            else:
                buffers[i].mul_(momentum).add_(grad, alpha=1 - dampening)
            grad = grad.add(buffers[i], alpha=momentum) if nesterov else buffers[i]
        p.sub_(grad * lr)


def _adagrad(
    params: Any, grads: Any, sums: Any, steps: Any, *, lr: Any, lr_decay: float, weight_decay: float,
    eps: float, maximize: bool, grad_scale: Any = None, found_inf: Any = None,
) -> None:  # fmt: skip
    _require_unscaled(grad_scale, found_inf)
    for i, p in enumerate(params):
        grad = _decayed(grads[i], p, weight_decay, maximize)
        sums[i].addcmul_(grad, grad)
        rate = lr / (1 + (steps[i].double() - 1) * lr_decay)
        p.sub_(grad / sums[i].sqrt().add_(eps) * rate.to(p.dtype))


def _unscale(grads: Any, found_inf: Any, inv_scale: Any) -> None:
    for grad in grads:
        is_bad = torch.logical_not(torch.isfinite(grad)).any()
        found_inf.copy_(torch.where(is_bad, torch.ones_like(found_inf), found_inf))
        grad.mul_(inv_scale.to(grad.dtype))


def _update_scale(
    scale: Any, tracker: Any, found_inf: Any, growth: float, backoff: float, interval: int
) -> Any:
    is_bad, count = found_inf != 0, tracker + 1
    grown = (scale.double() * growth).to(scale.dtype)
    is_due = torch.logical_and(torch.logical_not(is_bad), count == interval)
    larger = torch.where(torch.logical_and(is_due, torch.isfinite(grown)), grown, scale)
    scale.copy_(torch.where(is_bad, (scale.double() * backoff).to(scale.dtype), larger))
    tracker.copy_(torch.where(torch.logical_or(is_bad, is_due), torch.zeros_like(count), count))
    return scale


FUSED: dict[str, Callable[..., Any]] = {
    "aten._fused_adam_.default": _adam(False),
    "aten._fused_adam_.tensor_lr": _adam(False),
    "aten._fused_adamw_.default": _adam(True),
    "aten._fused_adamw_.tensor_lr": _adam(True),
    "aten._fused_adagrad_.default": _adagrad,
    "aten._fused_adagrad_.tensor_lr": _adagrad,
    "aten._fused_sgd_.default": _sgd,
    "aten._fused_sgd_.tensor_lr": _sgd,
    "aten._amp_foreach_non_finite_check_and_unscale_.default": _unscale,
    "aten._amp_update_scale_.default": _update_scale,
}
