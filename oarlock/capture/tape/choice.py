"""One of two Python objects at run time: a text, a function, a module, a container or nothing."""

from __future__ import annotations

import operator
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch

from oarlock.capture.convert.state import State, Text, Undefined
from oarlock.capture.tape import runtime
from oarlock.capture.tape.arguments import is_record
from oarlock.capture.tape.join import (
    JoinRefused,
    holds_run_time,
    identity,
    is_row_of_values,
    is_textual,
    structure,
)
from oarlock.capture.tape.join import options as alternatives
from oarlock.capture.tape.nodes import Val
from oarlock.capture.tape.run_list import RunList
from oarlock.errors import UnsupportedError

if TYPE_CHECKING:
    from oarlock.capture.tape.join import Leaf
    from oarlock.capture.tape.tracer import Tracer

WRITTEN = 4  # texts that an addition may choose from
_SLOTS = ("_oarlock_val", "_oarlock_tracer", "_oarlock_parts", "_oarlock_seen")
_CONTAINERS = (list, tuple, dict, set, frozenset)  # the tape holds copies of them


class Choice:
    """Stands for ``parts[0]`` or ``parts[1]``; what is done to it is done to the one it is."""

    def __init__(self, tracer: Tracer, val: Val, parts: tuple[Any, Any]) -> None:
        for name, value in zip(_SLOTS, (val, tracer, parts, _contents(parts))):
            object.__setattr__(self, name, value)

    def parts_of_choice(self) -> tuple[Any, ...]:
        return self._oarlock_parts

    def __eq__(self, other: Any) -> Any:
        if any(map(is_record, options(self))):
            return each(self, lambda x: x == other)
        return self._oarlock_tracer.number(operator.eq, (self, other), True, True)

    def __ne__(self, other: Any) -> Any:
        if any(map(is_record, options(self))):
            return each(self, lambda x: x != other)
        return self._oarlock_tracer.number(operator.ne, (self, other), True, True)

    def __hash__(self) -> int:
        raise _refusal(self, "a hash")

    def __bool__(self) -> bool:
        raise _refusal(self, "a decision in library code")

    def __iter__(self) -> Any:
        return iter(_content(self))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        from oarlock.capture.convert.calls import call

        memo[id(self)] = found = each(self, call(deepcopy))
        return found

    def __repr__(self) -> str:
        return f"<one of {self._oarlock_parts[0]!r} and {self._oarlock_parts[1]!r}>"

    def __getattr__(self, name: str) -> Any:
        is_special = name.startswith("__") and name != "__name__"
        if is_special or not any(hasattr(p, name) for p in self._oarlock_parts):
            raise AttributeError(name)
        return each(self, lambda x: getattr(x, name))

    def __setattr__(self, name: str, value: Any) -> None:
        from oarlock.capture.convert.attributes import write_attribute

        each(self, lambda x: write_attribute(x, name, value))

    def __setitem__(self, key: Any, value: Any) -> None:
        from oarlock.capture.convert.sequences import set_item

        each(self, lambda x: set_item(x, key, value))

    def __getitem__(self, key: Any) -> Any:
        if _container(self) is not None:
            return _content(self)[key]
        return each(self, lambda x: x[key])

    def __len__(self) -> int:
        found = _container(self)
        if found is None:
            raise _refusal(self, "a length")
        return len(found)

    def __add__(self, other: Any) -> Any:
        if _many_texts(self, other):
            return self._oarlock_tracer.texts.made(operator.add, self, other)
        return each(self, lambda x: x + other)

    def __radd__(self, other: Any) -> Any:
        if _many_texts(other, self):
            return self._oarlock_tracer.texts.made(operator.add, other, self)
        return each(self, lambda x: other + x)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from oarlock.capture.convert.calls import call

        return each(self, lambda x: call(x)(*args, **kwargs))


def _refusal(x: Choice, what: str) -> UnsupportedError:
    return UnsupportedError(
        f"{x._oarlock_tracer.where()}: {what} from {x!r}, which data decide between; do that inside "
        f"the branches"
    )


def val_of(x: Choice) -> Val:
    """Its value at run time, which is the one of where the ways met.

    Raises: UnsupportedError where a dict or set that it may be has been changed since.
    """
    plain = (pair for pair in x._oarlock_seen.values() if isinstance(pair[0], (dict, set)))
    if any(not runtime.alike(then, _copy(now)) for now, then in plain):
        raise _refusal(x, "a use after a change")
    return x._oarlock_val


def length(x: Choice) -> Any:
    """``len(x)``"""
    if all(isinstance(p, str) for p in x._oarlock_parts):
        return x._oarlock_tracer.number(len, (x,), 1, True)
    return len(x)


def _containers(every: Any) -> list[Any]:
    """The containers of run-time values among ``every``, where the rest is nothing and one joint
    stands for all of them."""
    found = [p for p in every if p is not None and not isinstance(p, Undefined)]
    if len(found) == 1 and isinstance(found[0], (tuple, list, dict)):
        return found
    if not found or not all(map(is_row_of_values, found)):
        return []
    with torch._C.DisableTorchFunction():
        kinds = {structure(p, with_sizes=False) for p in found}
    return found if len(kinds) == 1 else []


def _container(x: Choice) -> Any:
    """One that it may be, where it is a container or nothing."""
    found = _containers(options(x))
    return found[0] if found else None


def _content(x: Choice) -> Any:
    """What the container holds at run time."""
    tracer, parts = x._oarlock_tracer, _containers(options(x))
    if not parts:
        raise _refusal(x, "a loop")
    return tracer.lists.content(x, parts)


def options(x: Choice) -> list[Any]:
    """The objects that it may be, each once."""
    return list({identity(y): y for y in alternatives(x)}.values())


def _many_texts(a: Any, b: Any) -> bool:
    """The text that two make is better put together at run time than chosen from all."""
    return is_textual(a) and is_textual(b) and len(alternatives(a)) * len(alternatives(b)) > WRITTEN


def each(x: Choice, do: Any) -> Any:
    """``do`` on the object that it is at run time."""
    return _among(x, options(x), do)


def _among(x: Choice, parts: list[Any], do: Any) -> Any:
    tracer, (first, *rest) = x._oarlock_tracer, parts
    if is_row_of_values(first) and rest:
        first, *rest = *rest, first
    if not rest:
        return do(_content(x) if is_row_of_values(first) else first)
    cell: list[Any] = [None]
    if any(isinstance(part, Text) for part in parts):
        raise _refusal(x, "a method or an item")
    is_first = tracer.number(_comparison(x, first), (x, first), True, True)

    def put(values: tuple[Any, ...]) -> None:
        cell[0] = values[0]

    def then() -> None:
        cell[0] = do(first)

    def orelse() -> None:
        cell[0] = _among(x, rest, do)

    where = tracer.where()
    state = State(("value",), lambda: (cell[0],), put, (where.file, where.line))
    tracer.if_(is_first, then, orelse, state)
    return cell[0]


def _comparison(x: Choice, part: Any) -> Any:
    """What tells ``part`` from the other objects: containers by what they hold."""
    if type(part) is str:
        return operator.eq
    if not isinstance(part, _CONTAINERS):
        return operator.is_
    seen = x._oarlock_seen
    if any(not runtime.alike(then, _copy(now)) for now, then in seen.values()):
        raise _refusal(x, "a use after a change")
    return runtime.alike


def _contents(parts: tuple[Any, ...]) -> dict[int, tuple[Any, Any]]:
    """What each container among ``parts`` holds where the ways meet."""
    found: dict[int, tuple[Any, Any]] = {}
    for part in parts:
        if isinstance(part, Choice):
            found = {**found, **part._oarlock_seen}
        elif isinstance(part, _CONTAINERS):
            part.observe() if isinstance(part, RunList) else None
            found.setdefault(id(part), (part, _copy(part)))
    return found


def _copy(x: Any) -> Any:
    return list.copy(x) if isinstance(x, list) else x.copy() if isinstance(x, (dict, set)) else x


def absent(nodes: list[Any], truth: Val) -> tuple[Val | None, bool]:
    """The value that a test asks for being None, and what the test is where it is None."""
    wanted, is_none = truth, True
    for node in reversed(nodes):
        if getattr(node, "outs", None) is not wanted or not hasattr(node, "func"):
            continue
        if node.func is operator.not_ and isinstance(node.args[0], Val):
            wanted, is_none = node.args[0], not is_none
        elif node.func is runtime.is_none:
            return node.args[0], is_none
        else:
            break
    return None, is_none


def present(x: Any, val: Val | None) -> Any:
    """``x``; what it holds, where it is the container ``val`` that is known to be there."""
    is_known = isinstance(x, Choice) and x._oarlock_val is val and _container(x) is not None
    return _content(x) if is_known else x


def choice(tracer: Tracer, leaf: Leaf, val: Val) -> Choice:
    """The stand-in of a value that is one of two objects."""
    every = (*leaf.parts, *leaf.more)
    parts = [y for part in every for y in alternatives(part)]
    parts = list({identity(y): y for y in parts}.values())
    if any(map(holds_run_time, parts)) and not _containers(parts):
        raise JoinRefused(
            f"{tracer.where()}: {val.name} is one of two objects that hold tensors, and data decide "
            f"which; give both paths the same class and structure"
        )
    val.loose |= {"none"}
    val.sample = leaf.parts
    return Choice(tracer, val, every)
