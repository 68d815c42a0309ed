"""Programs that once were wrong, shrunk: ``found/*.txt``, a comment on what it was, sizes, the text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from oarlock.ir import Program, parser
from oarlock.ir.op import Sample
from tests.fuzz.programs import Case
from tests.fuzz.run_programs import (
    Checked,
    Tally,
    check_engine,
    check_passes,
    check_text,
    reference,
)
from tests.samples import draw

FOUND = sorted((Path(__file__).parent / "found").glob("*.txt"))


def read(path: Path) -> Case:
    """The program with random inputs at the sizes of its second comment, two assignments."""
    comments, text = [], []
    for line in path.read_text().splitlines():
        (comments if line.startswith("# ") else text).append(line)
    program = parser.parse("\n".join(text))
    given = [dict([pair.split("=")]) for pair in " ".join(comments[1:]).removeprefix("# ").split()]
    envs = [{k: int(v) for k, v in env.items()} for env in given] or [{}]
    envs = tuple((envs * 2)[:2])
    params = {n.op.key: n.op.type for n in program.graph.walk() if n.name == "param"}
    arrays = dict(zip(params, draw(list(params.values()), Sample(()), 1)))
    types = [v.type for v in program.graph.inputs]
    inputs = tuple(
        draw([t.concrete(env) for t in types], Sample(()), 2 + k) for k, env in enumerate(envs)
    )
    return Case(Program(program.graph, arrays), envs, inputs)


@pytest.mark.parametrize("path", FOUND, ids=lambda p: p.stem)
def test_passes(path):
    case = read(path)
    check_text(case)
    checked = Checked(path.stem, case, reference(case))
    check_passes(checked)
    assert np.mean([b.loose for bounds in checked.bounds for b in bounds]) < 0.5


@pytest.mark.parametrize("target", ["cpu", "generic", "plain"])
def test_engine(target):
    unit = [Checked(p.stem, case, reference(case)) for p in FOUND for case in [read(p)]]
    tally = Tally()
    check_engine(unit, target, tally)
    assert tally.failures == []
