"""What converted code hands to a tracer: the variables that a branch or a loop body may change."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from oarlock.capture.convert.tracing import tracer


class Undefined:
    """The value of a variable that is not bound (yet); ``set`` unbinds the variable that gets it."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"Undefined({self.name!r})"

    def __bool__(self) -> bool:
        raise UnboundLocalError(f"cannot access local variable {self.name!r}: it has no value here")


@dataclass(frozen=True)
class State:
    """Variables that a block assigns and that are read afterwards, or before it assigns them.

    Args: names: of the variables; get: the tuple of their values, ``Undefined(name)`` where
        unbound; set: assigns such a tuple; where: file and line of the statement; unread: names
        that nothing reads behind the first and the second way, which end in jumps.
    """

    names: tuple[str, ...]
    get: Callable[[], tuple[Any, ...]]
    set: Callable[[tuple[Any, ...]], None]
    where: tuple[str, int]
    unread: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    def read_after(self, name: str) -> int | None:
        """The one way, 0 or 1, behind which a variable is read; None where it is behind both."""
        first, second = (name in names for names in self.unread)
        return None if first == second else int(first)

    def with_cell(self, name: str, cell: list[Any]) -> State:
        """This state and one more variable, kept in ``cell[0]``."""

        def get() -> tuple[Any, ...]:
            return (*self.get(), cell[0])

        def put(values: tuple[Any, ...]) -> None:
            self.set(values[:-1])
            cell[0] = values[-1]

        return State((*self.names, name), get, put, self.where)


class RunTimeSequence(Protocol):
    """A sequence whose length is known at run time: loops, ``len``, ``zip`` go through these."""

    def run_time_length(self) -> Any:
        """A symbolic number."""
        ...

    def run_time_item(self, index: Any) -> Any:
        """The item at a plain or symbolic index that is within the length."""
        ...


class Text(str):
    """A text with symbolic values inside, such as the message of an error.

    ``parts`` are literal texts and ``(value, conversion, spec)``; the str itself is a stand-in.
    """

    parts: tuple[Any, ...]

    @staticmethod
    def of(parts: tuple[Any, ...]) -> Text:
        shown = (p if isinstance(p, str) else f"<{type(p[0]).__name__}>" for p in parts)
        text = Text("".join(shown))
        text.parts = parts
        return text

    def __add__(self, other: str) -> Text:
        return Text.of((*self.parts, *parts_of(other)))

    def __radd__(self, other: str) -> Text:
        return Text.of((*parts_of(other), *self.parts))

    def __eq__(self, other: object) -> Any:
        return self.asked(operator.eq, other) if isinstance(other, str) else NotImplemented

    def __ne__(self, other: object) -> Any:
        return self.asked(operator.ne, other) if isinstance(other, str) else NotImplemented

    def __lt__(self, other: str) -> Any:
        return self.asked(operator.lt, other)

    def __le__(self, other: str) -> Any:
        return self.asked(operator.le, other)

    def __gt__(self, other: str) -> Any:
        return self.asked(operator.gt, other)

    def __ge__(self, other: str) -> Any:
        return self.asked(operator.ge, other)

    def __mul__(self, n: Any) -> Any:
        return self.changed(operator.mul, n)

    __rmul__ = __mul__  # pyright: ignore[reportAssignmentType]

    def __iter__(self) -> Any:
        active = tracer()
        return iter(_shown(self)) if active is None else active.texts.no_items(self)

    def __hash__(self) -> int:
        active = tracer()
        return str.__hash__(self) if active is None else active.no_hash(self)

    def asked(self, op: Callable[..., Any], *args: Any) -> Any:
        """What ``op`` tells of the text, a number or truth."""
        active = tracer()
        found = op(*map(_shown, (self, *args)))
        return found if active is None else active.number(op, (self, *args), found, True)

    def changed(self, op: Callable[..., Any], *args: Any) -> Any:
        """The text that ``op`` makes of it."""
        active = tracer()
        if active is None:
            return op(*map(_shown, (self, *args)))
        return active.texts.made(op, self, *args)


def parts_of(x: Any) -> tuple[Any, ...]:
    """What a text adds to another one; ``x``: also one of several texts."""
    if isinstance(x, Text):
        return x.parts
    return (x,) if isinstance(x, str) else ((x, "", ""),)


def _shown(x: Any) -> Any:
    return str.__str__(x) if isinstance(x, Text) else x
