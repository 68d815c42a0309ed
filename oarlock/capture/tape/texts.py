"""Texts with run-time values in them: made once in a block, and asked at run time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from oarlock.capture.convert.state import Text
from oarlock.capture.tape import runtime
from oarlock.capture.tape.ambience import ambient
from oarlock.capture.tape.choice import Choice
from oarlock.capture.tape.lines import user_line
from oarlock.capture.tape.nodes import Call, Val
from oarlock.capture.tape.numbers import Number, number_of
from oarlock.capture.tape.raising import message
from oarlock.errors import UnsupportedError

if TYPE_CHECKING:
    from oarlock.capture.tape.tracer import Tracer


class Texts:
    """The texts of one capture whose values are known at run time only."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.vals: dict[int, tuple[Text, Val]] = {}

    def val(self, x: Text) -> Any:
        """The value of a text, put together once in a block."""
        found = self.vals.get(id(x))
        if found is None or not self.tracer.block.is_within(found[1].block):
            found = self.vals[id(x)] = (x, message(self.tracer, x))
        return found[1]

    def put_together(self, parts: tuple) -> Val:
        val = Val(self.tracer.block, "")
        call = Call(runtime.text, parts, {}, val, user_line(3), ambient())
        self.tracer.block.nodes.append(call)
        return val

    def asked(self, op: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """What a method of texts gives, where some of them are known at run time."""
        found = 0
        with contextlib.suppress(ValueError):  # index() of what the stand-in does not hold
            found = op(*map(_sample, args), **{k: _sample(v) for k, v in options.items()})
        if isinstance(found, str):
            return self.made(op, *args, **options)
        if isinstance(found, (bool, int)):
            val = Val(self.tracer.block, found)
            self.tracer.emit(op, args, options, val)
            return number_of(val, found, True)
        raise UnsupportedError(
            f"{user_line()}: {op.__name__} of a text that is known at run time; give the numbers that "
            f"it is made of, and make the text after the call"
        )

    def no_items(self, x: Text) -> Any:
        raise UnsupportedError(
            f"{user_line()}: a loop over a text that is known at run time; loop over what it is made "
            f"of, and make the text after the call"
        )

    def made(self, op: Callable[..., Any], *args: Any, **options: Any) -> Text:
        """The text that ``op`` gives at run time."""
        val = Val(self.tracer.block, "")
        self.tracer.emit(op, args, options, val)
        return Text.of(((val, "", ""),))


def _sample(x: Any) -> Any:
    """What stands for an argument of a method of texts."""
    if isinstance(x, Text):
        return str.__str__(x)
    if isinstance(x, Choice):
        return next((p for p in x._oarlock_parts if isinstance(p, str)), "")
    return x.hint if isinstance(x, Number) else x
