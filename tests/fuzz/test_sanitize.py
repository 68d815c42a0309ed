"""The generated C of random programs under ASan and UBSan."""

from __future__ import annotations

import shutil

import pytest

from tests.fuzz.sanitize import run

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc's sanitizers")


def check(count: int, seed: int) -> None:
    done = run(count, seed)
    assert done.returncode == 0, done.stdout + done.stderr[-5000:]
    assert f"{count} programs, 0 wrong" in done.stdout


def test_some_programs():
    check(12, 1)


def test_one_byte_too_few_is_seen():
    done = run(1, 1003, jobs=1, short=1)
    assert done.returncode == 1
    assert "AddressSanitizer" in done.stderr


@pytest.mark.slow
def test_many_programs():
    check(400, 1000)
