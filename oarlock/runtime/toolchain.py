"""Find a C compiler and run it: an explicit setting, ``$CC``, clang, gcc, ziglang."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from oarlock import knobs
from oarlock.codegen.target import Target
from oarlock.errors import ToolError
from oarlock.runtime.cache import Cache, open_cache
from oarlock.runtime.threads import granted_cores

CSRC = Path(__file__).parent / "csrc"
POOL = ("pool.c", "twister.c")
TIMEOUT_S = 900.0
TAIL_LINES = 20
OLDEST = {"gcc": 10, "clang": 14, "zig": 14}
GLIBC = "2.17"
INSTALL = (
    "install clang or gcc, or `pip install ziglang`; or set OARLOCK_CC to a compiler's command"
)


@dataclass(frozen=True)
class Compiler:
    """A C compiler that works here.

    ``kind`` is gcc, clang or zig; ``identity`` changes when the compiler does; ``pool`` is the
    thread pool that it compiled, which was the proof that it works.
    """

    kind: str
    command: tuple[str, ...]
    version: str
    identity: str
    pool: Path

    def __str__(self) -> str:
        return f"{' '.join(self.command)} ({self.version})"


@dataclass(frozen=True)
class _Candidate:
    command: tuple[str, ...]
    source: str  # how it was found
    is_asked: bool  # by the user: its failure is an error, not a reason to look further


def find(setting: str | Sequence[str] | None = None, cache: Cache | None = None) -> Compiler:
    """The first compiler that compiles the thread pool.

    Args: setting: a command, before OARLOCK_CC and ``$CC``.
    Raises: ToolError when the one asked for fails, or none is found.
    """
    cache = cache or open_cache()
    failures: list[str] = []
    for candidate in _candidates(setting):
        try:
            return _probe(candidate, cache)
        except ToolError as error:
            if candidate.is_asked:
                raise
            failures.append(f"  {candidate.source}: {str(error).splitlines()[0]}")
    tried = "\n".join(failures) or "  none is installed"
    raise ToolError(f"no C compiler works:\n{tried}\n{INSTALL}")


def _candidates(setting: str | Sequence[str] | None) -> Iterator[_Candidate]:
    asked = [(setting, "the setting"), (knobs.CC.value, "OARLOCK_CC")]
    for command, source in asked:
        if command:
            words = shlex.split(command) if isinstance(command, str) else list(command)
            yield _Candidate(tuple(words), source, True)
            return
    if os.environ.get("CC"):
        yield _Candidate(tuple(shlex.split(os.environ["CC"])), "$CC", False)
    for name in ("clang", "gcc"):
        if shutil.which(name):
            yield _Candidate((name,), name, False)
    zig = ziglang_command()
    if zig:
        yield _Candidate(zig, "ziglang", False)


def ziglang_command() -> tuple[str, ...] | None:
    """The C compiler of the PyPI package, found without running it."""
    spec = importlib.util.find_spec("ziglang")
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        for name in ("zig", "zig.exe"):
            if os.path.isfile(os.path.join(folder, name)):
                return (os.path.join(folder, name), "cc")
    return None


def _probe(candidate: _Candidate, cache: Cache) -> Compiler:
    command = _resolve(candidate)
    identity = _identity(command)
    key = _pool_key(identity)
    folder = cache.entry(key) or cache.build(key, lambda to: _build_pool(command, to, cache))
    facts = json.loads((folder / "compiler.json").read_text())
    return Compiler(facts["kind"], command, facts["version"], identity, folder / "pool.so")


def _resolve(candidate: _Candidate) -> tuple[str, ...]:
    path = shutil.which(candidate.command[0])
    if path is None:
        command = " ".join(candidate.command)
        raise ToolError(
            f"{candidate.source}: {command!r} is not found; {INSTALL}", candidate.command
        )
    return (path, *candidate.command[1:])


def _identity(command: tuple[str, ...]) -> str:
    """The command with the file's size and time: running ``--version`` would cost every start."""
    facts = os.stat(os.path.realpath(command[0]))
    return f"{shlex.join(command)} {facts.st_size} {facts.st_mtime_ns}"


def _pool_key(identity: str) -> str:
    digest = hashlib.sha256(identity.encode())
    for name in ("oarlock.h", *POOL):
        digest.update((CSRC / name).read_bytes())
    return f"pool-{digest.hexdigest()}"


def _build_pool(command: tuple[str, ...], folder: Path, cache: Cache) -> None:
    kind, version = _describe(command, cache)
    flags = [*_common_flags(kind), "-O3", f"-I{CSRC}"]
    output = folder / "pool.so"
    run([*command, *flags, "-shared", *(str(CSRC / n) for n in POOL), "-o", str(output)], cache)
    (folder / "compiler.json").write_text(json.dumps({"kind": kind, "version": version}))


def _describe(command: tuple[str, ...], cache: Cache) -> tuple[str, str]:
    """Kind and first line of ``--version``.  Raises: ToolError when it is too old."""
    text = run([*command, "--version"], cache)
    first = text.strip().splitlines()[0] if text.strip() else "unknown version"
    is_zig = Path(command[0]).stem == "zig" or "ziglang" in command
    kind = "zig" if is_zig else "clang" if "clang" in text else "gcc"
    match = re.search(r"(\d+)\.\d+\.\d+", first)
    if match and int(match[1]) < OLDEST[kind]:
        raise ToolError(f"{first}: expected {kind} {OLDEST[kind]} or newer; {INSTALL}", command)
    return kind, first


def flags_for(compiler: Compiler, target: Target) -> tuple[str, ...]:
    """Flags of an engine for ``target``."""
    flags = [*_common_flags(compiler.kind, target.zig_cpu), f"-I{CSRC}"]
    flags += ["-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-strict-aliasing"]
    flags += ["-fno-unroll-loops"]  # loops are written as wide as they are to be: 20 times faster
    if compiler.kind != "gcc" and target.isa.startswith("avx"):
        flags += ["-mstackrealign"]  # else vectors are spilled across lines, and some across pages
    if compiler.kind == "zig":
        flags += ["-Xclang", "-O3"]  # zig turns every -O into -O2
        flags += ["-mprefer-vector-width=512"] if target.vector_bytes == 64 else []
    else:
        flags += target.flags
    return (*flags, *shlex.split(knobs.CFLAGS.value))


def _common_flags(kind: str, zig_cpu: str = "baseline") -> list[str]:
    flags = [
        "-std=gnu11",
        "-g0",
        "-fPIC",
        "-fomit-frame-pointer",
        "-fno-asynchronous-unwind-tables",
    ]
    if kind == "zig":
        triple = f"{platform.machine()}-linux-gnu.{GLIBC}"
        return [*flags, "-target", triple, f"-mcpu={zig_cpu}", "-nostdlib"]
    return flags


def compile_shared(
    compiler: Compiler, flags: Sequence[str], sources: Sequence[Path], output: Path, cache: Cache
) -> None:
    """Build ``output`` from C files, several at a time when there are several.

    Raises: ToolError with the command, the exit code and the last lines.
    """
    libraries = [] if compiler.kind == "zig" else ["-lm"]
    inputs = [str(s) for s in sources]
    if len(sources) > 1:
        objects = [source.with_suffix(".o") for source in sources]

        def one(pair: tuple[Path, Path]) -> None:
            run([*compiler.command, *flags, "-c", str(pair[0]), "-o", str(pair[1])], cache)

        with ThreadPoolExecutor(granted_cores()) as pool:
            list(pool.map(one, zip(sources, objects)))
        inputs = [str(o) for o in objects]
    run([*compiler.command, *flags, "-shared", *inputs, *libraries, "-o", str(output)], cache)
    for leftover in inputs if len(sources) > 1 else ():
        os.unlink(leftover)


def run(command: Sequence[str], cache: Cache) -> str:
    """Standard output of a tool.  Raises: ToolError."""
    zig = str(cache.zig_folder())
    environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": zig, "ZIG_LOCAL_CACHE_DIR": zig}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, errors="replace",
            stdin=subprocess.DEVNULL, timeout=TIMEOUT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ToolError(f"{command[0]}: no result after {TIMEOUT_S:.0f} s", command) from None
    except OSError as error:
        raise ToolError(f"{command[0]}: {error.strerror}; {INSTALL}", command) from None
    if done.returncode:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-TAIL_LINES:])
        raise ToolError(f"{command[0]} failed", command, done.returncode, tail)
    return done.stdout
