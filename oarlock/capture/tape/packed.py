"""Calls whose kernels hold lengths against each other, which a trace does not have: recurrent layers
over packed sequences, splits into pieces of given sizes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from oarlock.capture.tape.data import DataHints
from oarlock.capture.tape.join import stand_in
from oarlock.capture.tape.numbers import Number


def _result(x: torch.Tensor, width: int, params: list[torch.Tensor], *states: torch.Tensor) -> Any:
    """Stand-ins of output and last states, which need the gradients that the real ones need."""
    sources = [x, *params, *states]
    grad = torch.is_grad_enabled() and any(s.requires_grad for s in sources)

    def like(shape: Any) -> torch.Tensor:
        return stand_in(tuple(shape), x.dtype, x.device, grad, sources)

    return (like((x.shape[0], width)), *(like(s.shape) for s in states))


def _lstm(
    x: torch.Tensor, sizes: torch.Tensor, states: Any, params: Any, biases: bool, layers: int,
    dropout: float, training: bool, both: bool,
) -> Any:  # fmt: skip
    return _result(x, states[0].shape[-1] * (2 if both else 1), params, *states)


def _other(
    x: torch.Tensor, sizes: torch.Tensor, state: torch.Tensor, params: Any, biases: bool,
    layers: int, dropout: float, training: bool, both: bool,
) -> Any:  # fmt: skip
    return _result(x, state.shape[-1] * (2 if both else 1), params, state)


_KERNELS: dict[Any, Callable[..., Any]] = {
    torch.lstm: _lstm, torch.gru: _other, torch.rnn_tanh: _other, torch.rnn_relu: _other,
}  # fmt: skip


def _padded(
    data: DataHints, x: torch.Tensor, sizes: torch.Tensor, batch_first: bool, value: float = 0.0,
    total: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    data.uses += 1
    length = sizes.shape[0] if total is None or total <= 0 else total
    shape = (data.count, length) if batch_first else (length, data.count)
    grad = torch.is_grad_enabled() and x.requires_grad
    padded = stand_in((*shape, *x.shape[1:]), x.dtype, x.device, grad, [x])
    return padded, sizes.new_empty((data.count,))


def _pieces(x: torch.Tensor, sizes: Any, dim: int = 0) -> Any:
    """``x.split(sizes)``; what stands for sizes of the run need not add up."""
    if not isinstance(sizes, (list, tuple)) or sum(sizes) == x.shape[dim]:
        return torch.split(x, sizes, dim)
    places = [torch.zeros(n, dtype=torch.int64, device=x.device) for n in sizes]
    return tuple(x.index_select(dim, place) for place in places)


_SPLITS = (torch.split, torch.Tensor.split, torch.split_with_sizes, torch.Tensor.split_with_sizes)


def kernel_of(func: Any, args: tuple, data: DataHints) -> Callable[..., Any] | None:
    """What gives the result's stand-in, where ``func`` is called for a packed sequence."""
    if any(func is split for split in _SPLITS) and len(args) > 1 and _is_unsure(args[1]):
        return _pieces
    if func is torch._VF._pad_packed_sequence:  # pyright: ignore
        return functools.partial(_padded, data)
    try:
        kernel = _KERNELS.get(func)
    except TypeError:
        return None
    is_packed = kernel is not None and len(args) > 3 and isinstance(args[3], (list, tuple))
    return kernel if is_packed else None


def _is_unsure(sizes: Any) -> bool:
    """Sizes of which some are known at run time."""
    if not isinstance(sizes, (list, tuple)):
        return False
    if getattr(sizes, "val", None) is not None:
        return True
    return any(
        isinstance(n, Number) for n in (list.__iter__(sizes) if isinstance(sizes, list) else sizes)
    )
