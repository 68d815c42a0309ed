"""Programs that are refused, each with what its message recommends: ``name`` and ``name_rewritten``.

The line that the message names is marked ``# here``; ``# near`` where it is one of the lines around.
"""

from __future__ import annotations

import inspect
from typing import Any

from tests.capture.tape.refused import calls, code, containers, state, values

MODULES = (values, containers, calls, code, state)


def pairs() -> list[tuple[Any, Any]]:
    found = []
    for module in MODULES:
        for name, f in vars(module).items():
            if inspect.isfunction(f) and f"{name}_rewritten" in vars(module):
                found.append((f, vars(module)[f"{name}_rewritten"]))
    return found
