"""``index`` and ``count`` of lists whose items compare themselves in Python."""

from __future__ import annotations

from typing import Any

from oarlock.capture.convert.arithmetic import compare, is_told_by_class
from oarlock.capture.convert.state import Text, parts_of
from oarlock.capture.convert.texts import repr_
from oarlock.capture.convert.truth import here, is_run_time, own_truth, select


def is_searched(items: Any, x: Any) -> bool:
    """Whether Python would call a method of the user to find ``x``."""
    return is_told_by_class(x) or any(map(is_told_by_class, items))


def index(items: list[Any], x: Any, *bounds: Any) -> Any:
    """``items.index(x, *bounds)``"""
    places = range(*slice(*bounds, *(None,) * (2 - len(bounds))).indices(len(items)))

    def from_(k: int) -> Any:
        if k == len(places):
            raise ValueError(Text.of((*parts_of(repr_(x)), " is not in list")))
        place = places[k]
        return select(equal(items[place], x), lambda: place, lambda: from_(k + 1), here())

    return from_(0)


def count(items: list[Any], x: Any) -> Any:
    """``items.count(x)``"""
    return sum(select(equal(y, x), lambda: 1, lambda: 0, here()) for y in items)


def equal(a: Any, b: Any) -> Any:
    """Whether an item is one that is looked for."""
    if not is_run_time(a) and a is b:
        return True
    return own_truth(compare("==", a, b))
