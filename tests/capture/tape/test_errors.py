"""Errors of static functions: the user's lines, what was changed before, and no second capture."""

from __future__ import annotations

import traceback

import pytest
import torch
from torch import nn

from oarlock.capture.to_static import to_static


def product(x, w):
    y = x * 2
    return y @ w


def scaled(x, w):
    if x.sum() > 0:
        x = x + 1
    return product(x, w)


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.count = 0

    def check(self, x):
        if x.sum() < 0:
            raise ValueError(f"negative: {x.sum().item()}")
        return x

    def forward(self, x):
        self.count += 1
        x = self.check(x)
        k = int(x[0])
        while k > 0:
            assert k < 5, f"too large: {k}"
            k -= 1
        return x


def lines(error: BaseException) -> list[tuple[str, str | None]]:
    """The user's part of a traceback, behind the call of the static function."""
    found = [(f.name, f.line) for f in traceback.extract_tb(error.__traceback__)]
    return found[next(i for i, (name, _) in enumerate(found) if name == "__call__") + 1 :]


def test_a_torch_call_that_fails_shows_every_line_that_leads_to_it():
    static = to_static(scaled)
    static(torch.ones(2, 3), torch.ones(3, 4))
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"\(2x3 and 4x4\)") as caught:
            static(torch.ones(2, 3), torch.ones(4, 4))
        assert lines(caught.value) == [
            ("scaled", "return product(x, w)"),
            ("product", "return y @ w"),
        ]


def test_a_first_call_that_fails_raises_the_error_of_eager():
    for _ in range(2):
        with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
            to_static(scaled)(torch.ones(2, 3), torch.ones(4, 4))


def test_a_call_that_fails_is_captured_once():
    static = to_static(lambda x: x.view(2, 2))
    for _ in range(3):
        with pytest.raises(RuntimeError):
            static(torch.ones(3))
    assert static.captures == 1
    assert static(torch.ones(4)).shape == (2, 2)


def test_what_was_changed_before_an_error_stays_changed():
    eager, static = Counting(), to_static(Counting())
    for x in (torch.ones(1), -torch.ones(1), torch.full((1,), 7.0), torch.ones(1)):
        found = []
        for module in (eager, static):
            try:
                found.append(module(x))
            except (ValueError, AssertionError) as error:
                found.append((type(error), str(error)[:12]))
        assert found[0] == found[1]
        assert eager.count == static.count


def test_errors_inside_methods_and_loops_show_their_lines():
    static = to_static(Counting())
    static(torch.ones(1))
    with pytest.raises(ValueError, match="negative") as caught:
        static(-torch.ones(1))
    assert lines(caught.value) == [
        ("forward", "x = self.check(x)"),
        ("check", 'raise ValueError(f"negative: {x.sum().item()}")'),
    ]
    with pytest.raises(AssertionError, match="too large: 7") as caught:
        static(torch.full((1,), 7.0))
    assert lines(caught.value) == [("forward", 'assert k < 5, f"too large: {k}"')]
