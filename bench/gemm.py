"""``python -m bench.gemm``: matrix products as a share of what the micro-kernel reaches alone."""

from __future__ import annotations

from collections.abc import Sequence

import click
import numpy as np
from rich.console import Console
from rich.table import Table

import oarlock
import oarlock.ops
from oarlock.ir import Builder, Program, TensorType, f32

SHAPES = [
    (14, 64, 256), (128, 768, 768), (128, 768, 3072), (128, 3072, 768), (197, 768, 3072),
    (256, 256, 256), (512, 512, 512), (1024, 1024, 1024), (700, 200, 10000),
    (1, 768, 768), (1, 4096, 4096), (4, 4096, 4096),
]  # fmt: skip
REPEATS = 40


@click.command()
@click.option("--threads", default=1, show_default=True)
@click.option("--rounds", default=15, show_default=True)
def main(threads: int, rounds: int) -> None:
    """One row per shape M x K x N and epilogue; the first shape stays in the first level cache."""
    cases = [(shape, epilogue) for shape in SHAPES for epilogue in ("bias", "gelu")]
    runs = [_product(*shape, epilogue, threads) for shape, epilogue in cases]
    best = [float("inf")] * len(cases)
    for _ in range(rounds):
        best = [min(b, _seconds(*run)) for b, run in zip(best, runs)]
    limit = _rate(SHAPES[0], best[0]) * threads
    table = Table("M x K x N", "epilogue", "ms", "GFLOP/s", "of the limit", "GB/s of weights")
    for (shape, epilogue), seconds in zip(cases, best):
        rate = _rate(shape, seconds)
        table.add_row(
            " x ".join(map(str, shape)), epilogue, f"{seconds * 1e3:.3f}", f"{rate:.1f}",
            f"{100 * rate / limit:.0f}%", f"{4e-9 * shape[1] * shape[2] / seconds:.1f}",
        )  # fmt: skip
    Console().print(table)


def _rate(shape: Sequence[int], seconds: float) -> float:
    m, k, n = shape
    return 2e-9 * m * k * n / seconds


def _product(
    m: int, k: int, n: int, epilogue: str, threads: int
) -> tuple[oarlock.Predictor, np.ndarray]:
    """A predictor of one product, and its input."""
    rng = np.random.default_rng(0)
    params = {
        "w": rng.normal(size=(n, k)).astype(np.float32),
        "b": rng.normal(size=n).astype(np.float32),
    }
    b = Builder()
    x = b.input(TensorType(f32, (m, k)), "x")
    y = b.linear(x, *(b.param(name, TensorType(f32, p.shape)) for name, p in params.items()))
    b.graph.outputs = [b.gelu(y) if epilogue == "gelu" else y]
    predictor = oarlock.Predictor(Program(b.graph, params), threads=threads)
    feed = rng.normal(size=(m, k)).astype(np.float32)
    return predictor, feed


def _seconds(predictor: oarlock.Predictor, feed: np.ndarray) -> float:
    """The least time of the step itself over a few runs."""
    return min(node.ms for node in predictor.report([feed]).nodes if node.ms) * 1e-3


if __name__ == "__main__":
    main()
