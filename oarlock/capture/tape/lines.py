"""The user's lines: where a call is made, and tracebacks that show them in place of ours."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CodeType, FrameType, FunctionType, MethodType, TracebackType
from typing import Any

from oarlock.capture.convert.calls import call_of
from oarlock.capture.convert.convert import BLOCKS
from oarlock.capture.tape.nodes import Where
from oarlock.errors import OarlockError

_LIBRARY = (
    "/torch/",
    "/oarlock/capture/",
    "/oarlock/train/",
    "<oarlock",
    "<frozen",
    "/contextlib.py",
    "/functools.py",
)
_OURS = str(Path(__file__).parents[2])
_TOP = str(Path(__file__).with_name("capturing.py"))  # what calls the code that is captured
_FRAMES = 60
NOWHERE = Where("<unknown>", 0)


@functools.cache
def is_library(file: str) -> bool:
    """A file of torch's or ours."""
    return any(part in file for part in _LIBRARY)


def user_line(depth: int = 2) -> Where:
    """The innermost line that is neither torch's nor ours, with the lines that it is called from."""
    return _chain(reversed(list(_outwards(_frame(depth + 1))))) or NOWHERE


def defined_at(fn: Any) -> Where:
    """Where a function is defined, or the code of a module or object."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    for one in (fn, getattr(fn, "forward", None), call_of(type(fn))):
        code = getattr(inspect.unwrap(one), "__code__", None) if callable(one) else None
        if isinstance(code, CodeType):
            return Where(code.co_filename, code.co_firstlineno, code.co_name)
    return NOWHERE


def _frame(depth: int) -> FrameType:
    return sys._getframe(depth)


def _outwards(frame: FrameType | None) -> Iterator[tuple[CodeType, int]]:
    """The user's frames up to where the capture begins."""
    for _ in range(_FRAMES):
        if frame is None or frame.f_code.co_filename == _TOP:
            return
        if not is_library(frame.f_code.co_filename):
            yield frame.f_code, frame.f_lineno
        frame = frame.f_back


def _chain(frames: Iterable[tuple[CodeType, int]], outer: Where | None = None) -> Where | None:
    """The last of some frames, called from those before; a block of a function is that function."""
    for code, line in frames:
        if id(code) in BLOCKS and outer is not None:
            outer = outer.caller
        outer = Where(code.co_filename, line, code.co_name, outer)
    return outer


def line_of(error: BaseException, caught: Where) -> Where:
    """Where an error was raised that was caught at ``caught``."""
    found: list[tuple[CodeType, int]] = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if not is_library(code.co_filename) and not code.co_filename.startswith("<"):
            found.append((code, trace.tb_lineno))
        trace = trace.tb_next
    return _chain(found, caught if caught is not NOWHERE else None) or caught


def shown(error: BaseException, origins: dict[str, dict[int, Where]]) -> BaseException:
    """``error`` with the user's lines in place of our frames.

    Args: origins: of each file of ours, the user's line of each of its lines.
    """
    if isinstance(error, OarlockError):
        return error
    kept: list[tuple[FrameType, int, int]] = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename in origins:
            where = origins[code.co_filename].get(trace.tb_lineno - 1)
            kept = [] if code.co_name == "replay" else kept
            kept += [frame_of(w) for w in callers(where)]
        elif not code.co_filename.startswith(_OURS):
            if id(code) in BLOCKS and kept:
                kept.pop()
            kept.append((trace.tb_frame, trace.tb_lasti, trace.tb_lineno))
        trace = trace.tb_next
    made: TracebackType | None = None
    for frame, at, line in reversed(kept):
        made = TracebackType(made, frame, at, line)
    return error.with_traceback(made)


def callers(where: Where | None) -> list[Where]:
    """A line and those that it is called from, the outermost first."""
    found: list[Where] = []
    while where is not None:
        found.insert(0, where)
        where = where.caller
    return found


def frame_of(where: Where) -> tuple[FrameType, int, int]:
    """A frame that stands at a line."""
    code = _raising().replace(
        co_filename=where.file, co_name=where.name or "<module>", co_firstlineno=where.line
    )
    watching = sys.getprofile()
    is_python = isinstance(watching, (FunctionType, MethodType))
    if is_python:  # nothing of the user's runs here
        sys.setprofile(None)
    try:
        exec(code, {})
    except ZeroDivisionError as error:
        trace = error.__traceback__
        assert trace is not None and trace.tb_next is not None
        return trace.tb_next.tb_frame, trace.tb_next.tb_lasti, where.line
    finally:
        if is_python:
            sys.setprofile(watching)
    raise AssertionError("unreachable")


@functools.cache
def _raising() -> CodeType:
    """Code that raises at its first line, and says nothing of columns."""
    code = compile("1 // 0", "", "exec")
    if not hasattr(code, "co_positions"):
        return code
    units = len(code.co_code) // 2
    table = bytes(b for n in range(0, units, 8) for b in (0xE8 | min(units - n, 8) - 1, 0))
    return code.replace(co_linetable=table)
