"""The cases themselves: eager runs them, and their calls take every path."""

from __future__ import annotations

import pytest

from tests.constructs.case import CASES
from tests.constructs.cases import load
from tests.constructs.check import missed_lines
from tests.constructs.known import KNOWN

load()


@pytest.mark.parametrize("name", sorted(CASES))
def test_calls_take_every_line(name: str):
    missed = missed_lines(CASES[name])
    if CASES[name].every_line:
        assert not missed


def test_cases_are_many():
    assert len(CASES) >= 260
    assert set(KNOWN) <= set(CASES)
