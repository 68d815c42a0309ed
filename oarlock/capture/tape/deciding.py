"""Control flow that sizes and plain numbers decide: in one call it is straight-line code."""

from __future__ import annotations

from typing import Any

import torch

from oarlock.capture.tape.emit import uses
from oarlock.capture.tape.nodes import (
    Assert,
    Block,
    Call,
    Check,
    Fork,
    If,
    Raise,
    Val,
    While,
    blocks_of,
    leaves,
)
from oarlock.capture.tape.queries import READS, name_of


def is_settled(root: Block) -> bool:
    """No decision depends on what tensors hold."""
    return Settling(set()).block(root)


def is_foreseen(root: Block) -> bool:
    """No loop depends on what tensors hold: a call takes one of a few ways."""
    return Settling(set(), True).block(root)


class Settling:
    """Args: data: ids of numbers and lists that follow from what tensors hold; is_lenient: decisions
    on them are right, but in loops."""

    def __init__(self, data: set[int], is_lenient: bool = False) -> None:
        self.data, self.is_lenient = set(data), is_lenient

    def block(self, block: Block) -> bool:
        return all(self.node(node) for node in block.nodes)

    def node(self, node: Any) -> bool:
        if isinstance(node, Call):
            return self.call(node)
        if isinstance(node, (If, Fork)):
            is_known = self.is_known(node.test)
            is_right = all(map(self.block, blocks_of(node)))
            for branch in blocks_of(node) if isinstance(node, If) else ():
                self.pass_on(node.outs, branch.results)
            if not is_known and isinstance(node, If):
                self.data |= {val.id for val in node.outs}
            return is_right and (is_known or self.is_lenient)
        if isinstance(node, While):
            return self.loop(node)
        if isinstance(node, (Assert, Check)):
            tested = node.test if isinstance(node, Assert) else node.value
            return self.is_lenient or self.is_known(tested)
        return isinstance(node, Raise)

    def call(self, call: Call) -> bool:
        numbers = {v.id for v in _vals((call.args, call.kwargs, call.outs)) if not _is_tensor(v)}
        if name_of(call.func) in READS or not self.data.isdisjoint(uses(call)):
            self.data |= numbers
        inner = (node for block in blocks_of(call) for node in block.walk())
        return all(isinstance(node, Call) for node in inner)

    def loop(self, node: While) -> bool:
        self.pass_on(node.params, node.init)
        before = -1
        while before != len(self.data):
            before = len(self.data)
            if not self.block(node.cond) or not self.is_known(node.cond.results):
                return False
            if not self.block(node.body):
                return False
            if not node.body.raises:
                self.pass_on(node.params, node.body.results)
        return True

    def pass_on(self, vals: Any, given: Any) -> None:
        """``given`` of data makes data of what it is bound to."""
        for val, x in zip(vals, given):
            if not self.data.isdisjoint(v.id for v in _vals(x)):
                self.data |= {v.id for v in _vals(val)}

    def is_known(self, tree: Any) -> bool:
        return not any(_is_tensor(v) or v.id in self.data for v in _vals(tree))


def _vals(tree: Any) -> list[Val]:
    return [x for x in leaves(tree) if isinstance(x, Val)]


def _is_tensor(val: Val) -> bool:
    return isinstance(val.sample, torch.Tensor)
