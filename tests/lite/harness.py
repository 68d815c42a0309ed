"""Compile packages strictly and run their example programs."""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from oarlock.lite import Package
from oarlock.lite.ports import Port
from oarlock.runtime.toolchain import ziglang_command

WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Werror")
LIBRARY = ("-std=c99", "-ffreestanding", "-fno-math-errno", *WARNINGS)


def compilers() -> dict[str, list[str]]:
    """Commands by name, of what is installed."""
    found = {k: [k] for k in ("gcc", "clang") if shutil.which(k)}
    zig = ziglang_command()
    return {**found, **({"zig": list(zig)} if zig else {})}


def any_compiler() -> list[str]:
    return next(iter(compilers().values()))


def compile_strictly(
    package: Package, to: Path, command: Sequence[str], flags: Sequence[str] = ("-O1",)
) -> Path:
    """The example, its code and weights without a warning as freestanding C99."""
    to.mkdir(parents=True, exist_ok=True)
    machine = package.target.flags if "zig" not in command[0] else _zig_flags(package)
    objects = []
    for name in (package.name, f"{package.name}_weights"):
        objects.append(str(to / f"{name}.o"))
        source = str(package.folder / f"{name}.c")
        _run([*command, *LIBRARY, *flags, *machine, "-c", source, "-o", objects[-1]])
    output = to / "example"
    main = [str(package.folder / "main.c"), "-std=c99", *WARNINGS]
    _run([*command, *main, *flags, *machine, *objects, "-o", str(output)])
    return output


def _zig_flags(package: Package) -> list[str]:
    static = ["-static"] if package.target.triple.endswith("-musl") else []
    return ["-target", package.target.triple, f"-mcpu={package.target.cpu}", *static]


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr[:6000]}"


def run(
    package: Package, binary: Path, arrays: Sequence[np.ndarray], launcher: Sequence[str] = ()
) -> list[np.ndarray]:
    """The visible outputs for one record of inputs.  Fails on any message."""
    return stream(package, binary, [arrays], launcher)[0]


def stream(
    package: Package,
    binary: Path,
    records: Sequence[Sequence[np.ndarray]],
    launcher: Sequence[str] = (),
) -> list[list[np.ndarray]]:
    """The visible outputs of every record, in one process."""
    data = b"".join(np.ascontiguousarray(x).tobytes() for arrays in records for x in arrays)
    done = subprocess.run([*launcher, str(binary)], input=data, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-4000:]
    assert not done.stderr, done.stderr.decode()[-4000:]
    hidden = {c.after.name for c in package.interface.carried}
    ports = [p for p in package.ports if p.is_output and p.name not in hidden]
    assert len(done.stdout) == len(records) * sum(p.bytes for p in ports)
    parts = io.BytesIO(done.stdout)
    return [[_array(p, parts.read(p.bytes)) for p in ports] for _ in records]


def _array(port: Port, raw: bytes) -> np.ndarray:
    return np.frombuffer(raw, port.type.dtype.numpy).reshape(port.type.shape)
