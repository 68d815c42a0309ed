"""Arguments of a call to the tensors of the graph."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest

from oarlock.errors import InputError
from oarlock.ir import Signature
from oarlock.runtime.binding import bind

A, B, C = (np.full(1, i) for i in range(3))
NAMES = ("ids", "more.x", "more.y")
SIGNATURE = Signature(
    args=({"leaf": 0}, {"const": None}, {"dict": [["x", {"leaf": 1}], ["y", {"leaf": 2}]]}),
    kwargs=(("flag", {"const": True}), ("count", {"size": "2*N"})),
    names=NAMES,
)
PLAIN = Signature()


@dataclass
class Batch:
    x: np.ndarray
    y: np.ndarray


Pair = namedtuple("Pair", "x y")


def test_structure():
    leaves, sizes = bind(SIGNATURE, NAMES, (A, None, {"x": B, "y": C}), {"flag": True, "count": 6})
    assert leaves == [A, B, C]
    assert sizes == [("count", "2*N", 6)]


@pytest.mark.parametrize(
    "inputs, named",
    [
        ((A, B, C), {}),
        ((), {"ids": A, "more.x": B, "more.y": C}),
        ((A,), {"more.x": B, "more.y": C}),
        ((A, None), {"more.y": C, "more.x": B}),
        ((A, None), {"more": {"x": B, "y": C}}),
    ],
)
def test_flat(inputs, named):
    assert bind(SIGNATURE, NAMES, inputs, named)[0] == [A, B, C]
    if None not in inputs and "more" not in named:
        assert bind(PLAIN, NAMES, inputs, named)[0] == [A, B, C]


@pytest.mark.parametrize("value", [Batch(A, B), Pair(A, B), {"x": A, "y": B}])
def test_records(value):
    tree = {"record": "Batch", "fields": [["x", {"leaf": 0}], ["y", {"leaf": 1}]]}
    assert bind(Signature((tree,)), ("x", "y"), (value,), {})[0] == [A, B]


def test_sequences():
    signature = Signature(({"list": [{"leaf": 0}, {"tuple": [{"leaf": 1}]}]},))
    assert bind(signature, ("a", "b"), ([A, (B,)],), {})[0] == [A, B]


WRONG = [
    ((A, None, {"x": B}), {}, "argument 2: expected a dict with the keys x, y, got a dict with the keys x"),
    ((A, 3, {"x": B, "y": C}), {}, "argument 1: captured with None, got 3; capture again with it"),
    ((A, None, {"x": B, "y": C}, A), {}, "expected 3 positional arguments, got 4; tensors: ids, more.x, more.y"),
    ((A, None), {}, "input 'more.x', 'more.y' are missing; expected ids, more.x, more.y"),
    ((A, None, {"x": B, "y": C}), {"ids": B}, "input 'ids' is given twice, with different values"),
    ((A,), {"idx": A}, "no input 'idx'; expected ids, more.x, more.y, flag, count"),
    ((A, None, [B, C]), {}, "argument 2: expected a dict with the keys x, y, got a list of 2"),
    ((A,), {"flag": False}, "flag: captured with True, got False; capture again with it"),
    ((A,), {"flag": 1}, "flag: captured with True, got 1; capture again with it"),
]  # fmt: skip


@pytest.mark.parametrize("inputs, named, message", WRONG)
def test_wrong(inputs, named, message):
    with pytest.raises(InputError) as caught:
        bind(SIGNATURE, NAMES, inputs, named)
    assert str(caught.value) == message


def test_wrong_plain():
    with pytest.raises(InputError, match=r"expected 3 inputs \(ids, more.x, more.y\), got 4"):
        bind(PLAIN, NAMES, (A, A, A, A), {})
    with pytest.raises(InputError, match="input 'ids' is given twice"):
        bind(PLAIN, NAMES, (A,), {"ids": A})
