"""Random programs under AddressSanitizer and UBSan, every buffer an allocation of its exact size.

``python -m tests.fuzz.sanitize --count 300 --seed 0``.  Needs gcc: the sanitizers are loaded into a
process of their own before Python.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys

FLAGS = "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
RUNTIMES = ("libasan.so", "libubsan.so")
OPTIONS = {"ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0", "UBSAN_OPTIONS": "print_stacktrace=1"}


def run(count: int, seed: int, jobs: int = 2, short: int = 0) -> subprocess.CompletedProcess[str]:
    """Check programs in a process with the sanitizers."""
    gcc = shutil.which("gcc")
    assert gcc is not None
    found = [
        subprocess.run(
            [gcc, f"-print-file-name={name}"], capture_output=True, text=True
        ).stdout.strip()
        for name in RUNTIMES
    ]
    environment = {
        **os.environ, **OPTIONS, "LD_PRELOAD": " ".join(found), "OARLOCK_CC": gcc,
        "OARLOCK_CFLAGS": FLAGS,
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.fuzz.sanitize", "--inside", "--count", str(count)]
    command += ["--seed", str(seed), "--jobs", str(jobs), "--short", str(short)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def allocate_buffers_apart(short: int) -> None:
    """Give every buffer of the arena, and the scratch of every thread, memory of its own."""
    import numpy as np

    from oarlock.ir.dim import evaluate_size
    from oarlock.runtime.session import Plan

    whole = Plan.place

    def place(self: Plan, arena: int, pool: int | None, stamp: object) -> None:
        whole(self, arena, pool, stamp)
        self.apart = []  # type: ignore[attr-defined]
        for i, entry in enumerate(self.entries):  # type: ignore[attr-defined]
            if self.offsets[i] is not None and entry is not None:
                size = max(0, evaluate_size(entry, self.env) - short)
                block = np.full(size, 0xA5, np.uint8)
                self.apart.append(block)  # type: ignore[attr-defined]
                self.pointers[i] = block.ctypes.data

    start = Plan.__init__

    def init(self: Plan, layout, engine, env, threads) -> None:
        start(self, layout, engine, env, threads)
        self.entries = [  # type: ignore[attr-defined]
            None if e is None else layout.size(e["bytes"]) for e in layout.metadata["buffers"]
        ]

    Plan.place, Plan.__init__ = place, init  # type: ignore[method-assign]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--count", type=int, default=300)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--jobs", type=int, default=2)
    arguments.add_argument("--short", type=int, default=0, help="bytes missing, to prove the check")
    arguments.add_argument("--inside", action="store_true", help="the sanitizers are loaded")
    given = arguments.parse_args()
    if not given.inside:
        done = run(given.count, given.seed, given.jobs, given.short)
        print(done.stdout, done.stderr[-8000:], sep="\n")
        sys.exit(done.returncode)
    from tests.fuzz.run_programs import fuzz

    allocate_buffers_apart(given.short)
    total = fuzz(given.seed, given.count, jobs=given.jobs, size=25, with_passes=False)
    for number, why in total.failures:
        print(f"{number}: {why}")
    print(f"{total.programs} programs, {len(total.failures)} wrong, under ASan and UBSan")
    sys.exit(bool(total.failures))


if __name__ == "__main__":
    main()
