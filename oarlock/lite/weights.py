"""Weights as const data, bit exact: bytes in C, seen as numbers through a union.

Bytes are written as strings, which compilers read tens of times as fast as lists of numbers; their
order is that of little-endian machines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from oarlock.codegen.buffers import ALIGNMENT
from oarlock.codegen.c.names import identifier
from oarlock.codegen.kernel import Constant

_LINE = 48  # bytes
_SCALARS = {"float32": "float", "float64": "double", "float16": "uint16_t", "bool": "uint8_t"}


@dataclass(frozen=True)
class Weight:
    """One array: ``<name>.values`` in C."""

    name: str
    array: np.ndarray

    @property
    def scalar(self) -> str:
        """The C type of an element."""
        name = self.array.dtype.name
        return _SCALARS.get(name, f"{name}_t")

    @property
    def declaration(self) -> str:
        """The type; the string that it is made from ends with a byte of 0."""
        return (
            f"union {self.name} {{\n  unsigned char bytes[{self.array.nbytes + 1}];\n"
            f"  {self.scalar} values[{max(1, self.array.size)}];\n}};\n"
            f"extern const union {self.name} {self.name};"
        )

    def definition(self, alignment: str) -> Iterator[str]:
        """Lines of C."""
        yield f"const union {self.name} {alignment}{self.name} = {{"
        little = self.array.dtype.newbyteorder("<")
        raw = np.ascontiguousarray(self.array, little).tobytes()
        for start in range(0, max(1, len(raw)), _LINE):
            yield f'  "{"".join(map(_ESCAPED.__getitem__, raw[start : start + _LINE]))}"'
        yield "};"


def _escaped(byte: int) -> str:
    """A byte in a string; not as hexadecimal, which has no end, nor in a trigraph."""
    text = chr(byte)
    return text if 32 <= byte < 127 and text not in '"\\?' else f"\\{byte:03o}"


_ESCAPED = [_escaped(byte) for byte in range(256)]


def table(prefix: str, constants: Sequence[Constant]) -> dict[int, Weight]:
    """The weights by their offset, as ``Buffers`` packs them."""
    found: dict[int, Weight] = {}
    top = 0
    for i, constant in enumerate(constants):
        name = f"{prefix}_w{i}_{identifier(constant.name)}"
        found[top] = Weight(name, np.asarray(constant.array))
        top += -(-constant.array.nbytes // ALIGNMENT) * ALIGNMENT
    return found


_ORDER = (
    "#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__",
    "#error the bytes of the weights are in the order of little-endian machines",
    "#endif",
)


def header(prefix: str, weights: Iterable[Weight]) -> str:
    """Declarations, for the package's own files."""
    guard = f"{prefix.upper()}_WEIGHTS_H"
    lines = [f"#ifndef {guard}", f"#define {guard}", "#include <stdint.h>", ""]
    return "\n".join([*lines, *(w.declaration for w in weights), "", "#endif\n"])


def source(prefix: str, weights: Iterable[Weight], alignment: int) -> str:
    """Definitions."""
    lines = [f'#include "{prefix}_weights.h"', ""]
    lines += ["#if defined(__GNUC__)", f"#define OL_ALIGNED __attribute__((aligned({alignment}))) "]
    lines += ["#else", "#define OL_ALIGNED", "#endif", *_ORDER, ""]
    for weight in weights:
        lines += weight.definition("OL_ALIGNED ")
    return "\n".join([*lines, ""])
