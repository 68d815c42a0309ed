"""``python -m bench.clip``: clipping beside ``torch.nn.utils``, interleaved, on 300 parameters."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import click
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from oarlock.clip import (
    ClipGradAdaptive,
    ClipGradByGlobalNorm,
    ClipGradByNorm,
    ClipGradByValue,
)

COUNT = 300
MOST = 1.05  # of clip_grad_norm_(foreach=True), for the global norm
SHAPES = {"16 x 16": (16, 16), "64 x 64": (64, 64), "256 x 256": (256, 256)}


@click.command()
@click.option("--threads", default=1, show_default=True)
@click.option("--rounds", default=200, show_default=True)
def main(threads: int, rounds: int) -> None:
    """Best microseconds of each call; a ratio above 1 is slower than torch."""
    torch.set_num_threads(threads)
    shown = Table("each parameter", "clip", "oarlock us", "torch us", "oarlock / torch")
    for name, shape in SHAPES.items():
        for row in measure([parameter(*shape) for _ in range(COUNT)], rounds):
            shown.add_row(name, *row)
    Console().print(shown)


def parameter(*shape: int) -> nn.Parameter:
    made = nn.Parameter(torch.randn(shape))
    made.grad = torch.randn(shape)
    return made


def pairs(params: list[nn.Parameter]) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """Ours and torch's; torch clips neither each tensor by norm nor by units."""
    by_norm, by_unit = ClipGradByNorm(1.0), ClipGradAdaptive(0.01)
    total, value = ClipGradByGlobalNorm(1.0), ClipGradByValue(1.0)

    def torch_norm() -> Any:
        return nn.utils.clip_grad_norm_(params, 1.0, foreach=True)

    return {
        "global norm": (lambda: total(params), torch_norm),
        "norm": (lambda: by_norm(params), torch_norm),
        "units": (lambda: by_unit(params), torch_norm),
        "value": (
            lambda: value(params),
            lambda: nn.utils.clip_grad_value_(params, 1.0, foreach=True),
        ),
    }


def measure(params: list[nn.Parameter], rounds: int) -> list[tuple[str, ...]]:
    rows = []
    for name, calls in pairs(params).items():
        ours, theirs = fastest(calls, rounds)
        rows.append((name, f"{ours:.0f}", f"{theirs:.0f}", f"{ours / theirs:.2f}"))
    return rows


def fastest(calls: tuple[Callable[[], Any], ...], rounds: int) -> list[float]:
    """Microseconds, in turns."""
    best = [float("inf")] * len(calls)
    for _ in range(rounds):
        for i, call in enumerate(calls):
            start = time.perf_counter()
            call()
            best[i] = min(best[i], (time.perf_counter() - start) * 1e6)
    return best


if __name__ == "__main__":
    main()
