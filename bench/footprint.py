"""What an engine costs beside its time: compile and load time, sizes, peak memory.

Each figure is taken in a process of its own: ``python -m bench.footprint model.oar inputs.npz`` builds
or loads a predictor, calls it once and prints JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
from rich.table import Table

from bench.figures import spread_of

LOADS = 5
SIZES = ("weight_bytes", "engine_bytes", "arena_bytes", "live_bytes", "in_place")


def footprint(program: Any, arrays: Sequence[np.ndarray]) -> dict[str, Any]:
    """``compile_s`` with an empty cache, ``load_s`` and ``peak_bytes`` with a warm one; sizes."""
    with TemporaryDirectory() as folder:
        model, inputs = str(Path(folder) / "model.oar"), str(Path(folder) / "inputs.npz")
        program.save(model)
        np.savez(inputs, *arrays)
        environment = {**os.environ, "OARLOCK_CACHE_DIR": str(Path(folder) / "cache")}
        command = [sys.executable, "-m", "bench.footprint", model, inputs]
        cold, *warm = (_run(command, environment) for _ in range(1 + LOADS))
    return {
        "threads": 1,
        "compile_s": spread_of([cold["seconds"]]),
        "load_s": spread_of([w["seconds"] for w in warm]),
        "build_peak_bytes": cold["peak_bytes"],
        "peak_bytes": max(w["peak_bytes"] for w in warm),
        **{name: cold[name] for name in SIZES},
    }


def _run(command: Sequence[str], environment: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """One line per model; peaks as multiples of weights and arena together."""
    title = "footprint, 1 thread: peaks beside weights + arena, of a loaded engine and of a build"
    shown = Table(title=title, title_justify="left")
    heads = ("compile s", "load ms", "code kB", "weights MB", "arena MB", "bound MB", "in place")
    for name in ("model", *heads, "peak x", "build x"):
        shown.add_column(name, justify="left" if name == "model" else "right")
    for f in rows:
        whole = f["weight_bytes"] + f["arena_bytes"]
        sizes = [f"{f[name] / 1e6:.2f}" for name in ("weight_bytes", "arena_bytes", "live_bytes")]
        shown.add_row(
            f["model"], f"{f['compile_s']['best']:.1f}", f"{f['load_s']['median'] * 1e3:.0f}",
            f"{f['engine_bytes'] / 1e3:.0f}", *sizes, str(f["in_place"]),
            f"{f['peak_bytes'] / whole:.2f}", f"{f['build_peak_bytes'] / whole:.2f}",
        )  # fmt: skip
    return shown


@click.command()
@click.argument("model")
@click.argument("inputs")
def main(model: str, inputs: str) -> None:
    """Build or load MODEL, call it once, print what that took; modules are not counted as memory."""
    import oarlock
    import oarlock.runtime.predictor

    arrays = list(np.load(inputs).values())
    before = _memory("VmRSS")
    start = time.perf_counter()
    predictor = oarlock.Predictor(model, threads=1)
    seconds = time.perf_counter() - start
    result = predictor(*arrays)
    peak = _memory("VmHWM") - before - sum(np.asarray(x).nbytes for x in _leaves(result))
    report = predictor.report()
    sizes = {name: getattr(report, name) for name in SIZES}
    print(json.dumps({"seconds": seconds, "peak_bytes": peak, **sizes}))


def _leaves(result: Any) -> Iterator[Any]:
    """The arrays of a result, which are the caller's memory."""
    if isinstance(result, (list, tuple)):
        for x in result:
            yield from _leaves(x)
    else:
        yield result


def _memory(name: str) -> int:
    """A line of Linux's account of this process, bytes; 0 elsewhere."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    found = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(found[0]) * 1024 if found else 0


if __name__ == "__main__":
    main()
