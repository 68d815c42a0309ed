"""Runs a tape: puts back modes when it fails."""

from __future__ import annotations

from typing import Any

import torch

from oarlock.capture.tape.capturing import Tape
from oarlock.capture.tape.runtime import NAMES


def run(tape: Tape, args: tuple, kwargs: dict[str, Any]) -> Any:
    """The call of ``tape``."""
    try:
        return tape.replay(args, kwargs)
    except BaseException:
        torch._C._set_grad_enabled(tape.ambient.grad)
        NAMES["modes"].restore()
        raise
