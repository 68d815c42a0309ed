"""Sizes of joined ways that do not fit each other in the second world: no axis is taken as constant."""

from __future__ import annotations

import pytest
import torch

import oarlock


def in_a_loop(x, m):
    """``p`` is one item wide either way, which the sizes of one way alone don't tell."""
    total = x
    while total.sum() < 40:
        p = m if m.shape[1] == 1 else m[:, -1:]
        z = total[:, -1:] + p
        both = torch.cat([m, z], 1) + torch.cat([m, m[:, :1]], 1)
        turned = both.transpose(0, 1).contiguous()
        total = total + torch.ones(turned.size(1), 1).sum() * turned.sum()
        m = torch.cat([m, z], 1)
    return total, m


def with_a_view(x, m):
    while x.sum() < 40:
        p = m if m.shape[1] == 1 else m[:, -1:]
        z = torch.cat([m, x[:, -1:] + p], 1) * torch.cat([m, m[:, :1]], 1)
        x = x + z.transpose(0, 1).reshape(-1, z.shape[0]).sum(0)[:, None] + z.size(0)
        m = torch.cat([m, m[:, :1]], 1)
    return x, m


CALLS = [((2, 3), (2, 4)), ((3, 3), (3, 5)), ((5, 4), (5, 2)), ((4, 2), (4, 3)), ((6, 2), (6, 6))]


@pytest.mark.parametrize("fn", [in_a_loop, with_a_view])
def test_an_axis_is_no_constant_where_worlds_do_not_fit(fn):
    static = oarlock.to_static(fn, backend="replay")
    for sizes in CALLS:
        args = [torch.full(size, 0.5) for size in sizes]
        for ours, theirs in zip(static(*args), fn(*args), strict=True):
            assert torch.equal(ours, theirs)
    assert len(static.tapes) == 1 and static.captures <= 3
