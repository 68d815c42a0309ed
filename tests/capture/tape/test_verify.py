"""The first call is compared with eager, and leaves what one call leaves."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from oarlock.capture.tape import verify
from oarlock.capture.to_static import to_static
from oarlock.errors import DivergenceError


def test_a_wrong_replay_is_refused(monkeypatch):
    layer = nn.Linear(2, 2)

    def fn(x):
        return layer(x)

    static = to_static(fn)
    real = verify._outcome

    def wrong(run, is_quiet=True):
        value, error = real(run, is_quiet)
        return (value if is_quiet else value + 1), error

    monkeypatch.setattr(verify, "_outcome", wrong)
    with pytest.raises(
        DivergenceError, match="fn: the static function does not do what eager does"
    ):
        static(torch.ones(1, 2))


def test_state_changes_once():
    norm, seen = nn.BatchNorm1d(2), []

    def fn(x):
        seen.append(x.sum())
        x.add_(1)
        return norm(x) + torch.rand(2)

    static, x = to_static(fn), torch.zeros(3, 2)
    torch.manual_seed(0)
    static(x)
    assert norm.num_batches_tracked == 1 and len(seen) == 1
    assert torch.equal(x, torch.ones(3, 2))
    after = torch.rand(1)
    torch.manual_seed(0)
    torch.rand(2)
    assert torch.equal(after, torch.rand(1))


def test_every_call_where_asked(monkeypatch):
    monkeypatch.setenv("OARLOCK_CHECK", "all")
    calls = []

    def fn(x):
        return x + 1

    real = verify.Before

    def counted(*args):
        calls.append(1)
        return real(*args)

    monkeypatch.setattr(verify, "Before", counted)
    static = to_static(fn)
    static(torch.ones(1)), static(torch.ones(1))
    assert len(calls) == 2
    monkeypatch.setenv("OARLOCK_CHECK", "off")
    to_static(fn)(torch.ones(1))
    assert len(calls) == 2
