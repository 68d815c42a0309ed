"""Objects with ``__slots__``, alone or beside a ``__dict__``, are joined like others, and can be saved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import oarlock


class Pair:
    __slots__ = ("a", "n")

    def __init__(self, a, n):
        self.a, self.n = a, n

    def step(self):
        self.a, self.n = self.a * 2, self.n + 1


class Private(Pair):
    __slots__ = ("__hidden",)

    def __init__(self, a, n, hidden):
        super().__init__(a, n)
        self.__hidden = hidden

    def all(self):
        return self.a.sum() + self.n + self.__hidden


class Both(Pair):
    """Has a ``__dict__`` as well."""

    def __init__(self, a, n, z):
        super().__init__(a, n)
        self.z = z


@dataclass(slots=True)
class Data:
    a: Any
    n: int = 0
    items: list = field(default_factory=list)


@dataclass(slots=True, frozen=True)
class Frozen:
    a: torch.Tensor
    n: int = 0


def branch(x):
    s = Pair(x, 1) if x.sum() > 0 else Pair(-x, 2)
    s.step()
    return s.a, s.n


def branch_with_private_names(x):
    s = Private(x, 1, x.sum()) if x.sum() > 0 else Private(-x, 2, x.min())
    s.step()
    return s.all()


def branch_of_both(x):
    s = Both(x, 1, x + 1) if x.sum() > 0 else Both(-x, 2, x - 1)
    s.step()
    return s.a + s.z, s.n


def change_of_both(x):
    s = Both(x, 1, x + 1)
    if x.sum() > 0:
        s.a = x * 3
    else:
        s.z, s.n = x * 5, 7
    return s.a + s.z, s.n


def replaced_in_a_loop(x):
    s = Data(x, 0)
    while s.a.abs().sum() < 50:
        s = Data(s.a * 2, s.n + 1)
    return s.a, s.n


def frozen_in_a_loop(x):
    s = Frozen(x, 0)
    while s.a.abs().sum() < 50:
        s = Frozen(s.a * 2, s.n + 1)
    return s


def result(x):
    return Pair(x, 1) if x.sum() > 0 else Pair(-x, 2)


def alias(x):
    s, t = Pair(x, 1), Pair(x * 3, 5)
    u = s if x.sum() > 0 else t
    u.a = u.a + 1
    return s.a, t.a, u.n


def optional(x):
    s = Pair(x, 3) if x.sum() > 0 else None
    return x if s is None else s.a * s.n


def list_of_a_factory(x):
    s = Data(x)
    while s.a.abs().sum() < 50:
        s.items.append(s.a)
        s.a = s.a * 2
    return torch.stack(s.items), s.n


def nested(x):
    s = Data(Pair(x, 1), 2) if x.sum() > 0 else Data(Pair(-x, 4), 3)
    s.a.step()
    return s.a.a, s.a.n, s.n


PROGRAMS = (
    branch, branch_with_private_names, branch_of_both, change_of_both, replaced_in_a_loop,
    frozen_in_a_loop, result, alias, optional, list_of_a_factory, nested,
)  # fmt: skip
CALLS = (torch.ones(3), -torch.ones(3), torch.full((5,), 2.0))


def flat(x: Any) -> list[Any]:
    if isinstance(x, (Pair, Frozen)) or hasattr(x, "_fields"):
        return [*flat(x.a), *flat(x.n)]
    if isinstance(x, dict):
        return flat(list(x.values()))
    return [y for item in x for y in flat(item)] if isinstance(x, (tuple, list)) else [x]


@pytest.mark.parametrize("fn", PROGRAMS)
def test_joined_and_saved(fn: Callable[..., Any], tmp_path: Path):
    static = oarlock.to_static(fn, backend="replay")
    for x in CALLS:
        found, want = flat(static(x)), flat(fn(x))
        assert type(static(x)) is type(fn(x))
        assert len(found) == len(want)
        assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(found, want))
    assert len(static.tapes) == 1
    static.save(tmp_path / "p.oar")
    predictor = oarlock.Predictor(tmp_path / "p.oar")
    for x in CALLS:  # sums of few small integers: exact
        for a, b in zip(flat(predictor(x)), flat(fn(x)), strict=True):
            assert np.array_equal(np.asarray(a), np.asarray(b))


def given_pair(s):
    if s.a.sum() > 0:
        s.step()
    return s.a, s.n


def given_data(s):
    return (s.a * s.n if s.a.sum() > 0 else s.a), s.n


@pytest.mark.parametrize(
    "fn, make",
    [
        (given_pair, Pair),
        (given_pair, lambda a, n: Both(a, n, a)),
        (given_data, Data),
        (given_data, Frozen),
    ],
)
def test_arguments(fn: Callable[..., Any], make: Callable[..., Any]):
    static = oarlock.to_static(fn, backend="replay")
    for i, x in enumerate((*CALLS, *CALLS)):
        ours, theirs = make(x, i), make(x, i)
        for a, b in zip(static(ours), fn(theirs), strict=True):
            assert torch.equal(torch.as_tensor(a), torch.as_tensor(b))
        assert torch.equal(ours.a, theirs.a) and int(ours.n) == theirs.n


KEPT = Both(torch.zeros(3), 0, torch.zeros(3))


def test_an_object_from_outside_that_holds_both():
    def f(x):
        if x.sum() > 0:
            KEPT.a, KEPT.n = KEPT.a + x[:3], KEPT.n + 1
        else:
            KEPT.z = KEPT.z - x[:3]
        return KEPT.a + KEPT.z, KEPT.n

    found = []
    for call in (oarlock.to_static(f, backend="replay"), f):
        KEPT.a, KEPT.n, KEPT.z = torch.zeros(3), 0, torch.zeros(3)
        found.append([(call(x)[0], int(KEPT.n), KEPT.a, KEPT.z) for x in (*CALLS, *CALLS)])
    for ours, theirs in zip(*found):
        assert ours[1] == theirs[1]
        assert all(torch.equal(a, b) for a, b in zip(ours[2:], theirs[2:]))
        assert torch.equal(ours[0], theirs[0])
