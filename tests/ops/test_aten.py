"""Ops that run through PyTorch, and those that a model file may not reach."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("torch")

from oarlock.errors import InputError, UnsupportedError
from oarlock.ir import Builder, Program, TensorType, f32
from oarlock.ops import aten
from oarlock.ops.control import AtenCall

X = np.array([[4.0, 1.0], [2.0, 3.0]], np.float32)


def call(target: str, arguments: list, out: np.ndarray, **kwargs) -> np.ndarray:
    template = json.dumps({"args": arguments, "kwargs": kwargs})
    aten.call_aten(target, template, [(X, "f32")], [(out, "f32")])
    return out


def test_runs():
    assert call("aten.trace.default", [{"tensor": 0}], np.empty((), np.float32)) == 7
    doubled = call("aten.add.Tensor", [{"tensor": 0}, {"tensor": 0}], np.empty_like(X), alpha=1)
    assert np.array_equal(doubled, 2 * X)
    stacked = call("aten.cat.default", [[{"tensor": 0}, {"tensor": 0}], 1], np.empty((2, 4), "f4"))
    assert np.array_equal(stacked, np.concatenate([X, X], 1))


REFUSED = {
    "aten.from_file.default": "it does more than compute",
    "aten.add_.Tensor": "it does more than compute",
    "aten.add.out": "it does more than compute",
    "aten.no_such_op.default": "has no such op",
    "prims.add.default": "has no such op",
    "aten.trace": "has no such op",
}


@pytest.mark.parametrize("target", REFUSED)
def test_refused(target):
    with pytest.raises(UnsupportedError, match=REFUSED[target]):
        call(target, [{"tensor": 0}], np.empty_like(X))


def test_failures_are_input_errors():
    with pytest.raises(
        InputError, match=r"aten.trace.default: expected a matrix|aten.trace.default"
    ):
        aten.call_aten("aten.trace.default", '{"args": [{"tensor": 0}], "kwargs": {}}',
                       [(X[0], "f32")], [(np.empty((), np.float32), "f32")])  # fmt: skip
    with pytest.raises(InputError, match=r"gave torch.float32\[\], expected f32\[3\]"):
        call("aten.trace.default", [{"tensor": 0}], np.empty(3, np.float32))


def test_reference_executor():
    import oarlock

    b = Builder()
    x = b.input(TensorType(f32, (2, 2)), "x")
    op = AtenCall(
        "aten.trace.default", '{"args": [{"tensor": 0}], "kwargs": {}}', (TensorType(f32),)
    )
    b.graph.outputs = [b.build(op, x)]
    assert oarlock.evaluate(Program(b.graph), X) == 7
