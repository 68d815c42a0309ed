"""Which results of a step eager code can differentiate further: those whose graphs no pass has freed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from oarlock.capture.tape.capturing import Tape
from oarlock.capture.tape.emit import uses
from oarlock.capture.tape.nodes import Call, Val, leaves
from oarlock.capture.tape.queries import name_of


def goes_on(tape: Tape) -> bool:
    """A result needs gradients, and its graph is still whole after the backward passes of the call."""
    given = {val.id for val, _ in tape.inputs}
    behind: dict[int, set[int]] = {}
    freed: set[int] = set()
    for node in tape.root.walk():
        if isinstance(node, Call) and name_of(node.func) in ("backward", "grad"):
            freed |= _freed(node, behind)
        sources = set[int]().union(*(behind.get(i, set()) for i in uses(node) if i not in given))
        for val in leaves(getattr(node, "outs", ())):
            if isinstance(val, Val) and _needs(val):
                behind[val.id] = {val.id} | sources
    results = [v for v in leaves(tape.root.results) if isinstance(v, Val) and v.id not in given]
    return any(not behind.get(v.id, {v.id}) & freed for v in results if _needs(v))


def _freed(node: Call, behind: dict[int, set[int]]) -> set[int]:
    """The values whose graph a backward pass uses up."""
    named = node.kwargs
    keep = named.get("retain_graph")
    if named.get("create_graph", False) if keep is None else keep:
        return set()
    roots = _roots(node.args[:1])
    return set[int]().union(*(behind.get(v.id, {v.id}) for v in roots))


def _roots(args: Any) -> Iterator[Val]:
    return (x for x in leaves(args) if isinstance(x, Val))


def _needs(val: Val) -> bool:
    return isinstance(val.sample, torch.Tensor) and val.sample.requires_grad
