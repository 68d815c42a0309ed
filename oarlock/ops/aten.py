"""``aten_call`` through PyTorch: the op runs on the host, on tensors that share the buffers.

The template is JSON: ``{"args": [tree...], "kwargs": {name: tree}}`` where a tree is a plain value, a
list, ``{"tensor": i}`` (input i), ``{"dtype": "f32"}``, ``{"float": "inf"}`` or ``{"memory_format":
name}``.  A model file is data from anywhere, so only ops that compute are run: of the namespace aten,
with tensors among their arguments, that write to no argument and take no text that names a file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from oarlock.errors import CompilerBug, InputError, UnsupportedError

Buffer = tuple[np.ndarray, str]  # storage and the name of its element type

_TORCH = {
    "f64": "float64", "f32": "float32", "f16": "float16", "bf16": "bfloat16", "i64": "int64",
    "i32": "int32", "i16": "int16", "i8": "int8", "u8": "uint8", "bool": "bool",
}  # fmt: skip


class Failed(InputError):
    """PyTorch refuses what it is given."""


_FORBIDDEN = ("from_file", "set_", "record_stream", "pin_memory", "_pin_memory", "_print")


def call_aten(
    target: str, template: str, inputs: Sequence[Buffer], outputs: Sequence[Buffer]
) -> None:
    """Run ``target`` and copy its results into ``outputs``.

    Raises: UnsupportedError without torch or for an op that is not run; InputError when it fails.
    """
    torch = _torch(target)
    tensors = [_as_tensor(torch, x, name) for x, name in inputs]
    results = _run(torch, target, template, tensors)
    if len(results) != len(outputs):
        raise CompilerBug(f"{target} gave {len(results)} tensors, expected {len(outputs)}")
    for result, (x, name) in zip(results, outputs):
        wanted = f"{name}{list(x.shape)}"
        if tuple(result.shape) != x.shape or result.dtype != getattr(torch, _TORCH[name]):
            raise InputError(
                f"{target}: gave {result.dtype}{list(result.shape)}, expected {wanted}"
            )
        _as_tensor(torch, x, name).copy_(result)


def _run(torch: Any, target: str, template: str, tensors: Sequence[Any]) -> list[Any]:
    overload = _overload(target)
    document = json.loads(template)
    args = [_decode(torch, tree, tensors) for tree in document["args"]]
    kwargs = {name: _decode(torch, tree, tensors) for name, tree in document["kwargs"].items()}
    try:
        with torch.no_grad():
            result = overload(*args, **kwargs)
    except (RuntimeError, ValueError, IndexError, TypeError, NotImplementedError) as error:
        raise Failed(f"{target}: {error}") from None
    found = list(result) if isinstance(result, (tuple, list)) else [result]
    return [x for x in found if isinstance(x, torch.Tensor)]


def _torch(target: str) -> Any:
    try:
        import torch
    except ImportError:
        raise UnsupportedError(f"{target} runs through PyTorch; pip install torch") from None
    return torch


@lru_cache
def _overload(target: str) -> Callable[..., Any]:
    """The ATen overload ``aten.name.overload``.  Raises: UnsupportedError."""
    torch = _torch(target)
    parts = target.split(".")
    packet = getattr(torch.ops.aten, parts[1], None) if len(parts) == 3 else None
    found = getattr(packet, parts[2], None) if packet is not None and parts[0] == "aten" else None
    if found is None or not hasattr(found, "_schema"):
        raise UnsupportedError(f"{target}: this PyTorch ({torch.__version__}) has no such op")
    schema = found._schema
    takes_file = any(a.name in ("filename", "file") for a in schema.arguments)
    if schema.is_mutable or takes_file or parts[1] in _FORBIDDEN:
        raise UnsupportedError(f"{target}: not run from a model, it does more than compute")
    return found


def _as_tensor(torch: Any, x: np.ndarray, name: str) -> Any:
    if name == "bf16":
        return torch.from_numpy(x.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(x)


def _decode(torch: Any, tree: Any, tensors: Sequence[Any]) -> Any:
    if isinstance(tree, list):
        return [_decode(torch, item, tensors) for item in tree]
    if not isinstance(tree, dict):
        return tree
    ((kind, value),) = tree.items()
    if kind == "tensor":
        return tensors[value]
    if kind == "dtype":
        return getattr(torch, _TORCH[value])
    if kind == "float":
        return float(value)
    if kind == "list":
        return [_decode(torch, item, tensors) for item in value]
    if kind == "memory_format" and value in (
        "contiguous_format",
        "channels_last",
        "preserve_format",
    ):
        return getattr(torch, value)
    raise UnsupportedError(f"aten_call: no argument of kind {kind!r}")


def call_on_arrays(
    target: str, template: str, arrays: Sequence[np.ndarray]
) -> tuple[np.ndarray, ...]:
    """The results for the reference executor; bf16 comes back as float32.

    Raises: UnsupportedError without torch or for an op that is not run; InputError when it fails.
    """
    torch = _torch(target)
    tensors = [torch.from_numpy(np.asarray(x, order="C")) for x in arrays]
    results = _run(torch, target, template, tensors)
    return tuple(
        x.to(torch.float32).numpy() if x.dtype is torch.bfloat16 else x.numpy() for x in results
    )
