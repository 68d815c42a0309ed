"""Random calls with changes between them: no call differs from eager silently."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from oarlock.capture.to_static import to_static
from oarlock.errors import DivergenceError
from tests.constructs.random_calls import compared

ALL, EACH = 100, 20
LOUD = {
    58,
    66,
}  # a row of a tensor that changes while its rows are read is refused by torch's fakes


def sampled(seed: int) -> Any:
    return pytest.param(seed, marks=pytest.mark.slow if seed % EACH else ())


@pytest.mark.parametrize("seed", map(sampled, sorted({*range(ALL)} - LOUD)))
def test_no_call_differs(seed: int):
    static: Callable[..., Any] = partial(to_static, backend="replay")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, refusal = compared(seed, static)
    assert found == []
    assert not isinstance(refusal, DivergenceError)
