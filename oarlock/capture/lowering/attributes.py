"""Attributes that a call replaces, as state of the program: tensors and numbers of a fixed type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from oarlock.capture.arrays import dtype_of, to_numpy
from oarlock.capture.lowering.kinds import Either, Maybe, is_symbolic, kind_of
from oarlock.capture.tape.effects import Change
from oarlock.capture.tape.nodes import Val
from oarlock.capture.tape.sources import Source, key_of
from oarlock.ir import TensorType, Value, f64, i64

MISSING = object()
NUMBERS = {int: i64, float: f64}


@dataclass(frozen=True, eq=False)
class Place:
    """Where a tensor or number of the state is in eager mode."""

    source: Source
    old: Any

    def now(self) -> Any:
        """What is there now."""
        return read(self.source)


def read(source: Source) -> Any:
    """What is at a place outside of the arguments; MISSING for nothing."""
    try:
        return MISSING if source.base is None else source.value()
    except (AttributeError, KeyError, IndexError, ValueError):
        return MISSING


class Names:
    """A name of its own for each place: the path below the outermost module."""

    def __init__(self, objects: Sequence[Any]) -> None:
        self.modules = [x for x in objects if isinstance(x, torch.nn.Module)]
        self.taken: dict[str, tuple] = {}

    def of(self, source: Source) -> str:
        key, name = key_of(source, -1), self.path(source)
        unique, count = name, 1
        while self.taken.setdefault(unique, key) != key:
            count += 1
            unique = f"{name} ({count})"
        return unique

    def path(self, source: Source) -> str:
        paths = [
            path
            for module in self.modules
            for path, child in module.named_modules()
            if child is source.base
        ]
        return (max(paths, key=len, default="") + str(source)).lstrip(".")


class Attributes:
    """State of a recording that lies in Python objects; ``places`` by the name of the state."""

    def __init__(self, recorder: Any, changes: Sequence[Change], names: Names) -> None:
        self.r, self.changes, self.name = recorder, changes, names.of
        self.places: dict[str, Place] = {}
        self.params: dict[str, np.ndarray] = {}
        self.notes: list[str] = []
        self.numbers: dict[Any, tuple[Source, Any]] = {}
        for change in changes:
            if change.source is not None and change.kind in ("attribute", "item", "replace"):
                for source, old in leaves_at(change.source, read(change.source)):
                    if type(old) in NUMBERS:
                        self.numbers[key_of(source, -1)] = (source, old)

    def before(self, source: Source) -> Any:
        """What the code finds at a place: a number that it replaces is read from the state."""
        found = read(source)
        if key_of(source, -1) not in self.numbers or type(found) not in NUMBERS:
            return found
        name, type_ = self.name(source), TensorType(NUMBERS[type(found)])
        return self.r.scalars.number(self.r.b.param(name, type_))

    def after(self, env: Mapping[Val, Any], results: Sequence[Any]) -> dict[str, Value]:
        """The values that the call leaves, by name of the state.

        Raises: NotImplementedError for what is no state of fixed type.
        """
        found: dict[str, Value] = {}
        for change in self.changes:
            source = change.source
            if source is None or source.base is None:
                raise NotImplementedError(
                    f"{source or 'an object'}, given by the caller, is changed; return what is new"
                )
            if change.kind not in ("attribute", "item", "replace"):
                raise NotImplementedError(
                    f"{source} grows or shrinks at each call; keep a tensor of fixed size"
                )
            try:
                found |= self.left(change, source, env, results[change.result])
            except _NotKept as reason:
                if self.is_read(change, source):
                    raise NotImplementedError(str(reason)) from None
                self.notes.append(f"{source} is not kept, and not read by the calls: {reason}")
        return found

    def is_read(self, change: Change, source: Source) -> bool:
        """The program depends on what was there."""
        known = {id(x) for x in self.r.weights.values()}
        places = list(leaves_at(source, read(source)))
        keys = {key_of(at, -1) for at, _ in [(source, None), *places]}
        return bool(keys & (change.constants | self.numbers.keys())) or any(
            id(x) in known for _, x in places
        )

    def left(
        self, change: Change, source: Source, env: Mapping[Val, Any], noted: Any
    ) -> dict[str, Value]:
        """Raises: _NotKept."""
        found: dict[str, Value] = {}
        for at, old, new, val in pairs(source, read(source), change.value, noted):
            if val is None:
                if not _same(old, new):
                    raise _NotKept(
                        f"{at} is {_shown(old)} before the call and {_shown(new)} after it; call it "
                        f"until that stays, or keep a tensor"
                    )
                continue
            value = env[val]
            if value is old:
                continue
            if key_of(at, -1) in change.constants and type(old) in NUMBERS:
                raise _NotKept(f"{at} decides what the call does; keep it in a tensor")
            name = self.weight_name(at, old)
            found[name] = self.value(at, old, value)
            self.places[name] = Place(at, old)
            self.params[name] = to_numpy(old) if isinstance(old, torch.Tensor) else np.array(
                old, NUMBERS[type(old)].numpy
            )  # fmt: skip
        return found

    def weight_name(self, at: Source, old: Any) -> str:
        """The key of the param that the program reads the old value from."""
        for key, tensor in self.r.weights.items():
            if tensor is old:
                if key in self.places:
                    raise _NotKept(f"{at} and {self.places[key].source} are one tensor")
                return key
        return self.name(at)

    def value(self, at: Source, old: Any, new: Any) -> Value:
        """The value in the type of the old one.  Raises: _NotKept."""
        r = self.r
        if isinstance(new, Maybe):
            raise _NotKept(f"{at} is None or a value after the call, as the run decides")
        if isinstance(new, Either):
            new = r.lowering.expect_wide(new)
        if isinstance(new, torch.Tensor):
            value = r.value(new)
            if isinstance(old, torch.Tensor):
                type_ = TensorType(dtype_of(old.dtype), tuple(old.shape))
                if value.type == type_:
                    return value
            raise _NotKept(
                f"{at} is {_shown(old)} before the call and {value.type} after it; call it once "
                f"before it is saved, with arguments of the same sizes"
            )
        if (is_symbolic(new) or type(new) in NUMBERS) and type(old) in NUMBERS:
            dtype = NUMBERS[type(old)]
            if kind_of(new) is type(old):
                return r.scalars.value(new, dtype)
        raise _NotKept(f"{at} is {_shown(old)} before the call and another kind of value after it")


class _NotKept(Exception):
    """Why a value is no state."""


def _shown(x: Any) -> str:
    if x is MISSING:
        return "not there"
    if isinstance(x, torch.Tensor):
        return str(TensorType(dtype_of(x.dtype), tuple(x.shape)))
    return (
        repr(x) if isinstance(x, (bool, int, float, str, type(None))) else f"a {type(x).__name__}"
    )


def _same(old: Any, new: Any) -> bool:
    if old is new:
        return True
    plain = (bool, int, float, str)
    return type(old) is type(new) and isinstance(old, plain) and bool(old == new)


def leaves_at(source: Source, x: Any) -> Iterator[tuple[Source, Any]]:
    """Places of the tensors and numbers in nested containers."""
    if isinstance(x, (tuple, list)):
        for i, item in enumerate(x):
            yield from leaves_at(source.step(f"[{i}]"), item)
    elif isinstance(x, dict):
        for key, item in x.items():
            yield from leaves_at(source.step(f"[{key!r}]"), item)
    else:
        yield source, x


def pairs(source: Source, old: Any, new: Any, noted: Any) -> Iterator[tuple[Source, Any, Any, Any]]:
    """(place, what was there, what is there, its value of the run or None) for all leaves.

    Raises: _NotKept where the structures differ.
    """
    if isinstance(noted, Val):
        yield source, old, new, noted
        return
    if not isinstance(new, (tuple, list, dict)) or noted is None:
        yield source, old, new, None
        return
    if type(old) is not type(new) or len(old) != len(new):
        raise _NotKept(f"{source} is {_shown(old)} before the call and {_shown(new)} after it, of "
                       f"another structure; call it once before it is saved")  # fmt: skip
    keys = list(new) if isinstance(new, dict) else range(len(new))
    for key, item in zip(keys, noted):
        if isinstance(new, dict) and key not in old:
            raise _NotKept(f"{source} gets the key {key!r}")
        yield from pairs(source.step(f"[{key!r}]"), old[key], new[key], item)
