"""Two gloo processes: every clip, and a static module, gives what one process gives."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
WORKER = Path(__file__).with_name("distributed_worker.py")
CASES = [
    "ddp", "ddp_on_shares_of_a_batch", "static_module_on_shares_of_a_batch", "zero_redundancy", "fsdp2", "tensor_parallel", "both",
    "placements", "non_finite_shard", "flat_parameters",
]  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Of both processes: for each case the traceback, or nothing."""
    store = tmp_path_factory.mktemp("gloo") / "store"
    command = [sys.executable, "-m", "tests.train.distributed_worker"]
    root = WORKER.parents[2]
    paths = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    both = [
        subprocess.Popen(
            [*command, str(rank), str(store)], cwd=root, env=os.environ | {"PYTHONPATH": paths, "OARLOCK_LEAST_WORK": "0"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    found = []
    try:
        for process in both:
            out, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
            found.append(json.loads(out.splitlines()[-1]))
    finally:
        for process in both:
            process.kill()
    return found


@pytest.mark.parametrize("case", CASES)
def test_two_processes(results, case):
    for rank, found in enumerate(results):
        assert not found[case], f"rank {rank}: {found[case]}"


def test_every_case_is_listed():
    tree = ast.parse(WORKER.read_text())
    listed = next(
        n.value for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == "CASES"
    )
    assert [n.id for n in listed.elts] == CASES
