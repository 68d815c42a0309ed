"""Measurements as data: median, best and spread; the machine and commit that they hold for."""

from __future__ import annotations

import importlib.metadata
import platform
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def spread_of(values: Sequence[float], unit: str = "") -> dict[str, Any]:
    """Median, best, distance between the quartiles, and how many."""
    quarters = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    return {
        f"median{unit}": statistics.median(values),
        f"best{unit}": min(values),
        f"spread{unit}": quarters[2] - quarters[0],
        "n": len(values),
    }


def machine() -> dict[str, Any]:
    """What the figures hold for."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "processor": processor(), "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"), "commit": head.stdout.strip(),
    }  # fmt: skip


def processor() -> str:
    """The CPU's model name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
