"""Programs for sizes that come later are compared with the replay when they are first used."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

import oarlock
from oarlock.train import step as steps


def linear():
    torch.manual_seed(0)
    return nn.Linear(4, 3)


@pytest.mark.parametrize("grad", [True, False])
def test_a_wrong_program_for_further_sizes_is_found(grad, monkeypatch, caplog):
    model = linear()
    static = oarlock.to_static(lambda x: torch.relu(model(x)).exp(), backend="compiled")
    with torch.set_grad_enabled(grad):
        for n in (2, 3, 3):
            static(torch.ones(n, 4))
        static.options["backend"] = "auto"
        name = "Differentiable" if grad else "Step"
        owner = __import__("oarlock.train.tier", fromlist=[name])
        right = getattr(owner, name).run

        def wrong(self, leaves):
            found = right(self, leaves)
            return found * 2 if leaves[0].shape[0] == 7 else found

        monkeypatch.setattr(getattr(owner, name), "run", wrong)
        with caplog.at_level(logging.WARNING, "oarlock"):
            x = torch.randn(7, 4)
            torch.testing.assert_close(static(x), torch.relu(model(x)).exp())
    assert "replayed, not compiled" in caplog.text


def test_training_goes_on_as_in_eager_mode():
    def twin():
        model = linear()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

        def step(x):
            loss = model(x).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss

        return model, step

    (one, eager), (two, fn) = twin(), twin()
    static = oarlock.to_static(fn, backend="compiled")
    for n in (2, 2, 2, 5, 5, 3, 2, 5):
        x = torch.randn(n, 4)
        a, b = eager(x), static(x)
        assert abs(float(a.detach()) - float(b.detach())) < 2.0**-20
    assert len(static.tapes[0].executor.steps) == 3
    for p, q in zip(one.parameters(), two.parameters()):
        torch.testing.assert_close(q, p, rtol=0, atol=2.0**-20)


def test_no_program_is_compared_when_checks_are_off(monkeypatch):
    monkeypatch.setenv("OARLOCK_CHECK", "off")
    model = linear()
    static = oarlock.to_static(lambda x: torch.relu(model(x)), backend="compiled")
    made = []
    right = steps.Step.run
    monkeypatch.setattr(steps.Step, "run", lambda s, x: made.append(1) or right(s, x))
    with torch.no_grad():
        for n in (2, 3, 5):
            static(torch.ones(n, 4))
    assert len(made) == 3
