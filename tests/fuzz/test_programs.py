"""Random programs through every pass and the engine, equal to the reference."""

from __future__ import annotations

import pytest

from tests.fuzz.run_programs import fuzz


def check(seed: int, count: int, size: int) -> None:
    total = fuzz(seed, count, size=size)
    assert total.failures == []
    assert total.programs == count
    assert total.loose < 0.1 * total.elements


def test_some_programs():
    check(0, 160, 40)


@pytest.mark.slow
def test_ten_thousand_programs():
    check(100_000, 10_000, 50)
