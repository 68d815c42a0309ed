"""Code that runs before its turn: a generator that gives all its items, what ``takewhile`` has kept.

Where others could notice, as it draws, updates, or changes objects, the trace begins again, and its
items come one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType
from typing import TYPE_CHECKING, Any

from oarlock.capture.convert.handlers import Steering
from oarlock.capture.tape.foresight import acts
from oarlock.capture.tape.journal import Frame
from oarlock.capture.tape.nodes import Assert, Call, Print, Raise, blocks_of
from oarlock.capture.tape.queries import is_update

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

    def made(self, obj: Any) -> None:
        """``obj`` is new: it is no business of others yet."""
        for frame in self.open:
            frame.born[id(obj)] = obj

    @contextmanager
    def ahead(self, code: CodeType) -> Iterator[None]:
        """Around what runs before its turn.  Raises: Noticed."""
        seen: list[bool] = []
        with self.watching(seen):
            yield
        if seen[0]:
            raise Noticed(frozenset((code,)))

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


def walk(node: Any) -> Iterator[Any]:
    yield node
    for block in blocks_of(node):
        yield from block.walk()


def is_noticed(node: Any) -> bool:
    """Running ``node`` does something but to give a result."""
    if isinstance(node, Call):
        return is_update(node.func) or acts(node)
    return isinstance(node, (Assert, Print, Raise))
