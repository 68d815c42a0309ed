"""Random programs: passes and the C engine against the reference evaluator.

``python -m tests.fuzz.run_programs --count 10000 --seed 0 --jobs 2``.  A unit of many programs is
built as one engine, in a process of its own; one that fails to build, to run or to agree is halved
until single programs remain, which are then shrunk and printed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import oarlock.codegen.lower  # noqa: F401  before the processes fork
from oarlock.evaluate import evaluate
from oarlock.ir import archive, parser
from oarlock.passes.pipeline import PORTABLE, TARGET, run_pipeline
from oarlock.runtime.predictor import Predictor
from tests.fuzz.merge import merge
from tests.fuzz.noise import MORE_RUNS, Bound, bounds_of, wrong
from tests.fuzz.programs import Case, generate
from tests.fuzz.shrink import shrink
from tests.samples import results_of

FLAGS = "-O1"
TARGETS = ("cpu", "cpu", "cpu", "avx2", "generic", "plain")
UNIT_TIMEOUT_S = 400


@dataclass
class Tally:
    """What a unit, or all of them, found."""

    programs: int = 0
    nodes: int = 0
    elements: int = 0
    loose: int = 0
    ops: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int | str, str]] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.programs += other.programs
        self.nodes += other.nodes
        self.elements += other.elements
        self.loose += other.loose
        self.ops += other.ops
        self.failures += other.failures


@dataclass
class Checked:
    """A case with what each output may be, under each assignment."""

    number: int | str
    case: Case
    bounds: list[list[Bound]]


class Mismatch(AssertionError):
    """A result out of bounds."""


# One program


def check_text(case: Case) -> None:
    """Printing and parsing, saving and loading give the program back."""
    program = case.program
    assert parser.parse(str(program)) == program, "text round trip"
    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        path = Path(folder) / "a.oar"
        program.save(path)
        loaded = archive.load(path)
        assert loaded == program and loaded.same_weights(program), "file round trip"


def _memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def reference(case: Case) -> list[list[Bound]]:
    """Expected results with their bounds."""
    found = []
    for env, arrays in zip(case.envs, case.arrays):
        expected = results_of(evaluate(case.program, *arrays))
        found.append(bounds_of(case.program, env, arrays, expected))
    return found


def check_passes(checked: Checked) -> None:
    """Every stage keeps the meaning."""
    program = checked.case.program
    for stage in (*PORTABLE, *TARGET):
        before, program = program, run_pipeline(program, [stage])
        if program is not before:
            for k in range(len(checked.case.envs)):
                got = results_of(evaluate(program, *checked.case.arrays[k]))
                agree(checked, k, got, f"stage {stage.name}")


def agree(checked: Checked, k: int, got: Sequence[np.ndarray], what: str) -> None:
    """Raises: Mismatch naming the output."""
    case = checked.case
    for i, (value, bound) in enumerate(zip(case.program.graph.outputs, checked.bounds[k])):
        bad = wrong(value, bound, got[i])
        if bad.any():
            again = _widened(checked, k)[i]
            bad = wrong(value, again, got[i])
        if bad.any():
            raise Mismatch(f"{what}, env {case.envs[k]}: {_describe(i, bound, got[i], bad)}")


def _widened(checked: Checked, k: int) -> list[Bound]:
    """Bounds of many runs, for what few called wrong."""
    case = checked.case
    expected = [b.expected for b in checked.bounds[k]]
    return bounds_of(case.program, case.envs[k], case.arrays[k], expected, MORE_RUNS)


def _describe(i: int, bound: Bound, got: np.ndarray, bad: np.ndarray) -> str:
    if got.shape != bound.expected.shape or got.dtype != bound.expected.dtype:
        expected = f"{bound.expected.dtype}{bound.expected.shape}"
        return f"output {i}: {got.dtype}{got.shape}, expected {expected}"
    at = tuple(np.argwhere(bad)[0]) if bad.ndim else ()
    return (
        f"output {i} at {tuple(map(int, at))}: {got[at]!r}, expected {bound.expected[at]!r} within "
        f"{bound.error[at]:.3g}; {int(bad.sum())} of {bad.size} differ"
    )


# A unit


def check_unit(numbers: Sequence[int], target: str, with_passes: bool = True) -> Tally:
    """Generate, check and build some programs as one engine; failures by number."""
    tally = Tally()
    good = []
    for number in numbers:
        try:
            checked = _prepare(number, tally, with_passes)
            good.append(checked)
        except Exception as error:
            tally.failures.append((number, _short(error)))
    tally.programs = len(numbers)
    check_engine(good, target, tally)
    return tally


def _prepare(number: int, tally: Tally, with_passes: bool) -> Checked:
    case = generate(number)
    check_text(case)
    checked = Checked(number, case, reference(case))
    for node in case.program.graph.walk():
        tally.nodes += 1
        tally.ops[node.name] += 1
    for bounds in checked.bounds:
        tally.elements += sum(b.error.size for b in bounds)
        tally.loose += sum(int(np.isinf(b.error).sum()) for b in bounds)
    if with_passes:
        check_passes(checked)
    return checked


def check_engine(unit: Sequence[Checked], target: str, tally: Tally) -> None:
    """Build and run; halve the unit when that fails."""
    if not unit:
        return
    try:
        results = run_engine([c.case for c in unit], target)
    except Exception as error:
        if len(unit) == 1:
            tally.failures.append((unit[0].number, f"engine {target}: {_short(error)}"))
            return
        half = len(unit) // 2
        check_engine(unit[:half], target, tally)
        check_engine(unit[half:], target, tally)
        return
    for what, k, arrays in results:
        at = 0
        for checked in unit:
            count = len(checked.case.program.graph.outputs)
            try:
                agree(checked, k, arrays[at : at + count], f"engine {target}, {what}")
            except Mismatch as error:
                tally.failures.append((checked.number, _short(error)))
            at += count


def run_engine(cases: Sequence[Case], target: str) -> list[tuple[str, int, list[np.ndarray]]]:
    """The outputs of all programs: what ran, which assignment, arrays."""
    program = merge([c.program for c in cases])
    found = []
    for threads in (1, 2):
        predictor = Predictor(program, threads=threads, target=target)
        for k in range(2):
            arrays = [x for case in cases for x in case.arrays[k]]
            found.append((f"{threads} threads", k, results_of(predictor(*arrays))))
    return found


def _short(error: BaseException) -> str:
    if isinstance(error, Mismatch):
        return str(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(last.filename).name}:{last.lineno} {last.name}"
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__} at {where}: {' / '.join(lines[:3])[:300]}"


# Many units, in processes


def run_units(
    units: Sequence[tuple[list[int], str]], jobs: int, with_passes: bool
) -> Iterator[Tally]:
    """Check units in parallel; one that crashes is halved."""
    context = multiprocessing.get_context("fork")
    waiting, running = list(reversed(units)), {}
    while waiting or running:
        while waiting and len(running) < jobs:
            numbers, target = waiting.pop()
            ours, theirs = context.Pipe()
            child = context.Process(target=_child, args=(theirs, numbers, target, with_passes))
            child.start()
            theirs.close()
            running[ours] = (child, numbers, target, time.monotonic())
        for ready in wait(list(running), timeout=5):
            child, numbers, target, _ = running.pop(ready)
            try:
                yield ready.recv()
            except EOFError:
                child.join()
                if len(numbers) == 1:
                    crash = f"engine {target}: crashed with exit code {child.exitcode}"
                    yield Tally(1, failures=[(numbers[0], crash)])
                else:
                    half = len(numbers) // 2
                    waiting += [(numbers[:half], target), (numbers[half:], target)]
            child.join()
        for child, _, _, start in list(running.values()):
            if time.monotonic() - start > UNIT_TIMEOUT_S:
                child.kill()


def _child(pipe: Connection, numbers: list[int], target: str, with_passes: bool) -> None:
    pipe.send(check_unit(numbers, target, with_passes))
    pipe.close()


def plan_units(
    seed: int, count: int, size: int, targets: Sequence[str]
) -> list[tuple[list[int], str]]:
    starts = range(seed, seed + count, size)
    return [
        (list(range(s, min(s + size, seed + count))), targets[i % len(targets)])
        for i, s in enumerate(starts)
    ]


def fuzz(
    seed: int,
    count: int,
    *,
    jobs: int = 2,
    size: int = 50,
    targets: Sequence[str] = TARGETS,
    with_passes: bool = True,
    progress: bool = False,
) -> Tally:
    """Check programs ``seed`` to ``seed + count``."""
    total = Tally()
    with tempfile.TemporaryDirectory() as cache, pytest.MonkeyPatch.context() as environment:
        flags = os.environ.get("OARLOCK_CFLAGS") or FLAGS
        environment.setenv("OARLOCK_CFLAGS", flags)
        environment.setenv("OARLOCK_CACHE_DIR", cache)
        environment.setenv("OARLOCK_CACHE_BYTES", str(256 << 20))
        start = time.perf_counter()
        for tally in run_units(plan_units(seed, count, size, targets), jobs, with_passes):
            total.add(tally)
            if progress:
                seconds = time.perf_counter() - start
                print(
                    f"{total.programs} programs, {seconds:.0f} s, {len(total.failures)} wrong",
                    file=sys.stderr,
                )
                for number, why in tally.failures:
                    print(f"  {number}: {why}", file=sys.stderr, flush=True)
    return total


def fails(case: Case, target: str) -> str:
    """Why this program is wrong, empty when it is right."""
    try:
        check_text(case)
        checked = Checked(0, case, reference(case))
        check_passes(checked)
        tally = Tally()
        check_engine([checked], target, tally)
    except Exception as error:
        return _short(error)
    return tally.failures[0][1] if tally.failures else ""


def report(number: int, target: str) -> str:
    """A failing program, shrunk."""
    small, why = shrink(generate(number), lambda case: fails(case, target))
    return f"# program {number}: {why}\n{small.program}"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--count", type=int, default=10_000)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--jobs", type=int, default=2)
    arguments.add_argument("--size", type=int, default=50, help="programs per engine")
    arguments.add_argument("--target", action="append", help="targets in turn")
    arguments.add_argument("--no-passes", action="store_true")
    arguments.add_argument("--shrink", type=int, default=5, help="failures to shrink and print")
    given = arguments.parse_args()
    start = time.perf_counter()
    total = fuzz(
        given.seed, given.count, jobs=given.jobs, size=given.size,
        targets=given.target or TARGETS, with_passes=not given.no_passes, progress=True,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    wrong_programs: dict[int | str, Any] = dict(total.failures)
    print(
        f"{total.programs} programs, {total.nodes} nodes of {len(total.ops)} ops, "
        f"{total.elements} elements, {100 * total.loose / max(total.elements, 1):.2f}% loose, "
        f"{len(wrong_programs)} wrong, {seconds:.0f} s"
    )
    target = (given.target or TARGETS)[0]
    for number in list(wrong_programs)[: given.shrink]:
        print(report(number, target), flush=True)
    sys.exit(bool(wrong_programs))


if __name__ == "__main__":
    main()
