"""Dicts, sets and deques from outside of the function: what they hold when a call comes is guarded."""

from __future__ import annotations

from array import array
from collections import deque
from typing import TYPE_CHECKING, Any

from oarlock.capture.tape.journal import MISSING, content, is_globals
from oarlock.capture.tape.sources import Source, item_path

if TYPE_CHECKING:
    from oarlock.capture.tape.tracer import Tracer

KINDS = (dict, set, deque, bytearray, array)
WHOLE = (set, bytearray, array)  # compared as a whole
_KEYS = (str, int, float, bytes, bool, type(None))


class Containers:
    """What code asks of containers that exist before the call.

    ``keys``: whether a dict has a key; ``wholes``: containers that are read as a whole.
    """

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.keys: list[tuple[Source, Any, bool]] = []
        self.asked: set[tuple[int, Any]] = set()
        self.wholes: dict[int, tuple[Source, Any]] = {}

    def source(self, x: Any) -> Source | None:
        """Where ``x`` is found, if that is a container from outside."""
        is_held = isinstance(x, KINDS) and not is_globals(x)
        return self.tracer.objects.source(x) if is_held else None

    def ask(self, x: Any, key: Any) -> None:
        """Code asks whether a container has ``key``."""
        source = self.source(x)
        if source is None or id(x) in self.wholes:
            return None
        if not isinstance(x, dict) or type(key) not in _KEYS:
            return self.observe(x)
        if (id(x), key) not in self.asked:
            self.asked.add((id(x), key))
            self.keys.append((source, key, key in self.before(x)))
        return None

    def observe(self, x: Any) -> None:
        """Code reads a container as a whole: its items stand for those of later calls."""
        source = self.source(x)
        if source is None or id(x) in self.wholes:
            return
        tracer, before = self.tracer, self.before(x)
        self.wholes[id(x)] = (source, before)
        if isinstance(x, WHOLE):
            return
        pairs = before.items() if isinstance(x, dict) else enumerate(before)
        now = dict(x) if isinstance(x, dict) else dict(enumerate(x))
        tracer.journal.touch(x)
        for key, value in pairs:
            if now.get(key, MISSING) is value:
                found = tracer.objects.first(source.step(item_path(key)), value)
                if found is not value:
                    (dict.__setitem__ if isinstance(x, dict) else deque.__setitem__)(x, key, found)
                    tracer.objects.stand_ins[(id(x), key)] = found

    def before(self, x: Any) -> Any:
        """What ``x`` held before the call."""
        entry = self.tracer.journal.frames[0].before.get(id(x))
        return content(x) if entry is None else entry[1]
