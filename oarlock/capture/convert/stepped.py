"""Iterators of users' classes: their own ``__next__``, or ``__getitem__``, tells where they end."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

from oarlock.capture.convert.attempts import (
    Outcome,
    caught,
    failing_form,
    pieces,
    rebuilt,
    value_of,
)
from oarlock.capture.convert.cursors import Ready, Stream, _nothing
from oarlock.capture.convert.tracing import is_proxy, is_table, tracer
from oarlock.capture.convert.truth import here, is_run_time, negated, select, special, truth

_PLAIN = (list, tuple, dict, set, str, range)


class Stepped(Ready):
    """Gives what ``step()`` does until that raises ``ends_by``."""

    def __init__(self, step: Callable[[], Any], ends_by: type[Exception]) -> None:
        self.step, self.ends_by = step, ends_by
        self.is_ready, self.has, self.item = False, False, None

    def go_on(self) -> None:
        has, item = stepped(self.step, self.ends_by)
        if has is not False:
            self.changed("item", item)
        self.changed("has", has)
        self.changed("is_ready", True)

    def take(self) -> Any:
        self.changed("is_ready", False)
        return self.item


class Placed(Stepped):
    """The items of an object that knows only ``__getitem__``."""

    def __init__(self, get: Callable[[Any], Any]) -> None:
        super().__init__(lambda: get(self.place), IndexError)
        self.place = 0

    def take(self) -> Any:
        self.changed("place", self.place + 1)
        return super().take()


def stepped(step: Callable[[], Any], ends_by: type[Exception]) -> tuple[Any, Any]:
    """Whether ``step()`` gives something rather than raise ``ends_by``, and what it gives."""
    try:
        found = step()
    except ends_by:
        return False, None
    if not isinstance(found, Outcome):
        return True, found
    fails = caught(found, (ends_by,), -1)
    if fails is not False:

        def fail() -> None:
            raise rebuilt(pieces(found, (ends_by,), -1))

        tracer().if_(truth(fails), fail, _nothing, here())
    ends = caught(found, (ends_by,), 0)
    return negated(ends) if is_run_time(ends) else not ends, value_of(found)


def next_of_object(items: Any, default: tuple[Any, ...]) -> Any:
    """``next(items, *default)`` by the ``__next__`` of the user's class."""
    has, item = stepped(_form(items, "__next__"), StopIteration)

    def none() -> Any:
        if default:
            return default[0]
        raise StopIteration

    return select(has, lambda: item, none, here())


def _form(owner: Any, name: str) -> Any:
    """A special method that may give an ``Outcome``, bound; None where the class has none."""
    method = special(owner, name)
    if method is None:
        return None
    function = getattr(type(owner), name)
    is_own = type(function) is FunctionType
    made = failing_form(tracer(), function, is_asked=True) if is_own else None
    return lambda *args: (made or method)(owner, *args)


def entered(items: Any) -> Any:
    """``items``, as a stream where its class tells by code of the user's how to go through it."""
    from oarlock.capture.convert.calls import converted_function

    active = tracer()
    if active is None or type(items) in _PLAIN or isinstance(items, Stream):
        return items
    if active.is_symbolic(items) or is_proxy(items) or is_table(items):
        return items
    if special(items, "__iter__") is not None:
        items = converted_function(type(items).__iter__)(items)
    elif not hasattr(type(items), "__iter__"):
        get = _form(items, "__getitem__")
        return items if get is None else Placed(get)
    step = _form(items, "__next__")
    return items if step is None else Stepped(step, StopIteration)
