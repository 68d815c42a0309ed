"""Compile a package: for the size report, and its example."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oarlock.lite.elf import object_sizes
from oarlock.lite.targets import C99, LiteTarget
from oarlock.runtime import toolchain
from oarlock.runtime.cache import open_cache
from oarlock.runtime.toolchain import Compiler


@dataclass(frozen=True)
class Sizes:
    """Bytes of the compiled package: ``text`` with its tables, ``weights``, writable ``data``.

    ``functions`` are those of the code, the largest first; ``needs`` what the linker must find.
    """

    text: int
    weights: int
    data: int
    functions: dict[str, int]
    needs: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def find(target: LiteTarget, compiler: str | Sequence[str] | None = None) -> Compiler:
    """A compiler for the target: ziglang for machines other than this one.  Raises: ToolError."""
    if compiler is None and not target.is_native:
        compiler = toolchain.ziglang_command()
    return toolchain.find(compiler)


def command(compiler: Compiler, target: LiteTarget) -> list[str]:
    """The compiler with the flags of the target."""
    if compiler.kind != "zig":
        return [*compiler.command, *C99, *target.flags]
    wide = ["-mprefer-vector-width=512"] if target.code.vector_bytes == 64 else []
    place = ["-target", target.triple, f"-mcpu={target.cpu}"]
    return [*compiler.command, *place, *C99, "-Xclang", "-O3", *wide]


def objects(
    folder: Path, prefix: str, to: Path, target: LiteTarget, compiler: Compiler
) -> list[Path]:
    """Compile the code and the weights into ``to``.  Raises: ToolError."""
    built = []
    for name in (prefix, f"{prefix}_weights"):
        output = to / f"{name}.o"
        source = str(folder / f"{name}.c")
        toolchain.run([*command(compiler, target), "-c", source, "-o", str(output)], open_cache())
        built.append(output)
    return built


def measure(folder: Path, prefix: str, target: LiteTarget, compiler: Compiler) -> Sizes:
    """The sizes of a package.  Raises: ToolError."""
    with tempfile.TemporaryDirectory() as scratch:
        code, weights = (
            object_sizes(p) for p in objects(folder, prefix, Path(scratch), target, compiler)
        )
    own = [n for n in code.needs if not n.startswith(f"{prefix}_w")]
    functions = dict(sorted(code.functions.items(), key=lambda item: (-item[1], item[0])))
    data = code.data + code.zero + weights.data + weights.zero
    return Sizes(code.text + code.constants, weights.constants, data, functions, tuple(own))


def example(folder: Path, prefix: str, target: LiteTarget, compiler: Compiler) -> Path:
    """Build the example program in the folder.  Raises: ToolError."""
    output = folder / prefix
    flags = [f for f in command(compiler, target) if f != "-ffreestanding"]
    flags += ["-static"] if target.triple.endswith("-musl") else []
    with tempfile.TemporaryDirectory() as scratch:
        parts = [str(p) for p in objects(folder, prefix, Path(scratch), target, compiler)]
        link = [*flags, str(folder / "main.c"), *parts, "-o", str(output)]
        toolchain.run(link, open_cache())
    return output
