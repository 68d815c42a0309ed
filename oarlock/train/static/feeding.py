"""Feeds: everything that is wrong with one, at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from oarlock.errors import ArgumentTypeError, InputError
from oarlock.train.static.program import Placeholder, Program

_NUMBERS = (bool, int, float, list, tuple)


def fed(program: Program, feed: Any, needed: set[str]) -> dict[str, Tensor]:
    """Tensors by name, sharing the memory of what was fed.

    Args: needed: placeholders that what is fetched depends on.
    Raises: InputError that lists all problems.
    """
    if not isinstance(feed, Mapping):
        raise ArgumentTypeError(
            f"feed: expected a dict of arrays by name, got {type(feed).__name__}"
        )
    known = program.placeholders
    problems = [
        f"{name!r} is no placeholder of the program, which has {', '.join(map(repr, known)) or 'none'}"
        for name in feed
        if name not in known
    ]
    problems += [
        f"{name!r} is missing: {known[name]}"
        for name in known
        if name in needed and name not in feed
    ]
    tensors: dict[str, Tensor] = {}
    sizes: dict[str, tuple[str, int]] = {}
    for name, value in feed.items():
        if name in known:
            problem = _problem(known[name], value, tensors, sizes)
            problems += [problem] * (problem is not None)
    if problems:
        raise InputError(
            "\n  ".join(["the feed does not fit:", *problems]), str(next(iter(feed), ""))
        )
    return {name: tensors[name] for name in known if name in needed}


def _problem(
    place: Placeholder, value: Any, tensors: dict[str, Tensor], sizes: dict[str, tuple[str, int]]
) -> str | None:
    """What is wrong with one value; it is put into ``tensors``."""
    try:
        x = _tensor(value, place.dtype)
    except (TypeError, ValueError, RuntimeError) as error:
        return f"{place.name!r}: expected an array, got {type(value).__name__}: {error}"
    expected = str(place).split(": ", 1)[1]
    got = f"{str(x.dtype)[6:]}{list(x.shape)}"
    if x.dtype is not place.dtype:
        cast = (
            f"x.to({place.dtype})"
            if isinstance(value, Tensor)
            else f"x.astype({str(place.dtype)[6:]!r})"
        )
        return f"{place.name!r}: expected {expected}, got {got}; pass {cast}"
    if x.dim() != len(place.shape):
        return f"{place.name!r}: expected {expected}, got {got}"
    for axis, (size, n) in enumerate(zip(place.shape, x.shape)):
        if isinstance(size, int) and size != n:
            return f"{place.name!r}: expected {expected}, got {got}: axis {axis} differs"
        if isinstance(size, str) and not _is_anonymous(size):
            other, known = sizes.setdefault(size, (place.name, n))
            if known != n:
                return f"{place.name!r}: {size} is {n} in {got}, and {known} in {other!r}"
    tensors[place.name] = x.detach().requires_grad_(place.value.requires_grad)
    return None


def _tensor(value: Any, dtype: torch.dtype) -> Tensor:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value if value.flags.writeable else value.copy())
    if isinstance(value, np.generic):
        return torch.from_numpy(np.array(value))
    if isinstance(value, _NUMBERS):
        return torch.tensor(value, dtype=dtype) if _fits(value, dtype) else torch.tensor(value)
    raise TypeError("pass a numpy array, a torch tensor or numbers")


def _fits(value: Any, dtype: torch.dtype) -> bool:
    """Python numbers become the placeholder's type where no value changes its kind."""
    kind = torch.tensor(value).dtype
    rank = [torch.bool, torch.int64, torch.float32]
    if dtype.is_floating_point or dtype.is_complex:
        return True
    return rank.index(kind) <= (0 if dtype is torch.bool else 1)


def _is_anonymous(size: str) -> bool:
    """Written as None; such sizes need not be equal."""
    return size == "N" or (size[0] == "N" and size[1:].isdigit())
