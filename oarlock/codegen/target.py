"""Targets: what the generated code may use."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from oarlock.errors import UnknownName

WIDE_CACHE = 1 << 19  # half of a second level cache


@dataclass(frozen=True)
class Target:
    """A machine for the code generator.

    ``vector_bytes`` is the width of a vector register, 0 for scalar C99; ``registers`` how many
    there are; ``cache_bytes`` the part of the second level cache, or of a small memory, that a
    kernel may fill with a block of its operand; ``flags`` go to a gcc or clang driver, ``zig_cpu`` is the name for ``zig cc -mcpu``.
    """

    name: str
    isa: str  # avx512, avx2, neon, plain
    vector_bytes: int
    registers: int
    fma: bool = True
    flags: tuple[str, ...] = ()
    zig_cpu: str = "native"
    cache_bytes: int = WIDE_CACHE

    def lanes(self, element_bytes: int) -> int:
        """Elements in a register; 1 for scalar targets."""
        return max(1, self.vector_bytes // element_bytes)

    def tiles_per_block(self, tile_bytes: int, least: int, most: int) -> int:
        """How many tiles of rows fill the cache; ``least`` where that is a wide one."""
        wanted = self.cache_bytes // max(1, tile_bytes)
        return min(max(wanted, least * self.cache_bytes // WIDE_CACHE, 1), most)


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("avx512", "avx512", 64, 32, True, ("-march=native", "-mprefer-vector-width=512")),
        Target("avx2", "avx2", 32, 16, True, ("-mavx2", "-mfma", "-mf16c"), "x86_64_v3"),
        Target("neon", "neon", 16, 32, True, ()),
        Target("generic", "plain", 16, 16, False, (), "baseline"),
        Target("plain", "plain", 0, 16, False, (), "baseline"),
    )
}


def get(name: str) -> Target:
    """The target ``name``; "cpu" and "native" are this machine.  Raises: UnknownName."""
    if name in ("cpu", "native"):
        return native()
    if name not in TARGETS:
        raise UnknownName(f"no target {name!r}; expected native, {', '.join(TARGETS)}")
    return TARGETS[name]


@lru_cache(maxsize=1)
def native() -> Target:
    """The widest target that this machine runs."""
    machine = platform.machine().lower()
    if machine in ("arm64", "aarch64"):
        return TARGETS["neon"]
    features = _features()
    if {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= features:
        return TARGETS["avx512"]
    return TARGETS["avx2"] if {"avx2", "fma"} <= features else TARGETS["generic"]


def _features() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    lines = (line.partition(":")[2] for line in text.splitlines() if line.startswith("flags"))
    return set(next(lines, "").split())
