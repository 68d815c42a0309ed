"""Random training steps, compiled where they can be, beside eager ones."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import oarlock  # noqa: E402
from oarlock.errors import DivergenceError  # noqa: E402
from tests.train.random_step_calls import differences  # noqa: E402

ALL, EACH = 25, 20


def sampled(seed: int) -> Any:
    return pytest.param(seed, marks=pytest.mark.slow if seed % EACH else ())


@pytest.mark.parametrize("seed", map(sampled, range(ALL)))
def test_steps_are_eagers(seed: int):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, run, refusal = differences(seed, oarlock.to_static)
    assert found == []
    assert not isinstance(refusal, DivergenceError)
    reasons = [str(tape.reason) for tape in run.step.tapes]  # type: ignore[attr-defined]
    assert not [r for r in reasons if "does not do what eager does" in r]
