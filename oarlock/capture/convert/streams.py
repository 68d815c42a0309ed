"""Functions of ``itertools`` that call a function, as the loops that they are: these are converted."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
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
