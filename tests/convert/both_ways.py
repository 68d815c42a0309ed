"""A tracer that records nothing: every tensor decides at run time, and both ways are always run.

The way that is not taken runs first and is undone, by the state that converted code hands over and
by the changes that it reports.  What it leaves behind shows in the result.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import CellType
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from oarlock.capture.convert import tracing
from oarlock.capture.convert.state import Text
from oarlock.capture.tape import runtime
from oarlock.capture.tape.failures import Failures


class Journal:
    """Contents of objects before they change, for undoing."""

    def __init__(self) -> None:
        self.frames: list[list[tuple[Any, Any]]] = []

    def touch(self, obj: Any) -> None:
        if self.frames and not hasattr(type(obj), "__slots__"):
            self.frames[-1].append((obj, _content(obj)))

    def settle(self, obj: Any) -> None:
        """Nothing is read anew."""

    def touch_local(self, cell: Any) -> None:
        self.touch(cell)

    def create(self, obj: Any) -> None:
        """What is new is undone too, which nobody sees."""

    def used(self, obj: Any) -> None:
        """What is read is what it is."""

    keyed = used

    def compared(self, a: Any, b: Any) -> None:
        """Two objects are two here."""

    def undo(self) -> None:
        for obj, old in reversed(self.frames.pop()):
            if isinstance(obj, torch.Tensor):
                obj.copy_(old)
            elif isinstance(obj, CellType):
                obj.cell_contents = old
            elif isinstance(obj, list):
                obj[:] = old
            elif isinstance(obj, deque):
                obj.clear()
                obj.extend(old)
            else:
                table = obj if isinstance(obj, (dict, set)) else vars(obj)
                table.clear()
                table.update(old)

    def keep(self) -> None:
        done = self.frames.pop()
        if self.frames:
            self.frames[-1] += done


def _content(obj: Any) -> Any:
    if isinstance(obj, torch.Tensor):
        return obj.clone()
    if isinstance(obj, CellType):
        return obj.cell_contents
    return type(obj)(obj) if isinstance(obj, (set, deque)) else (
        list(obj) if isinstance(obj, list) else dict(obj if isinstance(obj, dict) else vars(obj))
    )  # fmt: skip


class Texts:
    """Texts are made and asked as they are."""

    def asked(self, op: Any, *args: Any, **options: Any) -> Any:
        return op(*args, **options)

    made = asked


class Code:
    """Nothing is guarded."""

    def runs(self, function: Any, made: Any) -> Any:
        return made

    def method(self, *what: Any) -> None:
        """The class stays."""

    calls = asks = item = has = tables = changes = instance = inherits = unshadowed = method


class Machinery:
    """What stays changed is not looked for."""

    def tags(self, *what: Any) -> None:
        """Nothing is kept."""

    def watching(self, *what: Any) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def caching(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


class Items(list):
    """A list that can be told what it was made of."""


class Noticing:
    codes: frozenset[Any] = frozenset()

    def ahead(self, code: Any) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    watching = ahead

    def made(self, *_: Any) -> None:
        """Nothing is kept."""

    reads = uses = runs = look = made


class BothWays(TorchFunctionMode):
    """Counts decisions, to see that there were any."""

    def __init__(self) -> None:
        super().__init__()
        self.journal, self.texts, self.code = Journal(), Texts(), Code()
        self.machinery = Machinery()
        self.failing, self.noticing = Failures(frozenset()), Noticing()
        self.unconverted: dict[str, None] = {}
        self.decisions = 0
        self.cached: dict[Any, Any] = {}
        self.asserted = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__
        if re.fullmatch(r"\w*[a-z]_|__i\w+__|__setitem__", name) and isinstance(
            args[0], torch.Tensor
        ):
            self.journal.touch(args[0])
        return func(*args, **(kwargs or {}))

    def is_symbolic(self, x: Any) -> bool:
        return isinstance(x, torch.Tensor)

    def read(self, owner: Any, name: str, value: Any) -> Any:
        return value

    def compute(self, op: Any, *args: Any) -> Any:
        return op(*args)

    def update(self, op: Any, value: Any, other: Any) -> Any:
        return op(value, other)

    def type_of(self, x: Any) -> Any:
        return type(x)

    def types_of(self, x: Any) -> list[type]:
        return []

    def override(self, function: Any) -> Any:
        return None

    kinds = ()
    places: dict[int, Any] = {}

    @property
    def tables(self) -> BothWays:
        """Dicts and sets stay as they are."""
        return self

    def made(self, x: Any) -> Any:
        return x

    def is_of_run(self, kind: type, rows: Any) -> bool:
        return False

    def blame(self, refusal: Any, owner: Any) -> None:
        """No other way is tried."""

    @property
    def recursive(self) -> BothWays:
        return self

    def wrapped(self, code: Any, made: Any) -> Any:
        return made

    def uses(self, x: Any, *key: Any) -> None:
        """Nothing is guarded."""

    def wrote(self, owner: Any, name: Any, value: Any) -> None:
        """Nothing is guarded."""

    def is_choice(self, x: Any) -> bool:
        return False

    def is_one_of_objects(self, x: Any) -> bool:
        return False

    def is_missing(self, value: Any) -> bool:
        return False

    def read_has(self, owner: Any, name: str) -> None:
        """Nothing is guarded."""

    def parsed(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    def ordered(self, items: Any, keys: Any, reverse: bool) -> Any:
        return runtime.ordered(items, keys, reverse)

    def is_of_two_types(self, x: Any) -> bool:
        return False

    def is_branching(self) -> bool:
        return False

    def may_be_none(self, x: Any) -> bool:
        return False

    def is_(self, a: Any, b: Any) -> Any:
        return a is b

    def list_(self, items: list[Any]) -> list[Any]:
        return Items(items)

    def print_(self, args: tuple, options: dict[str, Any]) -> None:
        print(*args, **options)

    def assert_(self, test: Any, message: Any) -> None:
        assert test.dtype is torch.bool and test.dim() == 0
        self.asserted += 1
        if not test:
            raise AssertionError(message()) if message else AssertionError

    def undone(self, fn: Any, state: Any) -> None:
        before = state.get()
        self.journal.frames.append([])
        with contextlib.suppress(Exception):
            fn()
        self.journal.undo()
        state.set(before)

    def if_(self, test: torch.Tensor, then: Any, orelse: Any, state: Any) -> None:
        assert test.dtype is torch.bool and test.dim() == 0
        self.decisions += 1
        self.undone(orelse if test else then, state)
        if test:
            then()
        else:
            orelse()
        state.set(state.get())

    def while_(self, test: Any, body: Any, state: Any, trips: Any = None) -> None:
        self.decisions += 1
        self.undone(body, state)
        while test():
            body()
            state.set(state.get())


@contextmanager
def both_ways() -> Iterator[BothWays]:
    made = BothWays()
    with pytest.MonkeyPatch.context() as patch:
        for module in list(sys.modules.values()):
            name = getattr(module, "__name__", "")
            if name.startswith("oarlock.capture.convert.") and hasattr(module, "tracer"):
                patch.setattr(module, "tracer", lambda: made)
        patch.setattr(tracing, "tracer", lambda: made)
        patch.setattr(Text, "of", staticmethod(_formatted))
        with made:
            yield made


def _formatted(parts: tuple[Any, ...]) -> str:
    kinds = {"r": repr, "s": str, "a": ascii, "": lambda x: x}
    return "".join(p if isinstance(p, str) else format(kinds[p[1]](p[0]), p[2]) for p in parts)
