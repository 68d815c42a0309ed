"""Small programs whose flow data decide: their Program gives what eager gives, errors included."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from oarlock.capture.to_static import StaticFunction
from oarlock.errors import ModelError, UnsupportedError
from oarlock.evaluate import evaluate
from tests.programs.flows import CALLS
from tests.programs.test_programs import assert_same, leaves


@pytest.mark.parametrize("fn", CALLS, ids=lambda fn: fn.__name__)
def test_one_program_serves_all_calls(fn):
    static = StaticFunction(fn)
    for x in CALLS[fn]:
        assert_alike(static, fn, x)
    (program,) = static.programs
    for x in CALLS[fn]:
        assert_alike(lambda x: evaluate(program, x.numpy()), fn, x)


def assert_alike(run, fn, x):
    """Both give the same, or raise errors of one kind and text."""
    try:
        want = leaves(fn(x))
    except Exception as error:
        with pytest.raises((type(error), ModelError)) as found:
            run(x)
        text = found.value.reason if isinstance(found.value, ModelError) else str(found.value)
        kind = getattr(found.value, "kind", type(found.value).__name__)
        assert (kind, text) == (type(error).__name__, str(error))
        return
    assert_same(leaves(run(x)), want)


T = torch.tensor


def squeezed(x):
    return x[x > 0].reshape(-1, 1).squeeze()


def squeezed_head(x):
    k = 0
    while k < x.shape[0] and x[k] > 0:
        k += 1
    return x[:k].reshape(-1, 1).expand(-1, 2).squeeze(0)


@pytest.mark.parametrize("fn", [squeezed, squeezed_head])
def test_a_rank_that_the_run_decides_is_no_silent_mistake(fn):
    static = StaticFunction(fn)
    for x in (T([1.0, 2.0, -1.0]), T([3.0, -2.0, -1.0])):
        assert_same(leaves(static(x)), leaves(fn(x)))
    (program,) = static.programs
    x = T([1.0, 2.0, -1.0])
    assert_same(leaves(evaluate(program, x.numpy())), leaves(fn(x)))
    with pytest.raises(ModelError, match=r"test_flows\.py:\d+: squeeze\(\) of an axis"):
        evaluate(program, np.array([3, -2, -1], np.float32))


def test_axes_that_were_of_different_sizes_have_dims_of_their_own():
    def both(x, y):
        return x.sum() + y * 2

    static = StaticFunction(both)
    for n, m in ((2, 4), (3, 3)):
        static(torch.ones(n), torch.ones(m))
    (program,) = static.programs
    got = evaluate(program, np.ones(5, np.float32), np.ones(2, np.float32))
    assert got.tolist() == [7.0, 7.0]


def test_what_has_no_form_is_refused_at_once_with_all_lines():
    def counts(x):
        seen = {}
        for v in x.tolist():
            seen[v] = seen.get(v, 0) + 1
        return len(seen), torch.func.vmap(lambda a: a * 2)(x)

    static = StaticFunction(counts)
    assert static(T([1.0, 1.0]))[0] == counts(T([1.0, 1.0]))[0]
    line = counts.__code__.co_firstlineno
    with pytest.raises(UnsupportedError) as found:
        static.programs[0]
    problems = found.value.problems
    assert [p.split(": ")[0] for p in problems] == [f"test_flows.py:{line + k}" for k in (1, 4)]
    assert "whose keys data decide" in problems[0] and "handed to torch" in problems[1]
