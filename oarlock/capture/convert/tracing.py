"""The tracer that is recording now, if any."""

from __future__ import annotations

import sys
from typing import Any

_TAPE = "oarlock.capture.tape"


def tracer() -> Any:
    """The active tracer, or None.  Nothing can record before the package of tapes is imported."""
    module = sys.modules.get(_TAPE)
    active = getattr(module, "active", None)
    return None if active is None else active()


def is_proxy(items: Any) -> bool:
    """Stands for a sequence of run-time length; a list of a trace may still be an ordinary one."""
    if not hasattr(items, "run_time_length"):
        return False
    active = tracer()
    return not isinstance(items, list) or (active is not None and active.is_symbolic(items))


def used(x: Any) -> Any:
    """``x``, which is read as a whole."""
    active = tracer()
    if active is not None:
        active.uses(x)
    return x
