"""``max``, ``min`` and ``sorted`` of values known at run time."""

from __future__ import annotations

import builtins
import itertools
from collections.abc import Callable
from typing import Any

import torch

from oarlock.capture.convert.arithmetic import compare, is_told, is_told_by_class
from oarlock.capture.convert.iterating import each_item, list_
from oarlock.capture.convert.sequences import (
    is_run_time_sequence,
    length,
    own_items,
)
from oarlock.capture.convert.tracing import tracer
from oarlock.capture.convert.truth import (
    here,
    is_run_time,
    select,
    truth,
)

NETWORK = 4  # items that are sorted by exchanges


def extreme(name: str) -> Callable[..., Any]:
    plain: Callable[..., Any] = getattr(builtins, name)
    better = ">" if name == "max" else "<"

    def extreme(*args: Any, key: Any = None, **options: Any) -> Any:
        if tracer() is None:
            return plain(*args, **({"key": key} if key is not None else {}), **options)
        if len(args) == 1 and is_run_time_sequence(args[0]):
            return _extreme_of_run(name, better, args[0], key, options)
        items = list(own_items(args[0]) if len(args) == 1 else args)
        from oarlock.capture.convert.calls import call

        keys = items if key is None else [call(key)(x) for x in items]
        if not items or not any(map(is_told, keys)):
            if key is None:
                return plain(items, **options)
            return items[keys.index(plain(keys))] if items else plain(items, **options)
        if len(items) == 1:
            return items[0]
        if key is None and not any(map(_is_compared, keys)):
            return tracer().compute(plain, *items)
        return _fold(better, items, keys)

    return extreme


def _extreme_of_run(name: str, better: str, items: Any, key: Any, options: dict[str, Any]) -> Any:
    """The best item of a sequence of run-time length, by a loop over it."""
    from oarlock.capture.convert.calls import call
    from oarlock.capture.convert.sequences import at_index, loop

    def without_items() -> Any:
        if "default" in options:
            return options["default"]
        return getattr(builtins, name)([])

    def found() -> Any:
        rank = (lambda x: x) if key is None else call(key)
        best = [at_index(items, 0)]
        at_best = [rank(best[0])]

        def look(item: Any) -> None:
            rank_of_item = rank(item)
            wins = truth(compare(better, rank_of_item, at_best[0]))
            best[0] = select(wins, lambda: item, lambda: best[0], here())
            at_best[0] = select(wins, lambda: rank_of_item, lambda: at_best[0], here())

        state = here().with_cell("best", best).with_cell("rank", at_best)
        loop(items, look, None, state, 1)
        return best[0]

    return select(length(items) > 0, found, without_items, here())


def _is_compared(key: Any) -> bool:
    """Not a number or text of the run, or a plain value: these are known to ``max`` itself."""
    if isinstance(key, torch.Tensor) or is_told_by_class(key):
        return True
    return not is_run_time(key) and is_told(key)


def _fold(better: str, items: list[Any], keys: list[Any]) -> Any:
    best, at_best = items[0], keys[0]
    for item, key in zip(items[1:], keys[1:]):
        wins = compare(better, key, at_best)
        if not is_run_time(wins):
            best, at_best = (item, key) if wins else (best, at_best)
            continue
        old, old_key = best, at_best
        best = select(wins, lambda i=item: i, lambda o=old: o, here())
        at_best = (
            best if keys is items else select(wins, lambda k=key: k, lambda o=old_key: o, here())
        )
    return best


def sorted_(items: Any, *, key: Any = None, reverse: Any = False) -> Any:
    if tracer() is None:
        return sorted(items, key=key, reverse=reverse)
    from oarlock.capture.convert.calls import call

    if is_run_time_sequence(items):
        items = list_(items)
        return tracer().ordered(items, keys_by(items, key), bool(reverse))
    items = list(own_items(items))
    keys = items if key is None else [call(key)(x) for x in items]
    keys = _heads(keys)
    if any(map(is_told, keys)):
        if len(items) > NETWORK and not any(map(is_told_by_class, keys)):
            found = tracer().list_(items)
            return tracer().ordered(found, None if key is None else tracer().list_(keys), reverse)
        return _insertion_sort(items, keys, reverse)
    places = sorted(range(len(items)), key=keys.__getitem__, reverse=reverse)
    return tracer().list_([items[i] for i in places])


def keys_by(items: Any, key: Any) -> Any:
    """``key`` of each item of a list of run-time length; None without one."""
    from oarlock.capture.convert.calls import call

    if key is None:
        return None
    made, found = call(key), tracer().list_([])

    def add(item: Any) -> None:
        tracer().journal.touch(found)
        found.append(made(item))

    each_item(items, add, [found])
    return found


def _heads(keys: list[Any]) -> list[Any]:
    """The plain beginnings of keys that are tuples, such as names, where they tell all apart."""
    if not keys or not all(type(key) is tuple for key in keys):
        return keys
    heads = [[*itertools.takewhile(lambda x: not is_run_time(x), key)] for key in keys]
    depth = min(map(len, heads))
    tuples = [tuple(head[:depth]) for head in heads]
    are_names = all(isinstance(x, (str, int, float)) for head in tuples for x in head)
    return tuples if are_names and len(set(tuples)) == len(keys) else keys


def _insertion_sort(items: list[Any], keys: list[Any], reverse: bool) -> Any:
    """A stable sorting network of exchanges of neighbours: the places stay, values choose."""
    pairs = list(zip(keys, items))
    for end in range(len(pairs) - 1, 0, -1):
        for i in range(end):
            pairs[i : i + 2] = _ordered(*pairs[i], *pairs[i + 1], reverse)
    return tracer().list_([item for _, item in pairs])


def _ordered(ka: Any, a: Any, kb: Any, b: Any, reverse: bool) -> list[tuple[Any, Any]]:
    """Two neighbours and their keys in order."""
    first, second = (ka, kb) if reverse else (kb, ka)
    swap = compare("<", first, second)
    if not is_run_time(swap):
        return [(kb, b), (ka, a)] if swap else [(ka, a), (kb, b)]
    low = select(swap, lambda: kb, lambda: ka, here())
    high = select(swap, lambda: ka, lambda: kb, here())
    if a is ka and b is kb:
        return [(low, low), (high, high)]
    first = select(swap, lambda: b, lambda: a, here())
    return [(low, first), (high, select(swap, lambda: a, lambda: b, here()))]
