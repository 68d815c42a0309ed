"""Context managers of converted code: what they run on entry and exit is converted too."""

from __future__ import annotations

import dis
from types import FunctionType, MethodType
from typing import Any

from oarlock.capture.convert.handlers import handling
from oarlock.capture.convert.tracing import tracer
from oarlock.capture.convert.truth import user_line


class _Converted:
    """A manager whose methods are converted functions."""

    def __init__(self, enter: Any, leave: Any, may_swallow: bool) -> None:
        self.enter, self.leave = enter, leave
        self.handler = handling(lambda: (BaseException,) if may_swallow else ())
        self.handler.where = user_line()

    def __enter__(self) -> Any:
        found = self.enter()
        self.handler.__enter__()
        return found

    def __exit__(self, *error: Any) -> Any:
        self.handler.__exit__()
        return self.leave(*error)


def context(manager: Any) -> Any:
    """``manager``, or one that runs its methods converted, where a user wrote them in Python."""
    if tracer() is None:
        return manager
    from oarlock.capture.convert.calls import call

    found = [_method(manager, name) for name in ("__enter__", "__exit__")]
    if not all(type(m) is FunctionType for m in found):
        return manager
    bound = [MethodType(m, manager) for m in found]
    made = [call(m) for m in bound]
    return manager if made == bound else _Converted(*made, returns_more(found[1]))


def returns_more(function: FunctionType) -> bool:
    """Whether a function may return more than None, which swallows an error on exit."""
    last: Any = None
    for step in dis.get_instructions(function):
        gives_none = last is not None and last.opname == "LOAD_CONST" and last.argval is None
        if step.opname == "RETURN_VALUE" and not gives_none:
            return True
        if step.opname == "RETURN_CONST" and step.argval is not None:
            return True
        last = step
    return False


def _method(manager: Any, name: str) -> Any:
    for base in type(manager).__mro__:
        if name in vars(base):
            return vars(base)[name]
    return None
