"""What converted code calls: plain Python for Python values, the tracer for run-time ones."""

from __future__ import annotations

import builtins
import contextlib
import operator
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from types import CellType, FunctionType, ModuleType
from typing import Any

from oarlock.capture.convert import (
    arithmetic,
    attempts,
    attributes,
    calls,
    cursors,
    failing,
    iterating,
    sequences,
    stepped,
)
from oarlock.capture.convert.contexts import context
from oarlock.capture.convert.handlers import STEERING, handling, open_handlers
from oarlock.capture.convert.spelling import spelled
from oarlock.capture.convert.state import State, Text, Undefined
from oarlock.capture.convert.tracing import at_key, tracer
from oarlock.capture.convert.truth import (
    as_number,
    contains,
    is_run_time,
    junction,
    negated,
    own,
    own_truth,
    refuse_here,
    select,
    truth,
)
from oarlock.errors import UnsupportedError

Thunk = Callable[[], Any]
Names = tuple[str, ...]

_IN_PLACE = (list, dict, set, bytearray)


class Operators:
    """The operators of one converted function.

    Args: cells: its variables that exist before the call, not those of converted code around it.
    """

    NameError, BaseException = NameError, BaseException
    call = staticmethod(calls.call)
    handling = staticmethod(handling)
    steering = STEERING
    held = staticmethod(cursors.held)
    generated = staticmethod(calls.generated)
    handed = staticmethod(calls.handed)
    resumed = staticmethod(cursors.Resumed)
    stream_of = staticmethod(iterating.stream_of)
    stream_more = staticmethod(operator.methodcaller("more"))
    stream_take = staticmethod(operator.methodcaller("take"))
    stream_stop = staticmethod(operator.methodcaller("stop"))
    unsent = staticmethod(cursors.unsent)
    fails = staticmethod(failing.fails)
    attempt = staticmethod(attempts.attempt)
    attempt_item = staticmethod(attempts.attempt_item)
    has_failed = staticmethod(attempts.has_failed)
    caught = staticmethod(attempts.caught)
    pieces = staticmethod(attempts.pieces)
    pieces_of = staticmethod(attempts.pieces_of)
    rebuilt = staticmethod(attempts.rebuilt)
    matches = staticmethod(attempts.matches)
    one_error = staticmethod(attempts.one_error)
    thrown = staticmethod(attempts.thrown)
    held_error = staticmethod(attempts.held_error)
    value_of = staticmethod(attempts.value_of)
    outcome = staticmethod(attempts.outcome)
    fails_always = staticmethod(attempts.fails_always)
    failure = staticmethod(failing.failure)
    context = staticmethod(context)
    slice = staticmethod(builtins.slice)

    def __init__(self, file: str, module: dict[str, Any], cells: dict[str, CellType]) -> None:
        self.file, self.module, self.cells = file, module, cells

    def state(self, get: Any, put: Any, names: Names, depth: int = 2) -> State:
        where = (self.file, sys._getframe(depth).f_lineno)
        if get is None:
            return State((), _nothing, _ignore, where)
        active = tracer()
        if active is not None:
            for name in names:
                if isinstance(self.cells.get(name), CellType):
                    active.journal.settle(self.cells[name])
        return State(names, get, put, where)

    # statements

    def if_(
        self, test: Any, then: Any, orelse: Any, get: Any, put: Any, names: Names,
        unread: tuple[Names, Names] = ((), ()),
    ) -> None:  # fmt: skip
        """Args: unread: of the names, those that nothing reads behind each way."""
        test = own_truth(test)
        if is_run_time(test):
            state = replace(self.state(get, put, names), unread=unread)
            tracer().if_(truth(test), then or _pass, orelse or _pass, state)
        elif test:
            if then is not None:
                then()
        elif orelse is not None:
            orelse()

    def while_(self, test: Thunk, body: Thunk, get: Any, put: Any, names: Names) -> None:
        go = own_truth(test())
        while not is_run_time(go):
            if not go:
                return
            body()
            go = own_truth(test())
        cell = [truth(go)]  # a carried variable: what the test computes is recorded where it runs

        def round_() -> None:
            body()
            go = own_truth(test())
            cell[0] = truth(go) if is_run_time(go) else bool(go)

        state = self.state(get, put, names).with_cell("go on", cell)
        tracer().while_(lambda: cell[0], round_, state)

    def for_(
        self, items: Any, body: Callable[[Any], None], stop: Any, get: Any, put: Any, names: Names,
        holders: int = 0,
    ) -> None:  # fmt: skip
        items = stepped.entered(items)
        if isinstance(items, cursors.Stream):
            return cursors.rounds(items, body, stop, self.state(get, put, names))
        is_held = iterating.is_held_iterator(items, holders)
        items = sequences.own_items(items)
        if is_held and tracer() is not None and tracer().is_branching():
            _refuse_iterator("on one path of a decision on data, or in a loop on data")
        if sequences.is_run_time_sequence(items):
            return sequences.loop(items, body, stop, self.state(get, put, names))
        below = sequences.lists_below(items) if tracer() is not None else []
        if stop is None:
            for place, item in enumerate(_iterable(items), 1):
                body(item)
                if below and sequences.is_run_time_sequence(items):  # it was a plain list before
                    return sequences.loop(items, body, stop, self.state(get, put, names), place)
                sequences.still_plain(below)
            return None
        source = sequences.Rounds(_iterable(items))
        for place, item in enumerate(source.items()):
            body(item)
            halt = stop()
            if below and sequences.is_run_time_sequence(items):
                state = self.state(get, put, names)
                return sequences.loop(items, body, stop, state, place + 1, halt)
            sequences.still_plain(below)
            if is_run_time(halt):
                if is_held:
                    _refuse_iterator("that data end")
                state = self.state(get, put, names)
                if sequences.is_long(items, place + 1):
                    with contextlib.suppress(UnsupportedError):  # the body needs the plain item
                        return sequences.loop(items, body, stop, state, place + 1, halt)
                return self._rest(source, place + 1, body, stop, state)
            if halt:
                return None
        return None

    def _rest(
        self, items: sequences.Rounds, start: int, body: Callable[[Any], None], stop: Thunk,
        state: State,
    ) -> None:  # fmt: skip
        """The rest of a plain loop that may be left at run time: each round under a condition."""
        for place, item in enumerate(items.items(start, True), start):

            def round_(item: Any = item, place: int = place) -> None:
                body(item)
                self._rest(items, place + 1, body, stop, state)

            halt = stop()
            if not is_run_time(halt):
                if halt:
                    return
                body(item)
                continue
            tracer().if_(truth(halt), _pass, round_, state)
            return

    def assert_(self, test: Any, message: Thunk | None = None) -> None:
        def fail() -> None:
            raise AssertionError(message()) if message is not None else AssertionError

        test = own_truth(test)
        if not is_run_time(test):
            if not test:
                fail()
        elif open_handlers(AssertionError()) is None:
            tracer().assert_(truth(test), message)
        else:  # a decision like others, as what follows depends on it
            state = self.state(None, None, ())
            tracer().if_(truth(test), _pass, fail, state)

    def plain(self, test: Any) -> Any:
        if is_run_time(test):
            refuse_here(
                "a generator or comprehension decides on a run-time value",
                "write a loop that appends to a list",
            )
        return test

    def plain_iterable(self, items: Any) -> Any:
        if sequences.is_run_time_sequence(items):
            refuse_here(
                "a generator reads a sequence of run-time length",
                "write a loop that appends to a list",
            )
        below = sequences.lists_below(items) if tracer() is not None else []
        return sequences.checked_items(items, below) if below else items

    # truth and conditions

    def not_(self, value: Any) -> Any:
        return as_number(self.not_test(value))

    def not_test(self, value: Any) -> Any:
        value = own_truth(value)
        return negated(value) if is_run_time(value) else not value

    def and_(
        self, first: Any, rest: tuple, get: Any = None, put: Any = None, names: Names = ()
    ) -> Any:
        return junction(first, rest, False, self.state(get, put, names), False)

    def or_(
        self, first: Any, rest: tuple, get: Any = None, put: Any = None, names: Names = ()
    ) -> Any:
        return junction(first, rest, True, self.state(get, put, names), False)

    def and_test(
        self, first: Any, rest: tuple, get: Any = None, put: Any = None, names: Names = ()
    ) -> Any:
        return junction(first, rest, False, self.state(get, put, names), True)

    def or_test(
        self, first: Any, rest: tuple, get: Any = None, put: Any = None, names: Names = ()
    ) -> Any:
        return junction(first, rest, True, self.state(get, put, names), True)

    def ifexp(
        self,
        test: Any,
        then: Thunk,
        orelse: Thunk,
        get: Any = None,
        put: Any = None,
        names: Names = (),
    ) -> Any:
        test = own_truth(test)
        if is_run_time(test):
            return select(test, then, orelse, self.state(get, put, names))
        return then() if test else orelse()

    def chain(
        self,
        signs: Names,
        left: Any,
        right: Any,
        rest: tuple,
        get: Any = None,
        put: Any = None,
        names: Names = (),
    ) -> Any:
        """``a < b < c``: each operand once, the later ones only while it holds."""
        found = _compare(signs[0], left, right)
        if len(signs) == 1:
            return found
        if not is_run_time(found):
            if not found:
                return found
            return self.chain(signs[1:], right, rest[0](), rest[1:], get, put, names)

        def others() -> Any:
            return self.chain(signs[1:], right, rest[0](), rest[1:], get, put, names)

        return junction(found, (others,), False, self.state(get, put, names), False)

    def compare(self, sign: str, left: Any, right: Any) -> Any:
        return arithmetic.compare(sign, left, right)

    def contains(self, item: Any, items: Any) -> Any:
        return as_number(contains(item, items))

    def lacks(self, item: Any, items: Any) -> Any:
        return self.not_(contains(item, items))

    def is_(self, left: Any, right: Any) -> Any:
        if is_run_time(left) or is_run_time(right):
            return tracer().is_(left, right)
        if tracer() is not None and left is not right:
            tracer().journal.compared(left, right)
        return left is right

    def is_not(self, left: Any, right: Any) -> Any:
        return self.not_(self.is_(left, right))

    def equals(self, left: Any, right: None) -> Any:
        return tracer().is_(left, None) if is_run_time(left) else left == right

    def differs(self, left: Any, right: None) -> Any:
        return self.not_(tracer().is_(left, None)) if is_run_time(left) else left != right

    def binary(self, sign: str, left: Any, right: Any) -> Any:
        return arithmetic.binary(sign, left, right)

    def unary(self, name: str, value: Any) -> Any:
        return arithmetic.unary(name, value)

    # variables, attributes, items

    def values(self, names: Names, thunks: tuple[Thunk, ...]) -> tuple[Any, ...]:
        """Values of variables of which some are not bound."""
        found: list[Any] = []
        for name, thunk in zip(names, thunks):
            try:
                found.append(thunk())
            except NameError:
                found.append(Undefined(name))
        return tuple(found)

    def is_undefined(self, value: Any) -> bool:
        return isinstance(value, Undefined)

    def read_cell(self, name: str, value: Any) -> Any:
        active = tracer()
        if active is None or isinstance(value, ModuleType) or name not in self.cells:
            return value
        return active.read(self.cells[name], name, value)

    def read_global(self, name: str, value: Any) -> Any:
        active = tracer()
        if active is None or isinstance(value, ModuleType):
            return value
        return active.read(self.module, name, value)

    def whole(self, items: Any) -> Any:
        """A mapping that is unpacked."""
        active = tracer()
        if active is not None:
            active.uses(items)
        return items

    def unpacked(self, items: Any, count: int | None = None) -> Any:
        """What is unpacked, by the ``__iter__`` of an object's class; ``count``: into how many."""
        items = sequences.own_items(items)
        if count is None or not sequences.is_run_time_sequence(items):
            return items
        return sequences.first_items(items, count)

    def new(self, made: Any) -> Any:
        """A container that the code has just made: no path that is open had it before."""
        return calls.new(made)

    def dict_(self, *rows: tuple[Any, Any]) -> Any:
        """``{key: value, ...}``"""
        return calls.display(dict, list(rows))

    def new_set(self) -> Any:
        return calls.new(builtins.set())

    def set_(self, *items: Any) -> Any:
        """``{a, b, ...}``"""
        return calls.display(set, list(items))

    def bound(self, names: dict[str, Thunk]) -> dict[str, Any]:
        """``locals()``: the variables that have a value."""
        found = {}
        for name, value in names.items():
            with contextlib.suppress(builtins.NameError):
                found[name] = value()
        return {k: v for k, v in found.items() if not isinstance(v, Undefined)}

    def touch_cell(self, name: str) -> None:
        cell = self.cells.get(name)
        touch(cell)
        if isinstance(cell, CellType) and tracer() is not None:
            with contextlib.suppress(ValueError):
                self.read_cell(name, cell.cell_contents)

    def touch_variable(self, read: FunctionType) -> None:
        """``read``: returns a variable of a function around the one that assigns it."""
        active = tracer()
        if active is not None:
            active.journal.touch_local(read.__closure__[0])  # type: ignore[index]

    def touch_globals(self, name: str) -> None:
        touch(self.module)
        if name in self.module:
            self.read_global(name, self.module[name])

    def getattr_(self, owner: Any, name: str) -> Any:
        return attributes.read_attribute(owner, name)

    def setattr_(self, value: Any, owner: Any, name: str) -> None:
        attributes.write_attribute(owner, name, value)

    def delattr_(self, owner: Any, name: str) -> None:
        attributes.delattr_(owner, name)

    def getitem(self, owner: Any, key: Any) -> Any:
        return sequences.item(owner, key)

    def setitem(self, value: Any, owner: Any, key: Any) -> None:
        touch(owner, key if isinstance(owner, dict) else None)
        sequences.set_item(owner, key, value)

    def delitem(self, owner: Any, key: Any) -> None:
        active = tracer()
        if active is not None and active.is_choice(owner):
            active.each(owner, lambda x: self.delitem(x, key))
        elif active is not None and active.is_choice(key):
            active.each(key, lambda k: self.delitem(owner, k))
        else:
            touch(owner)
            sequences.del_item(owner, key)

    def update(self, sign: str, value: Any, other: Any) -> Any:
        if isinstance(value, _IN_PLACE) and not hasattr(value, "run_time_tuple"):
            touch(value)
        return arithmetic.update(sign, value, other)

    def append(self, items: Any, item: Any) -> None:
        touch(items)
        items.append(item)

    def add(self, items: set[Any], item: Any) -> None:
        touch(items, item)
        with at_key(items):
            items.add(item)

    def put(self, items: dict[Any, Any], key: Any, value: Any) -> None:
        touch(items, key)
        sequences.set_item(items, key, value)

    # texts, lists and functions

    def list_(self, items: list[Any]) -> list[Any]:
        """A list that a run-time loop may fill."""
        active = tracer()
        return items if active is None else active.list_(items)

    def spread(self, is_tuple: bool, *parts: tuple[bool, Any]) -> Any:
        """``[*a, b]`` or ``(*a, b)``; each part tells whether it is unpacked."""
        return sequences.spread(is_tuple, parts)

    def text(self, *parts: Any) -> str:
        """An f-string; each part is a text or ``(value, conversion, spec)``."""
        if tracer() is not None:
            parts = tuple(_spelled(p) for p in parts)
        if tracer() is not None and any(_is_symbolic_part(p) for p in parts):
            return Text.of(tuple(x for p in parts for x in _flat(p)))
        return "".join(p if type(p) is str else _formatted(*p) for p in parts)

    def percent(self, left: Any, right: Any) -> Any:
        values = right if isinstance(right, tuple) else (right,)
        if isinstance(left, Text):
            return calls.percent_of_text(left, values)
        if isinstance(left, str) and any(is_run_time(x) or spelled(x) for x in values):
            return calls.percent(left, values)
        return left % right

    def lambda_(
        self, made: FunctionType, defaults: tuple, keywords: dict[str, Any]
    ) -> FunctionType:
        made = FunctionType(
            made.__code__, made.__globals__, "<lambda>", defaults or None, made.__closure__
        )
        made.__kwdefaults__ = keywords or None
        return made


def touch(owner: Any, key: Any = None) -> None:
    """Tells an active tracer that ``owner`` is about to change, at ``key``."""
    active = tracer()
    if active is not None:
        active.journal.keyed(key)
        calls.report_change(active, owner)


def _iterable(items: Any) -> Iterable[Any]:
    return items


def _refuse_iterator(where: str) -> None:
    refuse_here(
        f"a loop {where} takes items of an iterator that a variable holds: how many are left is "
        f"known at run time only",
        "make a list of it, and loop over the list or a slice of it",
    )


def _nothing() -> tuple[Any, ...]:
    return ()


def _ignore(values: tuple[Any, ...]) -> None:
    pass


def _pass() -> None:
    pass


def _compare(sign: str, left: Any, right: Any) -> Any:
    if sign in ("in", "not in"):
        found = contains(left, right)
        return found if sign == "in" else (negated(found) if is_run_time(found) else not found)
    return arithmetic.compare(sign, left, right)


def _formatted(value: Any, conversion: str, spec: str) -> str:
    if conversion:
        value = {"r": repr, "s": str, "a": ascii}[conversion](value)
    return format(value, spec)


def _spelled(part: Any) -> Any:
    """A part of an f-string, an object or container in it taken apart."""
    if type(part) is not tuple or is_run_time(part[0]) or isinstance(part[0], str):
        return part
    method = None if part[1] else own(part[0], "__format__")
    if method is not None and not isinstance(part[2], Text):
        found = method(part[0], part[2])
        return found if isinstance(found, str) else (found, "", "")
    if part[2]:
        return part
    found = spelled(part[0], part[1])
    return part if found is None else found


def _is_symbolic_part(part: Any) -> bool:
    return isinstance(part, Text) or (
        type(part) is tuple
        and (is_run_time(part[0]) or isinstance(part[0], Text) or isinstance(part[2], Text))
    )


def _flat(part: Any) -> tuple[Any, ...]:
    """The parts of a part: a text inside a text is taken apart."""
    if isinstance(part, Text):
        return part.parts
    if type(part) is tuple and isinstance(part[0], Text) and part[1:] in (("", ""), ("s", "")):
        return part[0].parts
    return (part,)
