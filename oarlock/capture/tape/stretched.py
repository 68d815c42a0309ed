"""Calls that one world can't make: the sizes of their arguments there do not fit each other.

That happens where ways are joined whose sizes only their tests tell, such as a slice that is made
where a tensor is longer than one.  Which axes of the results differ is then seen in the world that
can make the call, with one size as in the other: wherever it is, or in one argument alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from oarlock.capture.tape.join import stand_in
from oarlock.capture.tape.nodes import leaves, map_tree
from oarlock.capture.tape.numbers import Number
from oarlock.capture.torch_private import is_fake

if TYPE_CHECKING:
    from oarlock.capture.tape.worlds import Worlds

Place = tuple[int, int]  # of a size: id of a tensor and its axis, or id of a number and -1
MANY = 12  # sizes that are tried


def moved(
    worlds: Worlds,
    func: Callable[..., Any],
    args: tuple,
    kwargs: dict[str, Any],
    out: Any,
    world: int,
) -> Any:
    """``out``, the results in ``world``, with the sizes that they would have in the other one."""
    mine = list(leaves(out))
    probed = [list(leaves(x)) for x in _results(worlds, func, args, kwargs, world)]
    probed = [x for x in probed if len(x) == len(mine)]
    place = iter(range(len(mine)))

    def move(x: Any) -> Any:
        i = next(place)
        if not isinstance(x, torch.Tensor):
            return x
        sizes = {k: n for found in probed[::-1] for k, n in _differing(x, found[i])}
        shape = [sizes.get(k, n) for k, n in enumerate(x.shape)]
        return stand_in(shape, x.dtype, x.device, x.requires_grad, [x])

    return map_tree(out, move)


def _differing(x: torch.Tensor, y: Any) -> list[tuple[int, int]]:
    if not isinstance(y, torch.Tensor) or y.dim() != x.dim():
        return []
    return [(k, n) for k, (m, n) in enumerate(zip(x.shape, y.shape)) if m != n]


def _results(
    worlds: Worlds, func: Callable[..., Any], args: tuple, kwargs: dict[str, Any], world: int
) -> list[Any]:
    """Those in ``world`` with one size as in the other one, as far as the call can be made so."""
    sizes = dict(_sizes(worlds, (args, kwargs), world))
    pairs = list(dict.fromkeys(sizes.values()))
    wide = [{p: size for p in sizes if sizes[p][0] == n} for n, size in pairs]
    same = [{p: pair[1] for p in sizes if sizes[p] == pair} for pair in pairs]
    single = [{p: pair[1]} for p, pair in sizes.items()]
    found: list[Any] = []
    for changed in (*wide, *same, *single)[:MANY]:
        try:
            given, named = _changed(worlds, (args, kwargs), changed, world)
            found.append(func(*given, **named))
        except Exception:
            continue
    return found


def _sizes(worlds: Worlds, tree: Any, world: int) -> Iterator[tuple[Place, tuple[int, int]]]:
    """The sizes that a run decides, and numbers that may be such, here and in the other world."""
    for x in leaves(tree):
        if isinstance(x, torch.Tensor):
            both = [worlds.samples(x, w).shape for w in (world, 1 - world)]
            for i in sorted(worlds.tracer.val(x).dims if is_fake(x) else ()):
                yield (id(x), i), _apart(*(shape[i] for shape in both))
        elif isinstance(x, Number) and type(x.hint) is int:
            yield (id(x), -1), _apart(worlds.samples(x, world), worlds.samples(x, 1 - world))


def _apart(here: int, there: int) -> tuple[int, int]:
    return here, here + 1 if here == there else there


def _changed(worlds: Worlds, tree: Any, sizes: dict[Place, int], world: int) -> Any:
    def change(x: Any) -> Any:
        found = worlds.samples(x, world)
        if isinstance(x, Number):
            return sizes.get((id(x), -1), found)
        if not isinstance(x, torch.Tensor):
            return found
        shape = [sizes.get((id(x), i), n) for i, n in enumerate(found.shape)]
        if shape == list(found.shape):
            return found
        return stand_in(shape, found.dtype, found.device, found.requires_grad, [])

    return map_tree(tree, change)
