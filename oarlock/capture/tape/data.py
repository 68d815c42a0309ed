"""Results that depend on data: fake kernels with a size or number that the data could give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from oarlock.capture.fakes import run_fake
from oarlock.capture.unfused import UNFUSED


def _scalar(mode: DataHints, x: torch.Tensor) -> Any:
    if x.dtype == torch.bool:
        return True
    if x.dtype.is_complex:
        return 0j
    return 0.5 if x.dtype.is_floating_point else mode.number


def _nonzero(mode: DataHints, x: torch.Tensor) -> torch.Tensor:
    return x.new_empty((mode.count, x.dim()), dtype=torch.int64)


def _masked_select(mode: DataHints, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return x.new_empty((mode.count,))


def _unique(
    mode: DataHints, x: torch.Tensor, sort: bool = True, inverse: bool = False, counts: bool = False
) -> tuple[torch.Tensor, ...]:
    return _found(mode, x, x.new_empty((mode.count,)), x.shape)


def _unique_dim(mode: DataHints, x: torch.Tensor, dim: int, *rest: Any) -> tuple[torch.Tensor, ...]:
    shape = list(x.shape)
    shape[dim] = mode.count
    return _found(mode, x, x.new_empty(shape), (x.shape[dim],))


def _consecutive(
    mode: DataHints, x: torch.Tensor, inverse: bool = False, counts: bool = False, dim: Any = None
) -> tuple[torch.Tensor, ...]:
    return _unique(mode, x) if dim is None else _unique_dim(mode, x, dim)


def _found(mode: DataHints, x: torch.Tensor, unique: torch.Tensor, where: Any) -> tuple:
    def index(shape: Any) -> torch.Tensor:
        return x.new_empty(shape, dtype=torch.int64)

    return unique, index(where), index((mode.count,))


def _repeats(mode: DataHints, x: torch.Tensor, output_size: Any = None) -> torch.Tensor:
    return x.new_empty((mode.count if output_size is None else output_size,))


def _bincount(mode: DataHints, x: torch.Tensor, weights: Any = None, least: int = 0) -> Any:
    like = x if weights is None else weights
    dtype = torch.int64 if weights is None else weights.dtype
    return like.new_empty((max(mode.count, least),), dtype=dtype)


def _ctc(
    mode: DataHints, logs: torch.Tensor, targets: torch.Tensor, lengths: Any, target_lengths: Any,
    blank: int = 0, zero_infinity: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    batch = 1 if logs.dim() == 2 else logs.shape[1]
    states = 2 * mode.count + 1
    return logs.new_empty((batch,)), logs.new_empty((batch, logs.shape[0], states))


def _packed(
    mode: DataHints, x: torch.Tensor, lengths: torch.Tensor, batch_first: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    return x.new_empty((mode.count, *x.shape[2:])), lengths.new_empty((mode.count,))


def _truth(mode: DataHints, *args: Any, **kwargs: Any) -> bool:
    return True


_KERNELS: dict[str, Callable[..., Any]] = {
    "aten::_local_scalar_dense": _scalar, "aten::item": _scalar, "aten::nonzero": _nonzero,
    "aten::masked_select": _masked_select, "aten::_unique2": _unique, "aten::_unique": _unique,
    "aten::unique_dim": _unique_dim, "aten::unique_consecutive": _consecutive,
    "aten::repeat_interleave": _repeats, "aten::bincount": _bincount, "aten::equal": _truth,
    "aten::is_nonzero": _truth, "aten::_ctc_loss": _ctc, "aten::_pack_padded_sequence": _packed,
}  # fmt: skip
_ONLY = {"aten::repeat_interleave": "Tensor", "aten::_ctc_loss": "Tensor"}


class DataHints:
    """Gives calls whose result depends on data a possible result, inside ``with``; counts how often.

    ``count``: elements that are found; ``number``: the value of an integer.
    """

    def __init__(self) -> None:
        self.count, self.number, self.uses, self.depth = 3, 0, 0, 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *error: Any) -> None:
        self.depth -= 1

    def answer(self, mode: Any, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """The result of an operator on fakes of ``mode``, or NotImplemented: torch knows it."""
        if not self.depth:
            return NotImplemented
        found = _asked.get(func)
        if found is None:
            found = _asked[func] = _kernel_of(func)
        if found is _nothing or (found is _index and not any(_is_mask(x) for x in args[1])):
            return NotImplemented
        with mode:
            return found(self, *args, **kwargs)


def _index(mode: DataHints, x: torch.Tensor, indices: Any) -> Any:
    """``x[mask]``: a mask picks as indices of ``count`` elements do."""
    mode.uses += 1
    picks: list[Any] = []
    for item in indices:
        if _is_mask(item):
            picks += [item.new_empty((mode.count,), dtype=torch.int64)] * item.dim()
        else:
            picks.append(item)
    return torch.ops.aten.index.Tensor(x, picks)


def _grouped(mode: DataHints, *args: Any, **kwargs: Any) -> Any:
    return run_fake(torch.ops.aten._grouped_mm.default, args, kwargs)  # torch's own takes bf16 only


def _nothing(mode: DataHints) -> None: ...


_asked: dict[Any, Callable[..., Any]] = {}  # what gives the result, by operator


def _kernel_of(func: Any) -> Callable[..., Any]:
    name = func._schema.name
    kernel = _KERNELS.get(name)
    if name in UNFUSED:
        return lambda mode, *args, **kwargs: UNFUSED[name](*args, **kwargs)
    if name == "aten::index":
        return _index
    if name == "aten::_grouped_mm":
        return _grouped
    if kernel is None or _ONLY.get(name, func._overloadname) != func._overloadname:
        return _nothing

    def counted(mode: DataHints, *args: Any, **kwargs: Any) -> Any:
        mode.uses += 1
        return kernel(mode, *args, **kwargs)

    return counted


def _is_mask(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.dtype in (torch.bool, torch.uint8)
