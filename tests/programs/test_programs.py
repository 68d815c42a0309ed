"""Programs whose flow data decide: one capture, equal to eager for all inputs, in every executor."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from oarlock.capture.lowering.draws import eager_draws
from oarlock.capture.to_static import StaticFunction
from oarlock.evaluate import evaluate
from oarlock.runtime.split import has_steps
from tests.programs import language, models

WITHOUT_TORCH = """
import pickle, sys
sys.modules["torch"] = None
import numpy as np
from oarlock import Predictor

def leaves(x):
    if isinstance(x, dict):
        x = list(x.values())
    if isinstance(x, (tuple, list)):
        return [y for item in x for y in leaves(item)]
    return [np.asarray(x)]

folder, count = sys.argv[1], int(sys.argv[2])
predictor = Predictor(folder + "/program.oar", threads=1)
for call in range(count):
    with open(f"{folder}/call{call}", "rb") as file:
        found = leaves(predictor(*pickle.load(file)))
    np.savez(f"{folder}/result{call}.npz", *found)
"""
MAKERS = {**models.MAKERS, **language.MAKERS}
SLOW = ("beam", "sample", "translate")
ROUNDINGS = 2.0**-14  # of the largest value: some hundred operations in sequence, in float32


def leaves(x):
    if isinstance(x, dict):
        x = list(x.values())
    if isinstance(x, (tuple, list)):
        return [y for item in x for y in leaves(item)]
    return [x.detach().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)]


def assert_same(got, expected):
    assert len(got) == len(expected)
    for a, b in zip(got, expected):
        assert a.shape == b.shape
        if b.dtype.kind in "OU":  # None, a text
            assert a == b
            continue
        scale = float(np.abs(b).max(initial=1.0)) if b.dtype.kind == "f" else 0.0
        np.testing.assert_allclose(a, b, rtol=0, atol=ROUNDINGS * scale)


def _param(name):
    """Those that take long to compile are left to the long run."""
    return pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name


@pytest.fixture(scope="module", params=[_param(name) for name in MAKERS])
def case(request):
    """A static function after its calls, the calls, what eager gives, what the replay gave."""
    fn, calls = MAKERS[request.param]()
    static = StaticFunction(getattr(fn, "forward", fn))
    with torch.no_grad():
        expected = [leaves(fn(*c)) for c in calls]
        replayed = [leaves(static(*c)) for c in calls]
    return static, calls, expected, replayed


def test_one_capture_serves_all_calls(case):
    static, _, expected, replayed = case
    assert len(static.tapes) == 1
    for got, want in zip(replayed, expected):
        assert_same(got, want)


def test_the_program_gives_what_eager_gives(case):
    static, calls, expected, _ = case
    (program,) = static.programs
    for call, want in zip(calls, expected):
        assert_same(leaves(evaluate(program, *[x.numpy() for x in call])), want)


def test_a_file_runs_where_torch_is_not(case, tmp_path):
    static, calls, expected, _ = case
    assert_file_gives(static, calls, expected, tmp_path)


def assert_file_gives(static, calls, expected, tmp_path):
    static.save(tmp_path / "program.oar")
    for i, call in enumerate(calls):
        given = [x.numpy() if isinstance(x, torch.Tensor) else x for x in call]
        (tmp_path / f"call{i}").write_bytes(pickle.dumps(given))
    command = [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path), str(len(calls))]
    subprocess.run(command, check=True)
    for i, want in enumerate(expected):
        found = np.load(tmp_path / f"result{i}.npz")
        assert_same([found[k] for k in found.files], want)


@pytest.mark.parametrize(
    "maker", [models.sampler, pytest.param(language.sample_alone, marks=pytest.mark.slow)]
)
def test_sampling_without_torch_gives_what_eager_gives_on_the_same_draws(maker, tmp_path):
    fn, calls = maker()
    static = StaticFunction(fn.forward)
    with torch.no_grad():
        for call in calls:
            static(*call)
        with eager_draws():
            expected = [leaves(fn(*call)) for call in calls]
    assert len(static.tapes) == 1 and len({x[0].tobytes() for x in expected}) > 1
    assert_file_gives(static, calls, expected, tmp_path)


@pytest.mark.parametrize("name", ["early_exit", "adaptive_time", "ode", "tree_in_order"])
def test_flow_without_sizes_is_one_engine(name):
    fn, calls = MAKERS[name]()
    static = StaticFunction(getattr(fn, "forward", fn))
    with torch.no_grad():
        static(*calls[0])
    assert not has_steps(static.programs[0])
