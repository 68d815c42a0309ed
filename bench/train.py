"""``python -m bench.train``: training steps, eager, torch.compile and Oarlock interleaved."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from rich.table import Table

from bench.figures import machine, spread_of
from bench.train_models import CASES, Made, TrainCase

PEERS = ("eager", "torch.compile", "oarlock")
EQUAL = 20  # steps


def made(case: TrainCase, peer: str, style: str = "step") -> Made:
    """A case, the same for every peer; its step, or the module in it, as ``peer`` runs it."""
    torch.manual_seed(0)
    model, step, batches = case.make()
    if peer == "torch.compile":
        if style == "module":
            compiled(model)
        else:
            step = torch.compile(step)
    elif peer == "oarlock":
        import oarlock

        found = oarlock.to_static(model if style == "module" else step)
        step = step if style == "module" else found
    return model, step, batches


def compiled(model: torch.nn.Module) -> None:
    """``model.compile()`` leaves out models whose own frames are torch's, such as Sequential."""
    forward = model.forward
    model.forward = torch.compile(lambda *args: forward(*args))


def measure(
    case: TrainCase, threads: int, rounds: int, peers: tuple[str, ...], style: str
) -> dict[str, Any]:
    """First call, losses of the first steps, milliseconds of each peer."""
    torch.set_num_threads(threads)
    row: dict[str, Any] = {"model": case.name, "threads": threads, "style": style}
    steps: dict[str, Any] = {}
    losses: dict[str, list[float]] = {}
    for peer in peers:
        model, step, batches = made(case, peer, style)
        try:
            steps[peer] = (step, batches)
            row[peer] = {"first_s": first_call(step, batches)}
            losses[peer] = [float(step(*batches[i % len(batches)])) for i in range(EQUAL)]
            if peer == "oarlock":
                row["report"] = (model.forward if style == "module" else step).report()
        except Exception as error:  # a peer's failure is a result, ours too
            del steps[peer]
            row[peer] = {"error": f"{type(error).__name__}: {error}"[:300]}
    times: dict[str, list[float]] = {peer: [] for peer in steps}
    for i in range(rounds):
        for peer, (step, batches) in steps.items():
            start = time.perf_counter()
            step(*batches[i % len(batches)])
            times[peer].append((time.perf_counter() - start) * 1e3)
    for peer, values in times.items():
        row[peer] |= spread_of(values, "_ms")
        row[peer]["loss_error"] = max(
            abs(a - b) / max(1.0, abs(b)) for a, b in zip(losses[peer], losses["eager"])
        )
    return row


def first_call(step: Any, batches: Any) -> float:
    """Seconds until the second step is done: optimizers make their state in the first."""
    torch.manual_seed(1)
    start = time.perf_counter()
    step(*batches[0])
    step(*batches[1])
    return time.perf_counter() - start


def peak(case: str, peer: str, style: str) -> float:
    """MiB that a process of its own takes for a few steps beyond those of its imports and model."""
    command = [sys.executable, "-m", "bench.train", "--peak", peer, "--only", case]
    command += ["--style", style]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return float(run.stdout.split()[-1]) if run.returncode == 0 else math.nan


def print_peak(case: TrainCase, peer: str, style: str) -> None:
    torch.set_num_threads(1)
    _, step, batches = made(case, peer, style)
    first_call(step, batches)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again
    for i in range(3):
        step(*batches[i % len(batches)])
    status = Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) / 1024)


@click.command()
@click.option("--only", multiple=True, help="Substring of a case's name; repeatable.")
@click.option("--peer", "peers", multiple=True, type=click.Choice(PEERS), default=PEERS)
@click.option(
    "--style", type=click.Choice(("step", "module")), default="step",
    help="What is compiled: the whole step, or the module inside of an eager one.",
)  # fmt: skip
@click.option("--threads", multiple=True, type=int, default=(1, 2))
@click.option("--rounds", default=10, show_default=True)
@click.option("--memory/--no-memory", default=False, help="Peak memory in processes of their own.")
@click.option("--peak", "peak_of", default="", hidden=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/bench_train.json"))
def main(
    only: tuple[str, ...], peers: tuple[str, ...], style: str, threads: tuple[int, ...], rounds: int,
    memory: bool, peak_of: str, out: Path,
) -> None:  # fmt: skip
    """Time every training step under every peer, in turn; the first call; losses; peak memory."""
    cases = [c for c in CASES if not only or any(o.lower() in c.name.lower() for o in only)]
    if peak_of:
        return print_peak(cases[0], peak_of, style)
    rows = []
    out.parent.mkdir(parents=True, exist_ok=True)
    for case in cases:
        for count in threads:
            row = measure(case, count, rounds, peers, style)
            if memory and count == threads[0]:
                for peer in peers:
                    row[peer]["peak_mib"] = peak(case.name, peer, style)
            rows.append(row)
            print(_line(row, peers), flush=True)
            out.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1))
    Console(width=140).print(table(rows, peers))
    os._exit(0)  # compile workers of torch may hang at exit


def _line(row: dict[str, Any], peers: tuple[str, ...]) -> str:
    return f"{row['model']}, {row['threads']} threads: " + ", ".join(
        f"{p} {row[p].get('best_ms', math.nan):.2f} ms" for p in peers
    )


def table(rows: list[dict[str, Any]], peers: tuple[str, ...]) -> Table:
    """Best milliseconds; in brackets the peer's time over ours."""
    shown = Table(title="best ms (peer / oarlock); first calls in s", title_justify="left")
    for name in ("model", "threads", *peers, *(f"first {p}" for p in peers[1:]), "loss error"):
        shown.add_column(name)
    for row in rows:
        ours = row.get("oarlock", {}).get("best_ms", math.nan)
        best = [row[p].get("best_ms", math.nan) for p in peers]
        first = [f"{row[p].get('first_s', math.nan):.1f}" for p in peers[1:]]
        error = row.get("oarlock", {}).get("loss_error", math.nan)
        cells = [f"{x:.2f} ({x / ours:.2f})" for x in best]
        shown.add_row(row["model"], str(row["threads"]), *cells, *first, f"{error:.1e}")
    for peer in peers:
        ratios = [
            row[peer]["best_ms"] / row["oarlock"]["best_ms"] for row in rows if _timed(row, peer)
        ]
        if ratios:
            mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
            shown.caption = (shown.caption or "geometric means: ") + f"{peer} {mean:.2f}  "
    return shown


def _timed(row: dict[str, Any], peer: str) -> bool:
    return "best_ms" in row.get(peer, {}) and "best_ms" in row.get("oarlock", {})


if __name__ == "__main__":
    main()
