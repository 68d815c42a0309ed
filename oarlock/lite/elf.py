"""Sizes in a relocatable object, read from its sections and symbols.

Source: System V ABI, Edition 4.1, chapter 4 (ELF64, little-endian).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

_WRITE, _ALLOC, _EXECUTE = 1, 2, 4
_NOBITS, _SYMBOLS, _FUNCTION = 8, 2, 2


@dataclass(frozen=True)
class ObjectSizes:
    """Bytes; ``functions`` by name; ``needs`` are the symbols that it takes from elsewhere."""

    text: int
    constants: int
    data: int
    zero: int
    functions: dict[str, int]
    needs: tuple[str, ...]


def object_sizes(path: Path) -> ObjectSizes:
    """The sizes of an ELF64 object.  Raises: ValueError when it is none."""
    raw = path.read_bytes()
    if raw[:6] != b"\x7fELF\x02\x01":
        raise ValueError(f"{path}: not a little-endian ELF64 object")
    at, step, count = (*struct.unpack_from("<Q", raw, 40), *struct.unpack_from("<HH", raw, 58))
    sections = [struct.unpack_from("<IIQQQQIIQQ", raw, at + step * i) for i in range(count)]
    sums = {"text": 0, "constants": 0, "data": 0, "zero": 0}
    functions: dict[str, int] = {}
    needs: list[str] = []
    for section in sections:
        _, kind, flags, _, offset, size, link, _, _, entry = section
        if flags & _ALLOC:
            sums[_group(kind, flags)] += size
        if kind == _SYMBOLS:
            strings = sections[link][4]
            for k in range(1, size // entry):
                _symbol(raw, offset + k * entry, strings, functions, needs)
    return ObjectSizes(**sums, functions=functions, needs=tuple(sorted(needs)))


def _group(kind: int, flags: int) -> str:
    if flags & _EXECUTE:
        return "text"
    if kind == _NOBITS:
        return "zero"
    return "data" if flags & _WRITE else "constants"


def _symbol(raw: bytes, at: int, strings: int, functions: dict[str, int], needs: list[str]) -> None:
    name_at, info, _, section, _, size = struct.unpack_from("<IBBHQQ", raw, at)
    start = strings + name_at
    name = raw[start : raw.index(b"\0", start)].decode()
    if info & 15 == _FUNCTION and section:
        functions[name] = size
    elif not section and name:
        needs.append(name)
