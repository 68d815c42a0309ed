"""Tracebacks of converted code: the user's frames, each once."""

from __future__ import annotations

from pathlib import Path
from types import CodeType, TracebackType
from typing import TypeVar

_HERE = str(Path(__file__).parent)
E = TypeVar("E", bound=BaseException)


def strip_frames(error: E, blocks: dict[int, CodeType]) -> E:
    """``error`` without our frames, and without the outer frame of each block of a function."""
    kept: list[TracebackType] = []
    at = error.__traceback__
    while at is not None:
        code = at.tb_frame.f_code
        if not code.co_filename.startswith(_HERE):
            if id(code) in blocks and kept:
                kept.pop()
            kept.append(at)
        at = at.tb_next
    made: TracebackType | None = None
    for frame in reversed(kept):
        made = TracebackType(made, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return error.with_traceback(made)
