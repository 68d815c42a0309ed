"""The variables of a ``while_``, and how a loop turns one into one of another kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from oarlock.capture.convert.state import Undefined
from oarlock.capture.lowering.held import (
    is_one,
    narrow_flag,
    number_of,
    one_of,
    python_of,
    type_of,
)
from oarlock.capture.lowering.kinds import (
    Either,
    Maybe,
    Truth,
    is_narrow,
    is_symbolic,
    kind_of,
    wide_of,
)
from oarlock.capture.lowering.lists import ListValue, items_of, of_rows, same_leaves
from oarlock.capture.lowering.picks import Pick, place_of
from oarlock.ir import bool_
from oarlock.ir.scope import symbols_in

if TYPE_CHECKING:
    from oarlock.capture.lowering.blocks import Blocks
    from oarlock.capture.lowering.loops import Loop


@dataclass
class Carried:
    """A carried variable: a tree whose leaves are the same plain value, tensors, numbers or Maybes."""

    init: Any
    kind: str
    parts: list[Carried]

    @staticmethod
    def of(blocks: Blocks, x: Any) -> Carried:
        if isinstance(x, (tuple, list)):
            return Carried(x, "tree", [Carried.of(blocks, item) for item in x])
        if isinstance(x, torch.Tensor):
            return Carried(x, "tensor", [])
        if isinstance(x, Pick):
            return Carried(x, "pick", [])
        if isinstance(x, Either):
            return Carried(x, "either", [Carried.same(x.number), Carried.of(blocks, x.wide)])
        if isinstance(x, Maybe):
            return Carried(x, "maybe", [Carried.of(blocks, x.value)])
        if is_symbolic(x) or isinstance(x, (bool, int, float)):
            return Carried(x, "number", [])
        return Carried(x, "plain", [])

    @staticmethod
    def same(x: Any) -> Carried:
        """A number that no trip is known to change."""
        return Carried(x, "number" if is_symbolic(x) else "plain", [])


class Changed(NotImplementedError):
    """A variable has one type before a loop and another one after a trip."""


class Promoted(Exception):
    """A variable that a loop makes one of another kind, which it is from the start then."""

    def __init__(self, carried: Carried) -> None:
        super().__init__("a variable becomes one of another kind")
        self.carried = carried

    def restart(self, blocks: Blocks, loop: Loop) -> Loop:
        self.change(blocks)
        return type(loop)(blocks, loop.carried, loop.axes, loop.guess)

    def change(self, blocks: Blocks) -> None:
        """A number that no trip was known to change is carried."""
        self.carried.kind = "number"


class Mixed(Promoted):
    """A number that a loop replaces by a tensor, or a tensor by a number."""

    def __init__(self, carried: Carried, item: Any) -> None:
        super().__init__(carried)
        self.item = item

    def change(self, blocks: Blocks) -> None:
        r, c, wide = blocks.r, self.carried, wide_of(self.carried.init, self.item)
        own = python_of(r, one_of(r, c.init, type_of(r, wide)), wide)
        number = number_of(c.init, wide, number_of(self.item, wide, 0))
        if is_symbolic(number) and not is_narrow(c.init, wide):
            number = kind_of(number)(0)
        c.init = Either(Truth(narrow_flag(r, c.init, wide)), number, own)
        c.kind, c.parts = "either", [Carried.same(number), Carried.of(blocks, own)]


class Filled(Promoted):
    """A variable without a value that a loop gives one: None or a value."""

    def __init__(self, carried: Carried, like: Any) -> None:
        super().__init__(carried)
        self.like = like.wide if isinstance(like, Either) else like

    def change(self, blocks: Blocks) -> None:
        """It becomes ``None`` or a value; sizes that only the loop knows are 0 first."""
        c, value = self.carried, self.nothing(blocks, self.like)
        c.init = Maybe(Truth(blocks.r.b.const(False, bool_)), value, isinstance(c.init, Undefined))
        c.kind, c.parts = "maybe", [Carried.of(blocks, value)]

    def nothing(self, blocks: Blocks, like: Any) -> Any:
        """What stands for a value such as ``like`` that is not there."""
        if isinstance(like, (tuple, list)):
            return type(like)(self.nothing(blocks, x) for x in like)
        if isinstance(like, torch.Tensor) or is_one(like):
            return python_of(blocks.r, blocks.zeros(type_of(blocks.r, like)), like)
        return like


class Opened(Promoted):
    """A variable with a value that a loop may set to None."""

    def change(self, blocks: Blocks) -> None:
        c = self.carried
        c.parts = [Carried.of(blocks, c.init)]
        c.init, c.kind = Maybe(Truth(blocks.r.b.const(True, bool_)), c.init), "maybe"


class Picked(Promoted):
    """An object that a loop replaces by others."""

    def __init__(self, carried: Carried, options: tuple[Any, ...]) -> None:
        super().__init__(carried)
        self.options = options

    def change(self, blocks: Blocks) -> None:
        c = self.carried
        c.init = Pick(place_of(blocks.r, c.init, self.options), self.options)
        c.kind = "pick"


class Listed(Promoted):
    """A list or tuple that a loop replaces by others: one of run-time length."""

    def __init__(self, carried: Carried, item: ListValue) -> None:
        super().__init__(carried)
        self.item = item

    def change(self, blocks: Blocks) -> None:
        r, c = blocks.r, self.carried
        own = items_of(r, c.init)
        if own.stacks is None:
            known = blocks.known()
            rows = [
                r.b.full(
                    0, (0, *(n if symbols_in(n) <= known else 0 for n in v.shape[1:])), v.dtype
                )
                for v in same_leaves([own, self.item]).known()
            ]
            own = of_rows(r, rows, self.item)
        own = own.laid_out({**own.axes, **self.item.axes})
        c.init, c.kind, c.parts = own, "list", []
