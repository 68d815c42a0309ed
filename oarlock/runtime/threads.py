"""How many threads this process was granted: affinity and the container's quota."""

from __future__ import annotations

import os
from pathlib import Path

from oarlock import knobs
from oarlock.errors import UserError

MAX_THREADS = 1024


def thread_count(threads: int | None = None) -> int:
    """``threads``, else OARLOCK_THREADS, else the cores granted.  Raises: UserError."""
    asked = knobs.THREADS.value if threads is None else threads
    if asked is None:
        return granted_cores()
    if isinstance(asked, bool) or not isinstance(asked, int) or not 1 <= asked <= MAX_THREADS:
        raise UserError(f"threads: expected 1 to {MAX_THREADS}, got {asked!r}")
    return asked


def granted_cores(root: Path = Path("/")) -> int:
    """Cores in the affinity mask, at most the cgroup's quota rounded up; never below 1."""
    cores = affinity_cores()
    quota = cgroup_quota(root)
    if quota is not None:
        cores = min(cores, max(1, -int(-quota // 1)))
    return max(1, min(cores, MAX_THREADS))


def affinity_cores() -> int:
    """Cores that the scheduler may use for this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cgroup_quota(root: Path = Path("/")) -> float | None:
    """Cores per the tightest cgroup limit, version 2 or 1; None when there is none."""
    quotas = [*_quotas_v2(root), *_quotas_v1(root)]
    return min(quotas, default=None)


def _quotas_v2(root: Path) -> list[float]:
    found = []
    for folder in _chain(root / "sys/fs/cgroup", _own_group(root, "")):
        words = _read(folder / "cpu.max").split()
        if len(words) == 2 and words[0] != "max":
            found += _ratio(words[0], words[1])
    return found


def _quotas_v1(root: Path) -> list[float]:
    found = []
    for mount in ("cpu", "cpu,cpuacct"):
        for folder in _chain(root / "sys/fs/cgroup" / mount, _own_group(root, "cpu")):
            quota, period = (_read(folder / f"cpu.cfs_{n}_us").strip() for n in ("quota", "period"))
            found += _ratio(quota, period)
    return found


def _ratio(quota: str, period: str) -> list[float]:
    try:
        ratio = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return []
    return [ratio] if ratio > 0 else []


def _own_group(root: Path, controller: str) -> str:
    """The path of this process in the hierarchy of ``controller``; empty: version 2."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if (controller in names.split(",")) if controller else not names:
            return path
    return "/"


def _chain(mount: Path, group: str) -> list[Path]:
    """The mount and every folder down to the group: a limit may be set on any of them.

    Inside a container the group's path may be the host's; its folders are then simply absent.
    """
    folders = [mount]
    for part in Path(group).parts:
        if part not in ("/", "..", "."):
            folders.append(folders[-1] / part)
    return folders


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
