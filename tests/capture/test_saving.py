"""Small programs through ``.save`` and a Predictor: forms that decoders of libraries are made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import oarlock


def truth_of_sizes_as_fill(x):
    """Stopping criteria of transformers: whether a length is reached, for each row."""
    done = torch.zeros(x.shape[0], dtype=torch.bool)
    while not done.all():
        x = torch.cat([x, x[:, -1:] + 1], 1)
        done = done | torch.full((x.shape[0],), x.shape[1] >= 9) | (x[:, -1] > 12)
    return x


def number_or_none(x):
    """How much of the input is new: all of it at first."""
    new, total = None, x.sum(1)
    while total.sum() < 60:
        y = x if new is None else x[:, -new:]
        total = total + y.sum(1)
        new = int(y[0, 0]) + 1
    return total


def members(x):
    ends = torch.tensor([3, 5])
    return torch.isin(x, ends), torch.isin(x, 4), torch.isin(x, ends, invert=True)


PROGRAMS = (truth_of_sizes_as_fill, number_or_none, members)


@pytest.mark.parametrize("fn", PROGRAMS)
def test_saved(fn: Callable[..., Any], tmp_path: Path):
    static = oarlock.to_static(fn, backend="replay")
    calls = [torch.arange(n * k).reshape(n, k) % 7 for n, k in ((2, 3), (2, 4), (3, 5), (1, 7))]
    for x in calls:
        static(x)
    static.save(tmp_path / "p.oar")
    predictor = oarlock.Predictor(tmp_path / "p.oar")
    for x in calls:
        want, found = fn(x), predictor(x)
        pairs = zip(want, found, strict=True) if isinstance(want, tuple) else [(want, found)]
        for a, b in pairs:
            assert np.array_equal(np.asarray(a), np.asarray(b))
