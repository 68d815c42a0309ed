"""What a caller gives, as dense arrays in storage types; results in the caller's kind.

The rule of conversions: an array is accepted in its own type or where numpy's casting is "safe"
(every value is kept: i32 to i64, u8 to f32, f32 to f64); a Python number or list takes the input's
type when its values fit it.  So f64 arrays are refused by an f32 input, as by PyTorch.
torch is never imported: a tensor can only come from a caller who did.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from oarlock.errors import InputError
from oarlock.ir.types import DType, TensorType, bf16, encode

_ALIGNED = 64
_pointer_at = ctypes.c_void_p.from_address


def is_torch(x: Any) -> bool:
    """A torch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def as_dense(x: Any, type: TensorType, name: str) -> np.ndarray:
    """A C-contiguous, aligned array of the storage type of ``type``; ``x`` itself when it is one.

    Raises: InputError naming the input.
    """
    if is_torch(x):
        array = _from_torch(x, type, name)
    elif isinstance(x, (bool, int, float, list, tuple)):
        array = _from_python(x, type, name)
    else:
        array = _from_numpy(x, type, name)
    return np.require(array, requirements=("C", "A")) if array.ndim else _scalar(array)


def _scalar(array: np.ndarray) -> np.ndarray:
    return array if array.flags.aligned else array.copy()


def _refuse(type: TensorType, name: str, got: str, step: str = "") -> InputError:
    return InputError(f"input {name!r}: expected {type}, got {got}{step}", name)


def _from_torch(x: Any, type: TensorType, name: str) -> np.ndarray:
    torch = sys.modules["torch"]
    if x.device.type != "cpu":
        raise _refuse(type, name, f"a tensor on {x.device}", "; pass x.cpu()")
    if x.layout is not torch.strided or x.is_quantized:
        raise _refuse(type, name, f"a {x.layout} tensor", "; pass a dense one")
    x = x.detach()
    if x.is_conj() or x.is_neg():
        x = x.resolve_conj().resolve_neg()
    if x.dtype is torch.bfloat16:
        bits = x.contiguous().view(torch.int16).numpy().view(np.uint16)
        return bits if type.dtype is bf16 else _cast(bits, bf16, type, name, "torch.bfloat16")
    return _from_numpy(x.numpy(), type, name)


def _from_python(x: Any, type: TensorType, name: str) -> np.ndarray:
    try:
        found = np.asarray(x)
    except (ValueError, OverflowError) as error:
        raise _refuse(type, name, f"a {x.__class__.__name__}: {error}") from None
    if found.size == 0 and isinstance(x, (list, tuple)):
        return np.empty(found.shape, type.dtype.numpy)
    if _fits(found, type.dtype):
        return encode(found, type.dtype)
    shown = repr(x) if len(repr(x)) <= 60 else f"{repr(x)[:60]}..."
    raise _refuse(type, name, f"{x.__class__.__name__} {shown}", "; its values do not fit")


def _fits(values: np.ndarray, dtype: DType) -> bool:
    if values.dtype.kind == "b":
        return True
    if dtype.is_float:
        return values.dtype.kind in "iuf"
    if values.dtype.kind not in "iu" or dtype.is_bool:
        return False
    limits = np.iinfo(dtype.numpy)
    return bool(limits.min <= values.min() and values.max() <= limits.max)


def _from_numpy(x: Any, type: TensorType, name: str) -> np.ndarray:
    if x is None:
        raise InputError(f"input {name!r} is missing: expected {type}, got None", name)
    if isinstance(x, np.ma.MaskedArray):
        raise _refuse(type, name, "a masked array", "; pass x.filled(value)")
    try:
        array = np.asarray(x)
    except (TypeError, ValueError, RuntimeError) as error:
        raise _refuse(type, name, f"a {x.__class__.__name__}: {error}") from None
    if array.dtype == type.dtype.numpy and array.dtype.isnative:
        return array
    if array.dtype.name == "bfloat16":  # of the package ml_dtypes
        bits = array.view(np.uint16)
        return bits if type.dtype is bf16 else _cast(bits, bf16, type, name, "bfloat16")
    if type.dtype is not bf16 and np.can_cast(array.dtype, type.dtype.numpy, "safe"):
        return array.astype(type.dtype.numpy)
    hint = f"; pass x.astype({type.dtype.numpy.name!r})" if array.dtype.kind in "biuf" else ""
    if type.dtype is bf16:
        hint = "; pass the bits as uint16, or a torch.bfloat16 tensor"
    raise _refuse(type, name, f"{array.dtype}{list(array.shape)}", hint)


def _cast(bits: np.ndarray, source: DType, type: TensorType, name: str, got: str) -> np.ndarray:
    """bf16 to a wider float."""
    from oarlock.ir.types import decode

    if type.dtype.name not in ("f32", "f64"):
        raise _refuse(type, name, f"{got}{list(bits.shape)}")
    return decode(bits, source).astype(type.dtype.numpy)


def dense_tensors(inputs: Sequence[Any], dtypes: Sequence[np.dtype]) -> list[np.ndarray] | None:
    """Views of torch tensors that need no conversion; None unless all are such."""
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    found = []
    for x, dtype in zip(inputs, dtypes):
        if type(x) is not torch.Tensor or x.requires_grad or x.is_quantized or not x.is_cpu:
            return None
        is_plain = x.layout is torch.strided and x.is_contiguous() and not x.is_neg()
        array = x.numpy() if is_plain and x.dtype is not torch.bfloat16 else None
        if array is None or array.dtype is not dtype:
            return None
        found.append(array)
    return found


def to_torch(array: np.ndarray, dtype: DType) -> Any:
    """A torch tensor that shares the memory of ``array``."""
    torch = sys.modules["torch"]
    if dtype is bf16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def has_nan(array: np.ndarray, dtype: DType) -> bool:
    """A NaN is among the values."""
    if not dtype.is_float:
        return False
    return bool(((array & 0x7FFF) > 0x7F80).any() if dtype is bf16 else np.isnan(array).any())


def aligned_empty(size: int) -> np.ndarray:
    """Uninitialised bytes at an address that is a multiple of 64."""
    raw = np.empty(size + _ALIGNED, np.uint8)
    start = -raw.ctypes.data % _ALIGNED
    return raw[start : start + size]


NOTHING = np.zeros(256, np.uint8)  # where empty arrays are read


_DATA = object.__basicsize__  # PyArrayObject begins with the object header, then the data pointer


def _read_address(array: np.ndarray) -> int:
    """The address of an array's data, from the struct that numpy's C API fixes."""
    return _pointer_at(id(array) + _DATA).value or 0


def _slow_address(array: np.ndarray) -> int:
    return array.ctypes.data


def _select_address() -> Any:
    """``_read_address`` (0.15 us) where it agrees with ``array.ctypes.data`` (1 us)."""
    probe = np.arange(8, dtype=np.float32)
    if sys.implementation.name != "cpython":
        return _slow_address
    views = (probe, probe[3:], probe[::-1], probe.reshape(2, 4))
    return _read_address if all(_read_address(v) == v.ctypes.data for v in views) else _slow_address


address = _select_address()
