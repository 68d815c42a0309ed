"""Python functions that would turn a symbolic size into a plain number, made to keep it symbolic."""

from __future__ import annotations

import builtins
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_SYMBOLIC = (torch.SymInt, torch.SymFloat)
_MATH = ("sqrt", "log2", "cos", "cosh", "sin", "sinh", "tan", "tanh", "asin", "acos", "atan")


def _has_symbol(x: Any) -> bool:
    return isinstance(x, _SYMBOLIC) or (isinstance(x, (list, tuple)) and any(map(_has_symbol, x)))


class SymbolicCalls(TorchFunctionMode):
    """``torch.tensor(n)``, ``torch.linspace(0, 1, n)`` and ``x[n // 2]`` for a size n."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and args and _has_symbol(args[0]):
            return _tensor(args[0], kwargs.get("dtype"))
        if func is torch.Tensor.__setitem__:
            return func(args[0], _plain_index(args[1]), args[2])
        if func is torch.Tensor.__getitem__:
            index = _plain_index(args[1])
            return _getitem(args[0], index) if _has_symbol(_picks(index)) else args[0][index]
        if func is torch.linspace and _has_symbol(args):
            return _linspace(*args, **kwargs)
        if func in _POOLING and _has_symbol((*args, *kwargs.values())):
            return _POOLING[func](*args, **kwargs)
        if func is torch.nn.functional.pad and _has_symbol((*args, *kwargs.values())):
            return _pad(*args, **kwargs)
        return func(*args, **kwargs)


def _pad(x: torch.Tensor, pad: Any, mode: str = "constant", value: float | None = None) -> Any:
    if mode != "constant":
        raise NotImplementedError(f"padding {mode} by an amount computed from sizes")
    for i in range(len(pad) // 2):
        axis = x.dim() - 1 - i
        pieces = [_border(x, axis, amount, value or 0.0) for amount in pad[2 * i : 2 * i + 2]]
        x = torch.cat([p for p in (pieces[0], x, pieces[1]) if p is not None], axis)
    return x


def _border(x: torch.Tensor, axis: int, amount: Any, value: float) -> torch.Tensor | None:
    if isinstance(amount, int) and amount == 0:
        return None
    shape = list(x.shape)
    shape[axis] = amount
    return x.new_full(shape, value)


def _tensor(data: Any, dtype: torch.dtype | None) -> torch.Tensor:
    if isinstance(data, (list, tuple)):
        parts = [_tensor(x, dtype) for x in data]
        wide = parts[0].dtype
        for part in parts:
            wide = torch.promote_types(wide, part.dtype)
        return torch.stack([part.to(wide) for part in parts])
    if isinstance(data, torch.Tensor):
        return data if dtype is None else data.to(dtype)
    if dtype is None:
        whole = isinstance(data, (int, torch.SymInt))
        dtype = torch.int64 if whole else torch.get_default_dtype()
    return torch.full((), data, dtype=dtype)


def _plain_index(index: Any) -> Any:
    """Bounds of slices that are tensors as numbers, which may stay symbolic; lists of those as tensors."""
    if isinstance(index, tuple):
        return tuple(map(_plain_index, index))
    if isinstance(index, list) and _has_symbol(index):
        return _tensor(index, None)
    if not isinstance(index, slice):
        return index
    bounds = (index.start, index.stop, index.step)
    return slice(*(x.item() if isinstance(x, torch.Tensor) else x for x in bounds))


def _picks(index: Any) -> list[Any]:
    """The items of an index that pick one place."""
    items = index if isinstance(index, tuple) else (index,)
    return [x for x in items if isinstance(x, torch.SymInt)]


def _getitem(x: torch.Tensor, index: Any) -> Any:
    """``x[..., n]``: sizes pick by ``select``, the rest as usual; refuses what mixes with tensors."""
    items = index if isinstance(index, tuple) else (index,)
    if any(isinstance(item, (torch.Tensor, list)) for item in items):
        raise NotImplementedError("an index of sizes and tensors; make the size a tensor")
    spread = x.dim() - sum(item is not None and item is not Ellipsis for item in items)
    rest: list[Any] = []
    axis = 0
    for item in items:
        if isinstance(item, torch.SymInt):
            x = x.select(axis, item)
            continue
        if item is not None and not isinstance(item, int):
            axis += spread if item is Ellipsis else 1
        elif item is not None:
            x = x.select(axis, item)
            continue
        rest.append(item)
    return x[tuple(rest)]


def _linspace(start: Any, end: Any, steps: Any, *, dtype: Any = None, **options: Any) -> Any:
    places = torch.arange(steps, dtype=torch.float64)
    last = torch.sym_max(steps - 1, 1)
    step = (end - start) / last
    low = places * step + start
    high = end - (last - places) * step
    found = torch.where(places < steps / 2, low, high)
    return found.to(dtype or torch.get_default_dtype())


def _is_torch(depth: int = 2) -> bool:
    name = sys._getframe(depth).f_globals.get("__name__", "")
    return name.startswith(("torch.", "sympy")) and not name.startswith("torch.nn")


def _extreme(plain: Callable[..., Any], symbolic: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        items = args[0] if len(args) == 1 and isinstance(args[0], (list, tuple)) else args
        if kwargs or not _has_symbol(items) or _is_torch():
            return plain(*args, **kwargs)
        total = items[0]
        for item in items[1:]:
            total = symbolic(total, item)
        return total

    return call


def _unary(plain: Callable[..., Any], symbolic: Callable[..., Any]) -> Callable[..., Any]:
    def call(x: Any, *rest: Any) -> Any:
        if not isinstance(x, _SYMBOLIC) or rest:
            return plain(x, *rest)
        return symbolic(x)

    return call


def _decided(plain: Callable[..., Any]) -> Callable[..., Any]:
    """``plain`` with conditions on sizes, such as ``causal=T > 1``, as the truth that they have."""

    def call(*args: Any, **kwargs: Any) -> Any:
        args = tuple(bool(x) if isinstance(x, torch.SymBool) else x for x in args)
        truths = {k: bool(x) for k, x in kwargs.items() if isinstance(x, torch.SymBool)}
        return plain(*args, **{**kwargs, **truths})

    return call


_POOLS = {
    "max_pool": (torch.amax, ("stride", "padding", "dilation", "ceil_mode", "return_indices")),
    "avg_pool": (
        torch.mean, ("stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
    ),
}  # fmt: skip
_WHOLE = {"padding": 0, "dilation": 1, "return_indices": False, "divisor_override": None}
"""What is asked of a window as large as an axis; it has one place, so the rest changes nothing."""


def _pool(
    plain: Callable[..., Any], reduce: Callable[..., Any], rank: int, names: tuple[str, ...]
) -> Callable[..., Any]:
    """``plain``, or ``reduce`` over whole axes where the window is as large as they are."""

    def call(x: torch.Tensor, kernel_size: Any, *rest: Any, **options: Any) -> Any:
        if not _has_symbol(kernel_size):
            return plain(x, kernel_size, *rest, **options)
        window = kernel_size if isinstance(kernel_size, (list, tuple)) else [kernel_size] * rank
        given = {**dict(zip(names, rest)), **options}
        is_moved = any(
            y != _WHOLE[name]
            for name, x in given.items() if name in _WHOLE
            for y in (x if isinstance(x, (list, tuple)) else [x])
        )  # fmt: skip
        if is_moved or any(n != size for n, size in zip(window, x.shape[-rank:])):
            raise NotImplementedError("a window computed from sizes, other than a whole axis")
        return reduce(x, tuple(range(-rank, 0)), keepdim=True)

    return call


def _pooling() -> dict[Any, Callable[..., Any]]:
    """For the functions behind ``functional``, which tapes call."""
    found = {}
    for family, (reduce, names) in _POOLS.items():
        for rank in (1, 2, 3):
            name = f"{family}{rank}d"
            for plain in (getattr(functional, name), getattr(torch, name, None)):
                found[plain] = _pool(plain, reduce, rank, names)
    return {plain: pool for plain, pool in found.items() if plain is not None}


_POOLING = _pooling()


@contextmanager
def symbolic_python() -> Iterator[None]:
    """``max``, ``min`` and functions of ``math`` keep symbolic sizes symbolic."""
    swaps: list[tuple[Any, str, Any]] = [
        (builtins, "max", _extreme(max, torch.sym_max)),
        (builtins, "min", _extreme(min, torch.sym_min)),
        (math, "ceil", _unary(math.ceil, lambda x: x.__ceil__())),
        (math, "floor", _unary(math.floor, lambda x: x.__floor__())),
        (
            functional,
            "scaled_dot_product_attention",
            _decided(functional.scaled_dot_product_attention),
        ),
    ]
    for family, (reduce, names) in _POOLS.items():
        for rank in (1, 2, 3):
            name = f"{family}{rank}d"
            swaps.append((functional, name, _pool(getattr(functional, name), reduce, rank, names)))
    for name in _MATH:
        symbolic = getattr(torch, f"_sym_{name}", None) or getattr(torch, f"sym_{name}", None)
        if symbolic is not None:
            swaps.append((math, name, _unary(getattr(math, name), symbolic)))
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in swaps]
    for owner, name, new in swaps:
        setattr(owner, name, new)
    try:
        yield
    finally:
        for owner, name, old in before:
            setattr(owner, name, old)
