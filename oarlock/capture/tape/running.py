"""Runs a tape: puts back modes when it fails, and shows the user's lines in errors."""

from __future__ import annotations

from typing import Any

import torch

from oarlock.capture.tape.capturing import Tape
from oarlock.capture.tape.runtime import NAMES


def run(tape: Tape, args: tuple, kwargs: dict[str, Any]) -> Any:
    """The call of ``tape``."""
    try:
        return tape.replay(args, kwargs)
    except BaseException as error:
        torch._C._set_grad_enabled(tape.ambient.grad)
        NAMES["modes"].restore()
        add_line(tape, error)
        raise


def add_line(tape: Tape, error: BaseException) -> None:
    """Name the user's line that the failing call came from."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code is tape.replay.__code__:
            where = tape.origins.get(trace.tb_lineno - 1)
            if where is not None:
                error.add_note(f'  File "{where.file}", line {where.line}, in {where.name}')
        trace = trace.tb_next
