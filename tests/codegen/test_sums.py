"""The error of long sums: that of n terms in blocks, not of n terms one after the other."""

from __future__ import annotations

import numpy as np
import pytest

import oarlock
import oarlock.ops
from oarlock.codegen.rows import BLOCK
from oarlock.ir import Builder, Dim, Graph, Program, TensorType, f32

UNIT = 2.0**-24
N = Dim("N")
CASES = {
    "inner": ((3, 70001), (1,), 0),
    "outer": ((33001, 16), (0,), 0),
    "around": ((32, 16, 31, 33), (0, 2, 3), 0),
    "short rows": ((5001, 5, 8), (0, 2), 0),
    "all": ((64, 32, 32), (0, 1, 2), 0),
    "known late": ((N, 40), (0,), 20011),
    "known late, inner": ((3, N), (1,), 50021),
    "known late, outer": ((N, 7, 4), (0, 2), 5003),
    "one": ((1, 300), (0,), 0),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("threads", [1, 2])
def test_long_sums(name, threads):
    """Equal terms err in one direction at each addition: the worst there is."""
    shape, axes, size = CASES[name]
    graph = Graph()
    x = graph.input(TensorType(f32, shape), "x")
    graph.outputs = [Builder(graph).reduce_sum(x, axes=axes)]
    program = Program(graph, {}, {"N": N} if size else {}, ())
    given = np.full([size if isinstance(n, Dim) else n for n in shape], 0.1, np.float32)
    got = oarlock.Predictor(program, threads=threads)(given)
    terms = int(np.prod([given.shape[i] for i in axes]))
    bound = (2 * BLOCK + terms / BLOCK + 16) * UNIT
    np.testing.assert_allclose(got, given.astype(np.float64).sum(axes), rtol=bound)
