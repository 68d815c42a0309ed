"""The part of a program that results and lasting effects need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from oarlock.capture.tape.nodes import (
    Assert,
    Block,
    Call,
    Print,
    Raise,
    SubTape,
    Val,
    blocks_of,
    leaves,
)
from oarlock.capture.tape.queries import name_of
from oarlock.capture.torch_private import storage_of
from oarlock.train.static.recorder import STATISTICS, Recorder
from oarlock.train.static.training import DIFFERENTIATES, update

READ = ("args", "kwargs", "test", "init", "value", "expected")


def uses(node: Any) -> Iterator[Val]:
    """Values that a node reads, inner blocks included."""
    for attribute in READ:
        for x in leaves(getattr(node, attribute, None)):
            if isinstance(x, Val):
                yield x
            elif isinstance(x, SubTape):
                yield from (v for v in leaves(x.result) if isinstance(v, Val))
    for block in blocks_of(node):
        yield from (v for v in leaves(block.results) if isinstance(v, Val))
        for inner in block.nodes:
            yield from uses(inner)


def made(node: Any) -> Iterator[Val]:
    for tree in (getattr(node, "outs", None), getattr(node, "params", None)):
        yield from (v for v in leaves(tree) if isinstance(v, Val))


def pruned(block: Block, results: Iterable[Val], recorder: Recorder) -> Block:
    """A block with the nodes that ``results`` and effects need: updates, writes to tensors from
    outside, assertions and prints."""
    wanted = list(results)
    needed = {v.id for v in wanted}
    memory = {_memory(v) for v in wanted}
    lasting = {_memory(val) for val, source, _ in recorder.inputs if source.base is not None}
    memory |= lasting
    kept = []
    for node in reversed(block.nodes):
        written = set().union(*(_written(x, recorder) for x in _nested(node)))
        if (
            any(v.id in needed for v in made(node))
            or any(map(_acts, _nested(node)))
            or written & memory
            or any(_changes_statistics(x) for x in _nested(node))
        ):
            kept.append(node)
            for v in uses(node):
                needed.add(v.id)
                memory.add(_memory(v))
    return Block(None, kept[::-1], wanted)


def read(block: Block) -> set[int]:
    """Ids of the values that a block and its results need."""
    found = {v.id for v in leaves(block.results) if isinstance(v, Val)}
    return found.union(*({v.id for v in uses(node)} for node in block.nodes))


def has_gradients(block: Block) -> bool:
    return any(isinstance(node, Call) and node.func in DIFFERENTIATES for node in block.walk())


def writes(block: Block, recorder: Recorder) -> set[int]:
    """Memory that a block changes."""
    return set().union(*(_written(node, recorder) for node in block.walk()))


def _nested(node: Any) -> Iterator[Any]:
    yield node
    for block in blocks_of(node):
        yield from block.walk()


def _written(node: Any, recorder: Recorder) -> set[int]:
    return recorder.writes.get(id(node), set()) if isinstance(node, Call) else set()


def _acts(node: Any) -> bool:
    is_update = isinstance(node, Call) and node.func is update
    return is_update or isinstance(node, (Assert, Print, Raise))


def _changes_statistics(node: Any) -> bool:
    if not isinstance(node, Call) or name_of(node.func) not in STATISTICS:
        return False
    args, kwargs = list(node.args), node.kwargs
    running = args[1] if len(args) > 1 else kwargs.get("running_mean")
    flags = (kwargs.get("training"), kwargs.get("use_input_stats"))
    is_training = args[5] if len(args) > 5 else any(flags)
    return running is not None and bool(is_training)


def _memory(val: Val) -> int:
    sample = val.sample
    if not isinstance(sample, Tensor) or sample.layout is not torch.strided:
        return -val.id
    with torch._C.DisableTorchFunction():
        return storage_of(sample)
