"""Branches and loops over tensors: what is not taken leaves no trace, whatever it changed."""

from __future__ import annotations

import re

import pytest
import torch

from oarlock.capture.convert import convert
from tests.convert.both_ways import both_ways
from tests.convert.programs import PROGRAMS
from tests.convert.test_plain_python import outcome

KEEP_NUMBERS = ("recursion", "mutual_recursion", "generators", "unpacking")  # of the value's length
TENSORS = [p for p in PROGRAMS if p[0].__name__ not in KEEP_NUMBERS]


def tensors(args):
    def one(x):
        return [one(y) for y in x] if isinstance(x, list) else torch.tensor(x)

    return tuple(map(one, args))


@pytest.mark.parametrize("fn, inputs", TENSORS, ids=[p[0].__name__ for p in TENSORS])
def test_the_other_way_leaves_no_trace(fn, inputs):
    converted = convert(fn)
    for args in inputs:
        want = outcome(fn, tensors(args))
        with both_ways():
            got = outcome(converted, tensors(args))
        assert plain(got) == plain(want), args


def plain(found):
    """Numbers may come back as tensors without axes."""
    return [re.sub(r"tensor\(([^()]*)\)", r"\1", text) for text in found]
