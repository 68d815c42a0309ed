"""The safetensors format, strictly: 8 bytes of header length, a JSON header, dense data.

Source: https://github.com/huggingface/safetensors, "Format"; every rule there is checked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from oarlock.errors import InvalidModel

MAX_HEADER_BYTES = 1 << 24
MAX_RANK = 32  # of numpy 1
ALIGNMENT = 64  # bytes of the header with its length: data begins aligned

_NUMPY = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4",
    "I16": "<i2", "I8": "|i1", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
_NAMES = {np.dtype(storage): name for name, storage in _NUMPY.items()}


def chunks(params: Mapping[str, np.ndarray]) -> Iterator[bytes | memoryview]:
    """The file's bytes, piece by piece; the order of ``params`` does not matter.

    Tensors are sorted by falling element size, then name, so that each is aligned.
    """
    order = sorted(params, key=lambda name: (-params[name].dtype.itemsize, name))
    header: dict[str, Any] = {}
    position = 0
    for name in order:
        array = params[name]
        end = position + array.nbytes
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % ALIGNMENT)
    yield len(text).to_bytes(8, "little") + text
    for name in order:
        yield memoryview(np.ascontiguousarray(params[name]).reshape(-1).view(np.uint8))


def read(data: np.ndarray) -> dict[str, np.ndarray]:
    """Tensors by name, views of ``data`` (uint8) where alignment allows.

    Raises: InvalidModel with the first rule broken.
    """
    header, start = _read_header(data)
    body = data[start:]
    spans = sorted((_span(name, entry, len(body)) for name, entry in header.items()), key=_begin)
    position = 0
    for name, begin, end, _, _ in spans:
        if begin != position:
            raise _invalid(f"tensor {name!r} begins at byte {begin}, expected {position}")
        position = end
    if position != len(body):
        raise _invalid(f"{len(body)} bytes of data, the tensors cover {position}")
    return {name: _tensor(body, *rest, name=name) for name, *rest in spans}


Span = tuple[str, int, int, str, tuple[int, ...]]


def _begin(span: Span) -> tuple[int, int]:
    return span[1], span[2]


def _invalid(why: str) -> InvalidModel:
    return InvalidModel(f"weights.safetensors: {why}")


def _read_header(data: np.ndarray) -> tuple[dict[str, Any], int]:
    if len(data) < 8:
        raise _invalid(f"{len(data)} bytes, expected at least 8")
    length = int.from_bytes(data[:8].tobytes(), "little")
    if length > MAX_HEADER_BYTES:
        raise _invalid(f"header of {length} bytes, the limit is {MAX_HEADER_BYTES}")
    if length > len(data) - 8:
        raise _invalid(f"header of {length} bytes in a member of {len(data)}")
    header = strict_json(data[8 : 8 + length].tobytes(), "weights.safetensors header")
    if not isinstance(header, dict):
        raise _invalid("the header is not an object")
    header.pop("__metadata__", None)
    return header, 8 + length


def _span(name: str, entry: Any, size: int) -> Span:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise _invalid(f"tensor {name[:80]!r}: expected dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _NUMPY:
        raise _invalid(f"tensor {name[:80]!r}: element type {str(dtype)[:20]!r}")
    if not _are_sizes(shape) or len(shape) > MAX_RANK:
        raise _invalid(f"tensor {name[:80]!r}: shape {str(shape)[:80]}")
    if not _are_sizes(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= size:
        raise _invalid(f"tensor {name[:80]!r}: data_offsets {str(offsets)[:80]} of {size} bytes")
    expected = np.dtype(_NUMPY[dtype]).itemsize
    for n in shape:
        expected *= n
    if offsets[1] - offsets[0] != expected:
        got = offsets[1] - offsets[0]
        raise _invalid(f"tensor {name[:80]!r}: {dtype}{shape} in {got} bytes, expected {expected}")
    return name, offsets[0], offsets[1], _NUMPY[dtype], tuple(shape)


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 1 << 62 for n in value)


def _tensor(
    body: np.ndarray, begin: int, end: int, storage: str, shape: tuple[int, ...], *, name: str
) -> np.ndarray:
    raw = body[begin:end]
    if storage == "|b1" and raw.size and raw.max() > 1:
        raise _invalid(f"tensor {name[:80]!r}: a boolean that is neither 0 nor 1")
    if raw.ctypes.data % np.dtype(storage).itemsize:
        raw = raw.copy()
    return raw.view(storage).reshape(shape)


def strict_json(data: bytes, what: str) -> Any:
    """JSON without NaN, duplicate keys or lone surrogates.  Raises: InvalidModel."""
    try:
        text = data.decode()
        value = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constants)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise InvalidModel(f"{what}: not valid JSON: {str(error)[:200]}") from None
    return value


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice")
    return found


def _no_constants(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")
