"""Every construct in every position against eager; a sample of them unless slow tests are asked for."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from tests.constructs.check import failures, missed_lines, warm
from tests.constructs.known import IN_POSITIONS, NEAR
from tests.constructs.positions import CONSTRUCTS, POSITIONS, names, program

NAMES = names()
EACH = 9  # one name of so many is in the sample
ONCE_WRONG = [
    "after_break.global_counter",
    "for_list.generator_function",
    "lambda_.nonlocal_",
    "lambda_.text",
    "submodule.attribute_set_in_if",
    "try_block.assert_",
    "while_loop.del_item",
    "while_loop.match_text",
    "while_loop.text",
]
SAMPLE = {*NAMES[::EACH], *ONCE_WRONG}


def sampled(name: str) -> Any:
    return pytest.param(name, marks=() if name in SAMPLE else pytest.mark.slow)


@pytest.fixture(scope="module", autouse=True)
def _warm():
    warm()


@pytest.mark.parametrize("name", map(sampled, NAMES))
def test_static_is_eager(name: str):
    """Without gradients from the first call on, with them from the last; the rest are slow tests."""
    assert_as_known(name, [(False, False), (True, True)])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_static_is_eager_the_other_way(name: str):
    assert_as_known(name, [(True, False), (False, True)])


def assert_as_known(name: str, modes: list[tuple[bool, bool]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [f for backwards, grad in modes for f in failures(program(name, backwards), grad)]
    if name not in IN_POSITIONS:
        assert found == []
    elif not IN_POSITIONS[name].startswith(NEAR):
        assert found, f"{name} passes: take it out of IN_POSITIONS"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_calls_take_every_line(name: str):
    assert not missed_lines(program(name))


def test_sample_has_every_construct_and_position():
    assert {n.partition(".")[0] for n in SAMPLE} == set(POSITIONS)
    assert len({n.partition(".")[2].rstrip("=") for n in SAMPLE}) == len(CONSTRUCTS)
    assert set(IN_POSITIONS) <= set(NAMES)
