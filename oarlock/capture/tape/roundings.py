"""How far the results of a computation move when each of its operations rounds otherwise.

An operation that adds n terms may err by about sqrt(n) roundings, whatever their order.  Another
implementation of the same computation is as right as this one when it differs by no more.

Source: Parker, "Monte Carlo arithmetic" (1997); Higham and Mary, "A new approach to probabilistic
rounding error analysis" (2019), theorem 2.4.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

MOVES = 4  # times the errors to expect
_SIGNS = 1 << 16


class Otherwise(TorchDispatchMode):
    """Every floating result of an operation under it is off by some roundings, up or down at random."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.draws = torch.Generator().manual_seed(seed)
        signs = torch.randint(0, 2, (_SIGNS,), generator=self.draws)
        self.signs = signs.to(torch.float64) * 2 - 1
        self.at = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if torch.Tag.nondeterministic_seeded not in func.tags:
            given = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
            made = list(_made(func, args, kwargs, out))
            work = _operations(func, args, kwargs, out)
            for x in made:
                self.move(x, _terms(x, given, work))
        return out

    def move(self, x: torch.Tensor, terms: float = 1.0) -> None:
        """Multiply by 1 or so, in place."""
        if not x.is_floating_point() or x.is_sparse or x.numel() == 0 or 0 in x.stride():
            return
        own, sums = (torch.finfo(t).eps for t in (x.dtype, _accumulated(x.dtype)))
        size = own if own > sums else 0.0
        size += sums * math.sqrt(max(1.0, terms))
        factor = self._drawn(x.numel()).mul(MOVES * size).add_(1).to(_accumulated(x.dtype))
        x.copy_((x.to(factor.dtype) * factor.view(x.shape)).to(x.dtype))

    def _drawn(self, count: int) -> torch.Tensor:
        """Signs, another row of them each time."""
        self.at = (self.at + 8191) % _SIGNS
        rows = (self.at + count) // _SIGNS + 1
        return self.signs.repeat(rows)[self.at : self.at + count]


def _accumulated(dtype: torch.dtype) -> torch.dtype:
    """The type that sums of ``dtype`` are kept in."""
    return dtype if torch.finfo(dtype).bits >= 32 else torch.float32


def _made(func: Any, args: tuple, kwargs: dict[str, Any], out: Any) -> Iterator[torch.Tensor]:
    """The tensors that a call has written: new ones, and arguments changed in place."""
    schema = func._schema
    results = out if isinstance(out, (tuple, list)) and len(schema.returns) > 1 else (out,)
    for place, x in zip(schema.returns, results):
        if place.alias_info is None:
            yield from (t for t in pytree.tree_leaves(x) if isinstance(t, torch.Tensor))
    for i, place in enumerate(schema.arguments):
        if place.alias_info is not None and place.alias_info.is_write:
            x = args[i] if i < len(args) else kwargs.get(place.name)
            yield from (t for t in pytree.tree_leaves(x) if isinstance(t, torch.Tensor))


def _operations(func: Any, args: tuple, kwargs: dict[str, Any], out: Any) -> float:
    """Multiplications of a product, where that is known."""
    count = flop_registry.get(func.overloadpacket)
    return 0.0 if count is None else count(*args, **kwargs, out_val=out) / 2


def _terms(x: torch.Tensor, given: list[torch.Tensor], work: float) -> float:
    """At most how many terms an element of a result is the sum of."""
    largest = max((t.numel() for t in given), default=1)
    return max(largest, work) / max(1, x.numel())
