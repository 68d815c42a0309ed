"""No walks over all objects of the process while code is captured.

A capture makes many objects, at which Python's collector walks over everything again and again: in a
process with torch, most of the time of some captures.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_YOUNG = 50_000  # objects between two walks over the new ones
_lock = threading.Lock()
_users = [0]
_before: list[tuple[int, int, int]] = []


@contextmanager
def rare_collections() -> Iterator[None]:
    """Cycles are looked for among many new objects only, and at the end; nests, in threads too."""
    with _lock:
        _users[0] += 1
        if _users[0] == 1 and gc.isenabled() and gc.get_threshold()[0]:
            _before.append(gc.get_threshold())
            gc.set_threshold(_YOUNG, 1_000, 1_000)
    try:
        yield
    finally:
        with _lock:
            _users[0] -= 1
            if not _users[0] and _before:
                gc.collect(1)  # else the next object to be made would start a walk over all
                gc.set_threshold(*_before.pop())
