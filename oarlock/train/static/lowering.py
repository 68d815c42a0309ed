"""A program of inference as an ``oarlock.Program``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import oarlock.ops  # noqa: F401
from oarlock.capture.tape.lower import lower
from oarlock.capture.tape.nodes import Block, Val
from oarlock.capture.tape.sources import Source
from oarlock.errors import UnsupportedError
from oarlock.ir import Dim
from oarlock.train.static.executor import resolved
from oarlock.train.static.feeding import fed
from oarlock.train.static.program import Placeholder, Program
from oarlock.train.static.prune import has_gradients, pruned, read

FIRST_EXAMPLE = 5  # sizes of an example differ, so that each keeps a symbol of its own


@dataclass
class _Tape:
    """What lowering reads of a tape."""

    inputs: list[tuple[Val, Source]]
    root: Block
    result: Any
    dims: dict[Any, Dim] = field(default_factory=dict)


def lowered(program: Program, feed: Mapping[str, Any] | None, fetch_list: Sequence[Any]) -> Any:
    """The program that computes ``fetch_list``; its inputs are the placeholders that this needs.

    Args: feed: an example; sizes written as None stay symbols, those that are equal in it are one.
    Raises: UnsupportedError for a training program, and listing all that has no form in the IR.
    """
    fetch = resolved(program, fetch_list)
    vals = [x for x in fetch if isinstance(x, Val)]
    if not fetch or len(vals) != len(fetch):
        raise UnsupportedError("lowered: fetch_list: expected values that the program computes")
    block = pruned(program.block, vals, program.recorder)
    if has_gradients(block):
        raise UnsupportedError("lowered: a program that trains; lower program.clone(for_test=True)")
    used = read(block)
    places = [p for p in program.placeholders.values() if p.val.id in used]
    example = fed(program, feed, {p.name for p in places}) if feed else _example(places)
    at = {p.val.id: Source(None, f"args[{i}]", p.name) for i, p in enumerate(places)}
    inputs = [(v, at.get(v.id, s)) for v, s, _ in program.recorder.inputs if v.id in used]
    results = vals[0] if len(vals) == 1 else tuple(vals)
    root = Block(None, block.nodes, [results])
    result = vals[0].sample if len(vals) == 1 else tuple(v.sample for v in vals)
    args = tuple(example[p.name] for p in places)
    return lower(_Tape(inputs, root, result), args, {}, [p.name for p in places])


def _example(places: Sequence[Placeholder]) -> dict[str, Tensor]:
    sizes: dict[str, int] = {}
    for place in places:
        for size in place.shape:
            if isinstance(size, str):
                sizes.setdefault(size, FIRST_EXAMPLE + len(sizes))
    return {
        p.name: torch.zeros([sizes.get(str(s), s) for s in p.shape], dtype=p.dtype)  # type: ignore[arg-type]
        for p in places
    }
