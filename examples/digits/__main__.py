"""``python -m examples.digits --out DIR``: every stage of the way, measured, in one table."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from oarlock.lite import build
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import oarlock
from examples.digits import models, report
from oarlock.runtime.ulp import max_ulp

RUNS = 60
CALIBRATION = 16  # held-out inputs of the check at capture


@dataclass(frozen=True)
class Row:
    """One stage of one model; latency of a single image, milliseconds."""

    model: str
    stage: str
    accuracy: float
    max_abs: float
    max_ulp: int
    latency_ms: float | None
    eager_ms: float | None
    artefact_bytes: int | None
    arena_bytes: int | None


@click.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("build/demo"))
@click.option("--epochs", default=25, show_default=True)
def main(out: Path, epochs: int) -> None:
    """Train, capture, verify, compile, predict, package; write report.html."""
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    console = Console()
    data = models.load()
    rows: list[Row] = []
    programs: dict[str, oarlock.Program] = {}
    with Progress(console=console) as progress:
        trained = [
            models.train(make(), data, progress, epochs)
            for make in (models.DigitsCNN, models.DigitsLSTM)
        ]
        steps = progress.add_task("capture, compile, package", total=len(trained) * 3)
        for model in trained:
            name = type(model).__name__
            found, programs[name] = run_stages(model, data, out, lambda: progress.advance(steps))
            rows += found
    console.print(table(rows))
    page = out / "report.html"
    page.write_text(report.page(rows, programs), encoding="utf-8")
    console.print(f"report: {page}")


def run_stages(
    model: torch.nn.Module, data: models.Digits, out: Path, done: Callable[[], None]
) -> tuple[list[Row], oarlock.Program]:
    """The rows of one model."""
    name = type(model).__name__
    images = data.test_images.numpy()
    with torch.inference_mode():
        expected = model(data.test_images).numpy()

    program = oarlock.capture(
        model,
        (data.test_images[:1],),
        dynamic={"image": {0: oarlock.Dim("N", min=1, max=1024)}},
        check=[(data.test_images[1 : 1 + CALIBRATION],)],
    )
    path = out / f"{name}.oar"
    program.save(path)
    done()

    def row(stage: str, logits: np.ndarray, **measured) -> Row:
        accuracy = float((logits.argmax(1) == data.test_labels).mean())
        error = float(np.abs(logits - expected).max())
        ulp = max_ulp(logits, expected)
        return Row(name, stage, accuracy, error, ulp, **measured)

    none = {"latency_ms": None, "eager_ms": None, "artefact_bytes": None, "arena_bytes": None}
    rows = [row("eager", expected, **none)]
    reference = oarlock.evaluate(oarlock.load(path), images)
    rows.append(row("reference", reference, **{**none, "artefact_bytes": path.stat().st_size}))

    predictor = oarlock.Predictor(path, threads=1)
    logits = predictor(images)
    ours, eager = interleave(lambda: predictor(images[:1]), eager_call(model, data.test_images[:1]))
    facts = predictor.report()
    rows.append(
        row("engine", logits, latency_ms=ours, eager_ms=eager,
            artefact_bytes=facts.engine_bytes + facts.weight_bytes, arena_bytes=facts.arena_bytes)
    )  # fmt: skip
    done()

    package = build(program, "native", out / f"{name}_lite", dims={"N": 1})
    logits, latency = run_binary(package, images)
    rows.append(
        row("lite", logits, latency_ms=latency, eager_ms=eager,
            artefact_bytes=package.total_bytes, arena_bytes=package.arena_bytes)
    )  # fmt: skip
    done()
    return rows, program


def eager_call(model: torch.nn.Module, image: torch.Tensor) -> Callable[[], torch.Tensor]:
    """The eager model on one image, without autograd."""

    def call() -> torch.Tensor:
        with torch.inference_mode():
            return model(image)

    return call


def interleave(a: Callable[[], object], b: Callable[[], object]) -> tuple[float, float]:
    """Medians of two calls taken in turn, milliseconds."""
    times: tuple[list[float], list[float]] = ([], [])
    for i in range(RUNS + 5):
        for kept, call in zip(times, (a, b)):
            start = time.perf_counter()
            call()
            if i >= 5:
                kept.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times[0]), statistics.median(times[1])


def run_binary(package, images: np.ndarray) -> tuple[np.ndarray, float]:
    """Outputs of the built example program over the images, and its time per image in ms."""
    binary = package.compile_example()
    start = time.perf_counter()
    run = subprocess.run([str(binary)], input=images.tobytes(), capture_output=True, check=True)
    elapsed = (time.perf_counter() - start) * 1e3 / len(images)
    return np.frombuffer(run.stdout, np.float32).reshape(len(images), -1), elapsed


def table(rows: list[Row]) -> Table:
    """The rows for people."""
    shown = Table(title="scikit-learn digits, 599 held-out images", title_justify="left")
    for name in ("model", "stage"):
        shown.add_column(name)
    for name in ("accuracy", "max abs", "max ULP", "ms", "eager ms", "artefact B", "arena B"):
        shown.add_column(name, justify="right")
    for r in rows:
        shown.add_row(
            r.model, r.stage, f"{r.accuracy:.4f}", f"{r.max_abs:.1e}", f"{r.max_ulp:,}",
            *("" if v is None else f"{v:.4f}" for v in (r.latency_ms, r.eager_ms)),
            *("" if v is None else f"{v:,}" for v in (r.artefact_bytes, r.arena_bytes)),
        )  # fmt: skip
    return shown


if __name__ == "__main__":
    main()
