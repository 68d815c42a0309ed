"""Element types and tensor types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from oarlock.errors import UnknownName
from oarlock.ir.dim import Size, evaluate_size, product, substitute_size


@dataclass(frozen=True)
class DType:
    """An element type.

    ``numpy`` is the storage type: bf16 has no numpy type and is stored as its bits, uint16.
    """

    name: str
    bytes: int
    kind: str  # float, int, uint, bool
    storage: str
    all: ClassVar[dict[str, DType]] = {}

    @property
    def is_float(self) -> bool:
        return self.kind == "float"

    @property
    def is_int(self) -> bool:
        """An integer, signed or not; bool is not one."""
        return self.kind in ("int", "uint")

    @property
    def is_bool(self) -> bool:
        return self.kind == "bool"

    @property
    def is_signed(self) -> bool:
        return self.kind in ("float", "int")

    @property
    def numpy(self) -> np.dtype:
        return np.dtype(self.storage)

    @staticmethod
    def parse(name: str) -> DType:
        """The type of this name.  Raises: UnknownName."""
        if name not in DType.all:
            raise UnknownName(f"no element type {name!r}; expected one of {', '.join(DType.all)}")
        return DType.all[name]

    @staticmethod
    def of(dtype: np.dtype | type) -> DType:
        """The type that a numpy array of ``dtype`` holds.  Raises: UnknownName."""
        name = np.dtype(dtype).name
        for candidate in DType.all.values():
            if candidate.storage == name and candidate.name != "bf16":
                return candidate
        raise UnknownName(
            f"no element type for numpy {name}; expected one of {', '.join(DType.all)}"
        )

    def __str__(self) -> str:
        return self.name

    __repr__ = __str__


def _dtype(name: str, bytes: int, kind: str, storage: str) -> DType:
    DType.all[name] = DType(name, bytes, kind, storage)
    return DType.all[name]


f64 = _dtype("f64", 8, "float", "float64")
f32 = _dtype("f32", 4, "float", "float32")
f16 = _dtype("f16", 2, "float", "float16")
bf16 = _dtype("bf16", 2, "float", "uint16")
i64 = _dtype("i64", 8, "int", "int64")
i32 = _dtype("i32", 4, "int", "int32")
i16 = _dtype("i16", 2, "int", "int16")
i8 = _dtype("i8", 1, "int", "int8")
u8 = _dtype("u8", 1, "uint", "uint8")
bool_ = _dtype("bool", 1, "bool", "bool")


@dataclass(frozen=True)
class TensorType:
    """``f32[N,3]``: an element type and a shape of sizes."""

    dtype: DType
    shape: tuple[Size, ...] = ()

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> Size:
        """Number of elements."""
        return product(self.shape)

    @property
    def bytes(self) -> Size:
        """Size of a dense tensor, bytes."""
        return self.size * self.dtype.bytes

    def concrete(self, env: Mapping[str, int]) -> TensorType:
        """The type under values of the symbols."""
        return TensorType(self.dtype, tuple(evaluate_size(s, env) for s in self.shape))

    def substitute(self, env: Mapping[str, Size]) -> TensorType:
        """The type with symbols replaced."""
        return TensorType(self.dtype, tuple(substitute_size(s, env) for s in self.shape))

    def with_shape(self, shape: tuple[Size, ...]) -> TensorType:
        return TensorType(self.dtype, tuple(shape))

    def with_dtype(self, dtype: DType) -> TensorType:
        return TensorType(dtype, self.shape)

    def symbols(self) -> set[str]:
        """Names of the symbols in the shape."""
        return set().union(*(s.symbols() for s in self.shape if not isinstance(s, int)), set())

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(str(s) for s in self.shape)}]"

    __repr__ = __str__


def decode_bf16(bits: np.ndarray) -> np.ndarray:
    """bf16 bits (uint16) to float32, exactly."""
    return (np.asarray(bits, np.uint16).astype(np.uint32) << 16).view(np.float32)


def encode_bf16(x: np.ndarray) -> np.ndarray:
    """float to bf16 bits (uint16), nearest, ties to even; NaN stays NaN."""
    bits = np.asarray(x, np.float32, order="C").view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(x), np.uint32(0x7FC0), rounded).astype(np.uint16)


def decode(array: np.ndarray, dtype: DType) -> np.ndarray:
    """Storage to the values that references compute on: f16 and bf16 become float32."""
    if dtype is bf16:
        return decode_bf16(array)
    return array.astype(np.float32) if dtype is f16 else array


def encode(array: np.ndarray, dtype: DType) -> np.ndarray:
    """Values to storage of ``dtype``, rounded to nearest."""
    array = np.asarray(array)
    if dtype is bf16:
        return encode_bf16(array)
    if dtype is f16 and array.dtype != np.float16:
        with np.errstate(over="ignore"):
            return array.astype(np.float16)
    return array.astype(dtype.numpy, copy=False)
