"""``python -m examples.digits --out DIR``: every stage of the way, measured, in one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from examples.digits import models, report
from examples.digits.stages import Row, travel

STEPS = 4  # of a journey
WIDTH = 118  # columns that the table needs


@click.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("build/demo"))
@click.option("--epochs", default=30, show_default=True)
def main(out: Path, epochs: int) -> None:
    """Train, capture, verify, compile, predict, package; write report.html."""
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    console = Console()
    data = models.load()
    kinds = (models.DigitsCNN, models.DigitsLSTM)
    with Progress(console=console) as progress:
        trained = [models.train(kind, data, progress, epochs) for kind in kinds]
        timed = [models.time_steps(kind, data) for kind in kinds]
        task = progress.add_task("capture and compile", total=len(trained) * STEPS)

        def done(stage: str) -> None:
            progress.update(task, advance=1, description=f"{stage:<20}")

        journeys = [travel(model, data, out, done) for model in trained]
        progress.update(task, description="capture and compile")
    wide = console if console.width >= WIDTH else Console(width=WIDTH)
    wide.print(table([row for j in journeys for row in j.rows], len(data.test_labels)))
    wide.print(training(timed))
    page = out / "report.html"
    page.write_text(report.page(journeys, timed, len(data.test_labels)), encoding="utf-8")
    console.print(f"report: {page}", soft_wrap=True)


def table(rows: Sequence[Row], images: int) -> Table:
    """The rows for people."""
    title = f"scikit-learn digits, {images} held-out images; distances from eager over all logits"
    shown = Table(title=title, title_justify="left", caption_justify="left")
    shown.caption = (
        "latency: one image, one thread, median; of embedded C as its binary measures it"
    )
    for name in ("model", "stage"):
        shown.add_column(name, no_wrap=True)
    for name in (
        "accuracy", "max abs", "ULP median", "ULP max", "latency us", "x eager", "artefact B", "arena B"
    ):  # fmt: skip
        shown.add_column(name, justify="right", no_wrap=True)
    for i, r in enumerate(rows):
        first = next(x for x in rows if x.model == r.model)
        shown.add_row(
            r.model, r.stage, f"{r.accuracy:.2%}", f"{r.max_abs:.1e}",
            f"{r.median_ulp:,}", f"{r.max_ulp:,}", f"{r.latency_us:,.1f}",
            f"{first.latency_us / r.latency_us:.2f}", f"{r.artefact_bytes:,}",
            "" if r.arena_bytes is None else f"{r.arena_bytes:,}",
            end_section=i + 1 < len(rows) and rows[i + 1].model != r.model,
        )  # fmt: skip
    return shown


def training(timed: Sequence[models.StepTimes]) -> Table:
    """Eager against static training."""
    title = f"a training step, batch {models.BATCH}, one thread: forward, backward, clip, Adam"
    shown = Table(title=title, title_justify="left")
    for name in ("model", "eager ms", "static ms", "x eager"):
        shown.add_column(name, justify="left" if name == "model" else "right", no_wrap=True)
    for t in timed:
        ratio = f"{t.eager_ms / t.static_ms:.2f}"
        shown.add_row(t.model, f"{t.eager_ms:.2f}", f"{t.static_ms:.2f}", ratio)
    return shown


if __name__ == "__main__":
    main()
