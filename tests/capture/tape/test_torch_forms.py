"""Code that was written for torch.export, TorchScript or torch.compile, in a static function."""

from __future__ import annotations

import pytest
import torch
from torch._higher_order_ops.while_loop import while_loop

import oarlock
from oarlock.errors import ArgumentTypeError, UnsupportedError

X = torch.tensor([1.0, 2.0, 0.0])


def with_cond(x):
    return torch.cond(x.sum() > 0, lambda v: v * 2, lambda v: v - 1, (x,))


def with_while_loop(x):
    return while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, v * 2), (torch.tensor(0), x))


@pytest.mark.parametrize(
    ("fn", "plain"),
    [
        (with_cond, lambda x: x * 2 if x.sum() > 0 else x - 1),
        (with_while_loop, lambda x: (torch.tensor(3), x * 8)),
    ],
)
def test_control_flow_operators(fn, plain, monkeypatch):
    monkeypatch.setenv("OARLOCK_CHECK", "off")  # eager would compile them
    static = oarlock.to_static(fn)
    for x in (X, -X, X + 1):
        got, want = static(x), plain(x)
        pairs = zip(got, want) if isinstance(want, tuple) else [(got, want)]
        assert all(torch.equal(a, b) for a, b in pairs)
    assert static.captures == 1


def straight(x):
    return x * 2 + 1


def branching(x):
    return x * 2 if bool(x.sum() > 0) else x


def test_compiled_functions_are_what_they_were_made_of(monkeypatch):
    monkeypatch.setenv("OARLOCK_CHECK", "off")
    compiled = torch.compile(branching)
    static = oarlock.to_static(lambda x: compiled(x) + 1)
    net = torch.compile(torch.nn.Linear(3, 3))
    through = oarlock.to_static(lambda x: net(x))
    for x in (X, -X):
        assert torch.equal(oarlock.to_static(compiled)(x), branching(x))
        with torch.no_grad():
            want = net._orig_mod(x)
        assert torch.allclose(through(x), want, atol=1e-6)
    assert static.code


def test_scripted_functions():
    scripted = torch.jit.script(straight)
    static = oarlock.to_static(lambda x: scripted(x) * 2)
    for x in (X, -X, torch.ones(2)):
        assert torch.equal(static(x), straight(x) * 2)
    decides = torch.jit.script(branching)
    with pytest.raises(UnsupportedError, match="call the Python function that it was made of"):
        oarlock.to_static(lambda x: decides(x) + 1)(X)
    traced = torch.jit.trace(torch.nn.Linear(3, 3), X)
    for what in (scripted, traced):
        with pytest.raises(ArgumentTypeError, match="TorchScript"):
            oarlock.to_static(what)
