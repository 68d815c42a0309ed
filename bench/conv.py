"""``python -m bench.conv``: convolutions of ResNet-50 as a share of what the micro-kernel reaches.

The limit is a product whose operands stay in the caches, measured in turn with every layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

import oarlock
import oarlock.ops  # fills the registry
from oarlock.ir import Builder, TensorType, Value, f32

LIMIT = (112, 256, 32)  # M, K, N


@dataclass(frozen=True)
class Layer:
    """Channels in and out, sizes in, kernel, stride; how often ResNet-50 has it."""

    i: int
    o: int
    size: int
    kernel: int = 1
    stride: int = 1
    count: int = 1

    @property
    def flops(self) -> int:
        """Two for a multiply-add."""
        return 2 * (self.size // self.stride) ** 2 * self.i * self.o * self.kernel**2

    def __str__(self) -> str:
        return f"{self.kernel}x{self.kernel}/{self.stride} {self.i}->{self.o} at {self.size}"


def layers() -> list[Layer]:
    """The distinct convolutions of ResNet-50."""
    found = [Layer(3, 64, 224, 7, 2), Layer(64, 64, 56), Layer(64, 256, 56, count=4)]
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width, size = 64 << stage, 56 >> stage
        stride, before = (1, 64) if stage == 0 else (2, 128 << stage)
        found += [Layer(width, width, size, 3, count=blocks - (stage > 0))]
        found += [Layer(4 * width, width, size, count=blocks - 1)]
        if stage:
            found += [Layer(width, 4 * width, size, count=blocks)]
            found += [Layer(before, width, 2 * size), Layer(width, width, 2 * size, 3, 2)]
            found += [Layer(before, 4 * width, 2 * size, 1, stride)]
    return found


def layer_program(layer: Layer) -> oarlock.Program:
    """One convolution with a bias and ReLU, channels last."""
    b = Builder()
    x = b.input(TensorType(f32, (1, layer.size, layer.size, layer.i)), "x")
    low = layer.kernel // 2
    y = b.conv(
        x, *_weights(b, (layer.o, layer.i, layer.kernel, layer.kernel)), layout="NHWC",
        stride=(layer.stride,) * 2, padding=((low, low),) * 2,
    )  # fmt: skip
    return _program(b, b.relu(y))


def limit_program() -> oarlock.Program:
    """A product in the caches."""
    m, k, n = LIMIT
    b = Builder()
    x = b.input(TensorType(f32, (m, k)), "x")
    return _program(b, b.linear(x, *_weights(b, (n, k))))


def _weights(b: Builder, shape: tuple[int, ...]) -> tuple[Value, Value]:
    return b.param("w", TensorType(f32, shape)), b.param("b", TensorType(f32, shape[:1]))


def _program(b: Builder, y: Value) -> oarlock.Program:
    b.graph.outputs.append(y)
    rng = np.random.default_rng(0)
    types = {n.op.key: n.output.type for n in b.graph.nodes if n.name == "param"}
    params = {key: rng.standard_normal(t.shape, np.float32) for key, t in types.items()}
    return oarlock.Program(b.graph, params)


class Timer:
    """The least milliseconds of the only kernel of a program."""

    def __init__(self, program: oarlock.Program, threads: int) -> None:
        self.predictor = oarlock.Predictor(program, threads=threads)
        shape = program.graph.inputs[0].shape
        self.x = np.random.default_rng(1).standard_normal(shape, np.float32)
        self.best = float("inf")

    def run(self) -> None:
        """Time once more."""
        nodes = self.predictor.report([self.x]).nodes
        self.best = min(self.best, sum(node.ms or 0.0 for node in nodes))


def measure(threads: int, rounds: int) -> list[dict[str, Any]]:
    """GFLOP/s of every layer and of the limit, interleaved."""
    limit, rows = Timer(limit_program(), threads=1), []
    flops = 2 * int(np.prod(LIMIT)) * threads
    for layer in layers():
        timer = Timer(layer_program(layer), threads)
        for _ in range(rounds):
            limit.run()
            timer.run()
        rows.append({"layer": str(layer), "count": layer.count, "ms": timer.best,
                     "gflops": layer.flops / timer.best / 1e6})  # fmt: skip
    for row in rows:
        row["share"] = row["gflops"] / (flops / limit.best / 1e6)
    return rows


@click.command()
@click.option("--threads", default=1, show_default=True)
@click.option("--rounds", default=5, show_default=True)
def main(threads: int, rounds: int) -> None:
    """Print a table of the layers."""
    rows = measure(threads, rounds)
    table = Table(title=f"convolutions of ResNet-50, {threads} threads")
    for name in ("layer", "times", "ms", "GFLOP/s", "of the limit"):
        table.add_column(name, justify="left" if name == "layer" else "right")
    for row in rows:
        table.add_row(row["layer"], str(row["count"]), f"{row['ms']:.3f}",
                      f"{row['gflops']:.0f}", f"{row['share']:.0%}")  # fmt: skip
    total = sum(row["ms"] * row["count"] for row in rows)
    ideal = sum(row["ms"] * row["count"] * row["share"] for row in rows)
    table.add_row("all", "", f"{total:.1f}", "", f"{ideal / total:.0%}")
    Console().print(table)


if __name__ == "__main__":
    main()
