"""Leaves that a backward pass reaches on some ways of the decisions before it only."""

from __future__ import annotations

from typing import Any

import torch

NOWHERE: frozenset[int] = frozenset()
Leaves = dict[int, torch.Tensor]


class Reached:
    """The graph of gradients, in which a tensor that is one of several leads to those of each way."""

    def __init__(self) -> None:
        self.joins: dict[Any, tuple[int, list[Any]]] = {}

    def joined(self, fake: torch.Tensor, number: int, parts: list[Any]) -> None:
        """``fake`` is one of ``parts``, as decision ``number`` tells."""
        if fake.grad_fn is not None:
            self.joins[fake.grad_fn] = number, [_start(x) for x in parts]

    def unsure(self, roots: Any) -> dict[int, tuple[torch.Tensor, int]]:
        """Leaves that a pass from ``roots`` may reach or not, with the first decision that tells."""
        if not self.joins:
            return {}
        starts = [x for x in map(_start, _tensors(roots)) if x is not None]
        found: dict[Any, tuple[frozenset[int], frozenset[int]]] = {}
        leaves: Leaves = {}
        numbers: dict[int, int] = {}
        stack = [(x, False) for x in starts]
        while stack:
            node, is_below_done = stack.pop()
            if node in found:
                continue
            if not is_below_done:
                stack.append((node, True))
                stack += [(x, False) for x in self.below(node) if x not in found]
            else:
                found[node] = self.of(node, found, leaves, numbers)
        some = NOWHERE.union(*(found[x][0] for x in starts))
        sure = NOWHERE.union(*(found[x][1] for x in starts))
        return {x: (leaves[x], numbers[x]) for x in some - sure}

    def below(self, node: Any) -> list[Any]:
        if node in self.joins:
            return [x for x in self.joins[node][1] if x is not None]
        if isinstance(node, torch.Tensor):
            return []
        return [x for x, _ in node.next_functions if x is not None]

    def of(
        self, node: Any, found: dict, leaves: Leaves, numbers: dict[int, int]
    ) -> tuple[frozenset[int], frozenset[int]]:
        """Leaves that are reached from ``node`` on some way, and on each way."""
        leaf = node if isinstance(node, torch.Tensor) else getattr(node, "variable", None)
        if leaf is not None:
            leaves[id(leaf)] = leaf
            return frozenset((id(leaf),)), frozenset((id(leaf),))
        below = self.below(node)
        some = NOWHERE.union(*(found[x][0] for x in below))
        if node not in self.joins:
            return some, NOWHERE.union(*(found[x][1] for x in below))
        number, parts = self.joins[node]
        each = [NOWHERE if x is None else found[x][1] for x in parts]
        sure = each[0].intersection(*each[1:])
        for x in some - sure:
            numbers[x] = min(number, numbers.get(x, number))
        return some, sure


def _start(x: Any) -> Any:
    """Where the gradient of ``x`` goes first; None: nowhere."""
    if not isinstance(x, torch.Tensor) or not x.requires_grad:
        return None
    return x if x.grad_fn is None else x.grad_fn


def _tensors(x: Any) -> list[torch.Tensor]:
    return list(x) if isinstance(x, (list, tuple)) else [x]
