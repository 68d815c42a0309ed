"""``python -m bench.train``: training steps, eager, torch.compile and Oarlock interleaved."""

from __future__ import annotations

import ctypes
import gc
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
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
    row["sensitivity"] = sensitivity(case, losses["eager"]) if "eager" in losses else math.nan
    times: dict[str, list[float]] = {peer: [] for peer in steps}
    for i in range(rounds):
        for peer, (step, batches) in steps.items():
            start = time.perf_counter()
            step(*batches[i % len(batches)])
            times[peer].append((time.perf_counter() - start) * 1e3)
    for peer, values in times.items():
        row[peer] |= spread_of(values, "_ms")
        row[peer]["loss_error"] = _apart(losses[peer], losses.get("eager", []))
    return row


def sensitivity(case: TrainCase, want: list[float]) -> float:
    """How far the losses of eager go apart when each parameter differs by a rounding: training with
    a large step is chaotic, and no two implementations of it agree for long."""
    model, step, batches = made(case, "eager")
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            signs = torch.randint(0, 2, p.shape, generator=draws) * 2 - 1
            p.mul_(1 + signs * torch.finfo(p.dtype).eps)
    first_call(step, batches)
    return _apart([float(step(*batches[i % len(batches)])) for i in range(EQUAL)], want)


def _apart(found: list[float], want: list[float]) -> float:
    pairs = zip(found, want)
    return max((abs(a - b) / max(1.0, abs(b)) for a, b in pairs), default=math.nan)


def first_call(step: Any, batches: Any) -> float:
    """Seconds until the second step is done: optimizers make their state in the first."""
    torch.manual_seed(1)
    start = time.perf_counter()
    step(*batches[0])
    step(*batches[1])
    return time.perf_counter() - start


def figure(what: str, case: str, peer: str, style: str, threads: int) -> float:
    """A figure of a process of its own, whose caches of compiled code are empty."""
    command = [sys.executable, "-m", "bench.train", "--alone", what, "--only", case]
    command += ["--peer", peer, "--style", style, "--threads", str(threads)]
    with tempfile.TemporaryDirectory() as folder:
        caches = ("OARLOCK_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
        fresh = {name: str(Path(folder) / name) for name in caches}
        # memory that is freed goes back at once
        trim = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
        environment = os.environ | fresh | (trim if what == "peak" else {})
        run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return float(run.stdout.split()[-1]) if run.returncode == 0 else math.nan


def print_first(case: TrainCase, peer: str, style: str) -> None:
    _, step, batches = made(case, peer, style)
    print(first_call(step, batches), flush=True)


def print_peak(case: TrainCase, peer: str, style: str) -> None:
    """MiB beside the model, the state of the optimizer and the batches while steps run."""
    model, step, batches = made(case, peer, style)
    first_call(step, batches)
    static = model.forward if style == "module" else step
    tapes = static.tapes if peer == "oarlock" else []
    plans = [x for t in tapes if t.executor for x in t.executor.steps.values()]
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # holes of the heap are no memory of the step before
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again
    before = _status("VmRSS")
    for i in range(3):
        step(*batches[i % len(batches)])
    kept = sum(plan.arena_bytes for plan in plans)  # between steps too
    print((_status("VmHWM") - before) / 1024 + kept / (1 << 20), flush=True)


def _status(name: str) -> int:
    return int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0])


ALONE = {"peak": print_peak, "first": print_first}


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
@click.option("--cold/--warm", default=False, help="First calls with empty caches, likewise.")
@click.option("--alone", type=click.Choice(list(ALONE)), hidden=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/bench_train.json"))
def main(
    only: tuple[str, ...], peers: tuple[str, ...], style: str, threads: tuple[int, ...], rounds: int,
    memory: bool, cold: bool, alone: str | None, out: Path,
) -> None:  # fmt: skip
    """Time every training step under every peer, in turn; the first call; losses; peak memory."""
    cases = [c for c in CASES if not only or any(o.lower() in c.name.lower() for o in only)]
    if alone:
        torch.set_num_threads(threads[0])
        ALONE[alone](cases[0], peers[0], style)
        os._exit(0)  # compile workers of torch may hang at exit
    rows = []
    out.parent.mkdir(parents=True, exist_ok=True)
    for case in cases:
        for count in threads:
            row = measure(case, count, rounds, peers, style)
            wanted = {"peak": memory and count == threads[0], "first": cold}
            for what, peer in itertools.product((w for w in wanted if wanted[w]), peers):
                row[peer][f"{what}_alone"] = figure(what, case.name, peer, style, count)
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
    firsts, peaks = [f"first {p}" for p in peers if p != "eager"], [f"MiB {p}" for p in peers]
    for name in ("model", "threads", *peers, *firsts, *peaks, "loss error", "sensitivity"):
        shown.add_column(name)
    for row in rows:
        ours = row.get("oarlock", {}).get("best_ms", math.nan)
        best = [row[p].get("best_ms", math.nan) for p in peers]
        first = [f"{_first(row[p]):.1f}" for p in peers if p != "eager"]
        peak = [f"{row[p].get('peak_alone', math.nan):.1f}" for p in peers]
        error = row.get("oarlock", {}).get("loss_error", math.nan)
        cells = [f"{x:.2f} ({x / ours:.2f})" for x in best]
        ends = f"{error:.1e}", f"{row['sensitivity']:.1e}"
        shown.add_row(row["model"], str(row["threads"]), *cells, *first, *peak, *ends)
    for peer in peers:
        ratios = [
            row[peer]["best_ms"] / row["oarlock"]["best_ms"] for row in rows if _timed(row, peer)
        ]
        if ratios:
            mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
            shown.caption = (shown.caption or "geometric means: ") + f"{peer} {mean:.2f}  "
    return shown


def _first(found: dict[str, Any]) -> float:
    return found.get("first_alone", found.get("first_s", math.nan))


def _timed(row: dict[str, Any], peer: str) -> bool:
    return "best_ms" in row.get(peer, {}) and "best_ms" in row.get("oarlock", {})


if __name__ == "__main__":
    main()
