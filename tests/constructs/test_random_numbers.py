"""Random programs of Python numbers: no call differs from eager silently."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from tests.constructs.check import eager, static, warm
from tests.constructs.observe import differences
from tests.constructs.random_numbers import program

ALL, EACH = 60, 10
REFUSED = "UnsupportedError"


def sampled(seed: int) -> Any:
    return pytest.param(seed, marks=pytest.mark.slow if seed % EACH else ())


@pytest.mark.parametrize("seed", map(sampled, range(ALL)))
@pytest.mark.parametrize("grad", [False, True], ids=["plain", "grad"])
def test_no_call_differs(seed: int, grad: bool):
    warm()
    case = program(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pairs = zip(eager(case, grad), static(case, grad)[0])
    for n, (want, got) in enumerate(pairs):
        if got.error is None or got.error[0] != REFUSED:
            assert differences(vars(want), vars(got), f"call {n}") == []
