"""``python -m bench``: models beside their peers, interleaved; a table and a JSON file."""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench.models import CASES, Case
from bench.peers import PEERS

WIDTH = 120  # columns; a narrow terminal would break the figures


@click.command()
@click.option("--only", multiple=True, help="Substring of a model's name; repeatable.")
@click.option("--peer", "peers", multiple=True, type=click.Choice(list(PEERS)), default=list(PEERS))
@click.option("--threads", multiple=True, type=int, default=(1, 2))
@click.option("--rounds", default=15, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/bench.json"))
def main(
    only: tuple[str, ...], peers: tuple[str, ...], threads: tuple[int, ...], rounds: int, out: Path
) -> None:
    """Time every model under every peer, in turn, and print ratios to Oarlock."""
    cases = [c for c in CASES if not only or any(o.lower() in c.name.lower() for o in only)]
    rows: list[dict[str, Any]] = []
    with Progress() as progress:
        task = progress.add_task("bench", total=len(cases) * len(threads))
        for case in cases:
            for count in threads:
                progress.update(task, description=f"{case.name}, {count} threads")
                rows.append(measure(case, peers, count, rounds))
                progress.advance(task)
    Console(width=WIDTH).print(table(rows, peers))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1))
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
    for name, values in times.items():
        quarters = statistics.quantiles(values, n=4)
        row[name] = {
            "median_ms": statistics.median(values),
            "best_ms": min(values),
            "spread_ms": quarters[2] - quarters[0],
        }
    return row


def machine() -> dict[str, Any]:
    """What the figures hold for."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "processor": processor(), "python": platform.python_version(), "torch": torch.__version__,
        "commit": head.stdout.strip(),
    }  # fmt: skip


def processor() -> str:
    """The CPU's model name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


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
