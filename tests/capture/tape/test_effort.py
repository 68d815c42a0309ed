"""Captures that trace the same code over and over are refused."""

import time

import pytest
import torch

from oarlock.capture.tape import effort
from oarlock.capture.tape.effort import Effort, Spent
from oarlock.capture.to_static import to_static
from oarlock.errors import UnsupportedError


def types_that_change(x):
    y = x.sum()
    while y < 100:
        z = 1
        while y < 50:
            y = y + z
            z = z * 1.5
        y = y * 2
    return y


def ways_apart(x):
    table = {}
    for i, v in enumerate(x):
        if v > 0:
            table[f"up {i}"] = v
    return table


@pytest.mark.parametrize("with_replacement", [False, True])
def test_numbers_that_tell_how_many_steps_a_call_takes(with_replacement):
    def fn(x, n):
        return torch.combinations(x, int(n.sum()), with_replacement)

    static, x = to_static(fn, backend="replay"), torch.arange(4.0)
    start = time.thread_time()
    for n in (2, 3, 1, 0):
        assert torch.equal(static(x, torch.tensor([n])), fn(x, torch.tensor([n])))
    assert time.thread_time() - start < 2 and static.captures == 1


@pytest.mark.parametrize("function", [types_that_change, ways_apart])
def test_capture_is_given_up(monkeypatch, function):
    monkeypatch.setattr(effort, "FLOOR", 0)
    monkeypatch.setattr(effort, "FACTOR", 0)
    with pytest.raises(UnsupportedError, match="the capture is given up after") as caught:
        to_static(function)(torch.arange(6.0) - 2)
    file, _, line = str(caught.value).partition(": ")[0].rpartition(":")
    first = function.__code__.co_firstlineno
    assert file.endswith("test_effort.py")
    assert first < int(line) < first + 9


def test_captures_go_on_within_the_bound():
    x = torch.arange(6.0) - 2
    assert to_static(types_that_change)(x) == types_that_change(x)
    assert to_static(ways_apart)(x) == ways_apart(x)


def test_place_that_repeats_most_is_named():
    found = Effort()
    found.step(10)
    with pytest.raises(Spent) as caught, found.again("f.py:3", "the types change"):
        found.step(5)
        with found.again("f.py:5", "inner types change"):
            found.step(effort.FLOOR + effort.FACTOR * found.size)
    assert str(caught.value).startswith("f.py:5: the capture is given up after 10 steps")
    assert str(caught.value).endswith(": inner types change")
