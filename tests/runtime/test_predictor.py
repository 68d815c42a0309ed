"""Predictors: structures, arrays of every kind, threads, forks, errors, state."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

import oarlock  # noqa: E402
from oarlock.errors import InputError, UnknownName, UserError  # noqa: E402
from oarlock.ir import Builder, Graph, Program, TensorType, f32, i64  # noqa: E402

ROWS = 3


@dataclass
class Result:
    total: torch.Tensor
    extra: torch.Tensor | None = None


class Structured(nn.Module):
    def forward(self, x, options=None, *, scale):
        y = x * scale + options["shift"]
        return {"y": y, "pair": (y + 1, [y - 1]), "record": Result(y.sum(-1)), "name": "fixed"}


class Mixed(nn.Module):
    def forward(self, x, picks):
        return x.index_select(0, picks) * 2


def example() -> np.ndarray:
    return np.arange(6, dtype=np.float32).reshape(ROWS, 2)


@pytest.fixture(scope="module")
def structured():
    args = (torch.ones(1, 2), {"shift": torch.ones(2)})
    program = oarlock.capture(
        Structured(), args, {"scale": torch.full((2,), 2.0)}, dynamic={"x": {0: "N"}}
    )
    return oarlock.Predictor(program, threads=1)


@pytest.fixture(scope="module")
def mixed():
    program = oarlock.capture(
        Mixed(), (torch.randn(1, 2), torch.zeros(1, dtype=torch.int64)),
        dynamic={"x": {0: "N"}, "picks": {0: oarlock.Dim("K", 0)}},
    )  # fmt: skip
    return oarlock.Predictor(program, threads=1)


def test_results_have_the_structure_of_the_function(structured):
    x, shift, scale = example(), np.float32([1, 2]), np.float32([2, 3])
    found = structured(x, {"shift": shift}, scale=scale)
    y = x * scale + shift
    assert list(found) == ["y", "pair", "record", "name"] and found["name"] == "fixed"
    assert isinstance(found["pair"], tuple) and isinstance(found["pair"][1], list)
    np.testing.assert_array_equal(found["y"], y)
    np.testing.assert_array_equal(found["pair"][1][0], y - 1)
    np.testing.assert_array_equal(found["record"].total, y.sum(-1))
    np.testing.assert_array_equal(found["record"][0], y.sum(-1))
    assert found["record"].extra is None


def test_torch_in_torch_out(structured):
    x = torch.from_numpy(example())
    found = structured(x, {"shift": torch.ones(2)}, scale=torch.ones(2))
    assert torch.equal(found["y"], x + 1)


@pytest.mark.parametrize("scale", [torch.ones(2), None, np.ones(3, np.float32)])
def test_a_wrong_structure_names_the_argument(structured, scale):
    wrong = {"shift": torch.ones(2)} if scale is None else {"other": torch.ones(2)}
    with pytest.raises(InputError) as caught:
        structured(example(), wrong, **({} if scale is None else {"scale": scale}))
    assert caught.value.input in ("scale", "options", "argument 1")


LAYOUTS = {
    "dense": lambda x: x,
    "transposed": lambda x: np.ascontiguousarray(x.T).T,
    "strided": lambda x: np.repeat(x, 3, axis=1)[:, ::3],
    "reversed": lambda x: np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1],
    "big endian": lambda x: x.astype(">f4"),
    "broadcast": lambda x: np.broadcast_to(x[:1], x.shape),
    "list": lambda x: x.tolist(),
    "torch": torch.from_numpy,
    "torch strided": lambda x: torch.from_numpy(np.repeat(x, 2, axis=0))[::2],
    "torch gradient": lambda x: torch.from_numpy(x).requires_grad_(),
    "parameter": lambda x: nn.Parameter(torch.from_numpy(x)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("by_name", [False, True])
def test_arrays_of_any_layout(mixed, layout, by_name):
    x, picks = LAYOUTS[layout](example()), np.int64([2, 0])
    for _ in range(2):  # the first call plans, the second takes the short way
        found = mixed(x=x, picks=picks) if by_name else mixed(x, picks)
    expected = np.asarray(x.detach() if torch.is_tensor(x) else x, np.float32)[[2, 0]] * 2
    np.testing.assert_array_equal(np.asarray(found), expected)


def test_read_only_and_empty(mixed):
    x = example()
    x.flags.writeable = False
    np.testing.assert_array_equal(mixed(x, np.int64([1])), x[[1]] * 2)
    assert mixed(x, np.empty(0, np.int64)).shape == (0, 2)


def test_results_are_new_each_time(mixed):
    first = mixed(example(), np.int64([1]))
    kept = first.copy()
    second = mixed(example() + 5, np.int64([1]))
    np.testing.assert_array_equal(first, kept)
    assert not np.shares_memory(first, second)


WRONG = {
    "dtype": ((np.zeros((3, 2)), np.int64([0])), "x"),
    "float picks": ((example(), np.float32([0])), "picks"),
    "rank": ((example()[0], np.int64([0])), "x"),
    "size": ((np.zeros((3, 4), np.float32), np.int64([0])), "x"),
    "missing": ((example(),), "picks"),
    "none": ((example(), None), "picks"),
    "sparse": ((torch.eye(2).to_sparse(), np.int64([0])), "x"),
    "meta": ((torch.empty(3, 2, device="meta"), np.int64([0])), "x"),
    "index": ((example(), np.int64([3])), None),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_input_is_named_and_leaves_the_predictor_working(mixed, case):
    inputs, name = WRONG[case]
    with pytest.raises(InputError) as caught:
        mixed(*inputs)
    assert caught.value.input == name
    np.testing.assert_array_equal(mixed(example(), np.int64([1])), example()[[1]] * 2)


def test_extra_and_unknown_inputs(mixed):
    with pytest.raises(InputError, match="expected 2 positional"):
        mixed(example(), np.int64([0]), example())
    with pytest.raises(InputError, match="no input 'z'"):
        mixed(example(), np.int64([0]), z=1)


def test_out_receives_the_result(mixed):
    x, picks = example(), np.int64([1, 2])
    out = np.full((2, 2), np.nan, np.float32)
    assert mixed(x, picks, out=out) is out
    np.testing.assert_array_equal(out, x[[1, 2]] * 2)
    for wrong in (out[:1], out.astype(np.float64), out.T, x[1:], [out, out], 3):
        with pytest.raises(InputError, match="out"):
            mixed(x, picks, out=wrong)


def matrix(size: int, layers: int) -> Program:
    b = Builder(Graph())
    w = np.eye(size, dtype=np.float32)
    y = b.input(TensorType(f32, (size, size)), "x")
    for _ in range(layers):
        y = b.matmul(y, b.param("w", TensorType(f32, (size, size))))
    b.graph.outputs = [y]
    return Program(b.graph, {"w": w})


def test_clones_run_at_the_same_time_and_share_weights():
    """While one thread is in the engine the others run Python."""
    predictor = oarlock.Predictor(matrix(512, 40), threads=1)
    clone = predictor.clone()
    assert clone._session.engine.weights is predictor._session.engine.weights
    x = np.random.default_rng(0).standard_normal((512, 512)).astype(np.float32)
    predictor(x), clone(x)
    span: list[float] = []

    def work():
        span.append(time.perf_counter())
        results.append(clone(x))
        span.append(time.perf_counter())

    results: list[np.ndarray] = []
    thread = threading.Thread(target=work)
    ticks: list[float] = []
    thread.start()
    while thread.is_alive():
        ticks.append(time.perf_counter())
    thread.join()
    inside = [t for t in ticks if span[0] < t < span[1]]
    gaps = np.diff([span[0], *inside, span[1]])
    assert gaps.max() < 0.8 * (span[1] - span[0]), "the interpreter was locked during the run"
    np.testing.assert_array_equal(results[0], x)


def test_one_predictor_in_many_threads(mixed):
    done: list[bool] = []

    def work(seed: int):
        rng = np.random.default_rng(seed)
        for _ in range(50):
            x = rng.standard_normal((rng.integers(1, 9), 2)).astype(np.float32)
            picks = rng.integers(0, len(x), rng.integers(0, 5))
            done.append(np.array_equal(mixed(x, picks), x[picks] * 2))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert done == [True] * 200


FORK = """
import os, sys, numpy as np, oarlock
predictor = oarlock.Predictor(sys.argv[1], threads=2)
x = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
before = predictor(x)
child = os.fork()
if child == 0:
    os._exit(0 if all(np.array_equal(predictor(x), before) for _ in range(3)) else 1)
_, status = os.waitpid(child, 0)
assert np.array_equal(predictor(x), before)
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_children_predict(tmp_path):
    matrix(256, 3).save(tmp_path / "m.oar")
    done = subprocess.run([sys.executable, "-c", FORK, str(tmp_path / "m.oar")], timeout=120)
    assert done.returncode == 0


def test_nan_policy():
    program = oarlock.capture(nn.ReLU(), (torch.randn(2),))
    assert np.isnan(oarlock.Predictor(program)(np.float32([np.nan, 1]))).any()
    strict = oarlock.Predictor(program, nan="error")
    with pytest.raises(InputError, match="1 of 2 values are NaN"):
        strict(np.float32([np.nan, 1]))
    np.testing.assert_array_equal(strict(np.float32([-1, 1])), np.float32([0, 1]))
    with pytest.raises(UserError, match="expected one of allow, error"):
        oarlock.Predictor(program, nan="maybe")


def test_refusals(mixed):
    with pytest.raises(UnknownName, match="no precision 'int8'; expected one of float32"):
        oarlock.Predictor(matrix(4, 1), precision="int8")
    with pytest.raises(UnknownName, match="no target 'tpu'"):
        oarlock.Predictor(matrix(4, 1), target="tpu")
    with pytest.raises(UserError, match="threads: expected 1 to"):
        oarlock.Predictor(matrix(4, 1), threads=0)
    with pytest.raises(UserError, match=r"cannot be pickled.*\.oar"):
        pickle.dumps(mixed)


def test_scalars_and_no_axes():
    b = Builder(Graph())
    x, n = b.input(TensorType(f32, ()), "x"), b.input(TensorType(i64, ()), "n")
    b.graph.outputs = [b.add(x, b.cast(n, dtype=f32))]
    predictor = oarlock.Predictor(Program(b.graph))
    for given in (np.float32(1.5), np.array(1.5, np.float32), 1.5, torch.tensor(1.5)):
        found = predictor(given, 2)
        assert np.shape(found) == () and float(found) == 3.5


def test_report(mixed):
    report = mixed.report(profile=(example(), np.int64([1])))
    assert report.arena_bytes >= report.live_bytes
    assert all(node.ms is not None and node.ms >= 0 for node in report.nodes)
    assert report.kernels and not report.slow_paths
    assert "steps" in str(report) and report.to_dict()["dims"] == {"N": 3, "K": 1}


def test_weights_that_change_are_another_engine():
    program = matrix(8, 1)
    x = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    np.testing.assert_array_equal(oarlock.Predictor(program)(x), x)
    program.params["w"] *= 2
    np.testing.assert_array_equal(oarlock.Predictor(program)(x), x * 2)


def test_frozen_weights_are_hashed_once(tmp_path, monkeypatch):
    from oarlock.runtime import digests

    matrix(8, 1).save(tmp_path / "m.oar")
    program = oarlock.load(tmp_path / "m.oar")
    first = digests.digests(program)
    monkeypatch.setattr(digests, "weights_digest", lambda params: pytest.fail("hashed again"))
    assert digests.digests(program) == first
