"""What a package is written and compiled for."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace

from oarlock.codegen import target as machines
from oarlock.codegen.target import Target
from oarlock.errors import UnknownName

C99 = (
    "-std=c99", "-O3", "-g0", "-ffreestanding", "-ffp-contract=fast", "-fno-math-errno",
    "-fomit-frame-pointer", "-fno-asynchronous-unwind-tables", "-ffunction-sections",
    "-fdata-sections",
)  # fmt: skip

SMALL_MEMORY, SMALL_CACHE = 4 << 10, 32 << 10  # bytes of scratch that copied windows may take


@dataclass(frozen=True)
class LiteTarget:
    """A machine for a package.

    ``code`` is what the generated C may use; ``triple`` and ``cpu`` are for ``zig cc``; ``flags``
    are those of a gcc or clang driver that compiles for it.
    """

    name: str
    code: Target
    triple: str
    cpu: str
    flags: tuple[str, ...] = ()

    @property
    def alignment(self) -> int:
        """Of the arena and of every buffer in it, bytes: a vector's, at least 16."""
        return max(16, self.code.vector_bytes)

    @property
    def is_native(self) -> bool:
        """Binaries run here."""
        return self.triple.startswith(f"{platform.machine()}-linux")


def names() -> tuple[str, ...]:
    """The targets there are."""
    return ("native", "c99", "aarch64-linux")


def get(name: str) -> LiteTarget:
    """The target ``name``.  Raises: UnknownName."""
    host = f"{platform.machine()}-linux-gnu.2.17"
    if name == "native":
        code = machines.native()
        return LiteTarget(name, code, host, code.zig_cpu, code.flags)
    if name == "c99":
        code = replace(machines.get("plain"), cache_bytes=SMALL_MEMORY)
        return LiteTarget(name, code, host, "baseline")
    if name == "aarch64-linux":
        code = replace(machines.get("neon"), cache_bytes=SMALL_CACHE)
        return LiteTarget(name, code, "aarch64-linux-musl", "generic")
    raise UnknownName(f"no target {name!r}; expected one of {', '.join(names())}")
