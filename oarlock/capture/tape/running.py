"""Runs a tape: puts back modes when it fails."""

from __future__ import annotations

from typing import Any

import torch

from oarlock.capture.tape.capturing import Tape
from oarlock.capture.tape.leaving import leave
from oarlock.capture.tape.runtime import NAMES, Respecialise


def run(tape: Tape, args: tuple, kwargs: dict[str, Any]) -> Any:
    """The call of ``tape``."""
    started = tape.unwinding.begin(args, kwargs) if tape.unwinding is not None else None
    try:
        return tape.replay(args, kwargs) if started is None else started.replay()
    except BaseException as error:
        torch._C._set_grad_enabled(tape.ambient.grad)
        NAMES["modes"].restore()
        NAMES["modes"].autocast(tape.ambient.autocast, tape.ambient.cache)
        if isinstance(error, Respecialise):
            raise
        call = started.is_seen(error) if started is not None else None
        if started is None or call is None:
            if tape.left:
                leave(tape, error)
            raise
        failed = error
    try:
        return started.again(failed, call)
    finally:
        del failed  # its traceback holds this frame
