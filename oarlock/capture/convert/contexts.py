"""Context managers of converted code: what they run on entry and exit is converted too."""

from __future__ import annotations

import contextlib
import inspect
from types import FunctionType, MethodType
from typing import Any

from oarlock.capture.convert.build import OPERATORS
from oarlock.capture.convert.handlers import STEERING, handling
from oarlock.capture.convert.tracing import tracer
from oarlock.capture.convert.truth import user_line


class _Converted:
    """A manager whose methods are converted.  It sees the errors of its block, as ``finally`` does."""

    def __init__(self, enter: Any, leave: Any) -> None:
        self.enter, self.leave = enter, leave
        self.handler = handling(lambda: (BaseException,))
        self.handler.where, self.handler.frame = user_line(), None

    def __enter__(self) -> Any:
        found = self.enter()
        self.handler.__enter__()
        return found

    def __exit__(self, *error: Any) -> Any:
        self.handler.__exit__()
        found = self.leave(*error)
        return None if isinstance(error[1], STEERING) else found


def context(manager: Any) -> Any:
    """``manager``, or one that runs its methods converted, where a user wrote them in Python."""
    if tracer() is None:
        return manager
    from oarlock.capture.convert.calls import call

    if type(manager) is contextlib._GeneratorContextManager:
        return of_generator(manager)
    found = [_method(manager, name) for name in ("__enter__", "__exit__")]
    if not all(type(m) is FunctionType for m in found):
        return manager
    bound = [MethodType(m, manager) for m in found]
    made = [call(m) for m in bound]
    return manager if made == bound else _Converted(*made)


def of_generator(manager: Any) -> Any:
    """A manager made of a user's generator function, which has not begun, made of that converted."""
    from oarlock.capture.convert.convert import converted_or_same

    if not isinstance(manager.func, FunctionType):
        return manager
    made = converted_or_same(manager.func)
    is_new = inspect.getgeneratorstate(manager.gen) == inspect.GEN_CREATED
    if OPERATORS not in made.__code__.co_freevars or not is_new:
        return manager
    again = contextlib.contextmanager(made)(*manager.args, **manager.kwds)
    return _Converted(again.__enter__, again.__exit__)


def _method(manager: Any, name: str) -> Any:
    for base in type(manager).__mro__:
        if name in vars(base):
            return vars(base)[name]
    return None
