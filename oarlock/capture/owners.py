"""The modules that a callable uses, with the names of their tensors."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from typing import Any

import torch


def modules_of(fn: Any) -> Iterator[tuple[str, torch.nn.Module]]:
    """``(prefix, module)``: itself, the owner of a method, those closed over or global in a function."""
    if isinstance(fn, torch.nn.Module):
        yield "", fn
    elif isinstance(fn, functools.partial):
        yield from modules_of(fn.func)
        for i, x in enumerate((*fn.args, *fn.keywords.values())):
            if isinstance(x, torch.nn.Module):
                yield f"arg{i}.", x
    elif inspect.ismethod(fn):
        yield from modules_of(fn.__self__)
    elif inspect.isfunction(fn):
        closed = inspect.getclosurevars(fn)
        for name, x in {**closed.globals, **closed.nonlocals}.items():
            if isinstance(x, torch.nn.Module):
                yield f"{name}.", x
    elif hasattr(fn, "__dict__"):
        for name, x in vars(fn).items():
            if isinstance(x, torch.nn.Module):
                yield f"{name}.", x


def named_tensors(fn: Any) -> dict[int, str]:
    """Names of parameters and buffers by id; a tied one has its first name."""
    names: dict[int, str] = {}
    for prefix, module in modules_of(fn):
        for name, tensor in module.named_parameters(remove_duplicate=False):
            names.setdefault(id(tensor), prefix + name)
        for name, tensor in module.named_buffers(remove_duplicate=False):
            names.setdefault(id(tensor), prefix + name)
    return names


def named_modules(fn: Any) -> dict[int, str]:
    """Paths such as ``model.fc1`` by id."""
    names: dict[int, str] = {}
    for prefix, module in modules_of(fn):
        root = prefix.removesuffix(".") or "model"
        for name, child in module.named_modules():
            names.setdefault(id(child), f"{root}.{name}" if name else root)
    return names
