"""The one-file compiler runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytest.importorskip("torch")


def test_mini():
    run = subprocess.run(
        [sys.executable, "docs/mini.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "engine: max abs error" in run.stdout
