"""Calls that torch can't make with the sizes it is told, where a run decides some of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils import _pytree as pytree

from oarlock.capture.fakes import run_fake
from oarlock.capture.torch_private import outside_modes
from oarlock.ir import Size


def fitted(r: Any, func: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict] | None:
    """The arguments, one of them with sizes of the run that fit the others: checked when it runs.

    None: there is no such tensor.
    """
    if func._schema.is_mutable or func.namespace != "aten":
        return None
    found, spec = pytree.tree_flatten((args, kwargs))
    tensors = [(i, x) for i, x in enumerate(found) if isinstance(x, torch.Tensor)]
    for i, x in tensors:
        for shape in _shapes(r, x, [y for j, y in tensors if j != i]):
            trial = [r.fake(y) for y in found]
            trial[i] = r.shapes.strided(_numbers(r, shape), r.fake(x).stride(), x.dtype)
            if _runs(r, func, *pytree.tree_unflatten(trial, spec)):
                with outside_modes():
                    found[i] = r.new(r.b.refine(r.value(x), shape=shape))
                return pytree.tree_unflatten(found, spec)
    return None


def _shapes(r: Any, x: torch.Tensor, others: list[torch.Tensor]) -> Iterator[tuple[Size, ...]]:
    """Those with a size of another tensor in place of one that a run decides."""
    own = r.type_of(r.fake(x)).shape
    sizes = dict.fromkeys(n for y in others for n in r.type_of(r.fake(y)).shape)
    for old in dict.fromkeys(filter(r.is_decided_by_run, own)):
        for new in sizes:
            if new not in (old, 1):
                yield tuple(new if n == old else n for n in own)


def _numbers(r: Any, shape: tuple[Size, ...]) -> list[Any]:
    return [r.shapes.symbolic(n) for n in shape]


def _runs(r: Any, func: Any, args: tuple, kwargs: dict[str, Any]) -> bool:
    mark = r.mark()
    try:
        with r.shapes.assumptions():
            run_fake(func, args, kwargs)
    except Exception:  # whatever torch says of such sizes
        return False
    finally:
        r.back_to(mark)
    return True
