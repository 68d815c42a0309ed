"""Products whose K goes by chunks, from the first values of their sums on."""

from __future__ import annotations

import numpy as np
import pytest

import oarlock.ops  # noqa: F401  records
from oarlock.codegen import target as targets
from oarlock.ir import Builder, Graph, TensorType, f32
from tests.codegen.harness import Compiled, decomposed, evaluate_graph

K = 1100


def deep(turned, columns, after):
    """A product of a few rows and a graph around it; ``turned``: A is read by columns."""
    b = Builder(Graph())
    x = b.input(TensorType(f32, (K, 30) if turned else (30, K)), "x")
    y = b.input(TensorType(f32, (K, columns)), "y")
    row = b.input(TensorType(f32, (columns,)), "row")
    found = b.matmul(b.transpose(x, perm=(1, 0)) if turned else x, y)
    b.graph.outputs = [after(b, found, row)]
    return b.graph


AFTER = {
    "alone": lambda b, x, row: x,
    "with a row": lambda b, x, row: b.add(x, row),
    "with a row and more": lambda b, x, row: b.relu(b.add(x, row)),
}


@pytest.mark.parametrize("target", ["avx512", "plain"])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("columns", [64, 70])
@pytest.mark.parametrize("after", AFTER)
def test_sums_begin_in_the_first_chunk(after, columns, turned, target):
    """No pass over the output comes before."""
    if target != "plain" and targets.native().vector_bytes < targets.get(target).vector_bytes:
        pytest.skip("another machine")
    graph = deep(turned, columns, AFTER[after])
    draws = np.random.default_rng(0)
    arrays = [draws.standard_normal(v.shape).astype(np.float32) for v in graph.inputs]
    (expected,) = evaluate_graph(graph, {}, {}, arrays)
    compiled = Compiled(decomposed(graph), targets.get(target))
    (found,) = compiled.run(arrays)
    bound = K * 2.0**-24 * float((np.abs(arrays[1]).sum(0)).max() * np.abs(arrays[0]).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound)
    assert "k0 == 0" in compiled.text
