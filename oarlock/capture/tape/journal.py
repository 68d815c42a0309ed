"""What Python objects held before code changed them."""

from __future__ import annotations

import sys
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable
from types import CellType
from typing import Any

import torch

from oarlock.capture.convert.modules import own_table
from oarlock.capture.slots import slots_in, slots_of
from oarlock.capture.tape.rebuilding import plain

MISSING = object()
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
NUMBERS = (bytearray, array)
TABLES = ("_parameters", "_buffers", "_modules", *HOOKS)


class Frame:
    """Contents of objects at the time when the frame began, for those changed since.

    ``born``: objects that did not exist then.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.before: dict[int, tuple[Any, Any]] = {}
        self.born: dict[int, Any] = {}

    def contents(self) -> dict[int, tuple[Any, Any]]:
        """What the changed objects hold now, of those that are still in use."""
        self.journal.forget_dead()
        return {key: (obj, content(obj)) for key, (obj, _) in self.before.items()}

    def restore(self, which: Callable[[Any], bool] = lambda obj: True) -> None:
        for obj, old in reversed([*self.before.values()]):
            if which(obj):
                put(obj, old)


class Journal:
    """Frames of a trace; code that will change an object calls ``touch`` first."""

    def __init__(self) -> None:
        self.hidden: set[int] = set()  # what objects of a library from outside hold
        self.frames = [Frame(self)]
        self.changes = 0  # that were told
        self.merged: Any = None  # knows what stands for one of several
        self.first: Callable[[Any], None] = lambda obj: None  # before an object's first change
        self.about: Callable[[Any], None] = lambda obj: None  # before each change
        self.moved: Callable[[], None] = lambda: None  # after changes that are not told so

    def touch(self, obj: Any) -> None:
        if hasattr(type(obj), "is_run_table"):
            return
        if self.merged is not None:
            self.merged.changed(obj)
        self.record(obj)

    def record(self, obj: Any) -> None:
        """``obj`` is about to be changed as code was told before that it changes it."""
        self.changes += 1
        if any(id(obj) not in frame.before for frame in self.frames):
            self.settle(obj)
            now = content(obj)
            if now is not None:
                for frame in self.frames:
                    if id(obj) not in frame.born:
                        frame.before.setdefault(id(obj), (obj, now))
        self.about(obj)

    def found(self, obj: Any, old: Any) -> None:
        """``obj``, which held ``old``, has been changed by code that is not traced."""
        self.changes += 1
        for frame in self.frames:
            if id(obj) not in frame.born:
                frame.before.setdefault(id(obj), (obj, old))
        self.moved()

    def used(self, obj: Any) -> None:
        """What ``obj`` holds is about to be read."""
        self.merged.used(obj)

    def compared(self, a: Any, b: Any) -> None:
        """The code asks whether two things are one."""
        self.merged.compared(a, b)

    def keyed(self, key: Any) -> None:
        """``key`` is looked up, or put into a set or dict: a tensor as the object that it is."""
        self.merged.are_tensors_told |= isinstance(key, torch.Tensor)

    def settle(self, obj: Any) -> None:
        """``obj`` is about to be changed for the first time, if it was not yet."""
        root = self.frames[0]
        if id(obj) not in root.before and id(obj) not in root.born:
            now = content(obj)
            if now is not None:
                root.before[id(obj)] = (obj, now)
                self.first(obj)

    def touch_local(self, obj: Any) -> None:
        """``touch`` of what did not exist before the call."""
        self.frames[0].born[id(obj)] = obj
        self.touch(obj)

    def create(self, obj: Any) -> None:
        """``obj`` is new: no frame that is open now had it."""
        for frame in self.frames:
            frame.born[id(obj)] = obj

    def forget_dead(self) -> None:
        """Drop objects that only the journal holds: a call that is over has made them."""
        while True:
            held = Counter(key for frame in self.frames for key in frame.before)
            held.update(key for frame in self.frames for key in frame.born)
            held.update(() if self.merged is None else self.merged.held())
            dead = [
                key
                for frame in self.frames
                for key in frame.before
                if self._is_dead(frame, key, held)
            ]
            if not dead:
                return
            for key in dead:
                for frame in self.frames:
                    frame.before.pop(key, None)
                    frame.born.pop(key, None)

    @staticmethod
    def _is_dead(frame: Frame, key: int, held: Counter[int]) -> bool:
        obj = frame.before[key][0]
        return sys.getrefcount(obj) - 2 <= held[key]

    def open(self) -> Frame:
        self.frames.append(Frame(self))
        return self.frames[-1]

    def close(self, frame: Frame) -> None:
        self.frames.remove(frame)
        self.moved()


def content(obj: Any) -> Any:
    """A copy of what an object holds; None for one that can't be changed so."""
    if isinstance(obj, (list, deque)):
        return list.copy(obj) if isinstance(obj, list) else list(obj)
    if isinstance(obj, dict):
        return dict(_items(obj))
    if isinstance(obj, set):
        return set(obj)
    if isinstance(obj, NUMBERS):
        return obj[:]
    if isinstance(obj, CellType):
        try:
            return {"cell_contents": obj.cell_contents}
        except ValueError:
            return {}
    slots = {name: getattr(obj, name) for name in slots_of(obj)}
    if not hasattr(obj, "__dict__"):
        return slots if hasattr(type(obj), "__slots__") else None
    table = own_table(obj) | slots
    for name in TABLES:
        if isinstance(table.get(name), dict):
            table[name] = dict(table[name])
    return table


def put(obj: Any, old: Any) -> None:
    """Make ``obj`` hold ``old`` again."""
    if old is None:
        return
    if isinstance(obj, list):
        if getattr(obj, "val", None) is None:  # a list of the run holds nothing here
            list.__setitem__(obj, slice(None), old)
    elif isinstance(obj, NUMBERS):
        obj[:] = old
    elif isinstance(obj, deque):
        obj.clear()
        obj.extend(old)
    elif isinstance(obj, set):
        obj.clear()
        obj.update(old)
    elif isinstance(obj, dict):
        _put_items(obj, old)
    elif isinstance(obj, CellType):
        if "cell_contents" in old:
            obj.cell_contents = old["cell_contents"]
        else:
            del obj.cell_contents
    elif isinstance(obj, type) or not hasattr(obj, "__dict__"):
        _put_attributes(obj, old, content(obj))
    else:
        slots = set(slots_in(type(obj)))
        _put_attributes(obj, {k: v for k, v in old.items() if k in slots}, slots)
        _put_table(vars(obj), {k: v for k, v in old.items() if k not in slots})


def _put_attributes(obj: Any, old: dict[str, Any], names: Iterable[str]) -> None:
    kind, now = type if isinstance(obj, type) else object, content(obj)
    for name in [n for n in names if n in now and n not in old]:
        kind.__delattr__(obj, name)
    for name, value in old.items():
        if name not in now or now[name] is not value:
            kind.__setattr__(obj, name, value)


def is_globals(obj: Any) -> bool:
    """The variables of a Python module."""
    is_module = isinstance(obj, dict) and {"__name__", "__spec__", "__loader__"} <= obj.keys()
    return is_module or (isinstance(obj, dict) and "__builtins__" in obj)


def _items(obj: dict[Any, Any]) -> Iterable[tuple[Any, Any]]:
    return plain(obj).items(obj)


def _put_items(obj: dict[Any, Any], old: dict[Any, Any]) -> None:
    kind, now = plain(obj), dict(_items(obj))
    if list(now) != list(old) and not is_globals(obj):
        kind.clear(obj)
        now = {}
    for key in [k for k in now if k not in old]:
        kind.__delitem__(obj, key)
    for key, value in old.items():
        if key not in now or now[key] is not value:
            kind.__setitem__(obj, key, value)


def _put_table(table: dict[str, Any], old: dict[str, Any]) -> None:
    for name in [n for n in table if n not in old]:
        del table[name]
    for name, value in old.items():
        if name in TABLES and isinstance(table.get(name), dict):
            table[name].clear()
            table[name].update(value)
        else:
            table[name] = value
