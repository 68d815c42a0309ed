"""The loader under mutated files, in a process of its own with bounded memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run_fuzzer(mutants: int, seed: int) -> str:
    command = [sys.executable, "-m", "tests.fuzz.fuzz_loader", "--mutants", str(mutants)]
    done = subprocess.run(
        [*command, "--seed", str(seed)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_mutants():
    assert "3000 mutants" in run_fuzzer(3_000, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 6))
def test_many_mutants(seed):
    assert "30000 mutants" in run_fuzzer(30_000, seed)
