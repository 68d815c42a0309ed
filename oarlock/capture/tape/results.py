"""What a call returns and leaves behind, rebuilt from run-time values."""

from __future__ import annotations

import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

import torch

from oarlock.capture.convert.state import Text
from oarlock.capture.slots import attributes_of, slots_of
from oarlock.capture.tape.arguments import holds_tensor, is_record
from oarlock.capture.tape.caught import val_of
from oarlock.capture.tape.choice import Choice
from oarlock.capture.tape.emit import Emitter
from oarlock.capture.tape.kept import ITERATORS, holds_fake, refuse_kept
from oarlock.capture.tape.nodes import Val
from oarlock.capture.tape.numbers import Number
from oarlock.capture.tape.rebuilding import own_attributes, rebuilt, refilled
from oarlock.capture.tape.run_deque import RunDeque, as_deque
from oarlock.capture.tape.run_list import RunList
from oarlock.capture.tape.sources import Source
from oarlock.capture.tape.tables import RunTable
from oarlock.errors import UnsupportedError

if TYPE_CHECKING:
    from oarlock.capture.tape.tracer import Tracer


class Rebuild:
    """Emits code for Python objects that hold run-time values."""

    def __init__(self, emitter: Emitter, tracer: Tracer) -> None:
        self.emitter, self.tracer, self.note = emitter, tracer, tracer.noted
        self.places = tracer.objects.places  # objects that exist before the call
        self.born = tracer.journal.frames[0].born  # those that the code has made
        self.done: dict[int, str] = {}

    def text(self, x: Any) -> str:
        """Python text whose value is ``x``; the same object twice is one object."""
        thrown = val_of(x)
        if thrown is not None:
            return self.emitter.expr(thrown)
        if isinstance(x, (torch.Tensor, Number, torch.Generator)):
            return self.emitter.expr(self.note(x))
        if isinstance(x, weakref.ref) and id(x()) in self.born:
            raise UnsupportedError(
                f"{self.tracer.home}: a weak reference to an object that the function makes is left "
                f"behind; keep the object"
            )
        if isinstance(x, Val):
            return self.emitter.expr(x)
        if isinstance(x, RunDeque) or (isinstance(x, deque) and id(x) not in self.places):
            if id(x) not in self.done:
                self.done[id(x)] = self.emitter.fresh("r")
                make = self.emitter.constant(as_deque)
                self.emitter.line(f"{self.done[id(x)]} = {make}({self.of_deque(x)}, {x.maxlen})")
            return self.done[id(x)]
        if isinstance(x, (Choice, Text, RunTable)) or (
            isinstance(x, RunList) and x.val is not None
        ):
            return self.emitter.expr(self.note(x))
        if id(x) in self.places:
            return self.place(self.places[id(x)][1])
        if isinstance(x, (list, dict, tuple)) or self.is_made(x):
            if id(x) not in self.done:
                text = self.container(x)
                self.done[id(x)] = self.emitter.fresh("r")
                self.emitter.line(f"{self.done[id(x)]} = {text}")
            return self.done[id(x)]
        if not self.tracer.objects.is_outer(x):
            refuse_kept(x, self.tracer.home)
        return self.emitter.expr(x)

    def of_deque(self, x: RunDeque | deque[Any]) -> str:
        if isinstance(x, RunDeque) and x.val is not None:
            return self.emitter.expr(self.note(x))
        return "[" + ", ".join(map(self.text, iter(x))) + "]"

    def is_made(self, x: Any) -> bool:
        """Each call makes one like ``x``, with values of its own."""
        if isinstance(x, ITERATORS):
            return False
        if is_record(x) and not isinstance(x, BaseException):
            return id(x) in self.born or holds_tensor(x)
        return bool(slots_of(x)) and (id(x) in self.born or holds_fake(x))

    def place(self, source: Source) -> str:
        if source.base is None:
            return source.path
        return self.emitter.constant(source.base) + source.path

    def container(self, x: Any) -> str:
        kind = type(x)
        name = self.emitter.constant
        if isinstance(x, dict):
            items = ", ".join(f"{self.text(k)}: {self.text(v)}" for k, v in x.items())
            if kind is dict:
                return "{" + items + "}"
            if hasattr(kind, "__dataclass_fields__"):
                return f"{name(kind)}(**{{{items}}})"
            own = ", ".join(f"{k!r}: {self.text(v)}" for k, v in own_attributes(x).items())
            return f"{name(refilled)}({name(x)}, {{{items}}}, {{{own}}})"
        if isinstance(x, (list, tuple)):
            items = ", ".join(map(self.text, list.__iter__(x) if kind is RunList else x))
            if kind is list or kind is RunList:
                return f"[{items}]"
            if kind is tuple or kind is torch.Size:
                plain = f"({items}{',' * (len(x) == 1)})"
                return plain if kind is tuple else f"{name(torch.Size)}({plain})"
            return (
                f"{name(kind)}({items})" if hasattr(x, "_fields") else f"{name(kind)}(({items},))"
            )
        values = ", ".join(f"{k!r}: {self.text(v)}" for k, v in attributes_of(x).items())
        return f"{name(rebuilt)}({name(x)}, {{{values}}})"
