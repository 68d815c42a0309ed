"""Whether a compiled executor that changes nothing is worth it: timed beside the replay."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

ROUNDS = 5
ENOUGH_S = 0.1  # for all rounds


def slower(compiled: Callable[[], Any], replay: Callable[[], Any]) -> str:
    """By how much ``compiled`` is slower, as text; empty where it is not."""
    best = [float("inf"), float("inf")]
    start = time.perf_counter()
    for _ in range(ROUNDS):
        for i, run in enumerate((compiled, replay)):
            begin = time.perf_counter()
            run()
            best[i] = min(best[i], time.perf_counter() - begin)
        if time.perf_counter() - start > ENOUGH_S:
            break
    if best[0] <= best[1]:
        return ""
    return f"an engine takes {best[0] * 1e6:.0f} us a call, the replay {best[1] * 1e6:.0f} us"
