"""Overloads that write to their arguments, and the functional ones that compute what they write."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

NEW_NAMES = {
    "normal_": "normal_functional", "bernoulli_": "bernoulli", "__ior__": "bitwise_or",
    "__iand__": "bitwise_and", "__ixor__": "bitwise_xor", "__ilshift__": "bitwise_left_shift",
    "__irshift__": "bitwise_right_shift",
}  # fmt: skip


@cache
def functional_of(func: Any) -> tuple[Any, tuple[str, ...]] | None:
    """The overload that returns what ``func`` writes, and the names of its ``out`` arguments.

    ``aten.add_.Tensor`` and ``aten.add.out`` give ``aten.add.Tensor``.
    """
    schema = func._schema
    outs = tuple(a.name for a in schema.arguments if a.is_out)
    kept = _kinds(schema)
    name = schema.name.split("::")[1]
    if not outs:
        name = NEW_NAMES.get(name, name.removesuffix("_"))
    packet = getattr(getattr(torch.ops, func.namespace), name, None)
    for overload in packet.overloads() if packet is not None else ():
        other = getattr(packet, overload)
        if not other._schema.is_mutable and _kinds(other._schema) == kept:
            return other, outs
    return None


def _kinds(schema: Any) -> list[tuple[str, str]]:
    """Names and types of the arguments but ``out``; the first is named freely."""
    kept = [(a.name, str(a.type)) for a in schema.arguments if not a.is_out]
    return [("", kept[0][1]), *kept[1:]] if kept else []


def written(func: Any, args: tuple, kwargs: dict[str, Any]) -> list[torch.Tensor]:
    """The tensors that the call writes to, in the order of the results."""
    found = []
    for i, argument in enumerate(func._schema.arguments):
        if argument.alias_info is None or not argument.alias_info.is_write:
            continue
        x = args[i] if i < len(args) else kwargs.get(argument.name)
        found += list(x) if isinstance(x, (list, tuple)) else [x] if x is not None else []
    return found


def moves_only(func: Any) -> bool:
    """The call changes the shape of its tensor, not the elements: ``squeeze_``."""
    return torch.Tag.inplace_view in func.tags
