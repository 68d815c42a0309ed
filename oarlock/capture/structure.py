"""Arguments and results to signature trees, and back to tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch

from oarlock.errors import UnsupportedError
from oarlock.ir.signature import Tree

Leaf = Callable[[torch.Tensor, str], int]


def tree_of(x: Any, path: str, leaf: Leaf, size: Callable[[Any], Any] = str) -> Tree:
    """The tree of ``x``; ``leaf(tensor, path)`` gives each tensor its index, ``size`` is of SymInts."""
    if isinstance(x, torch.Tensor):
        return {"leaf": leaf(x, path)}
    if x is None or isinstance(x, (bool, int, float, str)):
        return {"const": x}
    if isinstance(x, torch.SymInt):
        return {"size": str(size(x))}
    if isinstance(x, (torch.dtype, torch.device)):
        return {"const": str(x)}
    if isinstance(x, (torch.SymFloat, torch.SymBool)):
        raise UnsupportedError(f"{path}: a number computed from sizes", [str(x)])
    fields = _fields(x)
    if fields is not None:
        trees = [[k, tree_of(v, f"{path}.{k}", leaf, size)] for k, v in fields]
        return {"record": type(x).__name__, "fields": trees}
    if isinstance(x, dict):
        return {"dict": [[k, tree_of(v, f"{path}.{k}", leaf, size)] for k, v in x.items()]}
    if isinstance(x, (tuple, list)):
        kind = "tuple" if isinstance(x, tuple) else "list"
        return {kind: [tree_of(v, f"{path}.{i}", leaf, size) for i, v in enumerate(x)]}
    raise UnsupportedError(
        f"{path}: a {type(x).__name__} is no tensor, number, text or container of these"
    )


def _fields(x: Any) -> list[tuple[str, Any]] | None:
    """Fields of a dataclass, namedtuple or ModelOutput (a dataclass that is a dict)."""
    if isinstance(x, dict) and dataclasses.is_dataclass(x):
        return list(x.items())
    if dataclasses.is_dataclass(x) and not isinstance(x, type):
        return [(f.name, getattr(x, f.name)) for f in dataclasses.fields(x)]
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return list(zip(x._fields, x))
    return None


def map_tensors(x: Any, change: Callable[[torch.Tensor], Any], size: Any = None) -> Any:
    """``x`` with every tensor replaced, containers of the same classes."""
    if isinstance(x, torch.Tensor):
        return change(x)
    fields = _fields(x)
    if fields is not None:
        values = {k: map_tensors(v, change) for k, v in fields}
        return type(x)(**values)
    if isinstance(x, dict):
        return {k: map_tensors(v, change) for k, v in x.items()}
    if isinstance(x, (tuple, list)):
        return type(x)(map_tensors(v, change) for v in x)
    return x
