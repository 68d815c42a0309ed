"""The thread pool of ``csrc/pool.c``, loaded with ctypes."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from functools import lru_cache
from pathlib import Path

from oarlock.errors import ToolError
from oarlock.runtime.threads import affinity_cores

SPIN_NS = 200_000  # longer than the gaps between the kernels of a run


class Call(ctypes.Structure):
    """``ol_call``: everything of a call to an engine that stays the same."""

    _fields_ = [
        ("run", ctypes.c_void_p),
        ("buf", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("dims", ctypes.c_void_p),
        ("scratch", ctypes.c_void_p),
        ("scratch_bytes", ctypes.c_int64),
        ("pool", ctypes.c_void_p),
        ("first_step", ctypes.c_int32),
        ("last_step", ctypes.c_int32),
        ("profile_ns", ctypes.c_void_p),
    ]


class Team(ctypes.Structure):
    """``ol_team``: addresses of an OpenMP runtime that is loaded in this process."""

    _fields_ = [
        ("fork", ctypes.c_void_p),
        ("member", ctypes.c_void_p),
        ("members", ctypes.c_void_p),
    ]

    @staticmethod
    def of(runtime: ctypes.CDLL) -> Team | None:
        """None where it has not what GCC's has."""
        names = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
        found = [getattr(runtime, name, None) for name in names]
        if None in found:
            return None
        return Team(*(ctypes.cast(f, ctypes.c_void_p).value for f in found))  # type: ignore[arg-type]


@lru_cache
def library(path: Path) -> ctypes.CDLL:
    """The compiled pool with the types of its functions declared.  Raises: ToolError."""
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        raise ToolError(f"cannot load the thread pool: {error}") from None
    loaded.ol_pool_create.argtypes = [ctypes.c_int32, ctypes.c_int64]
    loaded.ol_pool_create.restype = ctypes.c_void_p
    loaded.ol_pool_borrow.argtypes = [ctypes.c_int32, ctypes.POINTER(Team)]
    loaded.ol_pool_borrow.restype = ctypes.c_void_p
    loaded.ol_pool_destroy.argtypes = [ctypes.c_void_p]
    loaded.ol_pool_destroy.restype = None
    loaded.ol_invoke.argtypes = [ctypes.c_void_p]
    loaded.ol_invoke.restype = ctypes.c_int32
    return loaded


class Pool:
    """``threads`` threads, the caller included; one run at a time.

    After a fork the child starts workers of its own on first use.
    """

    def __init__(self, path: Path, threads: int) -> None:
        self.threads = threads
        self._library = library(path)
        self._handle: int | None = None
        self._owner = 0
        self._lock = threading.Lock()
        self._finalizer: weakref.finalize | None = None

    @property
    def handle(self) -> int | None:
        """The address of the pool, None when one thread needs none."""
        if self.threads == 1:
            return None
        if self._owner != os.getpid():
            self._start()
        return self._handle

    def _start(self) -> None:
        with self._lock:
            if self._owner == os.getpid():
                return
            handle = self._create()
            if not handle:
                raise ToolError(f"cannot start {self.threads} threads; ask for fewer")
            self._handle, self._owner = handle, os.getpid()
            self._finalizer = weakref.finalize(self, self._library.ol_pool_destroy, handle)
            self._finalizer.atexit = False

    def _create(self) -> int | None:
        spin_ns = SPIN_NS if self.threads <= affinity_cores() else 0
        return self._library.ol_pool_create(self.threads, spin_ns)

    def close(self) -> None:
        """Stop the workers; nothing may be running."""
        if self._finalizer is not None:
            self._finalizer()
        self._handle, self._finalizer, self._owner = None, None, 0


class BorrowedPool(Pool):
    """The threads of an OpenMP team, for code between loops of that team.

    Runs share out their items as in a pool of as many threads, and give the same results.
    A forked child has no team, and starts threads of its own.
    """

    def __init__(self, path: Path, threads: int, team: Team) -> None:
        super().__init__(path, threads)
        self._team, self._home = team, os.getpid()

    def _create(self) -> int | None:
        if os.getpid() != self._home:
            return super()._create()
        return self._library.ol_pool_borrow(self.threads, ctypes.byref(self._team))
