"""Engines on torch's threads: the results of a pool of their own, and no thread more."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

import oarlock.ops  # noqa: F401  fills the registry
from oarlock.errors import InputError
from oarlock.ir import Builder, Graph, Program, TensorType, f32, i64
from oarlock.runtime import engine
from oarlock.runtime.pool import BorrowedPool, Pool
from oarlock.runtime.session import Session
from oarlock.train import team

pytestmark = pytest.mark.skipif(team.torch_team() is None, reason="torch has no OpenMP threads")
ROWS = 300


def made() -> Program:
    b = Builder(Graph())
    x, w = b.input(TensorType(f32, (ROWS, 200)), "x"), b.input(TensorType(f32, (200, 400)), "w")
    rows = b.input(TensorType(i64, (ROWS,)), "rows")
    y = b.take(b.tanh(b.matmul(x, w)), rows, axis=0)
    b.graph.outputs = [y, b.reduce_sum(y, axes=(0,))]
    return Program(b.graph)


def sessions(threads: int) -> list[Session]:
    built = engine.build(made())
    borrowed = team.pool(built.pool, threads)
    assert isinstance(borrowed, BorrowedPool)
    return [Session(built, threads, p) for p in (Pool(built.pool, threads), borrowed)]


def run(session: Session, last: int = ROWS - 1) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((ROWS, 200), (200, 400)))
    rows = np.arange(ROWS)[::-1].copy()
    rows[-1] = last
    return session.run(session.plan((x.shape, w.shape, rows.shape)), [x, w, rows])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_equal_to_threads_of_its_own(threads):
    own, borrowed = sessions(threads)
    for a, b in zip(run(own), run(borrowed)):
        np.testing.assert_array_equal(a, b)


def test_starts_no_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.ones(1 << 20).exp().sum()  # torch's threads are there
        _, borrowed = sessions(2)
        threads = set(os.listdir("/proc/self/task"))  # one of an earlier test may end meanwhile
        for _ in range(3):
            run(borrowed)
            torch.ones(1 << 20).exp().sum()
        assert set(os.listdir("/proc/self/task")) <= threads
    finally:
        torch.set_num_threads(before)


def test_failures_are_found_and_leave_it_usable():
    own, borrowed = sessions(2)
    with pytest.raises(InputError):
        run(borrowed, last=ROWS)
    np.testing.assert_array_equal(run(borrowed)[0], run(own)[0])


def test_a_forked_child_runs_on_its_own():
    own, borrowed = sessions(2)
    want = run(own)
    run(borrowed)
    child = os.fork()
    if not child:
        equal = all(np.array_equal(a, b) for a, b in zip(run(borrowed), want))
        os._exit(0 if equal else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_without_a_runtime_it_has_threads_of_its_own(monkeypatch):
    team.torch_team.cache_clear()
    monkeypatch.setattr(team, "MAPS", Path("/nothing/there"))
    try:
        assert type(team.pool(engine.build(made()).pool, 2)) is Pool
    finally:
        team.torch_team.cache_clear()
