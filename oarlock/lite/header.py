"""The header of a package: sizes as macros, status codes, the entry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import oarlock
from oarlock.lite.ports import Port
from oarlock.lite.source import entry_signature
from oarlock.lite.weights import Weight

STATUSES = (
    ("OK", 0, ""),
    ("INDEX", 1, "an index in an input is outside of its axis"),
    ("ARGUMENT", 4, "a pointer is null, or the arena is not aligned"),
)


@dataclass(frozen=True)
class Carried:
    """A tensor carried from one run to the next: an input, the output that it becomes."""

    before: Port
    after: Port
    initial: Weight


@dataclass(frozen=True)
class Interface:
    """What a header tells.  Sizes are bytes."""

    prefix: str
    target: str
    version: str
    ports: Sequence[Port]
    carried: Sequence[Carried]
    arena_bytes: int
    alignment: int
    weight_bytes: int

    def text(self) -> str:
        """The header."""
        guard = f"{self.prefix.upper()}_H"
        lines = [
            f"/* {self.prefix}: written by oarlock {oarlock.__version__} for {self.target}.",
            " *",
            *(f" * {'output' if p.is_output else 'input '} {p}" for p in self.ports),
            " */",
            f"#ifndef {guard}",
            f"#define {guard}",
            "",
            "#include <stdint.h>",
            "",
            *(['#include "' + self.prefix + '_weights.h"', ""] if self.carried else []),
            "#ifdef __cplusplus",
            'extern "C" {',
            "#endif",
            "",
            *self._macros(),
            "",
            *self._entry(),
            "",
            "#ifdef __cplusplus",
            "}",
            "#endif",
            "#endif",
        ]
        return "\n".join(lines) + "\n"

    def _macros(self) -> Iterator[str]:
        p = self.prefix.upper()
        yield f'#define {p}_VERSION "{self.version}"'
        yield f"#define {p}_ARENA_BYTES {self.arena_bytes}"
        yield f"#define {p}_ARENA_ALIGN {self.alignment}"
        yield f"#define {p}_WEIGHT_BYTES {self.weight_bytes}"
        for port in self.ports:
            yield f"#define {p}_{port.name.upper()}_ELEMENTS {port.elements}"
            yield f"#define {p}_{port.name.upper()}_BYTES {port.bytes}"
        for carried in self.carried:
            values = f"{carried.initial.name}.values"
            yield f"#define {p}_{carried.before.name.upper()}_INITIAL {values}"
        yield ""
        for name, code, meaning in STATUSES:
            yield f"#define {p}_{name} {code}" + (f" /* {meaning} */" if meaning else "")

    def _entry(self) -> Iterator[str]:
        p = self.prefix.upper()
        yield "/* Runs the model: a status."
        yield f" * memory: {p}_ARENA_BYTES, aligned to {p}_ARENA_ALIGN; its content need not be kept"
        yield " * between runs.  Inputs and outputs are dense, in row-major order, and share no memory."
        for carried in self.carried:
            yield f" * {carried.after.name} is {carried.before.name} of the next run."
        yield " */"
        yield f"{entry_signature(self.prefix, self.ports)};"
