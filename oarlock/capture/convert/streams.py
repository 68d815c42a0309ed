"""Functions of ``itertools`` and ``functools`` as the code that they are: it is converted."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any


def takewhile(test: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    found = []
    for x in items:
        if not test(x):
            break
        found.append(x)
    return found


def dropwhile(test: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    found = []
    is_open = False
    for x in items:
        if is_open or not test(x):
            is_open = True
            found.append(x)
    return found


def filterfalse(test: Callable[[Any], Any] | None, items: Iterable[Any]) -> list[Any]:
    found = []
    for x in items:
        if not (x if test is None else test(x)):
            found.append(x)
    return found


def accumulate(
    items: Iterable[Any], func: Callable[[Any, Any], Any] | None = None, *, initial: Any = None
) -> list[Any]:
    step = operator.add if func is None else func
    found = [] if initial is None else [initial]
    total = initial
    for x in items:
        total = step(total, x) if found else x
        found.append(total)
    return found


def starmap(func: Callable[..., Any], items: Iterable[Any]) -> list[Any]:
    return [func(*args) for args in items]


def groupby(
    items: Iterable[Any], key: Callable[[Any], Any] | None = None
) -> list[tuple[Any, list[Any]]]:
    found: list[tuple[Any, list[Any]]] = []
    for x in items:
        mark = x if key is None else key(x)
        if found and found[-1][0] == mark:
            found[-1][1].append(x)
        else:
            found.append((mark, [x]))
    return found


def chain(*parts: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for part in parts:
        found.extend(part)
    return found


def pairwise(items: Iterable[Any]) -> list[tuple[Any, Any]]:
    kept = list(items)
    return list(zip(kept, kept[1:]))  # noqa: RUF007


class Ordered:
    """A value that is ordered as ``function`` tells."""

    def __init__(self, function: Callable[[Any, Any], Any], value: Any) -> None:
        self.function, self.obj = function, value

    def __lt__(self, other: Ordered) -> Any:
        return self.function(self.obj, other.obj) < 0

    def __gt__(self, other: Ordered) -> Any:
        return self.function(self.obj, other.obj) > 0

    def __le__(self, other: Ordered) -> Any:
        return self.function(self.obj, other.obj) <= 0

    def __ge__(self, other: Ordered) -> Any:
        return self.function(self.obj, other.obj) >= 0

    def __eq__(self, other: Any) -> Any:
        return self.function(self.obj, other.obj) == 0

    __hash__ = None  # type: ignore[assignment]


def cmp_to_key(mycmp: Callable[[Any, Any], Any]) -> Callable[[Any], Ordered]:
    return lambda value: Ordered(mycmp, value)


def filter_in_turn(test: Callable[[Any], Any] | None, items: Iterable[Any]) -> Iterator[Any]:
    for x in items:
        if x if test is None else test(x):
            yield x


def takewhile_in_turn(test: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    for x in items:
        if not test(x):
            return
        yield x


def dropwhile_in_turn(test: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    is_open = False
    for x in items:
        if is_open or not test(x):
            is_open = True
            yield x


def filterfalse_in_turn(
    test: Callable[[Any], Any] | None, items: Iterable[Any]
) -> Iterator[Any]:  # fmt: skip
    for x in items:
        if not (x if test is None else test(x)):
            yield x


def accumulate_in_turn(
    items: Iterable[Any], func: Callable[[Any, Any], Any] | None = None, *, initial: Any = None
) -> Iterator[Any]:
    step = operator.add if func is None else func
    is_first, total = initial is None, initial
    if not is_first:
        yield total
    for x in items:
        total = x if is_first else step(total, x)
        is_first = False
        yield total


def starmap_in_turn(func: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
    for args in items:
        yield func(*args)


def chain_in_turn(*parts: Iterable[Any]) -> Iterator[Any]:
    for part in parts:
        yield from part


IN_TURN: dict[Callable[..., Any], Callable[..., Iterator[Any]]] = {
    takewhile: takewhile_in_turn,
    dropwhile: dropwhile_in_turn,
    filterfalse: filterfalse_in_turn,
    accumulate: accumulate_in_turn,
    starmap: starmap_in_turn,
    chain: chain_in_turn,
}
