"""Errors that sizes decide, and that the code catches: each size gets what eager gives."""

from __future__ import annotations

import math

import pytest
import torch

from oarlock.capture.to_static import to_static
from oarlock.errors import UnsupportedError

OPERATIONS = {
    "floor": lambda x: 7 // (x.shape[0] - 3),
    "floor of a division": lambda x: 7 // int(x.shape[0] / 3),
    "true division": lambda x: 7.5 / (x.shape[0] - 3),
    "remainder": lambda x: 9 % (x.shape[0] - 3),
    "divmod": lambda x: divmod(9, x.shape[0] - 3)[0],
    "fmod": lambda x: math.fmod(9.0, x.shape[0] - 3),
    "square root": lambda x: math.sqrt(x.shape[0] - 3),
    "integer root": lambda x: math.isqrt(x.shape[0] - 3),
    "logarithm": lambda x: math.log2(x.shape[0] - 3),
    "arc cosine": lambda x: math.acos(x.shape[0] - 3),
    "shift": lambda x: 2 << (x.shape[0] - 3),
    "power": lambda x: pow(0, x.shape[0] - 3),
    "factorial": lambda x: math.factorial(x.shape[0] - 3),
    "comb": lambda x: math.comb(5, x.shape[0] - 3),
    "item": lambda x: [1, 2, 3, 4][x.shape[0]],
    "row": lambda x: float(x[3]),
    "reshape": lambda x: x.reshape(2, -1).shape[1],
    "broadcast": lambda x: (x + torch.ones(3)).shape[0],
    "maximum": lambda x: max(list(range(3, x.shape[0]))),
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize(
    "sizes", [(5, 1, 1, 5, 1, 5), (1, 5, 5, 1, 5), (3, 5, 3, 5, 3), (5, 3, 5, 3)]
)
def test_errors_of_sizes(name, sizes):
    operation = OPERATIONS[name]

    def fn(x):
        try:
            return operation(x)
        except (ArithmeticError, ValueError, LookupError, RuntimeError):
            return -1

    static = to_static(fn)
    for n in sizes:
        x = torch.arange(n) * 1.0
        assert float(static(x)) == float(fn(x)), n


def test_errors_of_sizes_beside_data():
    def fn(x, n):
        try:
            return int(x[0]) // int(n > 1)
        except ZeroDivisionError:
            return -1

    static = to_static(fn)
    for size, n in ((3, 5), (3, 1), (4, 1), (5, 2), (3, 3), (4, 1)):
        x = torch.arange(4.0, 4.0 + size)
        assert int(static(x, n)) == fn(x, n), (size, n)


def test_refusals_are_not_caught():
    def fn(x):
        try:
            return int("7", int(x.sum()))
        except Exception:
            return -1

    with pytest.raises(UnsupportedError, match="a plain int from a number that depends on data"):
        to_static(fn)(torch.tensor([40.0]))
