"""Transposed convolutions through the passes and the engine, against the reference."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import oarlock.ops  # noqa: F401  fills the registry
from oarlock.evaluate import evaluate
from oarlock.ir import Builder, Dim, Program, TensorType, f32
from oarlock.passes.pipeline import run_pipeline
from oarlock.runtime.predictor import Predictor

EPS = 2.0**-24
CASES = [
    {"kernel": k, "stride": s, "padding": ((p, q),), "output_padding": (o,), "groups": g}
    for k, s, p, q, o, g in itertools.product((1, 2, 3, 4, 5), (1, 2, 3), (0, 2), (0, 1), (0, 1), (1, 2))
    if o < s and 4 * s + k + o - p - q > 2
]  # fmt: skip


def program(case, rank=1, symbolic=False):
    """One axis or two of the same attributes."""
    dims = {"N": Dim("N", 1, 8), "W": Dim("W", 4, 64)} if symbolic else {}
    sizes = (dims["N"], 4, *([dims["W"]] * rank)) if symbolic else (2, 4, *([5] * rank))
    b = Builder()
    w = TensorType(f32, (4, 6 // case["groups"], *([case["kernel"]] * rank)))
    values = [b.input(TensorType(f32, sizes), "x"), b.param("w", w)]
    values.append(b.param("b", TensorType(f32, (6,))))
    y = b.conv_transpose(
        *values, stride=(case["stride"],) * rank, padding=case["padding"] * rank,
        output_padding=case["output_padding"] * rank, dilation=(case.get("dilation", 1),) * rank,
        groups=case["groups"],
    )  # fmt: skip
    b.graph.outputs.append(y)
    rng = np.random.default_rng(0)
    params = {n: rng.standard_normal(s, np.float32) for n, s in (("w", w.shape), ("b", (6,)))}
    return Program(b.graph, params, dims), rng.standard_normal((2, 4, *([5] * rank)), np.float32)


def bound(p, x):
    """Twice the rounding errors of a sum of all taps, on the sum of the sizes of the terms."""
    sizes = p.replace(params={k: np.abs(v) for k, v in p.params.items()})
    terms = 2 * (p.params["w"].size + 1)
    return terms * EPS * evaluate(sizes, np.abs(x))


@pytest.mark.parametrize("symbolic", [False, True])
def test_phases_keep_the_meaning(symbolic):
    for case in CASES:
        p, x = program(case, symbolic=symbolic)
        after = run_pipeline(p, ["split_conv_transpose", "choose_layout"])
        names = [n.name for n in after.graph.nodes]
        is_split = case["kernel"] >= case["stride"]
        assert ("conv" in names) == is_split, case
        assert (np.abs(evaluate(after, x) - evaluate(p, x)) <= bound(p, x)).all(), case


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize(
    "case",
    [
        {"kernel": 4, "stride": 2, "padding": ((1, 1),), "output_padding": (0,), "groups": 1},
        {"kernel": 2, "stride": 2, "padding": ((0, 0),), "output_padding": (0,), "groups": 1},
        {"kernel": 3, "stride": 2, "padding": ((1, 1),), "output_padding": (1,), "groups": 2},
        {"kernel": 3, "stride": 2, "padding": ((1, 0),), "output_padding": (0,), "groups": 1,
         "dilation": 2},
    ],
    ids=str,
)  # fmt: skip
def test_engine(case, symbolic):
    p, x = program(case, 2, symbolic)
    assert (np.abs(Predictor(p, threads=1)(x) - evaluate(p, x)) <= bound(p, x)).all()
