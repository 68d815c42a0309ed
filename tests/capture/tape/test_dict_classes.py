"""Objects of subclasses of dict that data choose or change: their class and what they hold beside items."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch

import oarlock


class Named(dict):
    """Items as attributes; other names are a KeyError."""

    def __getattr__(self, name):
        return self[name]


class Beside(dict):
    """Attributes of its own beside the items."""


class Shown(OrderedDict):
    """Each item is an attribute as well, as in the outputs of transformers."""

    def __init__(self, **items):
        super().__init__(**items)
        for key, value in items.items():
            object.__setattr__(self, key, value)


def ordered(x):
    d = OrderedDict(a=x, n=x * 2) if x.sum() > 0 else OrderedDict(a=-x, n=x * 3)
    d.move_to_end("a")
    return d["a"] + d["n"], d


def named(x):
    o = Named(h=x)
    while o.h.abs().sum() < 50:
        o = Named(h=o.h * 2)
    return o.h, o


def shown(x):
    o = Shown(logits=x)
    while o.logits.abs().sum() < 50:
        o = Shown(logits=o.logits * 2)
    return o.logits + o["logits"], o


def attributes_that_differ_by_nothing(x):
    o, z = Beside(h=x), x * 3
    o.z = z
    if x.sum() > 0:
        o = Beside(h=x * 2)
        o.z = z
    return o["h"], o.z, o


def attributes_that_differ(x):
    o = Beside(h=x)
    o.z = x + 1
    if x.sum() > 0:
        o = Beside(h=x * 2)
        o.z = x + 2
    return o["h"], o.z


def attribute_of_a_result(x):
    o = Beside(h=x)
    o.z = x * 2
    return o


def told(x: Any) -> Any:
    if isinstance(x, dict):
        return type(x), [(k, told(v)) for k, v in x.items()], told(list(vars(x).items()))
    if isinstance(x, (tuple, list)):
        return [told(y) for y in x]
    return x.tolist() if isinstance(x, torch.Tensor) else x


@pytest.mark.parametrize(
    "fn",
    [
        ordered,
        named,
        shown,
        attributes_that_differ_by_nothing,
        attributes_that_differ,
        attribute_of_a_result,
    ],
)
def test_class_and_attributes_stay(fn: Callable[..., Any]):
    static = oarlock.to_static(fn, backend="replay")
    for x in (torch.ones(3), -torch.ones(3), torch.full((5,), 2.0)):
        assert told(static(x)) == told(fn(x))
    assert len(static.tapes) == 1
