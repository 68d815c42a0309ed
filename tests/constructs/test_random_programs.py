"""Random programs, of nested control flow and over sizes, are what eager is, without gradients and
with them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.constructs import random_programs, random_sizes
from tests.constructs.case import Case
from tests.constructs.check import failures_once, warm

KINDS = {"flow": (random_programs.program, 120, 12), "sizes": (random_sizes.program, 240, 16)}


def sampled() -> Iterator[Any]:
    """Seeds of each kind, most of them slow."""
    for kind, (program, count, each) in KINDS.items():
        for seed in range(count):
            marks = pytest.mark.slow if seed % each else ()
            yield pytest.param(program, seed, marks=marks, id=f"{kind}-{seed}")


@pytest.fixture(scope="module", autouse=True)
def _warm():
    warm()


@pytest.mark.parametrize(("program", "seed"), sampled())
@pytest.mark.parametrize("grad", [False, True], ids=["plain", "grad"])
def test_static_is_eager(program: Callable[[int], Case], seed: int, grad: bool):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = failures_once(program(seed), grad)
    assert [f for f in found if not f.endswith("s to capture")] == []
