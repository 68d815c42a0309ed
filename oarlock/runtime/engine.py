"""A program compiled for this machine: build it once, keep it, map it.

The key of an engine is computed from the program's text, the digest of its weights, the version of
oarlock, the target and the compiler, before anything is lowered.  A warm load therefore reads no
weights: it maps ``weights.bin``, where they lie in the layout of the kernels.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from oarlock import knobs
from oarlock.codegen import target as targets
from oarlock.codegen.target import Target
from oarlock.errors import InvalidModel, ToolError, UnknownName
from oarlock.ir import tensors
from oarlock.ir.archive import Archive, PathLike, open_archive
from oarlock.ir.graph import Program
from oarlock.runtime import toolchain
from oarlock.runtime.cache import Cache, open_cache
from oarlock.runtime.digests import digests
from oarlock.runtime.layout import Layout
from oarlock.runtime.state import lift_state

FORMAT = 1
SOURCE, SHARED, WEIGHTS, STATE, DOCUMENT = (
    "engine{}.c", "engine.so", "weights.bin", "state.safetensors", "engine.json",
)  # fmt: skip
ALIGNMENT = 64
PRECISIONS = ("float32",)


@dataclass(frozen=True)
class Engine:
    """A loaded engine; ``run`` is the address of its entry, ``weights`` are mapped read-only."""

    folder: Path
    layout: Layout
    pool: Path
    target: str
    run: int
    weights: np.ndarray
    initial_state: Mapping[str, np.ndarray]
    library: ctypes.CDLL = field(repr=False)

    @property
    def engine_bytes(self) -> int:
        """Size of the machine code, bytes."""
        return self.layout.document["sizes"][SHARED]


@dataclass(frozen=True)
class _Build:
    """Everything that determines an engine."""

    source: Program | Archive
    target: Target
    precision: str
    compiler: toolchain.Compiler
    flags: tuple[str, ...]
    cache: Cache

    @property
    def key(self) -> str:
        text, weights = digests(self.source)
        facts = [
            FORMAT, code_identity(), text, weights, self.target.name, self.precision,
            self.compiler.identity, self.flags, cpu_identity(),
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    @cached_property
    def program(self) -> Program:
        return self.source.program() if isinstance(self.source, Archive) else self.source


def build(
    source: Program | PathLike,
    *,
    target: str | None = None,
    precision: str = "float32",
    compiler: str | Sequence[str] | None = None,
) -> Engine:
    """Load the engine of a program or ``.oar`` file, compiled first when it is not in the cache.

    Args: target: "cpu" is this machine; compiler: a command, before OARLOCK_CC.
    Raises: HasSteps when one engine cannot run the program; UserError when it cannot be compiled;
    ToolError; InvalidModel.
    """
    if precision not in PRECISIONS:
        raise UnknownName(f"no precision {precision!r}; expected one of {', '.join(PRECISIONS)}")
    cache = open_cache()
    found = toolchain.find(compiler, cache)
    chosen = targets.get(target or knobs.TARGET.value or "cpu")
    job = _Build(
        source if isinstance(source, Program) else open_archive(source),
        chosen, precision, found, toolchain.flags_for(found, chosen), cache,
    )  # fmt: skip
    key = job.key
    for _ in range(2):
        if cache.entry(key) is None:
            _refuse_steps(job)
        folder = cache.entry(key) or cache.build(key, lambda to: _write(job, to))
        with contextlib.suppress(_Damaged):
            return _load(folder, found.pool)
        cache.drop(key)
    raise ToolError(
        f"the engine in {cache.root / 'entries' / key} is damaged as soon as it is written"
    )


class HasSteps(Exception):
    """``program`` has steps that Python must drive, see ``runtime.split``."""

    def __init__(self, program: Program, target: str) -> None:
        super().__init__("the program has steps that Python drives")
        self.program, self.target = program, target


def _refuse_steps(job: _Build) -> None:
    """Raises: HasSteps."""
    import oarlock.ops  # noqa: F401  records, for the parser
    from oarlock.runtime.split import has_steps

    if has_steps(job.program):
        raise HasSteps(job.program, job.target.name)


class _Damaged(Exception):
    """An entry of the cache that is not whole."""


@lru_cache(maxsize=1)
def code_identity() -> str:
    """A hash of the sizes and times of oarlock's own files: a changed compiler is another one."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for folder, _, names in sorted(os.walk(root)):
        for name in sorted(names):
            if name.endswith((".py", ".c", ".h")):
                facts = os.stat(os.path.join(folder, name))
                digest.update(f"{folder}/{name} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def cpu_identity() -> str:
    """The machine's processor: engines are compiled for exactly it."""
    try:
        with open("/proc/cpuinfo") as file:
            lines = file.read(1 << 14).split("\n\n")[0].splitlines()
    except OSError:
        lines = []
    stable = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU part")
    kept = [line for line in lines if line.split("\t")[0].split(":")[0].strip() in stable]
    return f"{platform.machine()} {hashlib.sha256(chr(10).join(kept).encode()).hexdigest()}"


def _write(job: _Build, folder: Path) -> None:
    """Lower, compile and pack into ``folder``."""
    import oarlock.ops  # noqa: F401  records, for the parser
    from oarlock.codegen.lower import lower
    from oarlock.passes.pipeline import optimise

    original = job.program
    program, state = lift_state(original)
    lowered = lower(optimise(program), job.target)
    sources = [folder / SOURCE.format(i) for i in range(len(lowered.sources))]
    for path, text in zip(sources, lowered.sources):
        path.write_text(text)
    _write_weights(folder / WEIGHTS, lowered.constants)
    _write_state(folder / STATE, original, [s.name for s in state])
    toolchain.compile_shared(job.compiler, job.flags, sources, folder / SHARED, job.cache)
    if not knobs.KEEP_C.value:
        for path in sources:
            path.unlink()
    document = {
        "format": FORMAT,
        "target": job.target.name,
        "compiler": str(job.compiler),
        "flags": list(job.flags),
        "signature": original.signature.to_json(),
        "state": [vars(s) for s in state],
        "metadata": lowered.metadata,
        "sizes": {name: (folder / name).stat().st_size for name in (SHARED, WEIGHTS, STATE)},
    }
    (folder / DOCUMENT).write_text(json.dumps(document))


def _write_weights(path: Path, constants: Sequence[Any]) -> None:
    with open(path, "wb") as file:
        for constant in constants:
            file.write(b"\0" * (-file.tell() % ALIGNMENT))
            raw = np.ascontiguousarray(constant.array).reshape(-1).view(np.uint8)
            file.write(memoryview(raw))


def _write_state(path: Path, program: Program, names: Sequence[str]) -> None:
    with open(path, "wb") as file:
        for chunk in tensors.chunks({name: program.params[name] for name in names}):
            file.write(chunk)


def _load(folder: Path, pool: Path) -> Engine:
    """Map an entry.  Raises: _Damaged; ToolError when the shared object does not load."""
    try:
        document = json.loads((folder / DOCUMENT).read_text())
        for name, size in document["sizes"].items():
            if (folder / name).stat().st_size != size:
                raise _Damaged
        layout = Layout(document)
        weights = _map(folder / WEIGHTS, document["sizes"][WEIGHTS])
        state = tensors.read(_map(folder / STATE, document["sizes"][STATE]))
        target = document["target"]
    except (OSError, ValueError, KeyError, TypeError, InvalidModel):
        raise _Damaged from None
    library = load_library(folder / SHARED)
    run = ctypes.cast(library.oarlock_run, ctypes.c_void_p).value
    assert run is not None
    return Engine(folder, layout, pool, target, run, weights, state, library)


def _map(path: Path, size: int) -> np.ndarray:
    if size == 0:
        return np.empty(0, np.uint8)
    return np.asarray(np.memmap(path, np.uint8, "r", shape=(size,)))


def load_library(path: Path) -> ctypes.CDLL:
    """Open a shared object, with the C library's maths at hand.  Raises: ToolError."""
    with contextlib.suppress(OSError):
        _maths()
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise ToolError(f"cannot load {path}: {error}") from None


@lru_cache(maxsize=1)
def _maths() -> ctypes.CDLL:
    """libm for all: engines that ziglang linked without libc take expf and the like from it."""
    return ctypes.CDLL("libm.so.6", mode=ctypes.RTLD_GLOBAL)
