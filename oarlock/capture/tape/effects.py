"""What a call leaves in Python objects: done again after each replay."""

from __future__ import annotations

import operator
from collections import deque
from dataclasses import dataclass
from keyword import iskeyword
from types import CellType
from typing import TYPE_CHECKING, Any

import torch

from oarlock.capture.convert.state import Text
from oarlock.capture.slots import attributes_of, slots_of
from oarlock.capture.tape.arguments import is_record
from oarlock.capture.tape.caught import val_of
from oarlock.capture.tape.choice import Choice, options
from oarlock.capture.tape.forks import inside
from oarlock.capture.tape.journal import HOOKS, MISSING, NUMBERS, TABLES, content
from oarlock.capture.tape.nodes import Call, Val
from oarlock.capture.tape.numbers import Number
from oarlock.capture.tape.reads import path_of
from oarlock.capture.tape.results import Rebuild
from oarlock.capture.tape.run_list import RunList
from oarlock.capture.tape.sources import Source, key_of
from oarlock.capture.tape.tables import RunTable
from oarlock.errors import UnsupportedError

if TYPE_CHECKING:
    from oarlock.capture.tape.tracer import Tracer

_PLACES = ("item", "attribute", "delete item", "delete attribute")


@dataclass(frozen=True, eq=False)
class Change:
    """What a call leaves at a place: ``value``, whose run-time values are result ``result`` of the
    tape; ``constants``: keys of the places whose content the tape takes for granted."""

    source: Source | None
    kind: str
    value: Any
    result: int
    constants: set[Any]


class Effects:
    """Changes of objects that exist before the call: ``(object, key, new value)``."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.lines: list[tuple[Any, str, Any, Any]] = []
        for key, (obj, old) in tracer.journal.frames[0].before.items():
            if isinstance(obj, RunList):
                continue
            if tracer.objects.source(obj) is not None:
                self.compare(obj, old, content(obj))
            elif key in tracer.journal.hidden:
                self.refuse_hidden(obj, old)

    def refuse_hidden(self, obj: Any, old: Any) -> None:
        """What no name leads to, such as what an object of Python's library holds, is changed.

        Raises: UnsupportedError.
        """
        before = len(self.lines)
        self.compare(obj, old, content(obj))
        if len(self.lines) > before:
            del self.lines[before:]
            raise UnsupportedError(
                f"{self.tracer.where()}: a {type(obj).__name__} inside of an object of a library is "
                f"changed; do it outside of the function, or in one that not_to_static leaves out"
            )

    def settle(self) -> None:
        """What the code has changed and put back may be another one in later calls."""
        objects = self.tracer.objects
        for obj, old in self.tracer.journal.frames[0].before.values():
            now = content(obj) if isinstance(old, dict) else {}
            for key in [k for k in now if (id(obj), k) in objects.written]:
                if now[key] is old.get(key, MISSING):
                    objects.read(obj, key, now[key])

    @property
    def has_any(self) -> bool:
        return bool(self.lines)

    def compare(self, obj: Any, old: Any, now: Any) -> None:
        if isinstance(obj, (list, deque)):
            stands = self.tracer.objects.stand_ins
            old = [stands.get((id(obj), i), x) for i, x in enumerate(old)]
            if len(now) >= len(old) and all(a is b for a, b in zip(old, now)):
                if len(now) > len(old):
                    self.lines.append((obj, "extend", None, now[len(old) :]))
            else:
                self.lines.append((obj, "replace", None, now))
        elif isinstance(obj, NUMBERS):
            if now != old:
                self.lines.append((obj, "replace", None, now))
        elif isinstance(obj, set):
            if now != old:
                self.lines.append((obj, "reset", None, now))
        elif isinstance(obj, dict) and _is_reordered(old, now):
            self.tracer.objects.containers.observe(obj)
            self.lines.append((obj, "reset", None, now))
        else:
            kind = "item" if isinstance(obj, dict) else "attribute"
            self.table(obj, kind, old, now)

    def table(self, obj: Any, kind: str, old: dict, now: dict) -> None:
        for key in [*now, *(k for k in old if k not in now)]:
            a, b = old.get(key, MISSING), now.get(key, MISSING)
            if _is_in(key, HOOKS) and isinstance(a, dict) and isinstance(b, dict):
                self.hooks(obj, a, b)
            elif _is_in(key, TABLES) and isinstance(a, dict) and isinstance(b, dict):
                self.table(obj, kind, a, b)
            elif b is MISSING and _is_below(now, key):  # setting it has taken it from here
                continue
            elif b is MISSING:
                self.lines.append((obj, f"delete {kind}", key, None))
            elif self.tracer.objects.stand_ins.get((id(obj), key), a) is not b and not (
                self.is_itself(a, b)
            ):
                self.lines.append((obj, kind, key, b))

    def hooks(self, obj: Any, old: dict, now: dict) -> None:
        if list(old) != list(now):
            raise UnsupportedError(
                f"{self.tracer.where()}: the hooks of {type(obj).__name__} are changed; change them "
                f"before the function"
            )

    def is_itself(self, old: Any, new: Any) -> bool:
        """``new`` is the stand-in of ``old``: the code has set a tensor that it updates in place."""
        if not (isinstance(old, torch.Tensor) and isinstance(new, torch.Tensor)):
            return False
        val = self.tracer.note(new)
        return any(real is old for known, _, real in self.tracer.inputs if known is val)

    def changes(self, first: int) -> list[Change]:
        """What a program may keep; ``first``: place of the first value in the results."""
        constants, found = self.constants(), []
        known = constants | {key_of(s, -1) for _, s, _ in self.tracer.inputs}
        for i, (obj, kind, key, value) in enumerate(self.lines):
            source = self.tracer.objects.source(obj)
            source = Source(obj, "") if source is None and isinstance(obj, CellType) else source
            at = source.step(path_of(obj, key)) if kind in _PLACES and source else source
            if at is not None and kind in _PLACES:
                own = Source(obj, path_of(obj, key), str(at))
                at = own if key_of(own, -1) in known else at
            if at is not None and isinstance(obj, CellType):
                at = Source(at.base, at.path, "a variable")
            found.append(Change(at, kind, value, first + i, constants))
        return found

    def constants(self) -> set[Any]:
        """Places whose content the tape takes for granted, as guards check."""
        objects = self.tracer.objects
        given = {key_of(s, -1) for _, s, _ in self.tracer.inputs}
        return {key_of(s, -1) for s, _ in (*objects.guarded, *objects.structures)} - given

    def places(self) -> set[Any]:
        """Keys of the attributes and items that the call replaces."""
        found = set()
        for obj, kind, key, _ in self.lines:
            if kind in ("item", "attribute"):
                sources = (self.tracer.objects.source(obj), Source(obj, ""))
                found |= {key_of(s.step(path_of(obj, key)), -1) for s in sources if s}
        return found

    def counters(self) -> dict[Any, tuple[Any, Any]]:
        """Numbers that the code reads and changes: read at each call."""
        guarded = {key_of(source, -1): x for source, x in self.tracer.objects.guarded}
        found = {}
        for obj, kind, key, new in self.lines:
            source = self.tracer.objects.source(obj)
            if kind in ("item", "attribute") and source is not None:
                at = source.step(path_of(obj, key))
                own = Source(obj, path_of(obj, key))
                at = at if key_of(at, -1) in guarded else own
                items = tuple if type(new) is tuple else list
                parts = enumerate(items.__iter__(new)) if isinstance(new, items) else ()
                for place, x in [(at, new), *((at.step(f"[{i}]"), x) for i, x in parts)]:
                    where = key_of(place, -1)
                    pair = _pair(guarded.get(where), x)
                    if pair is not None:
                        found[where] = pair
        return found | self.counters_in_lists(guarded)

    def counters_in_lists(self, guarded: dict[Any, Any]) -> dict[Any, tuple[Any, Any]]:
        """Those of lists from outside, of which the run sets an item."""
        lists = {v.id: source for v, source, x in self.tracer.inputs if isinstance(x, list)}
        found = {}
        for node in inside(self.tracer.root.nodes) if lists else ():
            if not isinstance(node, Call) or node.func is not operator.setitem:
                continue
            items, place = node.args[:2]
            if isinstance(items, Val) and items.id in lists and type(place) is int:
                where = key_of(lists[items.id].step(f"[{place}]"), -1)
                old = guarded.get(where)
                if old is not None and type(old) in (int, float):
                    found[where] = (old, old + 1)
        return found

    def values(self) -> list[Any]:
        """Values that must live until the end."""
        found = [self.tracer.maybe_missing(value) for _, _, _, value in self.lines]
        return [self.noted(x[3]) if val is None else val for val, x in zip(found, self.lines)]

    def noted(self, x: Any, depth: int = 8) -> Any:
        """The run-time values inside a Python object, as a tree."""
        if val_of(x) is not None:
            return val_of(x)
        if isinstance(x, (torch.Tensor, Number, Val, torch.Generator)):
            return self.tracer.note(x)
        if isinstance(x, Choice):
            self.refuse_made(x)
        if isinstance(x, (Choice, Text, RunTable)) or (
            isinstance(x, RunList) and x.val is not None
        ):
            return self.tracer.leaf(x)
        if not depth or isinstance(x, (str, bytes, torch.nn.Module, type)):
            return None
        if isinstance(x, dict):
            return [self.noted(v, depth - 1) for v in x.values()]
        if isinstance(x, (list, tuple, deque)):
            return [self.noted(v, depth - 1) for v in x]
        if is_record(x) or slots_of(x):
            return [self.noted(v, depth - 1) for v in attributes_of(x).values()]
        return None

    def refuse_made(self, x: Choice) -> None:
        """One of two objects that the code has made is no constant: each call makes others.

        Raises: UnsupportedError.
        """
        born = self.tracer.journal.frames[0].born
        for one in options(x):
            if id(one) in born and is_record(one):
                raise UnsupportedError(
                    f"{self.tracer.where()}: one of two objects of class {type(one).__name__} is left "
                    f"behind, and data decide which; give both paths the same attributes"
                )

    def emit(self, rebuild: Rebuild) -> None:
        """Python statements that make the changes."""
        emitter, source = rebuild.emitter, self.tracer.objects.source
        for obj, kind, key, value in self.lines:
            at = (
                rebuild.place(source(obj))
                if not isinstance(obj, CellType)
                else emitter.constant(obj)
            )
            val = self.tracer.maybe_missing(value)
            if val is not None:
                self.emit_maybe(rebuild, at, kind, key, val)
                continue
            text = rebuild.text(value) if not kind.startswith("delete") else ""
            if isinstance(value, torch.nn.Parameter) and id(value) in self.tracer.vals:
                text = f"{emitter.constant(as_parameter, 'as_parameter')}({text})"
            if kind == "extend":
                emitter.line(f"{at}.extend({text})")
            elif kind == "replace":
                is_list = isinstance(obj, (list, *NUMBERS))
                emitter.line(
                    f"{at}[:] = {text}" if is_list else f"{at}.clear(); {at}.extend({text})"
                )
            elif kind == "reset":
                emitter.line(f"{at}.clear(); {at}.update({text})")
            elif kind == "item":
                emitter.line(f"{at}[{emitter.expr(key)}] = {text}")
            elif kind == "attribute":
                emitter.line(assigned(at, key, text))
            elif kind.endswith("item"):
                emitter.line(f"del {at}[{emitter.expr(key)}]")
            else:
                emitter.line(f"delattr({at}, {key!r})")

    def emit_maybe(self, rebuild: Rebuild, at: str, kind: str, key: Any, val: Val) -> None:
        """A change that one path has made and the other has not, or has undone."""
        emitter = rebuild.emitter
        text = emitter.expr(val)
        if kind == "item":
            place = f"{at}[{emitter.expr(key)}]"
            put, there, drop = f"{place} = {text}", f"{emitter.expr(key)} in {at}", f"del {place}"
        else:
            put, there = assigned(at, key, text), f"hasattr({at}, {key!r})"
            drop = f"delattr({at}, {key!r})"
        emitter.line(f"if not is_missing({text}): {put}")
        emitter.line(f"elif {there}: {drop}")


def as_parameter(x: torch.Tensor) -> torch.Tensor:
    """``x``, which the call has made as one."""
    x.__class__ = torch.nn.Parameter
    return x


def _is_in(key: Any, names: tuple[str, ...]) -> bool:
    return isinstance(key, str) and key in names  # a tensor would be compared


def _is_below(table: dict[str, Any], name: str) -> bool:
    """A module holds ``name`` as a parameter, buffer or child."""
    return any(name in table[t] for t in TABLES if isinstance(table.get(t), dict))


def is_name(text: str) -> bool:
    return text.isidentifier() and not iskeyword(text)


def assigned(at: str, name: str, text: str) -> str:
    """A statement that sets an attribute; modules in lists have numbers for names."""
    return f"{at}.{name} = {text}" if is_name(name) else f"setattr({at}, {name!r}, {text})"


def _is_reordered(old: dict[Any, Any], now: dict[Any, Any]) -> bool:
    """Whether setting and deleting items would leave the keys in another order."""
    kept = [k for k in old if k in now]
    return list(now)[: len(kept)] != kept


def _pair(old: Any, new: Any) -> tuple[Any, Any] | None:
    """A number and what it becomes, where that is another one of its type."""
    if not isinstance(old, (int, float)) or isinstance(old, bool):
        return None
    if isinstance(new, Number):
        new = new.hint if new.hint != old else old + 1
    return (old, new) if type(new) is type(old) and new != old else None
