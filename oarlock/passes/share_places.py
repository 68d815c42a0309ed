"""Gradients of filters as sums of parts, each over a range of places, for threads to share.

The parts do not depend on how many threads there are, so neither does the result.
"""

from __future__ import annotations

from typing import Any

from oarlock.ir import Node, Program, Value, bounds, product
from oarlock.passes.rewrite import Patch, Rules, rewrite
from oarlock.passes.stage import stage

RULES = Rules()
LEAST, MOST = 512, 8  # places of a part; parts


@stage("share_places")
def share_places(program: Program) -> Program:
    """Split the sums over places of the gradients of filters into parts."""
    return rewrite(program, RULES)


@RULES.rule("conv_grad_weight")
def in_parts(b: Patch, node: Node, dy: Value, x: Value) -> Any:
    """``conv_grad_weight`` -> the sum of its parts"""
    op = node.op
    low, high = bounds(product(dy.shape[:-1]))
    count = min(MOST, low // LEAST if low == high else MOST)
    if op.layout != "NHWC" or op.parts or op.shape[0] == op.groups or count < 2:
        return None
    parts = b.build(type(op)(**{**op.attributes, "parts": count}), dy, x)
    return b.reduce_sum(parts, axes=(0,))
