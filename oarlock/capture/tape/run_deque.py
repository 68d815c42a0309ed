"""Deques whose length data decide: lists of the run that know both of their ends."""

from __future__ import annotations

from collections import deque
from typing import Any

from oarlock.capture.convert.state import State
from oarlock.capture.tape.run_list import RunList


class RunDeque(RunList):
    """A deque of a trace; a list in the replay until it is left behind."""

    run_time_deque = True
    maxlen: int | None = None

    def append(self, x: Any) -> None:
        super().append(x)
        self.trim(0)

    def appendleft(self, x: Any) -> None:
        self.insert(0, x)
        self.trim(-1)

    def extend(self, items: Any) -> None:
        if self.maxlen is None:
            super().extend(items)
            return
        for x in list(items):
            self.append(x)

    def extendleft(self, items: Any) -> None:
        for x in list(items):
            self.appendleft(x)

    def popleft(self) -> Any:
        return self.pop(0)

    def pop(self, index: Any = -1) -> Any:
        if self.val is None and not list.__len__(self):
            raise IndexError("pop from an empty deque")
        return super().pop(index)

    def rotate(self, n: int = 1) -> None:
        for _ in range(abs(n)):
            self.insert(0, self.pop()) if n > 0 else self.append(self.pop(0))

    def trim(self, index: int) -> None:
        """Drop the item at one end that is too many."""
        if self.maxlen is None:
            return
        if self.val is None:
            if list.__len__(self) > self.maxlen:
                self.pop(index)
            return
        where = self.tracer.where()
        state = State((), tuple, lambda _: None, (where.file, where.line))  # type: ignore[arg-type]
        is_full = self.run_time_length() > self.maxlen
        self.tracer.if_(is_full, lambda: self.drop(index), lambda: None, state)

    def drop(self, index: int) -> None:
        self.pop(index)

    def copy(self) -> Any:
        return self.tracer.lists.new_deque(super().copy(), self.maxlen)

    __copy__ = copy


def as_deque(items: list[Any], maxlen: int | None) -> deque[Any]:
    """What is left of a list that stood for a deque."""
    return deque(items, maxlen)
