"""The pipelines, and the runner that names, times, verifies and bounds their stages."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from oarlock import knobs
from oarlock.errors import CompilerBug, InvalidProgram, UnknownName
from oarlock.ir import Program
from oarlock.ir.verify import verify as check
from oarlock.passes.choose_layout import choose_layout
from oarlock.passes.cse import cse
from oarlock.passes.dead_code import dead_code
from oarlock.passes.fold import fold
from oarlock.passes.fold_batch_norm import fold_batch_norm
from oarlock.passes.fuse_siblings import fuse_siblings
from oarlock.passes.merge_products import merge_products
from oarlock.passes.recognise_attention import recognise_attention
from oarlock.passes.rewrite import budget
from oarlock.passes.share_places import share_places
from oarlock.passes.simplify import simplify
from oarlock.passes.split_conv_transpose import split_conv_transpose
from oarlock.passes.split_log_softmax import split_log_softmax
from oarlock.passes.stage import Stage, get
from oarlock.passes.turn_once import turn_once

PORTABLE = [
    dead_code,
    fold,
    simplify,
    fold_batch_norm,
    simplify,
    cse,
    recognise_attention,
    simplify,
    dead_code,
]
TARGET = [
    merge_products,
    split_conv_transpose,
    split_log_softmax,
    fuse_siblings,
    choose_layout,
    share_places,
    fold,
    simplify,
    cse,
    turn_once,
    dead_code,
]


@dataclass(frozen=True)
class Record:
    """What a stage did; ``seconds`` is without verification, ``rewrites`` counts its rules."""

    name: str
    seconds: float
    nodes_before: int
    nodes_after: int
    rewrites: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def run_pipeline(
    program: Program,
    stages: Sequence[Stage | str],
    *,
    verify: bool = True,
    stop_after: str | None = None,
    limit: int | None = None,
    on_stage: Callable[[Record], None] | None = None,
) -> Program:
    """``program`` after ``stages``, which are named or given; the argument is not changed.

    Args: verify: check the program after every stage; stop_after: the last stage to run; limit:
    how many rewrites to make in all, to bisect; on_stage: called with the record of each stage.
    Raises: UnknownName; CompilerBug when a stage breaks the program.
    """
    chosen = _until([s if isinstance(s, Stage) else get(s) for s in stages], stop_after)
    with budget(limit) as spent:
        for stage in chosen:
            before, rewrites, start = program, spent.spent, time.perf_counter()
            program = stage(program)
            seconds = time.perf_counter() - start
            if verify:
                _check(stage, before, program)
            if on_stage is not None:
                counts = _count(before), _count(program)
                on_stage(Record(stage.name, seconds, *counts, spent.spent - rewrites))
    return program


def _until(stages: list[Stage], last: str | None) -> list[Stage]:
    if last is None:
        return stages
    names = [stage.name for stage in stages]
    if last not in names:
        raise UnknownName(f"no stage {last!r} in this pipeline; there are {', '.join(names)}")
    return stages[: names.index(last) + 1]


def _count(program: Program) -> int:
    return sum(1 for _ in program.graph.walk())


def _check(stage: Stage, before: Program, after: Program) -> None:
    """Raises: CompilerBug."""
    try:
        check(after)
    except InvalidProgram as error:
        raise CompilerBug(f"stage {stage.name} breaks the program: {error}", str(after)) from error
    for what, old, new in zip(("inputs", "outputs"), _ports(before), _ports(after)):
        if old != new:
            raise CompilerBug(f"stage {stage.name} changes the {what}: {old}, {new}", str(after))
    if (before.state, before.dims) != (after.state, after.dims):
        raise CompilerBug(f"stage {stage.name} changes the state or the dims", str(after))


def _ports(program: Program) -> tuple[list[str], list[str]]:
    graph = program.graph
    return [f"{v.name}: {v.type}" for v in graph.inputs], [str(v.type) for v in graph.outputs]


def describe(stage: Stage | str) -> dict[str, str]:
    """Name and one line about a stage.  Raises: UnknownName."""
    found = stage if isinstance(stage, Stage) else get(stage)
    return {"name": found.name, "doc": found.doc}


def optimise(program: Program) -> Program:
    """``program`` after the portable and the target pipeline, checked if OARLOCK_VERIFY is set."""
    return run_pipeline(program, [*PORTABLE, *TARGET], verify=knobs.VERIFY.value)
