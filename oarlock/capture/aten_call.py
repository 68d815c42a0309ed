"""Overloads that are kept as they are: ``aten_call`` nodes, run through PyTorch."""

from __future__ import annotations

import math
from typing import Any

import torch

from oarlock.capture.arrays import dtype_of
from oarlock.ir import TensorType
from oarlock.ops.control import AtenCall

_FORMATS = {
    torch.contiguous_format: "contiguous_format",
    torch.channels_last: "channels_last",
    torch.preserve_format: "preserve_format",
}


def can_call(func: Any) -> bool:
    """``func`` only computes: ATen, functional, the same every time."""
    tags = (torch.Tag.nondeterministic_seeded, torch.Tag.dynamic_output_shape)
    plain = func.namespace == "aten" and not func._schema.is_mutable
    return plain and not any(tag in func.tags for tag in tags)


def record(target: str, template: str, types: tuple[TensorType, ...]) -> AtenCall:
    return AtenCall(target=target, template=template, types=types)


def template(args: tuple, kwargs: dict[str, Any]) -> tuple[list[torch.Tensor], dict[str, Any]]:
    """The tensors among the arguments, and JSON of the rest (see ``oarlock.runtime.aten``).

    Raises: NotImplementedError for an argument that has no form in it, such as a symbolic size.
    """
    tensors: list[torch.Tensor] = []

    def encode(x: Any) -> Any:
        if isinstance(x, torch.Tensor):
            tensors.append(x)
            return {"tensor": len(tensors) - 1}
        if isinstance(x, (list, tuple)):
            return [encode(item) for item in x]
        if isinstance(x, torch.dtype):
            return {"dtype": dtype_of(x).name}
        if isinstance(x, float) and not math.isfinite(x):
            return {"float": str(x)}
        if x is None or isinstance(x, (bool, int, float, str)):
            return x
        if isinstance(x, torch.memory_format):
            return {"memory_format": _FORMATS[x]}
        kind = type(x).__name__
        raise NotImplementedError(f"no op captures it, and PyTorch cannot be called with a {kind}")

    kept = {k: v for k, v in kwargs.items() if k not in ("device", "layout", "pin_memory")}
    tree = {"args": [encode(x) for x in args], "kwargs": {k: encode(v) for k, v in kept.items()}}
    return tensors, tree
