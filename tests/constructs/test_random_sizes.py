"""Random programs over sizes are what eager is, at sizes that two calls round to one number too."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from tests.constructs.check import failures_once, warm
from tests.constructs.random_sizes import program

ALL, EACH = 240, 16


def sampled(seed: int) -> Any:
    return pytest.param(seed, marks=pytest.mark.slow if seed % EACH else ())


@pytest.fixture(scope="module", autouse=True)
def _warm():
    warm()


@pytest.mark.parametrize("seed", map(sampled, range(ALL)))
@pytest.mark.parametrize("grad", [False, True], ids=["plain", "grad"])
def test_static_is_eager(seed: int, grad: bool):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = failures_once(program(seed), grad)
    assert [f for f in found if not f.endswith("s to capture")] == []
