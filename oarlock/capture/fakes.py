"""Result shapes of overloads that PyTorch's own fake kernels get wrong or tie to the traced sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._prims_common import suggest_memory_format


def _grouped(x: torch.Tensor, w: torch.Tensor, *rest: Any, **options: Any) -> torch.Tensor:
    return x.new_empty((*x.shape[:-1], w.shape[-1]))


def _padded(x: torch.Tensor, amounts: Any, *rest: Any, **options: Any) -> torch.Tensor:
    shape = list(x.shape)
    for i in range(len(amounts) // 2):
        shape[-1 - i] = shape[-1 - i] + amounts[2 * i] + amounts[2 * i + 1]
    return x.new_empty(shape)


def _resized(x: torch.Tensor, size: Any, *rest: Any) -> torch.Tensor:
    factors: Any = rest[-1]
    if size is None:
        size = [n * int(f) if f == int(f) else int(n * f) for n, f in zip(x.shape[2:], factors)]
    return x.new_empty([*x.shape[:2], *size])


def _complex(dtype: torch.dtype) -> torch.dtype:
    return (
        dtype
        if dtype.is_complex
        else (torch.complex128 if dtype == torch.float64 else torch.complex64)
    )


def _paired(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return x.new_empty((x + y).shape, dtype=_complex(x.dtype))


def _transform(kind: str) -> Callable[..., torch.Tensor]:
    """A transform of some axes; ``r2c`` halves the last of them, ``c2r`` doubles it."""

    def call(x: torch.Tensor, s: Any = None, dim: Any = None, norm: Any = None) -> torch.Tensor:
        dims = _axes(x, s, dim)
        sizes = [s] if s is not None and not isinstance(s, (list, tuple)) else s
        shape = list(x.shape)
        for k, axis in enumerate(dims):
            given = sizes[k] if sizes is not None else -1
            last = k == len(dims) - 1
            n = shape[axis] if isinstance(given, int) and given == -1 else given
            if last and kind == "r2c":
                n = n // 2 + 1
            elif last and kind == "c2r" and isinstance(given, int) and given == -1:
                n = 2 * (shape[axis] - 1)
            shape[axis] = n
        real = x.dtype.to_real() if x.dtype.is_complex else x.dtype
        return x.new_empty(shape, dtype=real if kind == "c2r" else _complex(real))

    return call


def _axes(x: torch.Tensor, s: Any, dim: Any) -> list[int]:
    if isinstance(dim, int):
        return [dim]
    if dim is not None:
        return list(dim)
    return list(range(x.dim() - len(s), x.dim())) if isinstance(s, (list, tuple)) else [-1]


def _of_axes(kind: str) -> Callable[..., torch.Tensor]:
    """The kernels below the public functions: axes first."""

    def call(x: torch.Tensor, dim: Any, norm: int, more: Any) -> torch.Tensor:
        if kind == "c2r":
            return _transform(kind)(x, [*(x.shape[d] for d in dim[:-1]), more], dim)
        return _transform("c2c" if kind == "r2c" and not more else kind)(x, None, dim)

    return call


def _transforms() -> dict[str, Callable[..., torch.Tensor]]:
    found: dict[str, Callable[..., torch.Tensor]] = {}
    for name, kind in (("fft", "c2c"), ("ifft", "c2c"), ("rfft", "r2c"), ("irfft", "c2r")):
        found[f"aten.fft_{name}.default"] = _transform(kind)
        plane = _transform(kind)
        found[f"aten.fft_{name}2.default"] = lambda x, s=None, dim=(-2, -1), norm=None, _f=plane: (
            _f(x, s, dim, norm)
        )
        found[f"aten.fft_{name}n.default"] = lambda x, s=None, dim=None, norm=None, _f=plane: _f(
            x, s, range(x.dim()) if s is None and dim is None else dim, norm
        )
        found[f"aten._fft_{kind}.default"] = _of_axes(kind)
    return found


def _recurrent(
    x: torch.Tensor, state: torch.Tensor, weights: Any, biases: bool, layers: int, dropout: float,
    train: bool, bidirectional: bool, batch_first: bool,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    width = state.shape[-1] * (2 if bidirectional else 1)
    return x.new_empty([*x.shape[:-1], width]), state.new_empty(state.shape)


def _normalised(
    x: torch.Tensor, weight: Any, bias: Any, mean: Any, var: Any, training: bool, *rest: Any
) -> torch.Tensor:
    if training or mean is None:
        return torch.ops.aten.batch_norm.default(x, weight, bias, mean, var, training, *rest)
    return x.new_empty(x.shape)  # as its fake kernel does after seconds of symbolic strides


def _laid_out(kernel: Any) -> Callable[..., Any]:
    """Batch norm's results, the first dense: in the order of its input where that has channels last."""

    def call(x: torch.Tensor, *rest: Any) -> Any:
        first, *others = kernel(x, *rest)
        if any(isinstance(n, torch.SymInt) for n in x.shape):
            return (first, *others)
        return (torch.empty_like(first, memory_format=suggest_memory_format(x)), *others)

    return call


def _pooled(
    x: torch.Tensor, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1,
    ceil: bool = False,
) -> torch.Tensor:  # fmt: skip
    """``max_pool1d`` as a pool of a plane of one row."""

    def pair(n: Any, other: int) -> list[Any]:
        return [other, n[0] if isinstance(n, (list, tuple)) else n]

    window = pair(kernel, 1)
    step = window if stride in ((), [], None) else pair(stride, 1)
    plane = torch.ops.aten.max_pool2d_with_indices.default(
        x.unsqueeze(-2), window, step, pair(padding, 0), pair(dilation, 1), ceil
    )
    return plane[0].squeeze(-2)


RESIZES = (
    "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "_upsample_nearest_exact1d",
    "_upsample_nearest_exact2d", "_upsample_nearest_exact3d", "upsample_linear1d",
    "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d", "_upsample_bilinear2d_aa",
    "_upsample_bicubic2d_aa",
)  # fmt: skip
NORMS = (
    torch.ops.aten.native_batch_norm.default, torch.ops.aten._native_batch_norm_legit.default,
    torch.ops.aten._native_batch_norm_legit.no_stats,
)  # fmt: skip
FAKES: dict[str, Callable[..., Any]] = {
    "aten.pad.default": _padded,
    "aten.constant_pad_nd.default": _padded,
    "aten.batch_norm.default": _normalised,
    **{str(kernel): _laid_out(kernel) for kernel in NORMS},
    "aten.complex.default": _paired,
    "aten.polar.default": _paired,
    **{f"aten.{name}.input": _recurrent for name in ("gru", "rnn_tanh", "rnn_relu")},
    **_transforms(),
    **{f"aten.{name}.vec": _resized for name in RESIZES},
    "aten._grouped_mm.default": _grouped,
    "aten.max_pool1d.default": _pooled,
}


def run_fake(func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """The fake result of ``func`` on fake arguments."""
    kernel = FAKES.get(str(func))
    return func(*args, **kwargs) if kernel is None else kernel(*args, **kwargs)


def counted_from_start(args: tuple) -> tuple:
    """Arguments of ``slice``: a negative bound on a symbolic axis as ``max(size + bound, 0)``."""
    x, dim, *bounds = args if len(args) > 1 else (*args, 0)
    size = x.shape[dim]
    if not isinstance(size, torch.SymInt):
        return args
    found = [
        torch.sym_max(size + n, 0) if i < 2 and isinstance(n, int) and n < 0 else n
        for i, n in enumerate(bounds)
    ]
    return (x, dim, *found)
