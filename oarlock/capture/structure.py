"""Arguments and results to signature trees, and back to tensors.

An object of another class (a cache of keys and values) counts as a record of its attributes, when
one of them holds a tensor at any depth.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from types import ModuleType, NoneType
from typing import Any

import torch

from oarlock.capture.slots import attributes_of
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
    fields = fields_of(x)
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


def fields_of(x: Any) -> list[tuple[str, Any]] | None:
    """Fields of a dataclass, namedtuple or ModelOutput (a dataclass that is a dict)."""
    if isinstance(x, dict) and dataclasses.is_dataclass(x):
        return list(x.items())
    if dataclasses.is_dataclass(x) and not isinstance(x, type):
        return [(f.name, getattr(x, f.name)) for f in dataclasses.fields(x)]
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return list(zip(x._fields, x))
    return _attributes(x) if _is_object(x) else None


def _is_object(x: Any) -> bool:
    return _holds_tensor(x) and not isinstance(x, (torch.Tensor, dict, tuple, list))


def _attributes(x: Any) -> list[tuple[str, Any]]:
    """Plain values, and what holds tensors; not the configuration, functions, locks."""
    return [
        (name, value)
        for name, value in attributes_of(x).items()
        if isinstance(value, (bool, int, float, str, torch.SymInt, NoneType))
        or _holds_tensor(value)
    ]


def _holds_tensor(x: Any, depth: int = 6) -> bool:
    if isinstance(x, torch.Tensor):
        return True
    if not depth or isinstance(x, (type, torch.nn.Module, ModuleType, Callable)):
        return False
    if isinstance(x, dict):
        return any(_holds_tensor(v, depth - 1) for v in x.values())
    if isinstance(x, (tuple, list)):
        return any(_holds_tensor(v, depth - 1) for v in x)
    return any(_holds_tensor(v, depth - 1) for v in attributes_of(x).values())


def _with_attributes(x: Any, values: dict[str, Any]) -> Any:
    new = copy.copy(x)
    for name, value in values.items():
        object.__setattr__(new, name, value)
    return new


def map_tensors(x: Any, change: Callable[[torch.Tensor], Any]) -> Any:
    """``x`` with every tensor replaced, containers of the same classes."""
    if isinstance(x, torch.Tensor):
        return change(x)
    fields = fields_of(x)
    if fields is not None:
        values = {k: map_tensors(v, change) for k, v in fields}
        return _with_attributes(x, values) if _is_object(x) else type(x)(**values)
    if isinstance(x, dict):
        return {k: map_tensors(v, change) for k, v in x.items()}
    if isinstance(x, (tuple, list)):
        return type(x)(map_tensors(v, change) for v in x)
    return x
