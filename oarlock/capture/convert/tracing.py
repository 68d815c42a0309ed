"""The tracer that is recording now, if any."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_TAPE = "oarlock.capture.tape"


def tracer() -> Any:
    """The active tracer, or None.  Nothing can record before the package of tapes is imported."""
    module = sys.modules.get(_TAPE)
    active = getattr(module, "active", None)
    return None if active is None else active()


def is_proxy(items: Any) -> bool:
    """Stands for a sequence of run-time length; a list of a trace may still be an ordinary one."""
    if not hasattr(type(items), "run_time_length"):
        return False
    active = tracer()
    return not isinstance(items, list) or (active is not None and active.is_symbolic(items))


def used(x: Any) -> Any:
    """``x``, which is read as a whole."""
    active = tracer()
    if active is not None:
        active.uses(x)
    return x


def is_table(x: Any) -> bool:
    """A dict or set whose keys are known at run time."""
    return hasattr(type(x), "is_run_table")


@contextmanager
def at_key(owner: Any) -> Iterator[None]:
    """A key of ``owner`` is used: a refusal knows that it would be none for a table of the run."""
    active = tracer()
    try:
        yield
    except BaseException as error:
        refusal = error if hasattr(error, "sites") else getattr(error, "refusal", None)
        if active is not None and hasattr(refusal, "sites"):
            active.tables.blame(refusal, owner)
        raise
