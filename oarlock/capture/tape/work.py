"""How much a call of a tape computes: too little, and an engine does not pay for its compilation."""

from __future__ import annotations

import math
from typing import Any

import torch

from oarlock.capture.tape.nodes import Block, Call, Val, While, blocks_of, leaves
from oarlock.capture.tape.queries import name_of

TRIPS = 8  # of a loop, where they are not known
_PRODUCTS = (
    "linear", "matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "mv", "addmm", "baddbmm",
    "einsum", "bilinear", "multi_head_attention_forward", "scaled_dot_product_attention",
)  # fmt: skip
_WITH_WEIGHTS = ("conv", "lstm", "gru", "rnn")


def work(block: Block) -> int:
    """Multiplications and elements that a call computes, in the sizes of the capture."""
    total = 0
    for node in block.nodes:
        if isinstance(node, Call):
            total += _of_call(node)
        inner = sum(work(b) for b in blocks_of(node))
        total += inner * (TRIPS if isinstance(node, While) else 1)
    return total


def is_training(block: Block) -> bool:
    """Calls differentiate."""
    return any(
        isinstance(n, Call) and name_of(n.func) in ("backward", "grad") for n in block.walk()
    )


def _of_call(call: Call) -> int:
    given, made = _tensors((call.args, call.kwargs)), _tensors(call.outs)
    name, elements = name_of(call.func), sum(x.numel() for x in made)
    if name in _PRODUCTS and given and given[0].dim():
        return elements * given[0].shape[-1]
    if name.startswith(_WITH_WEIGHTS) and made:
        weights = sum(x.numel() for x in given[1:] if x.dim() > 1)
        return elements + weights * math.prod(
            made[0].shape[2:] if "conv" in name else made[0].shape[:-1]
        )
    return elements


def _tensors(tree: Any) -> list[torch.Tensor]:
    samples = (x.sample for x in leaves(tree) if isinstance(x, Val))
    return [x for x in samples if isinstance(x, torch.Tensor)]
