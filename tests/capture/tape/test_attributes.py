"""Attributes and buffers that calls assign, as state of the program."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import oarlock
from oarlock.capture.to_static import StaticFunction
from oarlock.errors import UnsupportedError


class Cell(nn.Module):
    """A hidden state, a counter, an average and a pair, all assigned."""

    def __init__(self):
        super().__init__()
        self.step = nn.Linear(4 + 3, 4)
        self.h, self.pair = torch.zeros(2, 4), (torch.zeros(2), torch.ones(()))
        self.count, self.average = 0, 0.5
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("peak", torch.zeros(2))

    def forward(self, x):
        self.h = torch.tanh(self.step(torch.cat([self.h, x], -1)))
        self.pair = (self.pair[0] + x[:, 0], self.pair[1] * 0.5)
        self.count += 1
        self.average = 0.9 * self.average + 0.1 * x.mean().item()
        self.seen += 1
        self.peak = torch.maximum(self.peak, x.amax(-1))
        return (
            self.h,
            self.pair[0] + self.pair[1],
            self.peak * self.seen + self.average + self.count,
        )


class Lazy(nn.Module):
    """Made at the first call; another attribute only for looking at."""

    def __init__(self):
        super().__init__()
        self.h, self.shown = None, None

    def forward(self, x):
        if self.h is None:
            self.h = torch.zeros_like(x)
        self.h = self.h * 0.5 + x
        self.shown = {"mean": x.mean(), "all": [x, x]}
        return self.h


class Branching(nn.Module):
    """Assigned on one way, and in a loop that data end."""

    def __init__(self):
        super().__init__()
        self.best, self.trips, self.table = torch.zeros(()), 0, {"sum": torch.zeros(3)}

    def forward(self, x):
        if x.sum() > self.best:
            self.best = x.sum()
        while x.norm() > 1:
            x = x / 2
            self.trips += 1
        self.table["sum"] = self.table["sum"] + x
        return x * self.best + self.trips, self.table["sum"]


class Two(nn.Module):
    """States of one name in two modules below."""

    def __init__(self):
        super().__init__()
        self.a, self.b = Cell(), nn.Sequential(Cell())

    def forward(self, x):
        return self.a(x)[2] - self.b(x * 2)[2]


class Counter:
    """No module."""

    def __init__(self):
        self.total = torch.zeros(3)

    def __call__(self, x):
        self.total = self.total + x
        return self.total * 2


MODELS = {
    "cell": (Cell, (2, 3)),
    "lazy": (Lazy, (2, 3)),
    "branching": (Branching, (3,)),
    "two": (Two, (2, 3)),
}

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
import numpy as np
from oarlock import Predictor

predictor, given = Predictor(sys.argv[1] + "/p.oar", threads=1), np.load(sys.argv[1] + "/in.npz")
found = {}
for run in "ab":
    for name in given.files:
        y = predictor(given[name])
        for i, part in enumerate(y if isinstance(y, tuple) else (y,)):
            found[f"{run}{name}.{i}"] = part
    predictor.reset()
np.savez(sys.argv[1] + "/out.npz", **found)
"""


def parts(x):
    return [torch.as_tensor(y).numpy() for y in (x if isinstance(x, tuple) else (x,))]


@pytest.mark.parametrize("name", MODELS)
def test_state_is_kept_between_runs(name, tmp_path):
    torch.manual_seed(0)
    make, shape = MODELS[name]
    model = make().eval()
    static = StaticFunction(model.forward)
    inputs = [torch.randn(shape) * k for k in (1, 3, 0.1, 2)]
    with torch.no_grad():
        for x in inputs[:2]:
            static(x)
        static.save(tmp_path / "p.oar")  # from what the attributes hold now
        expected = [parts(model(x)) for x in inputs]
    np.savez(tmp_path / "in.npz", *[x.numpy() for x in inputs])
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH, str(tmp_path)], check=True)
    found = np.load(tmp_path / "out.npz")
    for i, want in enumerate(expected):
        for j, part in enumerate(want):
            for run in "ab":
                np.testing.assert_allclose(found[f"{run}arr_{i}.{j}"], part, rtol=2e-6, atol=2e-6)


def test_state_has_the_names_of_the_attributes():
    model = Cell()
    static = StaticFunction(model.forward)
    x = torch.ones(2, 3)
    static(x)
    predictor = oarlock.Predictor(static.programs[0], threads=1)
    before = predictor.state
    assert before.keys() == {"h", "pair[0]", "pair[1]", "count", "average", "seen", "peak"}
    predictor(x.numpy())
    assert (before["count"], predictor.state["count"]) == (1, 2)


def test_an_object_that_is_no_module():
    counter = Counter()
    static = StaticFunction(counter.__call__)
    x = torch.ones(3)
    static(x)
    predictor = oarlock.Predictor(static.programs[0], threads=1)
    assert [predictor(x.numpy()).tolist() for _ in range(2)] == [[4.0] * 3, [6.0] * 3]


def test_what_is_not_read_is_left_out_with_a_note():
    model = Lazy()
    static = StaticFunction(model.forward)
    for _ in range(2):
        static(torch.ones(2))
    model.shown = None
    (program,) = [static.programs[0]]
    assert any("shown is not kept" in note for note in program.meta["notes"])


class Grows(nn.Module):
    def __init__(self):
        super().__init__()
        self.items, self.kept = [], torch.zeros(1)

    def forward(self, x, how):
        if how == "append":
            self.items.append(x)
        elif how == "cat":
            self.kept = torch.cat([self.kept, x])
        elif how == "flag":
            self.kept = x if self.kept is None else None
        return x + 1


@pytest.mark.parametrize(
    ("how", "why"),
    [("append", "changes Python objects"), ("cat", r"f32\[3\] before the call and f32\[4\]")],
)
def test_what_is_no_state_is_refused(how, why):
    model = Grows()
    static = StaticFunction(model.forward)
    for _ in range(2):
        static(torch.ones(1), how)
    with pytest.raises(UnsupportedError, match=why):
        _ = static.programs[0]


def test_a_buffer_that_is_only_added_to_is_compiled():
    class Seen(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x):
            self.seen += 1
            return x * self.seen

    static = oarlock.to_static(Seen(), backend="compiled")
    with torch.no_grad():
        assert [static(torch.ones(2)).tolist() for _ in range(3)] == [[k, k] for k in (1, 2, 3)]


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 5)])
def test_batch_norm_in_training_mode(shape):
    norm = nn.BatchNorm1d(3)
    static = StaticFunction(norm.forward)
    inputs = [torch.randn(shape) * k for k in (1, 2, 3)]
    static(inputs[0])
    predictor = oarlock.Predictor(static.programs[0], threads=1)
    for x in inputs:
        want = norm(x).detach().numpy()
        np.testing.assert_allclose(predictor(x.numpy()), want, rtol=2e-6, atol=2e-6)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        np.testing.assert_allclose(predictor.state[name], getattr(norm, name), rtol=2e-6)


def shape_of_the_best(x):
    best = None
    for row in x:
        if row.sum() > 0:
            best = row
    return getattr(best, "shape", None), hasattr(best, "dim")


def test_attributes_of_what_may_be_none():
    static = oarlock.to_static(shape_of_the_best, backend="replay")
    for sign in (1, -1, 1):
        x = torch.ones(3, 2) * sign
        assert static(x) == shape_of_the_best(x)


def attributes_of_a_number_or_tensor(x):
    n = 1
    if x.sum() > 0:
        n = x.sum()
    twice = n * 2
    return hasattr(twice, "shape"), hasattr(n, "bit_length"), getattr(twice, "ndim", -1)


def attributes_of_none_a_number_or_tensor(x):
    n = None
    if x.sum() > 0:
        n = 3
    elif x.sum() < -5:
        n = x
    return hasattr(n, "shape"), hasattr(n, "bit_length")


@pytest.mark.parametrize(
    "fn", [attributes_of_a_number_or_tensor, attributes_of_none_a_number_or_tensor]
)
def test_attributes_of_what_has_one_of_several_types(fn):
    static = oarlock.to_static(fn, backend="replay")
    for values in ([1.0, 2.0], [-1.0, -1.0], [-4.0, -3.0], [0.2, 0.3]):
        x = torch.tensor(values)
        assert static(x) == fn(x)
    assert len(static.tapes) == 1
