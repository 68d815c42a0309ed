"""``oarlock bench``: latency of a model on this machine."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import click

from oarlock.cli.arrays import dim_option, input_option, parse_dims, random_inputs, read_inputs
from oarlock.cli.output import json_option, show_document, show_rows


@click.command(epilog="Example: oarlock bench net.oar --dim N=8 --threads 2 --profile")
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@input_option
@dim_option
@click.option(
    "--threads", type=click.IntRange(1), help="Default: the cores granted to the process."
)
@click.option("--runs", type=click.IntRange(1), default=50, show_default=True)
@click.option("--profile", is_flag=True, help="Time per node, the slowest first.")
@json_option
def command(
    model: Path, inputs: tuple[str, ...], dims: tuple[str, ...], threads: int | None,
    runs: int, profile: bool, as_json: bool,
) -> None:  # fmt: skip
    """Time the engine: median, best and spread over RUNS calls, milliseconds."""
    import oarlock

    program = oarlock.load(model)
    arrays = read_inputs(inputs, program) or random_inputs(program, parse_dims(dims))
    predictor = oarlock.Predictor(model, threads=threads)
    for _ in range(3):
        predictor(**arrays)
    times = sorted(_time(predictor, arrays) for _ in range(runs))
    report = predictor.report(profile=arrays if profile else None)
    quarter = len(times) // 4
    document = {
        "model": str(model), "threads": predictor.threads, "runs": runs,
        "median_ms": statistics.median(times), "best_ms": times[0],
        "spread_ms": times[-1 - quarter] - times[quarter], "arena_bytes": report.arena_bytes,
    }  # fmt: skip
    if as_json:
        show_document({**document, "profile": report.to_dict()["nodes"] if profile else None}, True)
        return
    show_document(document, False)
    if profile:
        rows = sorted(report.to_dict()["nodes"], key=lambda r: -(r.get("ms") or 0.0))
        show_rows("slowest nodes", rows[:20], False)


def _time(predictor, arrays) -> float:
    start = time.perf_counter()
    predictor(**arrays)
    return (time.perf_counter() - start) * 1e3
