"""Kernels of the ops that loop nests do not cover: one maker per op, found by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np

from oarlock.codegen.kernel import Kernel
from oarlock.codegen.target import Target
from oarlock.ir.graph import Node, Value

if TYPE_CHECKING:
    from oarlock.codegen.fuse import Group

ConstantOf = Callable[[Value], "np.ndarray | None"]


class Maker(Protocol):
    """Builds the kernels of one op; with ``reads_views`` from ``operands.through_views``."""

    takes_epilogue: bool

    def accepts(self, node: Node, target: Target) -> bool:
        """Whether ``build`` covers the node; otherwise it is decomposed, if it can be."""
        ...

    def build(self, group: Group, target: Target, constant: ConstantOf) -> Kernel:
        """The kernel of ``group.anchor`` and its epilogue.

        ``constant`` gives the storage of a value known at build time, else None.
        """
        ...


@lru_cache(maxsize=1)
def makers() -> Mapping[str, Maker]:
    """Every maker by the name of its op."""
    from oarlock.codegen.kernels.attention import AttentionMaker
    from oarlock.codegen.kernels.conv import Conv
    from oarlock.codegen.kernels.conv_grad import ConvGradWeightMaker
    from oarlock.codegen.kernels.gemm import Linear, MatMul
    from oarlock.codegen.kernels.gemm_groups import GroupedMatMul
    from oarlock.codegen.kernels.index import Put, Scatter
    from oarlock.codegen.kernels.pool import PoolMaker
    from oarlock.codegen.kernels.pool_grad import MaxPoolGradMaker
    from oarlock.codegen.kernels.random import Random
    from oarlock.codegen.kernels.rnn import ScanMaker
    from oarlock.codegen.kernels.rnn_grad import ScanGradMaker
    from oarlock.codegen.kernels.scan import Extreme, Scan
    from oarlock.codegen.kernels.sort import Sort

    return {
        "attention": AttentionMaker(),
        "avg_pool": PoolMaker(),
        "conv": Conv(),
        "conv_grad_weight": ConvGradWeightMaker(),
        "cummax": Extreme(),
        "cummin": Extreme(),
        "cumprod": Scan(),
        "cumsum": Scan(),
        **dict.fromkeys(("gru_scan", "lstm_scan", "rnn_scan"), ScanMaker()),
        **dict.fromkeys(("gru_scan_train", "lstm_scan_train"), ScanMaker()),
        **dict.fromkeys(("gru_scan_grad", "lstm_scan_grad", "rnn_scan_grad"), ScanGradMaker()),
        "grouped_matmul": GroupedMatMul(),
        "linear": Linear(),
        "matmul": MatMul(),
        "max_pool": PoolMaker(),
        "max_pool_grad": MaxPoolGradMaker(),
        "put": Put(),
        "rand": Random(),
        "randn": Random(),
        "scatter": Scatter(),
        "sort": Sort(),
        "topk": Sort(),
    }


def maker_for(node: Node, target: Target) -> Maker | None:
    """The maker that builds a node on a target."""
    maker = makers().get(node.name)
    return maker if maker is not None and maker.accepts(node, target) else None
