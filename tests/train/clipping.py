"""What each clip computes, in numpy at double precision."""

from __future__ import annotations

import numpy as np
import torch

EPS = {torch.bfloat16: 2**-8, torch.float16: 2**-11, torch.float32: 2**-24, torch.float64: 2**-53}


def by_value(grads, params, low, high):
    return [np.clip(g, low, high) for g in grads]


def by_norm(grads, params, c):
    return [g * c / max(c, np.linalg.norm(g)) for g in grads]


def by_global_norm(grads, params, c):
    total = np.sqrt(sum(np.sum(np.abs(g) ** 2) for g in grads))
    return [g * c / max(c, total) for g in grads]


def adaptive(grads, params, factor, eps=1e-3):
    done = []
    for g, p in zip(grads, params):
        axes = tuple(range(1, g.ndim)) if g.ndim > 1 else None
        norm = np.sqrt(np.sum(np.abs(g) ** 2, axes, keepdims=axes is not None))
        weight = np.sqrt(np.sum(np.abs(p) ** 2, axes, keepdims=axes is not None))
        most = factor * np.maximum(weight, eps)
        done.append(g * most / np.maximum(most, norm))
    return done


def double(tensor):
    tensor = tensor.detach().to_dense() if tensor.layout is not torch.strided else tensor.detach()
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64).numpy()


def bound(dtype, count, accumulate=torch.float32):
    """Relative error of ``g * c / max(c, G)``: a sum of ``count`` squares halves its error in the
    root; then a division, a product and the rounding of the result."""
    return (count / 2 + 4) * EPS[accumulate] + 2 * EPS[dtype]


def parameter(*shape, dtype=torch.float32, scale=1.0, seed=0, grad=True):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    made = torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype))
    if grad:
        made.grad = (torch.randn(shape, generator=generator) * scale).to(dtype)
    return made


def many(dtype=torch.float32, scale=1.0):
    shapes = [(), (7,), (4, 3), (5, 3, 2, 2), (2, 3, 4), (0, 3), (1,)]
    return [parameter(*s, dtype=dtype, scale=scale, seed=i) for i, s in enumerate(shapes)]
