"""What the hooks reach that torch runs in the backward pass: they may change it at each run."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

import torch

from oarlock.capture.slots import attributes_of
from oarlock.capture.tape.arguments import is_record

_TENSORS = ("_backward_hooks", "_post_accumulate_grad_hooks")
_MODULES = ("_backward_hooks", "_backward_pre_hooks")
_CONTAINERS = (list, dict, set, deque)
_DEPTH = 4


def reached_by_hooks(
    tensors: Iterable[torch.Tensor], modules: Iterable[torch.nn.Module]
) -> list[Any]:
    """Containers, variables, objects, optimizers and tensors that backward hooks use."""
    return reached_from(hooks_of(tensors, modules))


def reached_from(roots: Iterable[Any]) -> list[Any]:
    """What may change of all that can be reached from ``roots``."""
    found: dict[int, Any] = {}
    for root in roots:
        for x in root if type(root) is list else [root]:
            visit(x, _DEPTH, found)
    return list(found.values())


def hooks_of(tensors: Iterable[torch.Tensor], modules: Iterable[torch.nn.Module]) -> Iterator[Any]:
    held = [(x, name) for x in tensors for name in _TENSORS]
    held += [(x, name) for x in modules for name in _MODULES]
    for x, name in held:
        yield from (getattr(x, name, None) or {}).values()


def visit(x: Any, depth: int, found: dict[int, Any]) -> None:
    """Add what can be reached from ``x`` and may change."""
    if id(x) in found or not depth or isinstance(x, (type, ModuleType, str, bytes)):
        return
    if isinstance(x, MethodType):
        visit(x.__self__, depth, found)
        x = x.__func__
    if isinstance(x, FunctionType):
        for inner in parts(x):
            visit(inner, depth - 1, found)
        return
    if isinstance(x, (torch.Tensor, torch.optim.Optimizer)):
        found[id(x)] = x
        return
    if isinstance(x, CellType):
        found[id(x)] = x
        inside = [x.cell_contents] if is_set(x) else []
    elif isinstance(x, _CONTAINERS):
        found[id(x)] = x
        inside = list(x.values()) if isinstance(x, dict) else list(x)
    elif isinstance(x, tuple):
        inside = list(x)
    elif is_record(x) and not isinstance(x, torch.nn.Module):
        found[id(x)] = x
        inside = list(attributes_of(x).values())
    else:
        return
    for item in inside:
        visit(item, depth - 1, found)


def parts(function: FunctionType) -> Iterator[Any]:
    """Its variables from outside, defaults, and the globals that it names."""
    yield from function.__closure__ or ()
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    names = function.__globals__
    yield from (names[n] for n in function.__code__.co_names if n in names)


def is_set(cell: CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True
