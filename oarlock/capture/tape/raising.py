"""Errors that the user's code raises on one path: raised at run time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oarlock.capture.convert.state import Text
from oarlock.capture.tape.nodes import Raise, Where
from oarlock.errors import UnsupportedError

if TYPE_CHECKING:
    from oarlock.capture.tape.tracer import Tracer


def raised_in(tracer: Tracer, error: Exception, where: Where) -> Raise:
    """The node that raises ``error`` again."""
    handler = _handler(error)
    if handler is not None:
        raise UnsupportedError(
            f"{Where(*handler)}: an except clause around a decision on data would catch "
            f"{type(error).__name__}; decide with `if` instead"
        ) from error
    line = _line_of(error) or where
    return Raise(type(error), tracer.noted(error.args), line, error)


def _handler(error: Exception) -> tuple[str, int] | None:
    from oarlock.capture.convert import open_handlers

    return open_handlers(error)


def _line_of(error: Exception) -> Where | None:
    trace, found = error.__traceback__, None
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if "/torch/" not in file and "/oarlock/" not in file and not file.startswith("<"):
            found = Where(file, trace.tb_lineno, trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    return found


def message(tracer: Tracer, text: Any) -> Any:
    """A text with run-time values in it, as a value."""
    if not isinstance(text, Text):
        return text
    parts: list[Any] = []
    for part in text.parts:
        parts.append(part if isinstance(part, str) else (tracer.noted(part[0]), *part[1:]))
    return tracer.text(tuple(parts))
