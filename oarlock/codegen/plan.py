"""Place the buffers of a program in one arena.

Greedy by size (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference",
2020): the largest first, each at the lowest offset free over its lifetime.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from oarlock.ir.dim import Dim, evaluate_size
from oarlock.ir.parser import parse_size

ALIGNMENT = 64


@dataclass(frozen=True)
class Plan:
    """offsets: by buffer, bytes, None for the caller's; live_bytes: no plan can take less."""

    offsets: tuple[int | None, ...]
    arena_bytes: int
    live_bytes: int


def plan(metadata: Mapping[str, Any], env: Mapping[str, int], alignment: int = ALIGNMENT) -> Plan:
    """Offsets of the buffers of ``metadata`` at these sizes."""
    dims = {name: Dim(name, low, high) for name, low, high in metadata["dims"]}
    wanted = []
    for i, entry in enumerate(metadata["buffers"]):
        if entry is None:
            continue
        size = entry["bytes"]
        size = size if isinstance(size, int) else evaluate_size(parse_size(size, dims), env)
        wanted.append((-(-size // alignment) * alignment, i, entry["first"], entry["last"]))
    offsets: list[int | None] = [None] * len(metadata["buffers"])
    placed: list[tuple[int, int, int, int]] = []
    for size, i, first, last in sorted(wanted, key=lambda w: (-w[0], w[1])):
        at = 0
        for start, end, f, t in sorted(placed):
            if f <= last and first <= t:
                if at + size <= start:
                    break
                at = max(at, end)
        offsets[i] = at
        placed.append((at, at + size, first, last))
    arena = max((end for _, end, _, _ in placed), default=0)
    return Plan(tuple(offsets), arena, _live_bytes(wanted))


def _live_bytes(wanted: list[tuple[int, int, int, int]]) -> int:
    """The most bytes alive at one step."""
    steps = {first for _, _, first, _ in wanted}
    return max((sum(w[0] for w in wanted if w[2] <= s <= w[3]) for s in steps), default=0)
