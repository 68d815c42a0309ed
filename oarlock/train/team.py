"""The threads that torch computes with, for engines that run between torch's own loops.

Torch's OpenMP threads spin for some milliseconds after each parallel loop.  A step that runs threads
of its own beside them shares the cores with those that only wait.
"""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache
from pathlib import Path

import torch

from oarlock.runtime.pool import BorrowedPool, Pool, Team

RUNTIMES = ("libgomp", "libomp", "libiomp")
MAPS = Path("/proc/self/maps")


def pool(path: Path, threads: int) -> Pool:
    """A pool of torch's threads, or of its own where torch has none that are known."""
    team = torch_team()
    return Pool(path, threads) if team is None else BorrowedPool(path, threads, team)


@lru_cache(maxsize=1)
def torch_team() -> Team | None:
    """The OpenMP runtime that came with torch and is loaded."""
    root = Path(torch.__file__).parent
    folders = {root / "lib", root.parent / "torch.libs"}
    for path in _loaded():
        if path.parent in folders and path.name.startswith(RUNTIMES):
            return Team.of(ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD | os.RTLD_NOW))
    return None


def _loaded() -> list[Path]:
    """Files that are mapped."""
    try:
        lines = MAPS.read_text().splitlines()
    except OSError:
        return []
    return [Path(p) for p in dict.fromkeys(line.split(maxsplit=5)[-1] for line in lines)]
