"""Runs a tape: puts back modes when it fails."""

from __future__ import annotations

from typing import Any

import torch

from oarlock.capture.tape.capturing import Tape
from oarlock.capture.tape.leaving import leave
from oarlock.capture.tape.runtime import NAMES, Respecialise


def run(tape: Tape, args: tuple, kwargs: dict[str, Any]) -> Any:
    """The call of ``tape``."""
    try:
        return tape.replay(args, kwargs)
    except BaseException as error:
        torch._C._set_grad_enabled(tape.ambient.grad)
        NAMES["modes"].restore()
        if tape.left and not isinstance(error, Respecialise):
            leave(tape, error)
        raise
