"""Lists that a loop over a size fills are as long as that size says, in every capture."""

from __future__ import annotations

import pytest
import torch
from torch.utils import _pytree as pytree

from oarlock.capture.to_static import to_static


def residual(x):
    h, outs = torch.zeros(x.shape[1]), []
    for t in range(x.shape[0]):
        h = torch.tanh(h + x[t])
        outs.append(h)
    return torch.stack(outs) + x, len(outs)


def one_more(x):
    outs, more = [x[0]], []
    for row in x:
        outs.append(row * 2)
    for i, out in enumerate(outs):
        more.append(out + i)
    z = torch.stack(more)
    for j in range(x.shape[0]):
        more.append(x[j])
    return z[1:] + x, torch.stack(more[::-1]) + torch.cat([x, z]), torch.stack(outs + more).sum()


def nested(x):
    rows = []
    for i in range(x.shape[0]):
        row = []
        for j in range(x.shape[1]):
            row.append(x[i, j] * (i + j))
        rows.append(torch.stack(row))
    return torch.stack(rows) + x


def taken_back(x):
    outs = []
    for t in range(x.shape[0]):
        outs.append(x[t])
        outs.append(x[t] * 2)
    outs.pop()
    return torch.stack(outs)[1:] + torch.cat([x[1:], x[1:]])


def some(x):
    outs = []
    for row in x:
        if row.sum() > 0:
            outs.append(row)
    return torch.stack(outs) if outs else x


def padded(x):
    y = torch.nn.functional.pad(x, (0, 0, 0, 6 - x.shape[0])) if x.shape[0] < 6 else x
    outs = []
    for t in range(y.shape[0]):
        outs.append(y[t] * 2)
    return torch.stack(outs) + y


@pytest.mark.parametrize("fn", [residual, one_more, nested, taken_back, some, padded])
@pytest.mark.parametrize("grad", [False, True])
def test_one_capture_serves_all_sizes(fn, grad):
    static = to_static(fn)
    torch.manual_seed(0)
    for n in (3, 4, 6, 9, 2):
        x = torch.randn(n, n + 1, requires_grad=grad)
        want, got = pytree.tree_leaves(fn(x)), pytree.tree_leaves(static(x))
        assert len(want) == len(got)
        for a, b in zip(want, got):
            assert torch.equal(torch.as_tensor(a), torch.as_tensor(b))
    assert len(static.tapes) == 1 and static.captures == 2


def test_a_call_that_fails_in_one_world_leaves_nothing_certain(caplog):
    """An axis of what only the other world can compute may have any size."""

    def f(x, n):
        outs = []
        while n > 0:
            outs.append(x)
            n = n - 1
        y = torch.stack(outs) + torch.zeros(len(x), 1, 1)
        return torch.zeros(y.shape[0], 2) + 1

    static = to_static(f)
    for n in (2, 3, 4, 2):
        x = torch.ones(n, 2)
        assert torch.equal(static(x, torch.tensor(n)), f(x, torch.tensor(n)))
    assert not caplog.records


@pytest.mark.parametrize("n", [1, 2, 3])
def test_numbers_in_tensors_are_sizes(n):
    """One that no result can have, such as 0 for a view, is not tried alone."""

    def f(x, n):
        rows = torch.arange(12).view(n, -1)
        return rows, x.narrow(0, 0, n), x.expand(n, -1), torch.zeros(2, n), torch.ones(n.item())

    static, x = to_static(f), torch.ones(5)
    for k in (n, 4, 2):
        for a, b in zip(static(x, torch.tensor(k)), f(x, torch.tensor(k))):
            assert torch.equal(a, b)
    assert static.captures == 1
