"""Sizes that numbers decide, seen by calls with other values of the numbers.

Two numbers may have one distance in both worlds, as the ends of ``x[a:b]`` where each is one more in
the other; what a call gives then is the same in both, and yet not constant.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from oarlock.capture.tape.nodes import leaves
from oarlock.capture.tape.numbers import Number

DEPTH = 40  # operations behind a number that are looked through
SPREADS: tuple[Callable[[int], int], ...] = (lambda k: 2 * k, lambda k: 1 + 3 * k)
FAR = 1 << 20  # beyond each axis


def depend(found: Number, op: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """``found`` is ``op(*args)``."""
    inner = [x for x in args if isinstance(x, Number)]
    found.depth = 1 + max((x.depth for x in inner), default=0)
    if found.depth > DEPTH:
        found.is_free = any(is_moving(x) for x in inner)
    else:
        found.expression = (op, args)


def is_moving(x: Number) -> bool:
    return bool(roots_of(x, {}))


def roots_of(x: Number, found: dict[int, Number]) -> dict[int, Number]:
    """The numbers behind ``x`` that are bound to no size of a tensor."""
    if x.is_free:
        found[id(x)] = x
    elif x.expression is not None:
        for y in x.expression[1]:
            if isinstance(y, Number):
                roots_of(y, found)
    return found


def assignments(tree: Any) -> list[dict[int, Any]]:
    """Other values of the numbers in ``tree``; the last one of them is out of every range."""
    numbers = [x for x in leaves(tree) if isinstance(x, Number) and type(x.hint) is int]
    roots: dict[int, Number] = {}
    for x in numbers:
        roots_of(x, roots)
    if not roots:
        return []
    places = list(roots)
    near = [{key: spread(k) for k, key in enumerate(places)} for spread in SPREADS]
    return [_whole(numbers, roots, given) for given in (*near, dict.fromkeys(places, FAR))]


def _whole(
    numbers: list[Number], roots: dict[int, Number], given: dict[int, int]
) -> dict[int, Any]:
    known = {k: type(roots[k].hint)(v) for k, v in given.items()}
    try:
        for x in numbers:
            value(x, known)
    except ArithmeticError:
        return {}
    return known


def value(x: Any, known: dict[int, Any]) -> Any:
    """What ``x`` is where its roots are as in ``known``, which keeps what is worked out."""
    if not isinstance(x, Number):
        return x
    if id(x) not in known:
        if x.expression is None:
            return x.hint
        op, args = x.expression
        known[id(x)] = op(*[value(y, known) for y in args])
    return known[id(x)]
