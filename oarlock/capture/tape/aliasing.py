"""Which results of a tape may share memory with what it is given, or with each other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from oarlock.capture.tape.nodes import Block, Call, If, Val, While, blocks_of, leaves
from oarlock.capture.tape.queries import access_of, assumption, is_update, name_of
from oarlock.capture.torch_private import storage_of

if TYPE_CHECKING:
    from oarlock.capture.tape.capturing import Tape

MAYBE = frozenset((
    "contiguous", "to", "float", "double", "half", "bfloat16", "int", "long", "short", "char",
    "byte", "bool", "type", "type_as", "cpu", "reshape", "reshape_as", "flatten", "ravel",
    "resolve_conj", "resolve_neg", "conj", "as_tensor", "asarray", "broadcast_tensors",
))  # fmt: skip
"""Calls that give a view or a copy, as the strides and types of a call decide."""


class Memories:
    """Ids of the memory that each value may show."""

    def __init__(self, inputs: Iterable[tuple[Val, Any]], root: Block) -> None:
        self.found: dict[int, frozenset[int]] = {}
        self.given: set[int] = set()
        self.followed: set[int] = set()  # calls
        for val, _ in inputs:
            self.given |= self.of(val)
        self.block(root)

    def of(self, x: Any) -> frozenset[int]:
        if not isinstance(x, Val):
            return frozenset().union(*map(self.of, leaves(x))) if _is_tree(x) else frozenset()
        if x.id not in self.found:
            self.found[x.id] = frozenset(_own(x))
        return self.found[x.id]

    def block(self, block: Block) -> None:
        for node in block.nodes:
            if isinstance(node, Call):
                self.call(node)
            elif isinstance(node, If):
                self.block(node.then)
                self.block(node.orelse)
                for i, out in enumerate(node.outs):
                    sides = [b.results[i] for b in (node.then, node.orelse) if not b.raises]
                    self.add(out, frozenset().union(*map(self.of, sides)))
            elif isinstance(node, While):
                self.loop(node)

    def add(self, val: Val, more: frozenset[int]) -> bool:
        """Let ``val`` show ``more`` memory; whether that is new."""
        before = self.of(val)
        self.found[val.id] = before | more
        return self.found[val.id] != before

    def call(self, call: Call) -> None:
        given = [x for x in leaves((call.args, call.kwargs)) if isinstance(x, Val)]
        may = name_of(call.func) in MAYBE
        self.followed.add(id(call))
        for out in leaves(call.outs):
            if isinstance(out, Val):
                own = self.of(out)
                shared = [self.of(x) for x in given if may or own & frozenset(_own(x))]
                self.add(out, frozenset().union(*shared))

    def loop(self, node: While) -> None:
        for param, x in zip(node.params, node.init):
            self.add(param, self.of(x))
        grows = True
        while grows:
            self.block(node.cond)
            self.block(node.body)
            pairs = zip(node.params, () if node.body.raises else node.body.results)
            changes = [self.add(param, self.of(x)) for param, x in pairs]
            grows = any(changes)

    def may_change_given(self, call: Call) -> bool:
        """An update may reach memory of an input, or what no tensor holds, such as gradients."""
        mine = self.of(call.args[0]) if call.args else frozenset()
        is_known = id(call) in self.followed and bool(mine)
        is_plain = access_of(call.func) is None and name_of(call.func) != "backward"
        return not (is_known and is_plain) or bool(mine & self.given)


def changes_given(inputs: Iterable[tuple[Val, Any]], root: Block) -> bool:
    """Some call may change an argument or the state; those that fill tensors of their own do not."""
    updates = [x for x in root.walk() if isinstance(x, Call) and is_update(x.func)]
    memories = Memories(inputs, root) if updates else None
    return memories is not None and any(map(memories.may_change_given, updates))


def has_changed_before(tape: Tape) -> bool:
    """When a check of ``tape`` fails, a call may have changed what it is given."""
    if not tape.is_updating:
        return False
    memories, has_changed = Memories(tape.inputs, tape.root), False
    for node in tape.root.nodes:
        inner = [n for block in blocks_of(node) for n in block.walk()]
        updates = [n for n in (node, *inner) if isinstance(n, Call) and is_update(n.func)]
        may_change = any(map(memories.may_change_given, updates))
        is_late = has_changed or (bool(inner) and may_change)
        if is_late and any(map(assumption, (node, *inner))):
            return True
        has_changed = has_changed or may_change
    return False


def sharing(inputs: Iterable[tuple[Val, Any]], root: Block, results: Iterable[Val]) -> str:
    """Why results cannot be new tensors; empty where they can."""
    memories, seen = Memories(inputs, root), set()
    for val in results:
        mine = memories.of(val)
        if mine & memories.given:
            return "a result that is, or may be, memory of an argument or of the state"
        if mine & seen:
            return "results that share memory"
        seen |= mine
    return ""


def _own(val: Val) -> list[int]:
    sample = val.sample
    if not isinstance(sample, Tensor) or sample.layout is not torch.strided:
        return []
    with torch._C.DisableTorchFunction():
        return [storage_of(sample)]


def _is_tree(x: Any) -> bool:
    return isinstance(x, (tuple, list, dict, slice))
