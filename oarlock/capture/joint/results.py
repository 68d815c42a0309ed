"""Results of a call as leaves, objects that hold tensors included."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.utils._pytree as pytree

from oarlock.capture.slots import attributes_of
from oarlock.capture.tape.arguments import holds_tensor, is_record
from oarlock.capture.tape.rebuilding import rebuilt
from oarlock.capture.torch_private import is_fake
from oarlock.errors import UnsupportedError


@dataclass(frozen=True)
class Structure:
    """``tree`` with leaves, some of which are objects: by place, each with that of its attributes."""

    tree: pytree.TreeSpec
    objects: dict[int, tuple[Any, Structure]]

    def build(self, leaves: Sequence[Any]) -> Any:
        """The result, of new objects."""
        return self._build(iter(leaves))

    def _build(self, leaves: Iterator[Any]) -> Any:
        found = []
        for i in range(self.tree.num_leaves):
            if i in self.objects:
                like, inner = self.objects[i]
                found.append(rebuilt(like, inner._build(leaves)))
            else:
                found.append(next(leaves))
        return pytree.tree_unflatten(found, self.tree)


def flatten(result: Any) -> tuple[list[Any], Structure]:
    """Raises: UnsupportedError for objects that a call may not have made, or that are there twice."""
    leaves: list[Any] = []
    return leaves, _flatten(result, leaves, set(), is_fake)


def leaves_of(result: Any) -> list[Any]:
    """Of what a call gives that has been recorded."""
    leaves: list[Any] = []
    _flatten(result, leaves, set(), lambda x: True)
    return leaves


def _flatten(
    x: Any, leaves: list[Any], seen: set[int], is_new: Callable[[torch.Tensor], bool]
) -> Structure:
    found, tree = pytree.tree_flatten(x)
    objects = {}
    for i, leaf in enumerate(found):
        if not is_record(leaf) or isinstance(leaf, dict) or not holds_tensor(leaf):
            leaves.append(leaf)
            continue
        if id(leaf) in seen:
            raise UnsupportedError(f"an object of class {type(leaf).__name__} is a result twice")
        seen.add(id(leaf))
        held = dict(attributes_of(leaf))
        start = len(leaves)
        inner = _flatten(held, leaves, seen, is_new)
        if not any(isinstance(y, torch.Tensor) and is_new(y) for y in leaves[start:]):
            raise UnsupportedError(f"the result holds an object of class {type(leaf).__name__}")
        objects[i] = (rebuilt(leaf, dict.fromkeys(held)), inner)
    return Structure(tree, objects)
