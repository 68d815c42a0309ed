"""Errors that the user's code raises on one path: raised at run time."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from oarlock.capture.convert.handlers import Endless
from oarlock.capture.convert.state import Text
from oarlock.capture.tape.caught import val_of
from oarlock.capture.tape.lines import line_of
from oarlock.capture.tape.nodes import Block, Call, Raise, Val, Where, leaves
from oarlock.errors import UnsupportedError

if TYPE_CHECKING:
    from oarlock.capture.convert.handlers import handling
    from oarlock.capture.tape.tracer import Tracer


def raised_in(tracer: Tracer, error: Exception, where: Where, block: Block) -> None:
    """Ends ``block`` by raising ``error`` again: by the torch call that has failed, where it was one.

    What the code has left in objects until now is left in them before.
    """
    handlers = _handlers(error)
    if handlers:
        tracer.failing.look_at(error, handlers)
        raise UnsupportedError(
            f"{Where(*handlers[0].where)}: an except or finally clause, or a context manager, around a decision "
            f"on data would see {type(error).__name__}; decide with `if` instead"
        ) from error
    thrown = val_of(error), val_of(error.__cause__)
    args = () if thrown[0] is not None else tracer.noted(error.args)
    node = Raise(type(error), args, line_of(error, where), error, None, thrown)
    with tracer.into(block):
        node.left = tracer.left()
    call = getattr(error, _FAILED, None)
    if call is not None and all(block.is_within(v.block) for v in vals_of(call)):
        call.left = node.left
        block.nodes.append(call)
    block.nodes.append(node)
    block.raises = True


_FAILED = "_oarlock_call"


def failed(error: Exception, call: Call) -> None:
    """Remember the torch call that has raised ``error``."""
    if not hasattr(error, _FAILED):
        with contextlib.suppress(AttributeError):
            setattr(error, _FAILED, call)


def vals_of(call: Call) -> list[Val]:
    return [x for x in leaves((call.args, call.kwargs)) if isinstance(x, Val)]


def _handlers(error: Exception) -> list[handling]:
    from oarlock.capture.convert.handlers import catching

    return [] if isinstance(error, Endless) else catching(error)


def message(tracer: Tracer, text: Any) -> Any:
    """A text with run-time values in it, as a value."""
    if not isinstance(text, Text):
        return text
    parts: list[Any] = []
    for part in text.parts:
        parts.append(part if isinstance(part, str) else (tracer.noted(part[0]), *part[1:]))
    return tracer.texts.put_together(tuple(parts))
