"""Code that runs before its turn: a generator that gives all its items, what ``takewhile`` has kept.

Where others could notice, as it draws, updates, or changes objects, or as what it has read changes
before its turn, the trace begins again, and its items come one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from oarlock.capture.convert.handlers import Steering
from oarlock.capture.tape.given import Given, is_noticed, walk
from oarlock.capture.tape.journal import Frame

if TYPE_CHECKING:
    from oarlock.capture.tape.tracer import Tracer


class Noticed(Steering):
    """The code that does something before its turn, found while tracing."""

    def __init__(self, codes: frozenset[CodeType]) -> None:
        super().__init__(", ".join(sorted(code.co_name for code in codes)))
        self.codes = codes


class Noticing:
    """``codes``: what takes its items one by one."""

    def __init__(self, tracer: Tracer, codes: frozenset[CodeType]) -> None:
        self.tracer, self.codes = tracer, codes
        self.open: list[Frame] = []
        self.reading: list[Given] = []  # whose items are being worked out
        self.count = 0  # of all that there were
        self.loops: list[tuple[int, list[Given]]] = []  # with those that they take from

    def made(self, obj: Any) -> None:
        """``obj`` is new: it is no business of others yet."""
        for frame in self.open:
            frame.born[id(obj)] = obj

    def reads(self, owner: Any, name: Any) -> None:
        for given in self.reading:
            given.reads(owner, name)

    def uses(self, x: Any) -> None:
        for given in self.reading:
            given.uses(x)

    def runs(self, function: FunctionType) -> None:
        for given in self.reading:
            given.functions.append(function)

    @contextmanager
    def ahead(self, code: CodeType) -> Iterator[Given]:
        """Around what runs before its turn.  Raises: Noticed."""
        seen: list[bool] = []
        self.count += 1
        given = Given(self.tracer, code, self.count)
        self.reading.append(given)
        try:
            with self.watching(seen):
                yield given
        finally:
            self.reading.remove(given)
        if seen[0]:
            raise Noticed(frozenset((code,)))
        given.close()

    def look(self, items: Any) -> None:
        """Code is about to take from ``items``.  Raises: Noticed where what they were made of has changed
        since they were given ahead."""
        given: Given | None = getattr(items, "given", None)
        if given is None:
            return
        _expect_same(given)
        for count, taken in self.loops:
            if given.number <= count:
                taken.append(given)

    @contextmanager
    def looping(self) -> Iterator[None]:
        """Around the trace of a trip: the next one takes after this one has changed things."""
        taken: list[Given] = []
        self.loops.append((self.count, taken))
        try:
            yield
        finally:
            self.loops.pop()
        for given in taken:
            _expect_same(given)

    @contextmanager
    def watching(self, seen: list[bool]) -> Iterator[None]:
        """``seen`` gets whether others could notice that this runs."""
        tracer = self.tracer
        block, draws = tracer.block, tracer.fake.draws
        start, frame = len(block.nodes), tracer.journal.open()
        self.open.append(frame)
        try:
            yield
        finally:
            self.open.remove(frame)
            tracer.journal.close(frame)
            nodes = [x for node in block.nodes[start:] for x in walk(node)]
            has_drawn = tracer.fake.draws != draws
            seen.append(has_drawn or bool(frame.before) or any(map(is_noticed, nodes)))


def _expect_same(given: Given) -> None:
    if given.has_changed():
        raise Noticed(frozenset((given.code,)))
