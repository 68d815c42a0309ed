"""Graph before, graph after; ``pytest --update`` rewrites what is expected."""

from __future__ import annotations

import numpy as np
import pytest

from oarlock.evaluate import evaluate
from oarlock.ir.op import Sample
from oarlock.ir.verify import verify
from tests.fuzz.noise import bounds_of, wrong
from tests.passes.rewrites import files, read, write
from tests.samples import draw, results_of

ENVS = ({"N": 3}, {"N": 5})
SPECIAL = [np.nan, np.inf, -np.inf, -0.0, 0.0, 1.0, -1.0, 2.5]
CASES = [pytest.param(c, id=f"{c.stage}: {c.title}") for path in files() for c in read(path)]


@pytest.fixture(scope="session", autouse=True)
def updated(request):
    if request.config.getoption("--update"):
        for path in files():
            write(path, read(path))
        pytest.exit("expectations are rewritten; read the difference", 0)


@pytest.mark.parametrize("case", CASES)
def test_becomes(case):
    program = case.program()
    after = verify(case.run(program))
    assert case.show(after) == (case.before if case.after is None else case.after)


@pytest.mark.parametrize("case", CASES)
def test_is_settled(case):
    once = case.run(case.program())
    assert case.show(case.run(once)) == case.show(once)


@pytest.mark.parametrize("env", ENVS, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_means_the_same(case, env):
    program = case.program()
    after = case.run(program)
    arrays = draw([v.type.concrete(env) for v in program.graph.inputs], Sample(()), 3)
    for special in (False, True):
        inputs = [with_specials(a) for a in arrays] if special else arrays
        expected = results_of(evaluate(program, *inputs))
        bounds = bounds_of(program, {k: env[k] for k in program.dims}, inputs, expected)
        for value, bound, got in zip(
            program.graph.outputs, bounds, results_of(evaluate(after, *inputs))
        ):
            assert not wrong(value, bound, got).any(), (got, bound)
        if case.stage == "fold_batch_norm":
            break  # products of weights and infinity are joined differently


def with_specials(x: np.ndarray) -> np.ndarray:
    if x.dtype.kind != "f":
        return x
    return np.resize(np.asarray(SPECIAL, x.dtype), x.shape)
