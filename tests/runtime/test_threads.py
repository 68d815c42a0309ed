"""The thread count follows the container."""

from __future__ import annotations

from pathlib import Path

import pytest

from oarlock.errors import UserError
from oarlock.runtime import threads


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


V2 = {"proc/self/cgroup": "0::/a/b\n"}
V1 = {"proc/self/cgroup": "5:cpuacct,cpu:/docker/x\n3:memory:/docker/x\n"}
CASES = [
    ({}, None),
    ({**V2, "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
    ({**V2, "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
    ({**V2, "sys/fs/cgroup/a/cpu.max": "50000 100000", "sys/fs/cgroup/a/b/cpu.max": "max 100000"}, 0.5),
    ({**V2, "sys/fs/cgroup/cpu.max": "garbage"}, None),
    ({**V1, "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, None),
    ({**V1, "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 3),
    ({**V1, "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us": "20000",
      "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us": "10000"}, 2),
]  # fmt: skip


@pytest.mark.parametrize("files, expected", CASES)
def test_quota(tmp_path, files, expected):
    assert threads.cgroup_quota(write(tmp_path, files)) == expected


@pytest.mark.parametrize("quota, cores", [("50000", 1), ("150000", 2), ("9900000", 8)])
def test_granted(tmp_path, monkeypatch, quota, cores):
    monkeypatch.setattr(threads, "affinity_cores", lambda: 8)
    root = write(tmp_path, {"sys/fs/cgroup/cpu.max": f"{quota} 100000"})
    assert threads.granted_cores(root) == cores


def test_knob(monkeypatch):
    monkeypatch.setenv("OARLOCK_THREADS", "3")
    assert threads.thread_count() == 3
    assert threads.thread_count(2) == 2


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, 5000])
def test_bad(bad):
    with pytest.raises(UserError, match=r"threads: expected 1 to 1024, got "):
        threads.thread_count(bad)
