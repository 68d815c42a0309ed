"""The results of an ``if_``: what two branches give for one variable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from oarlock.capture.lowering.held import (
    Recorded,
    empty,
    is_mixed,
    is_nothing,
    is_one,
    is_plain,
    is_unbound,
    named,
    narrow_flag,
    number_of,
    one_of,
    python_of,
    tie,
    type_of,
    value_of,
)
from oarlock.capture.lowering.kinds import Either, Maybe, Truth, is_symbolic, wide_of
from oarlock.capture.lowering.lists import ListValue, is_row, items_of, of_rows, same_leaves
from oarlock.capture.lowering.picks import Pick, are_objects, options_of, place_of
from oarlock.capture.tape.nodes import UNREAD
from oarlock.ir import Value, bool_

if TYPE_CHECKING:
    from oarlock.capture.lowering.blocks import Blocks


def _present(x: Any) -> Any:
    """The value of one that may be there; nothing reads it where it is not."""
    return UNREAD if is_nothing(x) else x.value if isinstance(x, Maybe) else x


class Joined:
    """One result of two branches: the same plain value, or a value of each."""

    def __init__(self, plain: Any, sides: tuple[Any, Any], kind: str) -> None:
        self.plain, self.sides, self.kind = plain, sides, kind
        self.full: ListValue | None = None  # of two lists, one that has items

    @staticmethod
    def of(blocks: Blocks, a: Any, b: Any) -> Joined:
        if a is UNREAD or b is UNREAD:
            return Joined.read(blocks, a, b)
        if isinstance(a, (tuple, list)) and type(a) is type(b) and len(a) == len(b):
            return Joined([Joined.of(blocks, x, y) for x, y in zip(a, b)], (a, b), "tree")
        if a is b or (is_plain(a) and is_plain(b) and type(a) is type(b) and a == b):
            return Joined(a, (a, b), "plain")
        if is_nothing(a) and is_nothing(b):
            return Joined(a, (a, b), "plain")
        if are_objects(a, b):
            return Joined(options_of((a, b)), (a, b), "pick")
        if any(is_nothing(x) or isinstance(x, Maybe) for x in (a, b)):
            values = [_present(x) for x in (a, b)]
            return Joined(Joined.of(blocks, *values), (a, b), "maybe")
        if is_mixed(a, b):
            return Joined.mixed(blocks, a, b)
        if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
            return Joined(None, (a, b), "tensor")
        if isinstance(a, torch.Tensor) != isinstance(b, torch.Tensor) and is_one(a) and is_one(b):
            return Joined(None, (a, b), "one")
        if is_row(a) and is_row(b):
            return Joined(None, (a, b), "list")
        if all(is_symbolic(x) or isinstance(x, (bool, int, float)) for x in (a, b)):
            return Joined(None, (a, b), "number")
        raise NotImplementedError(f"one branch gives {named(a)}, the other {named(b)}: no one type")

    @staticmethod
    def mixed(blocks: Blocks, a: Any, b: Any) -> Joined:
        """Of a narrow number or a wide one."""
        numbers = [number_of(x, wide_of(a, b), UNREAD) for x in (a, b)]
        return Joined(Joined.of(blocks, *numbers), (a, b), "either")

    @staticmethod
    def read(blocks: Blocks, a: Any, b: Any) -> Joined:
        """Of a variable that nothing reads behind one of the branches."""
        value = b if a is UNREAD else a
        if isinstance(value, Maybe):
            return Joined.of(blocks, *(None if x is UNREAD else x for x in (a, b)))
        if isinstance(value, Either):
            value = value.wide
            return Joined(value, tuple(UNREAD if x is UNREAD else value for x in (a, b)), "read")
        if isinstance(value, (tuple, list)):
            pairs = ((UNREAD, x) if a is UNREAD else (x, UNREAD) for x in value)
            return Joined([Joined.read(blocks, *pair) for pair in pairs], (value, value), "tree")
        return Joined(value, (a, b), "plain" if is_plain(value) else "read")

    def values(self, blocks: Blocks, side: Recorded, k: int) -> list[Value]:
        """What one branch gives, in its graph."""
        if self.kind == "plain":
            return []
        if self.kind == "tree":
            return [v for j in self.plain for v in j.values(blocks, side, k)]
        mine = self.sides[k]
        if self.kind == "maybe":
            flag = blocks.within(side, lambda: self._flag(blocks, mine))
            return [flag, *self.plain.values(blocks, side, k)]
        if self.kind == "either":
            flag = blocks.within(side, lambda: narrow_flag(blocks.r, mine, wide_of(*self.sides)))
            one = blocks.within(side, lambda: self._one(blocks, mine))
            return [flag, *self.plain.values(blocks, side, k), one]
        if self.kind == "list":
            return blocks.within(side, lambda: self._rows(blocks, k))
        if self.kind == "pick":
            return [blocks.within(side, lambda: place_of(blocks.r, mine, self.plain))]
        if self.kind == "one":
            return [blocks.within(side, lambda: self._one(blocks, mine))]
        if mine is UNREAD:
            return [blocks.within(side, lambda: blocks.zeros(type_of(blocks.r, self.plain)))]
        return [blocks.within(side, lambda: value_of(blocks.r, mine))]

    def _one(self, blocks: Blocks, mine: Any) -> Value:
        """One in the type of the wider."""
        return one_of(blocks.r, mine, type_of(blocks.r, wide_of(*self.sides)))

    def _rows(self, blocks: Blocks, k: int) -> list[Value]:
        """The stacks of a list, in the graph of its branch."""
        r, mine = blocks.r, self.sides[k]
        self.full = self.full or same_leaves([items_of(r, x) for x in self.sides])
        own = items_of(r, mine)
        own = own.laid_out(self.full.axes)
        stacks = empty(r, self.full.known()) if own.stacks is None else own.known()
        return [r.b.frame.local(v) for v in stacks]

    def _flag(self, blocks: Blocks, mine: Any) -> Value:
        """Whether a side has a value."""
        r = blocks.r
        if isinstance(mine, Maybe):
            return value_of(r, mine.flag)
        return r.b.const(not is_nothing(mine), bool_)

    def result(self, blocks: Blocks, found: Any) -> Any:
        if self.kind == "plain":
            return self.plain
        if self.kind == "tree":
            return type(self.sides[0])(j.result(blocks, found) for j in self.plain)
        r = blocks.r
        if self.kind == "maybe":
            flag = Truth(next(found))
            value = self.plain.result(blocks, found)
            return Maybe(flag, value, all(map(is_unbound, self.sides)))
        if self.kind == "either":
            flag = Truth(next(found))
            number = self.plain.result(blocks, found)
            return Either(flag, number, python_of(r, next(found), wide_of(*self.sides)))
        if self.kind == "list":
            assert self.full is not None
            return of_rows(r, [next(found) for _ in self.full.known()], self.full)
        if self.kind == "pick":
            return Pick(next(found), self.plain)
        if self.kind == "one":
            return Truth(next(found))
        like = self.plain if self.kind == "read" else self.sides[0]
        result = python_of(r, next(found), like)
        if isinstance(result, torch.Tensor):
            for side in self.sides if self.kind == "tensor" else [self.plain]:
                tie(r, side, result)
        return result
