"""Weights as const data, bit exact: integers in C, seen as numbers through a union."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from oarlock.codegen.buffers import ALIGNMENT
from oarlock.codegen.c.names import identifier
from oarlock.codegen.kernel import Constant

_LINE = 12  # numbers
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
    def count(self) -> int:
        """Elements in C, where no array is empty."""
        return max(1, self.array.size)

    @property
    def declaration(self) -> str:
        bits = 8 * self.array.itemsize
        return (
            f"union {self.name} {{\n  uint{bits}_t bits[{self.count}];\n"
            f"  {self.scalar} values[{self.count}];\n}};\n"
            f"extern const union {self.name} {self.name};"
        )

    def definition(self, alignment: str) -> Iterator[str]:
        """Lines of C."""
        yield f"const union {self.name} {alignment}{self.name} = {{{{"
        words = _words(self.array) or ["0"]
        for start in range(0, len(words), _LINE):
            yield "  " + ", ".join(words[start : start + _LINE]) + ","
        yield "}};"


def _words(array: np.ndarray) -> list[str]:
    """Every element as a hexadecimal number."""
    size = array.itemsize
    raw = np.ascontiguousarray(array).reshape(-1).view(f"u{size}").astype(f">u{size}").tobytes()
    text, width = raw.hex(), 2 * size
    suffix = "u" if size == 4 else ("" if size < 4 else "ull")
    return [f"0x{text[i : i + width]}{suffix}" for i in range(0, len(text), width)]


def table(prefix: str, constants: Sequence[Constant]) -> dict[int, Weight]:
    """The weights by their offset, as ``Buffers`` packs them."""
    found: dict[int, Weight] = {}
    top = 0
    for i, constant in enumerate(constants):
        name = f"{prefix}_w{i}_{identifier(constant.name)}"
        found[top] = Weight(name, np.asarray(constant.array))
        top += -(-constant.array.nbytes // ALIGNMENT) * ALIGNMENT
    return found


def header(prefix: str, weights: Iterable[Weight]) -> str:
    """Declarations, for the package's own files."""
    guard = f"{prefix.upper()}_WEIGHTS_H"
    lines = [f"#ifndef {guard}", f"#define {guard}", "#include <stdint.h>", ""]
    return "\n".join([*lines, *(w.declaration for w in weights), "", "#endif\n"])


def source(prefix: str, weights: Iterable[Weight], alignment: int) -> str:
    """Definitions."""
    lines = [f'#include "{prefix}_weights.h"', ""]
    lines += ["#if defined(__GNUC__)", f"#define OL_ALIGNED __attribute__((aligned({alignment}))) "]
    lines += ["#else", "#define OL_ALIGNED", "#endif", ""]
    for weight in weights:
        lines += weight.definition("OL_ALIGNED ")
    return "\n".join([*lines, ""])
