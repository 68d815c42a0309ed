"""Code that runs before its turn: a generator that gives all its items, what ``takewhile`` has kept.

Where others could notice, as it draws, updates, or changes objects, the trace begins again, and its
items come one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from oarlock.capture.convert.handlers import Steering
from oarlock.capture.tape.foresight import acts
from oarlock.capture.tape.journal import Frame
from oarlock.capture.tape.nodes import Assert, Block, Call, Print, Raise, blocks_of
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

    def turns(self, function: FunctionType) -> Callable[[], None]:
        """What to call before each item that the generator ``function`` has given ahead.

        Raises: Noticed where what goes over the items may change what the generator reads.
        """
        before: list[Any] = []

        def turn() -> None:
            if before and self.has_gone_on(function, *before):
                raise Noticed(frozenset((function.__code__,)))
            block = self.tracer.block
            before[:] = block, len(block.nodes), self.tracer.journal.changes, _variables(function)

        return turn

    def has_gone_on(
        self, function: FunctionType, block: Block, start: int, changes: int, variables: list[Any]
    ) -> bool:
        """More than the computing of results has happened since then."""
        if block is not self.tracer.block or changes != self.tracer.journal.changes:
            return True
        if any(a is not b for a, b in zip(variables, _variables(function), strict=True)):
            return True
        return any(is_noticed(x) for node in block.nodes[start:] for x in walk(node))

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


def _variables(function: FunctionType) -> list[Any]:
    """What those of the functions around it hold that it reads."""
    found = []
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:
            found.append(None)
    return found


def walk(node: Any) -> Iterator[Any]:
    yield node
    for block in blocks_of(node):
        yield from block.walk()


def is_noticed(node: Any) -> bool:
    """Running ``node`` does something but to give a result."""
    if isinstance(node, Call):
        return is_update(node.func) or acts(node)
    return isinstance(node, (Assert, Print, Raise))
