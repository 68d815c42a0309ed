"""Packages under sanitizers, in every compiler that is installed, and for another machine."""

from __future__ import annotations

import shutil

import pytest

from tests.lite.harness import compilers
from tests.lite.test_every_op import GROUPS, NAMES, check

SANITIZE = ("-O1", "-g", "-fsanitize=undefined,address", "-fno-sanitize-recover=all")
DOUBTS = {"gcc": ("-Wno-error=maybe-uninitialized",)}  # instrumented: of tiles that a call fills
FULL_SPEED = ("-O3", "-ffp-contract=fast")
QEMU = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
# Each compiler and each kind of code once; other tests build both kinds with one compiler at -O1.
SANITIZED = [("gcc", "c99"), ("clang", "native")]
FAST = [("gcc", "native"), ("clang", "c99"), ("zig", "native")]


def compiler(name: str) -> list[str]:
    if name not in compilers():
        pytest.skip(f"{name} is not installed")
    return compilers()[name]


@pytest.mark.slow
@pytest.mark.parametrize("part", range(GROUPS))
@pytest.mark.parametrize(("name", "target"), SANITIZED)
def test_no_undefined_behaviour(name, target, part, tmp_path):
    check(NAMES[part::GROUPS], target, tmp_path, compiler(name), (*SANITIZE, *DOUBTS.get(name, ())))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(GROUPS))
@pytest.mark.parametrize(("name", "target"), FAST)
def test_every_compiler_at_full_speed(name, target, part, tmp_path):
    check(NAMES[part::GROUPS], target, tmp_path, compiler(name), FULL_SPEED)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(GROUPS))
def test_aarch64_under_qemu(part, tmp_path):
    if QEMU is None:
        pytest.skip("qemu-user is not installed: apt-get install qemu-user")
    check(NAMES[part::GROUPS], "aarch64-linux", tmp_path, compiler("zig"), ("-O2",), [QEMU])
