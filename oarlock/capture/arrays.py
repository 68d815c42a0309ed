"""Element types and storage between torch and Oarlock."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from oarlock.errors import UnknownName
from oarlock.ir import DType

_DTYPES = {
    torch.float64: "f64", torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16",
    torch.int64: "i64", torch.int32: "i32", torch.int16: "i16", torch.int8: "i8",
    torch.uint8: "u8", torch.bool: "bool",
}  # fmt: skip


def dtype_of(dtype: torch.dtype) -> DType:
    """The element type.  Raises: NotImplementedError for one that the IR lacks."""
    if dtype not in _DTYPES:
        raise NotImplementedError(f"element type {dtype}")
    return DType.all[_DTYPES[dtype]]


_NAMES = {"float": torch.float32, "double": torch.float64, "int": torch.int32, "long": torch.int64}


def named_type(dtype: Any) -> torch.dtype:
    """From any usual way to say it: torch's, ours, numpy's, or a name.  Raises: UnknownName."""
    if isinstance(dtype, str):
        dtype = DType.all.get(dtype) or _NAMES.get(dtype) or getattr(torch, dtype, dtype)
    if isinstance(dtype, DType):
        return torch_dtype(dtype)
    if isinstance(dtype, torch.dtype):
        return dtype
    try:
        return torch_dtype(DType.of(dtype))
    except TypeError:
        names = ", ".join(DType.all)
        raise UnknownName(f"no element type {dtype!r}; expected one of {names}") from None


def torch_dtype(dtype: DType) -> torch.dtype:
    return next(t for t, name in _DTYPES.items() if name == dtype.name)


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """A copy in storage: bf16 as uint16 bits."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype is torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16).copy()
    return tensor.numpy().copy()
