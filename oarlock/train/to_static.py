"""``oarlock.to_static`` with its compiled executors, which ``capture`` may not import."""

from __future__ import annotations

import functools
from typing import Any

from oarlock.capture.to_static import StaticFunction as Replayed
from oarlock.capture.to_static import made
from oarlock.train.branching import lowered
from oarlock.train.divided import divided
from oarlock.train.tier import compiled


class StaticFunction(Replayed):
    """Compiled where its tape can be, else replayed; ``report()`` says why."""

    tiers = (compiled, divided, lowered)


def to_static(obj: Any = None, *, input_spec: Any = None, backend: str = "auto") -> Any:
    """Convert a function, method, module or training step to a static program.

    Python control flow on tensors becomes part of the program; what a call gives, gradients and
    side effects included, is what plain Python gives: compared at the first call.

    Args:
        obj: the callable; a module stays a module, with a static ``forward``.
        input_spec: tensors' shapes with symbols for sizes that differ between calls.
        backend: "auto" compiles what can be and replays the torch calls of the rest; "compiled"
            refuses the rest; "replay" compiles nothing.
    """
    if obj is None:
        return functools.partial(to_static, input_spec=input_spec, backend=backend)
    return made(StaticFunction, obj, input_spec=input_spec, backend=backend)
