"""Finding compilers, and what they say when they fail."""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path

import pytest

from oarlock.codegen import target as targets
from oarlock.codegen.lower import lower
from oarlock.errors import ToolError
from oarlock.ir import Builder, Program, TensorType, f32
from oarlock.runtime import toolchain
from oarlock.runtime.cache import Cache, private_folder

SOURCE = "int answer(void) { return 42; }\n"


@pytest.fixture
def store(tmp_path: Path, monkeypatch) -> Cache:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("OARLOCK_CC", raising=False)
    return Cache(private_folder(tmp_path / "cache"), 1 << 30)


@pytest.fixture
def bare(tmp_path: Path, monkeypatch) -> Path:
    """A PATH with nothing on it, and no ziglang."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(toolchain, "ziglang_command", lambda: None)
    return tmp_path / "bin"


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def kinds() -> list[str]:
    return [k for k in ("clang", "gcc") if shutil.which(k)] + ["zig"] * bool(
        toolchain.ziglang_command()
    )


@pytest.mark.parametrize("kind", kinds())
def test_compiles_and_loads(kind, store, tmp_path):
    zig = toolchain.ziglang_command()
    compiler = toolchain.find(zig if kind == "zig" else kind, store)
    assert compiler.kind == kind
    assert compiler.pool.exists()
    (tmp_path / "a.c").write_text(SOURCE)
    (tmp_path / "b.c").write_text(SOURCE.replace("answer", "other"))
    flags = toolchain.flags_for(compiler, targets.get("cpu"))
    for sources in ([tmp_path / "a.c"], [tmp_path / "a.c", tmp_path / "b.c"]):
        output = tmp_path / f"{len(sources)}.so"
        toolchain.compile_shared(compiler, flags, sources, output, store)
        assert ctypes.CDLL(str(output)).answer() == 42
    assert not list(tmp_path.glob("*.o"))


def test_order(store, monkeypatch, tmp_path):
    if not shutil.which("gcc"):
        pytest.skip("needs gcc")
    monkeypatch.setenv("CC", "gcc")
    assert toolchain.find(cache=store).kind == "gcc"
    monkeypatch.setenv("OARLOCK_CC", "no-such-compiler")
    assert toolchain.find("gcc", store).kind == "gcc"
    with pytest.raises(ToolError, match="OARLOCK_CC: 'no-such-compiler' is not found"):
        toolchain.find(cache=store)


def test_a_broken_one_is_passed_over(store, bare, monkeypatch):
    gcc = shutil.which("gcc", path="/usr/bin")
    if gcc is None:
        pytest.skip("needs gcc")
    script(bare / "clang", "echo clang version 15.0.0; exit 0")
    (bare / "gcc").symlink_to(gcc)
    monkeypatch.setenv("PATH", f"{bare}")
    monkeypatch.setenv("CC", "missing")
    script(bare / "clang", 'case "$1" in --version) echo clang version 15.0.0;; *) exit 1;; esac')
    monkeypatch.setenv("PATH", f"{bare}:/usr/bin")
    assert toolchain.find(cache=store).kind == "gcc"


def test_none(store, bare):
    with pytest.raises(ToolError) as caught:
        toolchain.find(cache=store)
    assert str(caught.value) == (
        "no C compiler works:\n  none is installed\n"
        "install clang or gcc, or `pip install ziglang`; or set OARLOCK_CC to a compiler's command"
    )


def test_too_old(store, bare):
    script(bare / "gcc", "echo 'gcc (GCC) 4.8.5 20150623'")
    with pytest.raises(
        ToolError, match=r"gcc: gcc \(GCC\) 4.8.5 20150623: expected gcc 10 or newer"
    ):
        toolchain.find(cache=store)


def test_failure_shows_command_exit_code_and_last_lines(store, bare):
    script(
        bare / "bad", 'case "$1" in --version) echo gcc 13.1.0;; *) echo boom >&2; exit 3;; esac'
    )
    with pytest.raises(ToolError) as caught:
        toolchain.find("bad", store)
    error = caught.value
    assert error.exit_code == 3
    assert error.tail == "boom"
    assert error.command[0] == str(bare / "bad")
    assert "exit code: 3\nboom" in str(error)


def test_a_changed_compiler_is_another(store, bare):
    path = script(bare / "cc", "echo 1")
    before = toolchain._identity((str(path),))
    os.utime(path, (1, 1))
    assert toolchain._identity((str(path),)) != before


@pytest.mark.skipif(
    not shutil.which("clang") or targets.get("cpu").isa != "avx512", reason="AVX-512 by clang"
)
def test_vectors_are_spilled_to_whole_lines(store, tmp_path):
    """A spill across two lines costs, one across two pages halves the speed of a product: which of
    them it is depends on where the stack begins."""
    b = Builder()
    x, w = b.input(TensorType(f32, (512, 256)), "x"), b.input(TensorType(f32, (1024, 256)), "w")
    bias = b.input(TensorType(f32, (1024,)), "bias")
    b.graph.outputs = [b.add(b.matmul(x, b.transpose(w, perm=(1, 0))), bias)]
    (tmp_path / "product.c").write_text(lower(Program(b.graph), targets.get("cpu")).sources[0])
    compiler, text = toolchain.find("clang", store), tmp_path / "product.s"
    flags = toolchain.flags_for(compiler, targets.get("cpu"))
    command = [*compiler.command, *flags, "-S", str(tmp_path / "product.c"), "-o", str(text)]
    toolchain.run(command, store)
    spills = [line for line in text.read_text().splitlines() if "64-byte Spill" in line]
    assert all("vmovap" in line or "vmovdqa" in line for line in spills)
