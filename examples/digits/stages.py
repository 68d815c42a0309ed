"""Every stage of one model's way, its results on the test set, its time and its sizes."""

from __future__ import annotations

import io
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

import oarlock
from examples.digits.models import Digits
from oarlock.lite import Package, build
from oarlock.runtime.ulp import ulp_distance

ROUNDS = 9  # all stages in turn
CALLS = 30  # of each stage in a round
BINARY_CALLS = 2000


@dataclass(frozen=True)
class Row:
    """One stage of one model.

    ``max_abs`` and the ULP are distances from eager over all logits of the test set;
    ``latency_us`` is of one image, the median over rounds in which the stages take turns;
    ``artefact_bytes`` is ``code_bytes`` and ``weight_bytes`` where they can be told apart.
    """

    model: str
    stage: str
    accuracy: float
    max_abs: float
    median_ulp: int
    max_ulp: int
    artefact_bytes: int
    weight_bytes: int
    arena_bytes: int | None = None
    latency_us: float = 0.0

    @property
    def code_bytes(self) -> int:
        return self.artefact_bytes - self.weight_bytes


@dataclass(frozen=True)
class Journey:
    """What became of one model."""

    name: str
    rows: list[Row]
    program: oarlock.Program
    package: Package
    engine: str  # the predictor's own report


def travel(model: torch.nn.Module, data: Digits, out: Path, done: Callable[[str], None]) -> Journey:
    """Capture, verify, compile, predict, package; ``done`` is told of each stage."""
    name = type(model).__name__
    images, image = data.test_images.numpy(), data.test_images[:1]
    expected = one_by_one(lambda x: eager(model, torch.from_numpy(x)).numpy(), images)

    def row(stage: str, logits: np.ndarray, artefact: int, weights: int, arena=None) -> Row:
        distance = ulp_distance(logits, expected)
        return Row(
            name, stage,
            float((logits.argmax(1) == data.test_labels).mean()),
            float(np.abs(logits - expected).max()),
            int(np.median(distance)), int(distance.max()), artefact, weights, arena,
        )  # fmt: skip

    program = captured(model, data.test_images)
    path = out / f"{name}.oar"
    program.save(path)
    done("captured")

    predictor = oarlock.Predictor(path, threads=1)
    logits = one_by_one(predictor, images)
    facts = predictor.report()
    done("compiled")

    package = build(
        program, "native", out / f"{name}_c", dims=dict.fromkeys(program.dims, 1), prefix=name
    )
    binary = package.compile_example()
    done("packaged")

    checkpoint = len(checkpoint_of(model))
    weights, sizes = program.weight_bytes, package.sizes
    loaded = oarlock.load(path)
    rows = [
        row("eager", expected, checkpoint, sum(t.nbytes for t in model.state_dict().values())),
        row("reference", one_by_one(lambda x: oarlock.evaluate(loaded, x), images), path.stat().st_size, weights),
        row("engine", logits, facts.engine_bytes + facts.weight_bytes, facts.weight_bytes,
            facts.arena_bytes + facts.scratch_bytes),
        row("embedded C", pipe(binary, images), package.total_bytes, sizes.weights,
            package.arena_bytes),
    ]  # fmt: skip
    calls = {
        "eager": lambda: eager(model, image),
        "reference": lambda: oarlock.evaluate(loaded, images[:1]),
        "engine": lambda: predictor(images[:1]),
    }
    times = interleave(calls, {"embedded C": lambda: time_inside(binary, images[:1])})
    done("measured")
    rows = [replace(r, latency_us=times[r.stage]) for r in rows]
    return Journey(name, rows, program, package, str(facts))


def captured(model: torch.nn.Module, images: torch.Tensor) -> oarlock.Program:
    """The program for any number of images, its branch on data included."""
    static = oarlock.to_static(model)
    with torch.no_grad():
        for count in (1, 2):
            static(images[:count])
    (program,) = static.forward.programs
    return program


def one_by_one(call: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> np.ndarray:
    """Results of single images, as an embedded program sees them."""
    return np.concatenate([call(images[i : i + 1]) for i in range(len(images))])


def checkpoint_of(model: torch.nn.Module) -> bytes:
    """What ``torch.save`` writes."""
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return buffer.getvalue()


def eager(model: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
    """The eager model without autograd."""
    with torch.inference_mode():
        return model(image)


def interleave(
    calls: Mapping[str, Callable[[], object]], timed: Mapping[str, Callable[[], float]]
) -> dict[str, float]:
    """Microseconds of a call of each stage: medians over rounds in which all take turns.

    Args: calls: timed here; timed: measure themselves.
    """
    for call in calls.values():
        call()
    found: dict[str, list[float]] = {name: [] for name in [*calls, *timed]}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            found[name].append(statistics.median(_time(call) for _ in range(CALLS)))
        for name, measure in timed.items():
            found[name].append(measure())
    return {name: statistics.median(values) for name, values in found.items()}


def _time(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e6


def pipe(binary: Path, images: np.ndarray) -> np.ndarray:
    """Outputs of the built program, all images piped through it."""
    run = subprocess.run([str(binary)], input=images.tobytes(), capture_output=True, check=True)
    return np.frombuffer(run.stdout, np.float32).reshape(len(images), -1)


def time_inside(binary: Path, image: np.ndarray) -> float:
    """Microseconds of a run as the program itself measures them, without its start."""
    run = subprocess.run(
        [str(binary), str(BINARY_CALLS)], input=image.tobytes(), capture_output=True, check=True
    )
    return float(run.stderr.split()[0])
