"""``python -m bench``: models beside their peers, interleaved; a table and a JSON file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench import footprint
from bench.figures import machine, spread_of
from bench.models import CASES, Case
from bench.peers import PEERS

WIDTH = 120  # columns; a narrow terminal would break the figures


@click.command()
@click.option("--only", multiple=True, help="Substring of a model's name; repeatable.")
@click.option("--peer", "peers", multiple=True, type=click.Choice(list(PEERS)), default=list(PEERS))
@click.option("--threads", multiple=True, type=int, default=(1, 2))
@click.option("--rounds", default=15, show_default=True)
@click.option(
    "--footprint/--no-footprint", "with_footprint", default=True, show_default=True,
    help="Compile and load times, sizes, peak memory.",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/bench.json"))
def main(
    only: tuple[str, ...], peers: tuple[str, ...], threads: tuple[int, ...], rounds: int, out: Path,
    with_footprint: bool,
) -> None:  # fmt: skip
    """Time every model under every peer, in turn, and print ratios to Oarlock; then what its
    engines take beside time."""
    cases = [c for c in CASES if not only or any(o.lower() in c.name.lower() for o in only)]
    rows: list[dict[str, Any]] = []
    costs: list[dict[str, Any]] = []
    with Progress() as progress:
        task = progress.add_task("bench", total=len(cases) * (len(threads) + with_footprint))
        for case in cases:
            here = machine() | {"model": case.name}
            for count in threads:
                progress.update(task, description=f"{case.name}, {count} threads")
                rows.append(here | measure(case, peers, count, rounds))
                progress.advance(task)
            if with_footprint:
                progress.update(task, description=f"{case.name}, footprint")
                costs.append(here | measure_footprint(case))
                progress.advance(task)
    console = Console(width=WIDTH)
    console.print(table(rows, peers))
    if costs:
        console.print(footprint.table(costs))
    out.parent.mkdir(parents=True, exist_ok=True)
    document = {"machine": machine(), "rows": rows, "footprints": costs}
    out.write_text(json.dumps(document, indent=1))
    print(out)


def measure(case: Case, peers: tuple[str, ...], threads: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of each peer: median, best, spread; interleaved in one run."""
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    model, args = case.make()
    model.eval()
    calls: dict[str, Callable[[], Any]] = {}
    row: dict[str, Any] = {"model": case.name, "threads": threads, "rounds": rounds, "setup_s": {}}
    for name in peers:
        start = time.perf_counter()
        try:
            call = PEERS[name](model, args, threads)
            call()
        except Exception as error:  # a peer's failure is a result, ours too
            row[name] = {"error": f"{type(error).__name__}: {error}"[:300]}
            continue
        calls[name] = call
        row["setup_s"][name] = time.perf_counter() - start
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - start) * 1e3)
    return row | {name: spread_of(values, "_ms") for name, values in times.items()}


def measure_footprint(case: Case) -> dict[str, Any]:
    """See ``footprint``."""
    import oarlock

    torch.manual_seed(0)
    model, args = case.make()
    program = oarlock.capture(model.eval(), args, check=False)
    return footprint.footprint(program, [x.numpy() for x in args])


def table(rows: list[dict[str, Any]], peers: tuple[str, ...]) -> Table:
    """Best milliseconds, with the peer's time over ours in brackets: above 1 we are faster."""
    shown = Table(title="batch 1, f32: best ms (peer / oarlock)", title_justify="left")
    for name in ("model", "threads", *peers):
        shown.add_column(name, justify="left" if name == "model" else "right")
    for row in rows:
        ours = row.get("oarlock", {}).get("best_ms")
        cells = (_cell(row[peer], ours) for peer in peers)
        shown.add_row(row["model"], str(row["threads"]), *cells)
    return shown


def _cell(result: dict[str, Any], ours: float | None) -> str:
    if "error" in result:
        return "failed"
    best = result["best_ms"]
    return f"{best:.2f}" + (f" ({best / ours:.2f})" if ours else "")


if __name__ == "__main__":
    main()
