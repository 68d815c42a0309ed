"""What ``to_static`` and its companions take, and what they say of anything else."""

from __future__ import annotations

import functools
import json

import pytest
import torch
from torch import nn

import oarlock
from oarlock import InputSpec
from oarlock.errors import ArgumentError, ArgumentTypeError, UnsupportedError

X = torch.tensor([1.0, 2.0, 0.0])


def doubled(x, k=2):
    return x * k if x.sum() > 0 else x - k


class Scale:
    k = 2

    @oarlock.to_static
    def method(self, x):
        return doubled(x, self.k)

    @classmethod
    @oarlock.to_static
    def of_class(cls, x):
        return doubled(x, cls.k)

    @oarlock.to_static
    @classmethod
    def of_class_above(cls, x):
        return doubled(x, cls.k)

    @oarlock.to_static
    @staticmethod
    def plain(x):
        return doubled(x)

    @staticmethod
    @oarlock.to_static
    def plain_above(x):
        return doubled(x)

    @property
    @oarlock.to_static
    def here(self):
        return doubled(X, self.k)

    def __call__(self, x):
        return doubled(x, self.k)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(3, 3)

    def forward(self, x):
        return self.lin(x) if x.sum() > 0 else x


@oarlock.to_static()
def with_parentheses(x):
    return doubled(x)


@oarlock.to_static(input_spec=[InputSpec(("N",))], backend="replay")
def with_options(x):
    return doubled(x)


WAYS = {
    "function": oarlock.to_static(doubled),
    "lambda": oarlock.to_static(lambda x: doubled(x)),
    "partial": oarlock.to_static(functools.partial(doubled, k=2)),
    "bound method": oarlock.to_static(Scale().__call__),
    "object": oarlock.to_static(Scale()),
    "twice": oarlock.to_static(oarlock.to_static(doubled)),
    "method": Scale().method,
    "class method": Scale.of_class,
    "class method below": Scale.of_class_above,
    "class method of an object": Scale().of_class_above,
    "static method": Scale.plain,
    "static method of an object": Scale().plain,
    "static method above": Scale().plain_above,
    "property": lambda x: Scale().here if x is X else doubled(x),
    "parentheses": with_parentheses,
    "options": with_options,
}


@pytest.mark.parametrize("way", WAYS)
def test_every_kind_of_callable(way):
    for x in (X, -X, X):
        assert torch.equal(WAYS[way](x), doubled(x))


def test_a_module_stays_a_module():
    net = Net()
    found = oarlock.to_static(net)
    assert found is net and torch.equal(net(X), net.lin(X)) and torch.equal(net(-X), -X)
    assert list(net.state_dict()) == ["lin.weight", "lin.bias"] and net.forward.captures


WRONG = {
    "number": (lambda: oarlock.to_static(5), "expected a function, .* got int"),
    "text": (lambda: oarlock.to_static("f"), "got str"),
    "tensor": (lambda: oarlock.to_static(X), "got Tensor"),
    "module class": (lambda: oarlock.to_static(Net), r"Net is a class; .*to_static\(Net\(...\)\)"),
    "class": (lambda: oarlock.to_static(dict), "dict is a class; decorate its methods"),
    "property": (lambda: oarlock.to_static(property(doubled)), "put @property above"),
    "backend": (lambda: oarlock.to_static(doubled, backend="fast"), "auto, compiled, replay"),
    "spec": (lambda: oarlock.to_static(doubled, input_spec=5), "input_spec: .* got int"),
    "shape in spec": (lambda: oarlock.to_static(doubled, input_spec=[(3,)]), r"input_spec\[0\]\[0\]"),
    "tensor in spec": (
        lambda: oarlock.to_static(doubled, input_spec={"x": X}), r"input_spec\['x'\]: .* \[3\]"
    ),
    "size": (lambda: InputSpec((-3,)), r"shape\[0\]: expected a size, or -1 for any, got -3"),
    "half": (lambda: InputSpec((1.5,)), r"shape\[0\]: expected an int, a name, a Dim or None"),
    "no shape": (lambda: InputSpec(3), "expected a list or tuple of sizes, got 3"),
    "switch": (lambda: oarlock.enable_to_static("no"), "expected a bool, got 'no'"),
    "module to leave out": (lambda: oarlock.not_to_static(Net()), "mark the class Net"),
    "number to leave out": (lambda: oarlock.not_to_static(3), "a function, a method or a class"),
    "function to ignore": (lambda: oarlock.ignore_module(doubled), "not_to_static"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_are_told(case):
    make, text = WRONG[case]
    with pytest.raises((ArgumentError, ArgumentTypeError), match=text):
        make()
    assert torch.equal(oarlock.to_static(doubled)(X), doubled(X))  # nothing is left switched off


def test_the_global_switch():
    static = oarlock.to_static(doubled)
    oarlock.enable_to_static(False)
    try:
        assert torch.equal(static(X), doubled(X)) and static.captures == 0
    finally:
        oarlock.enable_to_static(True)
    assert torch.equal(static(X), doubled(X)) and static.captures == 1


def reads_data(x):
    return float(x.sum()) * x


class Left(nn.Module):
    def forward(self, x):
        return x * float(x.sum())


oarlock.not_to_static(Left)


def test_a_class_is_left_out():
    inner = Left()

    def f(x):
        return inner(x) + 1

    static = oarlock.to_static(f)
    for x in (X, X + 1):
        assert torch.equal(static(x), f(x))
    assert "def forward" not in static.code


def test_modules_of_python_are_left_out():
    oarlock.ignore_module([json], "json.decoder")
    static = oarlock.to_static(lambda x: x * json.loads("2"))
    assert torch.equal(static(X), X * 2)


def test_what_is_not_known_before_the_first_call(tmp_path):
    static = oarlock.to_static(doubled)
    assert len(static.programs) == 0 and "0 specialisations" in static.report()
    with pytest.raises(UnsupportedError, match="call it once first, or give input_spec"):
        static.save(tmp_path / "f.oar")
    assert torch.equal(static(X), doubled(X))
    static.save(tmp_path / "f.oar")
    found = oarlock.Predictor(tmp_path / "f.oar")(X.numpy())
    assert torch.equal(torch.as_tensor(found), doubled(X))
    assert "test_to_static_entry.py:" in static.code and len(static.programs) == 1
