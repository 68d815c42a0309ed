"""What a call that fails at run time has left in Python objects until then, as eager code would."""

from __future__ import annotations

import functools
import re
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from oarlock.capture.tape.active import activated
from oarlock.capture.tape.effects import Effects
from oarlock.capture.tape.journal import content
from oarlock.capture.tape.nodes import Block, Val, leaves
from oarlock.capture.tape.results import Rebuild
from oarlock.capture.tape.run_list import RunList
from oarlock.errors import UnsupportedError

if TYPE_CHECKING:
    from oarlock.capture.tape.capturing import Tape
    from oarlock.capture.tape.emit import Emitter
    from oarlock.capture.tape.tracer import Tracer

WATCHED = 8  # objects that code has been about to change last
MANY = 256  # items of a container, above which its length tells

Mark = tuple[int, ...]


def as_now(tracer: Tracer, x: Any, seen: dict[int, Any]) -> Any:
    """``x``, with copies of the containers in it that the code has made, and may change later."""
    is_run = isinstance(x, RunList) and x.val is not None
    if type(x) not in (list, dict, tuple, RunList) or is_run or id(x) in tracer.objects.places:
        return x
    if id(x) not in seen:
        if isinstance(x, tuple):
            seen[id(x)] = tuple([as_now(tracer, y, seen) for y in x])
        elif isinstance(x, dict):
            made = seen[id(x)] = {}
            made.update((k, as_now(tracer, y, seen)) for k, y in x.items())
        else:
            items = seen[id(x)] = []
            items.extend(as_now(tracer, y, seen) for y in list.__iter__(x))
    return seen[id(x)]


@dataclass(eq=False)
class Left:
    """What code leaves in Python objects when it ends in an error: ``values`` of the run."""

    effects: Effects
    block: Block
    values: list[Any]

    @functools.cached_property
    def ids(self) -> list[int]:
        """Of the run-time values that it reads."""
        return [v.id for v in leaves(self.values) if isinstance(v, Val)]

    @staticmethod
    def of(tracer: Tracer) -> Left | None:
        """None where it has changed nothing."""
        effects = Effects(tracer)
        seen: dict[int, Any] = {}
        effects.lines = [(*line, as_now(tracer, x, seen)) for *line, x in effects.lines]
        return Left(effects, tracer.block, effects.values()) if effects.has_any else None

    def emit(self, emitter: Emitter) -> None:
        tracer = self.effects.tracer
        with activated(tracer), tracer.into(self.block):
            self.effects.emit(Rebuild(emitter, tracer))

    def statements(self, emitter: Emitter) -> str:
        """What ``emit`` emits; nothing where it would read what is not known yet."""
        kept = emitter.lines, emitter.depth, set(emitter.bound), emitter.new
        emitter.lines, emitter.depth, emitter.new = [], 0, []
        try:
            self.emit(emitter)
            text = "\n".join(emitter.lines)
        except UnsupportedError:
            text = ""
        finally:
            emitter.lines, emitter.depth, emitter.bound, emitter.new = kept
        read = {int(v) for v in re.findall(r"\bv(\d+)\b", text)}
        return text if read <= emitter.bound else ""


class Progress:
    """Tells, before each call that is recorded, what the code has changed until now.

    Code says that it is about to change an object, and may make calls before it does.
    """

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.watched: dict[int, Mark] = {}
        self.is_stale = self.is_busy = False
        self.last: Left | None = None
        self.all: list[Left] = []

    def about(self, obj: Any) -> None:
        """``obj`` is about to be changed."""
        now = content(obj)
        self.is_stale |= now is not None and len(now) > MANY
        self.watched.pop(id(obj), None)
        self.watched[id(obj)] = _mark(now)
        if len(self.watched) > WATCHED:
            del self.watched[next(iter(self.watched))]

    def changed(self) -> None:
        """Objects may hold something else now."""
        self.is_stale = True

    def before(self) -> Left | None:
        """What is left in objects before the call that comes now."""
        if not self.is_busy and self.has_moved():
            self.is_busy = True
            try:
                with torch._C.DisableTorchFunction():  # keys may be tensors
                    self.last = Left.of(self.tracer)
            except UnsupportedError:  # the call may yet put it back
                self.last = None
            finally:
                self.is_busy = False
            self.all += [self.last] if self.last is not None else []
        return self.last

    def has_moved(self) -> bool:
        moved, self.is_stale = self.is_stale, False
        changed = self.tracer.journal.frames[0].before
        for key, mark in list(self.watched.items()):
            obj = changed.get(key, (None, None))[0]
            if obj is None or _mark(content(obj)) != mark:
                del self.watched[key]
                moved = True
        return moved

    def held(self) -> Counter[int]:
        """How often what is left holds each object."""
        return Counter(
            id(x) for left in self.all for *_, value in left.effects.lines for x in _held(value)
        )


def _mark(now: Any) -> Mark:
    if now is None or len(now) > MANY:
        return (-1 if now is None else len(now),)
    values = now.values() if isinstance(now, dict) else now
    found: list[int] = []
    for x in values:
        found += map(id, x.values()) if type(x) is dict and len(x) <= MANY else (id(x),)
    return tuple(found)


def _held(value: Any) -> Iterator[Any]:
    yield value
    if isinstance(value, (list, tuple, deque)):
        yield from list.__iter__(value) if isinstance(value, list) else value
    elif isinstance(value, dict):
        yield from value.values()


def leave(tape: Tape, error: BaseException) -> None:
    """Do to objects what the code has done before the line that has raised ``error``."""
    code, scope, text = tape.replay.__code__, dict(tape.replay.__globals__), ""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == code.co_filename:
            scope |= trace.tb_frame.f_locals
            text = tape.left.get(trace.tb_lineno - 1, text)
        trace = trace.tb_next
    if text:
        exec(text, scope)
