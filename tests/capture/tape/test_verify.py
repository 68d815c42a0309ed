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


def summed(module, x):
    module.total += module.scale * x.sum()
    return x * 2


def doubled(module, x):
    module.total.mul_(2).add_(module.scale)
    return x + module.total


@pytest.mark.parametrize("fn", [summed, doubled])
@pytest.mark.parametrize("has_history", [False, True])
def test_gradients_go_through_the_updates_of_one_call(fn, has_history):
    def run(make):
        module = nn.Module()
        module.scale = nn.Parameter(torch.tensor(0.5))
        module.register_buffer("total", torch.ones(()))
        if has_history:
            module.total.mul_(module.scale)
        call = make(fn)
        for n in (2, 2, 3):
            call(module, torch.ones(n))
        module.total.backward()
        return module.total.detach(), module.scale.grad

    want, got = run(lambda fn: fn), run(lambda fn: to_static(fn, backend="replay"))
    assert want == got


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


def broken(static, monkeypatch, change):
    """The static function's result, changed after its replay."""
    real = static.run
    monkeypatch.setattr(static, "run", lambda *args: change(real(*args)))
    return static


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda y: y.detach(), "requires_grad"),
        (lambda y: y.detach() + (y - y.detach()) * 1.001, "gradients: input 0: max abs error"),
        (lambda y: y + 0 * layer_like.sum(), None),
    ],
)
def test_wrong_gradients_are_refused(monkeypatch, change, message):
    layer = nn.Linear(2, 2)
    static = broken(to_static(lambda x: layer(x)), monkeypatch, change)
    x = torch.ones(1, 2, requires_grad=True)
    if message is None:
        static(x).sum().backward()
        return
    with pytest.raises(DivergenceError, match=message):
        static(x)
    assert x.grad is None and layer.weight.grad is None


layer_like = torch.ones(2)


def test_a_gradient_less_is_refused(monkeypatch):
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))

    def fn(x):
        return x * a + b

    cut = broken(to_static(fn), monkeypatch, lambda y: y - b + b.detach())
    with pytest.raises(DivergenceError, match="gradients: input"):
        cut(torch.ones(2))


def test_gradients_are_left_to_the_user():
    layer = nn.Linear(2, 2)
    static = to_static(lambda x: nn.functional.dropout(layer(x), 0.5))
    x = torch.ones(3, 2, requires_grad=True)
    torch.manual_seed(0)
    y = static(x)
    after = torch.rand(1)
    torch.manual_seed(0)
    want = nn.functional.dropout(layer(x), 0.5)
    assert torch.equal(after, torch.rand(1)) and torch.equal(y, want)
    assert x.grad is None and layer.weight.grad is None
    y.sum().backward()
    assert x.grad is not None and layer.weight.grad is not None
