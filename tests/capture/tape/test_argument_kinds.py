"""Arguments of many kinds, one after the other: each call gives what eager gives, and leaves them so."""

from __future__ import annotations

import collections
import copy
import dataclasses
import decimal
import enum
import fractions
import math
from typing import Any

import numpy as np
import pytest
import torch

from oarlock.capture.to_static import to_static

INF, NAN = math.inf, math.nan


class Whole(enum.IntEnum):
    ONE = 1
    TWO = 2


class Name(enum.Enum):
    ONE = 1
    TWO = 2


class Items(list):
    pass


class Text(str):
    pass


Pair = collections.namedtuple("Pair", "a b")


@dataclasses.dataclass
class Box:
    a: Any
    b: Any = 2


@dataclasses.dataclass(frozen=True)
class Frozen:
    a: Any
    b: Any = 2


def row(n: int = 3) -> torch.Tensor:
    return torch.arange(1.0, n + 1)


def numbers(x, n):
    sign = math.copysign(1, n) if isinstance(n, (int, float)) else 0
    return x * n, n, type(n).__name__, isinstance(n, bool), sign, str(n)


def floats(x, f):
    return f, f == f, f > 0, x + f, round(f) if math.isfinite(f) else 0, repr(f)


def chosen(x, f):
    return math.copysign(1.0, 0.0 if x.sum() > 100 * f else -0.0)


def ordered(x, d):
    y = x * 0
    for i, value in enumerate(d.values()):
        y = y + value * (i + 1)
    return y, list(d), type(d).__name__


def sequences(x, items):
    return sum(items), len(items), type(items).__name__, items[0] is items[-1]


def changed(x, items):
    items.append(x)
    items[0] = items[0] * 2
    return len(items)


def members(x, items):
    return sorted(items), len(items), type(items).__name__, 2 in items


def fields(x, box):
    return x * box.a, box.b, type(box).__name__


def anything(x, o):
    return str(o), type(o).__name__, o == 1, x * o if isinstance(o, (int, float)) else x


def sliced(x, s):
    return x[s]


def tensors(x, t):
    return x.sum() * t, t.dtype, t.shape, t.dim()


def texts(x, s):
    return s.upper(), x * len(s), type(s).__name__


twice = [row()] * 2
CASES = [
    (numbers, [0.0, -0.0, 0, False, True, 1, 1.0, 2, 2.0, Whole.ONE, np.float32(1.5), np.int64(2), -0.0]),
    (numbers, [2**70, 3, 2**62, 2**63, -(2**63), 5, 1e308, 5e-324, INF]),
    (floats, [0.0, -0.0, NAN, INF, -INF, NAN, 1.5, 2.5, -0.5, 3.0, 0.0, -0.0]),
    (floats, [1.5, NAN, 2.5, INF, -0.0, 0.0]),
    (chosen, [0.0, 1.0, 0.0, 2.0]),
    (ordered, [
        {"a": row(), "b": row() * 2}, {"b": row() * 2, "a": row()}, {"a": row()},
        collections.OrderedDict(a=row(), b=row() * 2), {"a": row(), "b": row() * 2, "c": row()},
        {1: row(), 2: row()}, {True: row(), 2: row()}, {1.0: row(), 2: row()},
        collections.defaultdict(int, a=row(), b=row()),
    ]),
    (sequences, [
        [1, 2], (1, 2), [2, 1], Items([1, 2]), [1, 2, 3], [row(), row()], twice, [row(), 1],
        [1, row()], collections.deque([1, 2]), torch.Size([1, 2]), [True, 2], [1.0, 2], range(1, 3),
        np.array([1, 2]), Pair(1, 2), [Whole.ONE, 2],
    ]),
    (changed, [[row()], [row(), row()], twice, [row(4)], [1.0], [1]]),
    (members, [{1, 2}, {2, 3}, frozenset({1, 2}), {1, 2, 3}, {1.0, 2}, {True, 2}]),
    (fields, [
        Box(2), Box(2.0), Box(row()), Box(3, 4), Frozen(3, 4), Pair(2, 3), Box(True), Box(2, "s"),
        Frozen(row(), 2), Box(row(4)[:3]),
    ]),
    (anything, [
        1, True, 1.0, "1", None, Whole.ONE, Name.ONE, Name.TWO, b"1", fractions.Fraction(1, 1),
        decimal.Decimal(1), 1j, complex(1, 0), np.int32(1), Text("1"), (1,), [1], {1: 1},
        torch.float32, torch.device("cpu"), slice(1, 2), int, len, Ellipsis,
    ]),
    (sliced, [
        slice(1, 2), slice(None), 0, -1, None, Ellipsis, [0, 1], [1, 0], torch.tensor([0, 1]),
        torch.tensor([True, False, True]), torch.tensor(1), (slice(1),), slice(2, 1), True, np.int64(1),
    ]),
    (tensors, [
        torch.tensor(2), torch.tensor(2.0), torch.tensor([2.0]), torch.tensor(2.0).double(),
        torch.tensor(True), torch.tensor(2, dtype=torch.int8), torch.tensor(1 + 1j),
        torch.nn.Parameter(torch.tensor(2.0)), torch.ones(3), torch.ones(1, 3),
    ]),
    (texts, ["a", "b", "ab", Text("a"), "", "é"]),
]  # fmt: skip


def look(v: Any) -> Any:
    """Plain data; numbers may come as tensors without axes."""
    if isinstance(v, torch.Tensor):
        return (str(v.dtype), repr(v.tolist())) if v.dim() else repr(complex(v.item()))
    if isinstance(v, (bool, int, float, complex)) and abs(v) <= 1e308:
        return repr(complex(v))
    if isinstance(v, (tuple, list)):
        return type(v).__name__, [look(item) for item in v]
    if isinstance(v, dict):
        return type(v).__name__, [(repr(k), look(item)) for k, item in v.items()]
    return look(vars(v)) if dataclasses.is_dataclass(v) else repr(v)


def outcome(fn: Any, argument: Any) -> Any:
    argument = copy.deepcopy(argument)
    try:
        result = look(fn(row(), argument))
    except Exception as error:
        result = type(error).__name__
    return result, look(argument)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    "fn, given", CASES, ids=[f"{i}-{fn.__name__}" for i, (fn, _) in enumerate(CASES)]
)
def test_one_after_the_other(fn, given, backwards):
    static = to_static(fn)
    for argument in reversed(given) if backwards else given:
        assert outcome(static, argument) == outcome(fn, argument), argument


def test_keys_of_other_types_are_other_keys():
    def first(d):
        return next(iter(d)), [x * 2 for x in d.values()]

    static = to_static(first, backend="replay")
    for key in (1, True, 1.0, 1, "a", 0, False):
        (got, values), (want, wanted) = static({key: torch.ones(1)}), first({key: torch.ones(1)})
        assert (type(got), got) == (type(want), want)
        assert torch.equal(values[0], wanted[0])
