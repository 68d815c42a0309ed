"""Packages under sanitizers, in every compiler that is installed, and for another machine."""

from __future__ import annotations

import shutil

import pytest

from tests.lite.harness import compilers
from tests.lite.test_every_op import GROUPS, NAMES, check

# Instrumentation makes gcc doubt what is initialised; the other tests are strict about warnings.
SANITIZE = ("-O1", "-Wno-error", "-g", "-fsanitize=undefined", "-fno-sanitize-recover=all")
ADDRESS = (*SANITIZE, "-fsanitize=address")
TARGETS = ("c99", "native")
QEMU = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("part", range(GROUPS))
@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_no_undefined_behaviour(name, part, target, tmp_path):
    if name not in compilers():
        pytest.skip(f"{name} is not installed")
    check(NAMES[part::GROUPS], target, tmp_path, compilers()[name], ADDRESS)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("part", range(GROUPS))
@pytest.mark.parametrize("name", sorted(compilers()))
def test_every_compiler_at_full_speed(name, part, target, tmp_path):
    flags = ("-O3", "-ffp-contract=fast")
    check(NAMES[part::GROUPS], target, tmp_path, compilers()[name], flags)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(GROUPS))
def test_aarch64_under_qemu(part, tmp_path):
    if QEMU is None:
        pytest.skip("qemu-user is not installed: apt-get install qemu-user")
    if "zig" not in compilers():
        pytest.skip("ziglang is not installed: pip install ziglang")
    names, zig = NAMES[part::GROUPS], compilers()["zig"]
    check(names, "aarch64-linux", tmp_path, zig, ("-O2",), [QEMU])
