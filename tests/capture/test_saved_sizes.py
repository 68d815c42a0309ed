"""Sizes that numbers of the run give, through ``.save`` and a Predictor: each number is one size."""

from __future__ import annotations

import copy
import math
import pickle
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

import oarlock
from oarlock.errors import ModelError

Found = namedtuple("Found", "ids score")


def number_read_twice(x, n):
    first = x[: int(n)]
    both = torch.zeros(int(n)) + first
    return torch.cat([first, both]).reshape(2, int(n)) + both


def sizes_of_one_list(x, sizes):
    h, w = sizes.tolist()
    y = torch.ones(h, w) + x[: h * w].view(h, w)
    return y @ torch.ones(w, h)


def pieces(x, sizes):
    total = x.new_zeros(())
    for piece in torch.split(x, sizes.tolist()):
        total = total + piece.sum() ** 2
    return total


def rows_behind(x, n):
    """Two slices between the same numbers, of different tensors."""
    alive = torch.ones(len(x), dtype=torch.bool)
    for i in range(int(n)):
        if alive[i]:
            alive[i + 1 :] &= x[i + 1 :] < x[i]
    return x[alive]


def swapped(x, n):
    """Numbers in a list that is an index; a slice of one row, repeated by broadcasting."""
    x = x.clone()
    for i in range(int(n)):
        k = i + int(x[i:].argmax())
        x[[i, k]] = x[[k, i]]
        x[i + 1 :] -= (x[i : i + 1] - x[i + 1 :]).abs() / 8
    return x


def moved_diagonal(x, n):
    k = int(n) - 1
    return torch.ones(len(x), len(x) + 3).tril(k).triu(k - 1), x.outer(x).tril(len(x) - 2)


def joined_pieces(x, n):
    """Pieces by group, joined: as many rows as there were."""
    group = (torch.arange(6) * int(n)) % 3
    order = group.argsort(stable=True)
    parts = x[order].split([int((group == i).sum()) for i in range(3)])
    y = torch.cat([part * (i + 1) for i, part in enumerate(parts)])
    return torch.zeros(6).index_copy(0, order, y), x + y, torch.where(x > 0, y, x)


def written_views(x, n):
    """Views between numbers, of which the run decides the sizes, written through."""
    x = x.clone()
    rows = x.view(-1, int(n))
    first, rest = rows.split([1, int(n) and len(rows) - 1])
    first.zero_()
    rest += 1
    return x, rows.reshape(int(n), -1)


def padded(x, n):
    """Rows of several lengths under one another, the longest of which a run finds."""
    rows = [x[: int(n)], x[1:], x[:2]]
    left = pad_sequence(rows[::-1], padding_value=-1.0, padding_side="left")
    return pad_sequence(rows, batch_first=True), left


def taken(x, n):
    places = x[: int(n)].argsort()[:, None]
    return torch.take_along_dim(x.outer(x), places, 0), torch.take_along_dim(x, places)


SIX = torch.tensor([0.5, -1.25, 2.0, 0.75, -0.5, 1.5])
PROGRAMS = {
    number_read_twice: [torch.tensor(n) for n in (2, 4, 1, 6)],
    sizes_of_one_list: [torch.tensor(n) for n in ([2, 3], [3, 2], [1, 5], [1, 1])],
    pieces: [torch.tensor(n) for n in ([1, 2, 3], [2, 2, 2], [4, 1, 1], [0, 6, 0])],
    rows_behind: [torch.tensor(n) for n in (2, 5, 0)],
    swapped: [torch.tensor(n) for n in (2, 5, 0)],
    moved_diagonal: [torch.tensor(n) for n in (2, 5, -3)],
    joined_pieces: [torch.tensor(n) for n in (1, 2, 3, 6)],
    written_views: [torch.tensor(n) for n in (2, 3, 1)],
    padded: [torch.tensor(n) for n in (2, 5, 0, 6)],
    taken: [torch.tensor(n) for n in (2, 5, 1)],
}


@pytest.mark.parametrize("fn", PROGRAMS)
def test_saved(fn: Callable[..., Any], tmp_path: Path):
    static = oarlock.to_static(fn, backend="replay")
    calls = [(SIX, numbers) for numbers in PROGRAMS[fn]]
    for call in calls[:2]:
        static(*copy.deepcopy(call))
    static.save(tmp_path / "p.oar")
    predictor = oarlock.Predictor(tmp_path / "p.oar")
    for call in calls:
        want, found = fn(*copy.deepcopy(call)), predictor(*copy.deepcopy(call))
        pairs = zip(want, found, strict=True) if isinstance(want, tuple) else [(want, found)]
        for a, b in pairs:  # sums of a few halves and quarters
            np.testing.assert_allclose(np.asarray(b), np.asarray(a), rtol=1e-6)


def test_pieces_that_do_not_fill_the_axis(tmp_path: Path):
    static = oarlock.to_static(pieces, backend="replay")
    for sizes in PROGRAMS[pieces][:2]:
        static(SIX, sizes)
    static.save(tmp_path / "p.oar")
    with pytest.raises(ModelError, match="sum exactly to 6"):
        oarlock.Predictor(tmp_path / "p.oar")(SIX, torch.tensor([1, 2, 4]))


def test_records_are_copied_and_pickled(tmp_path: Path):
    static = oarlock.to_static(lambda x: Found(x.argmax(), x.max()), backend="replay")
    static(SIX)
    static.save(tmp_path / "p.oar")
    found = oarlock.Predictor(tmp_path / "p.oar")(SIX)
    for other in (copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert other.ids == found.ids == 2 and other.type_name == "Found"


def test_windows_as_large_as_an_axis(tmp_path: Path):
    def pooled(x):
        y = F.max_pool2d(x, 2)
        h, w = y.shape[-2:]
        whole = F.max_pool2d(y, (h, w), stride=1).flatten(1)
        if y.mean() > 0:
            whole = whole + F.avg_pool2d(y, [h, w]).flatten(1)
        return whole, F.avg_pool1d(y.flatten(2), h * w)

    static = oarlock.to_static(pooled, backend="replay")
    shapes = ((1, 2, 4, 6), (2, 2, 8, 4), (1, 2, 5, 9))
    calls = [torch.arange(math.prod(shape)).reshape(shape) % 7.0 - 1 for shape in shapes]
    for x in (calls[0], -calls[1]):
        static(x)
    static.save(tmp_path / "p.oar")
    for x in (*calls, *(-x for x in calls)):
        for got, want in zip(oarlock.Predictor(tmp_path / "p.oar")(x), pooled(x), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-6)
