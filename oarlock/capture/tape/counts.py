"""How long lists are after a loop whose trips are known: consistent with the sizes of tensors."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from oarlock.capture.tape.nodes import Block, Call, Val, While
from oarlock.capture.tape.numbers import Number

if TYPE_CHECKING:
    from oarlock.capture.tape.lists import Lists

_READS = (len, operator.getitem)


class Counts:
    """The lengths that lists had before a loop, and what they have after it.

    ``trips``: the number of trips in both worlds, or None where data decide it.
    """

    def __init__(self, lists: Lists, trips: Any) -> None:
        is_known = isinstance(trips, Number) and not trips.is_data
        self.lists = lists
        self.trips = (trips.hint, trips.other) if is_known else None
        self.before = [(x, self.length(x)) for x in lists.all]

    @staticmethod
    def length(x: Any) -> tuple[int, int] | None:
        return x.lengths if x.val is not None else (list.__len__(x),) * 2

    def forget(self, node: While) -> bool:
        """Inside of the loop a list that it changes has no certain length; whether some had one."""
        found = False
        for x, _ in self.before:
            if x.val is not None and x.lengths is not None and growth(node, x.val) != 0:
                x.lengths, found = None, True
        return found

    def settle(self, node: While, block: Block) -> None:
        """The lengths after the loop, in ``block``."""
        for x, before in self.before:
            if x.val is None:
                continue
            step = growth(node, x.val)
            x.home, x.lengths = block, before if step == 0 else self.after(before, step)

    def after(self, before: tuple[int, int] | None, step: int | None) -> tuple[int, int] | None:
        if before is None or step is None or self.trips is None:
            return None
        a, b = (n + step * max(trips, 0) for n, trips in zip(before, self.trips))
        return a, b


def growth(node: While, val: Val) -> int | None:
    """By how much every trip makes a list longer; None where that is not certain."""
    if any(_changes(inner, val) for inner in node.cond.walk()):
        return None
    total = 0
    for one in node.body.nodes:
        if isinstance(one, Call) and _changes(one, val):
            step = _step(one)
            if step is None:
                return None
            total += step
    nested = [one for one in node.body.walk() if not any(one is top for top in node.body.nodes)]
    return None if any(_changes(one, val) for one in nested) else total


def _changes(node: Any, val: Val) -> bool:
    if not isinstance(node, Call) or not node.args or node.func in _READS:
        return False
    return node.args[0] is val and getattr(node.func, "__objclass__", list) is list


def _step(call: Call) -> int | None:
    from oarlock.capture.tape.lists import STEPS

    return STEPS.get(call.func)
