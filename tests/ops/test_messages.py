"""What each type rule refuses, and the whole message."""

from __future__ import annotations

import re
import sys
from typing import Any

import numpy as np
import pytest

from oarlock.errors import InputError, TypeMismatch, UnknownName, UnsupportedError
from oarlock.evaluate import evaluate
from oarlock.ir import Builder, Dim, DType, Program, TensorType, bool_, f32, i64
from oarlock.ir.op import get
from tests.samples import program_of

DIMS = {"N": Dim("N", 1, 64), "M": Dim("M")}


def type_of(text: str) -> TensorType:
    """``f32[2,N]``"""
    name, shape = re.fullmatch(r"(\w+)\[(.*)\]", text).groups()
    sizes = tuple(DIMS.get(s) or int(s) for s in shape.split(",") if s)
    return TensorType(DType.parse(name), sizes)


# op, attributes, inputs, what follows `op(inputs): `
REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("add", {}, "f32[2,3] f32[4,3]", "axis -2: 2 and 4 do not broadcast"),
    ("add", {}, "f32[N] f32[M]", "axis -1: N and M do not broadcast"),
    ("add", {}, "f32[N] f32[3]", "axis -1: N and 3 do not broadcast"),
    ("mul", {}, "f32[2] i64[2]", "expected one element type, got f32, i64"),
    ("add", {}, "f32[2]", "expected 2 inputs, got 1"),
    ("exp", {}, "i64[2]", "expected float elements, got i64"),
    ("neg", {}, "bool[2]", "expected number elements, got bool"),
    ("bit_and", {}, "f32[2] f32[2]", "expected integer or bool elements, got f32"),
    ("shift_left", {}, "bool[2] bool[2]", "expected integer elements, got bool"),
    ("logical_not", {}, "i64[2]", "expected bool elements, got i64"),
    ("where", {}, "f32[2] f32[2] f32[2]", "expected a bool condition, got f32"),
    ("where", {}, "bool[2] f32[2] i64[2]", "expected one element type, got f32, i64"),
    ("cast", {"dtype": "f32"}, "i64[2]", "expected an element type, got 'f32'"),
    ("relu", {}, "bool[2]", "expected number elements, got bool"),
    ("clamp", {"low": 0.0}, "bool[2]", "expected number elements, got bool"),
    ("silu", {}, "i64[2]", "expected float elements, got i64"),
    (
        "gelu",
        {"approximate": "fast"},
        "f32[2]",
        "approximate='fast'; expected 'none' or 'tanh'",
    ),
    ("glu", {"axis": 1}, "f32[2,3]", "axis 1 of size 3 is not known to be even"),
    ("glu", {"axis": 0}, "f32[N,4]", "axis 0 of size N is not known to be even"),
    ("prelu", {}, "f32[2,3] f32[2]", "expected floats and a slope of shape [3] or [1]"),
    ("mean", {"axes": (0,)}, "i64[2]", "expected float elements, got i64"),
    ("reduce_sum", {"axes": (2,)}, "f32[2,3]", "axis 2 of rank 2"),
    ("reduce_sum", {"axes": (1, -1)}, "f32[2,3]", "axes (1, -1) repeat"),
    ("argmax", {"axis": 0}, "f32[0,3]", "axis 0 is empty"),
    ("reshape", {"shape": (4, 2)}, "f32[2,3]", "6 elements do not fill [4, 2]"),
    ("reshape", {"shape": (DIMS["N"], 2)}, "f32[N,3]", "3*N elements do not fill [N, 2]"),
    ("reshape", {"shape": (-2, -3)}, "f32[2,3]", "negative size in [-2, -3]"),
    ("transpose", {"perm": (0, 0)}, "f32[2,3]", "expected a permutation of 2 axes, got (0, 0)"),
    ("broadcast_to", {"shape": (2, 4)}, "f32[2,3]", "does not broadcast to [2, 4]"),
    ("broadcast_to", {"shape": (3,)}, "f32[2,3]", "does not broadcast to [3]"),
    (
        "slice",
        {"starts": (0,), "stops": (4,), "steps": (1,)},
        "f32[3]",
        "0:4 of an axis of size 3",
    ),
    (
        "slice",
        {"starts": (2,), "stops": (1,), "steps": (1,)},
        "f32[3]",
        "2:1 of an axis of size 3",
    ),
    (
        "slice",
        {"starts": (0,), "stops": (3,), "steps": (0,)},
        "f32[3]",
        "step 0; expected at least 1",
    ),
    (
        "slice",
        {"starts": (-1,), "stops": (3,), "steps": (1,)},
        "f32[3]",
        "start -1; expected at least 0",
    ),
    ("slice", {}, "f32[3]", "expected 1 starts, stops and steps"),
    ("flip", {"axes": (3,)}, "f32[2,3]", "axis 3 of rank 2"),
    ("pad", {"low": (1,), "high": (1,)}, "f32[2,3]", "expected 2 low and high amounts"),
    ("pad", {"low": (-1,), "high": (1,)}, "f32[3]", "negative padding (-1,), (1,); use slice"),
    ("concat", {"axis": 0}, "f32[2,3] f32[2,4]", "input 1: expected f32[2,3], got f32[2,4]"),
    ("concat", {"axis": 1}, "f32[2,3] f32[2]", "input 1: expected rank 2, got rank 1"),
    ("concat", {"axis": 0}, "f32[2] i64[2]", "expected one element type, got f32, i64"),
    ("take", {}, "f32[2] f32[1]", "expected integer indices, got f32"),
    ("gather", {}, "f32[2,3] i64[2]", "expected an index of rank 2, got rank 1"),
    ("gather", {"axis": 0}, "f32[2,3] i64[2,4]", "axis 1: index of size 4 exceeds 3"),
    ("put", {}, "f32[2,3] i64[1,1] f32[1,3]", "expected indices of rank 1, got rank 2"),
    ("put", {}, "f32[2,3] i64[4] f32[1,3]", "expected updates f32[4,3], got f32[1,3]"),
    (
        "put",
        {"reduce": "mean"},
        "f32[2] i64[1] f32[1]",
        "reduce='mean'; expected one of none, add, mul, max, min",
    ),
    ("scatter", {}, "f32[2,3] i64[1,2] f32[1,1]", "axis 1: index of size 2 exceeds 1"),
    ("one_hot", {"classes": 3}, "f32[2]", "expected integer indices, got f32"),
    ("triu", {}, "f32[2]", "expected rank 2 or more, got rank 1"),
    ("cumsum", {}, "bool[2]", "expected number elements, got bool"),
    ("sort", {"axis": 1}, "f32[2]", "axis 1 of rank 1"),
    ("topk", {"k": 3}, "f32[2]", "k=3 of axis 0 of size 2"),
    ("topk", {"k": 65}, "f32[N]", "k=65 of axis 0 of size N"),
    ("rand", {"dtype": i64}, "", "expected float elements, got i64"),
    ("randn", {}, "f32[]", "expected a counter i64[] or a generator i64[2], got f32[]"),
]


@pytest.mark.parametrize(("name", "attributes", "inputs", "why"), REFUSED)
def test_type_rule_refuses(name, attributes, inputs, why):
    types = [type_of(text) for text in inputs.split()]
    with pytest.raises(TypeMismatch) as error:
        get(name)(**attributes).infer_types(types)
    assert str(error.value) == f"{name}({', '.join(inputs.split())}): {why}"


@pytest.mark.parametrize(
    ("name", "attributes", "arrays", "message"),
    [
        ("take", {}, ([1.0, 2.0], [2]), "take: index 2 is out of range for size 2"),
        ("take", {}, ([1.0, 2.0], [0, -3]), "take: index -3 is out of range for size 2"),
        ("gather", {}, ([1.0, 2.0], [5]), "gather: index 5 is out of range for size 2"),
        ("put", {}, ([1.0], [1], [2.0]), "put: index 1 is out of range for size 1"),
        ("scatter", {}, ([1.0], [-2], [2.0]), "scatter: index -2 is out of range for size 1"),
    ],
)
def test_index_out_of_range(name, attributes, arrays, message):
    data = [np.array(x, np.float32 if isinstance(x[0], float) else np.int64) for x in arrays]
    types = [TensorType(DType.of(x.dtype), x.shape) for x in data]
    with pytest.raises(InputError) as error:
        evaluate(program_of(get(name)(**attributes), types), *data)
    assert str(error.value) == message


def test_loop_that_changes_a_type_is_refused():
    b, cond, body = Builder(), Builder(), Builder()
    cond.input(TensorType(i64), "i")
    cond.graph.outputs = [cond.const(True, bool_)]
    body.graph.outputs = [body.cast(body.input(TensorType(i64), "i"), dtype=f32)]
    with pytest.raises(TypeMismatch) as error:
        b.while_(b.const(0, i64), graphs=(cond.graph, body.graph))
    assert str(error.value) == (
        "while_(i64[]): graph body: expected outputs (i64[],), got (f32[],)"
    )


def test_missing_graph_is_refused():
    b = Builder()
    with pytest.raises(TypeMismatch) as error:
        b.if_(b.const(True, bool_))
    assert str(error.value) == "if_(bool[]): expected graphs then and else, got 0 graphs"


def test_aten_call_without_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    b = Builder()
    b.graph.outputs = [b.aten_call(target="aten.foo.default", types=(TensorType(f32),))]
    with pytest.raises(UnsupportedError) as error:
        evaluate(Program(b.graph))
    assert str(error.value) == "aten.foo.default runs through PyTorch; pip install torch"


def test_unknown_op_names_near_ones():
    with pytest.raises(UnknownName, match="no op 'softmx'; did you mean softmax"):
        get("softmx")
