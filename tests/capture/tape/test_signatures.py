"""Calls that mean the same are one call, and a report tells what was made of them."""

from __future__ import annotations

import functools
import gc
import inspect
import weakref

import pytest
import torch

from oarlock import InputSpec
from oarlock.capture.tape.signatures import normaliser
from oarlock.capture.to_static import to_static


def mixed(a, /, b, c=3, *rest, d=None, **more):
    return a, b, c, rest, d, more


@pytest.mark.parametrize(
    "args, kwargs",
    [
        ((1, 2), {}),
        ((1,), {"b": 2, "e": 5}),
        ((1, 2, 4, 5, 6), {"d": 7}),
        ((1,), {"e": 1, "d": 2, "b": 3, "a": 4}),
    ],
)
def test_a_normal_call_means_the_same(args, kwargs):
    normal = normaliser(mixed)(*args, **kwargs)
    assert mixed(*normal[0], **normal[1]) == mixed(*args, **kwargs)
    assert len(normal[0]) >= 3 and next(iter(normal[1])) == "d"


def test_defaults_are_the_objects_themselves():
    seen = []
    normal = normaliser(lambda x, seen=seen, *, kind=object: x)
    (_, found), named = normal(1)
    assert found is seen and named == {"kind": object}


def test_what_has_no_signature_is_left_as_given():
    with pytest.raises(ValueError):
        inspect.signature(torch.add)
    assert normaliser(torch.add)(1, other=2) == ((1,), {"other": 2})
    assert normaliser(functools.partial(mixed, 1))(2)[0] == (2, 3)


def test_a_call_that_does_not_fit_raises_what_python_raises():
    def scaled(x, factor):
        return x * factor

    with pytest.raises(TypeError) as want:
        scaled(torch.ones(2))
    with pytest.raises(TypeError) as got:
        to_static(scaled)(torch.ones(2))
    assert str(got.value) == str(want.value)


def test_one_capture_serves_every_spelling():
    def scaled(x, factor=2.0, *, flip=False):
        y = x * factor if x.sum() > 0 else x
        return -y if flip else y

    static, x = to_static(scaled), torch.ones(3)
    for call in (
        lambda f: f(x),
        lambda f: f(x, 2.0),
        lambda f: f(x=x, factor=2.0),
        lambda f: f(factor=2.0, flip=False, x=x),
    ):
        torch.testing.assert_close(call(static), call(scaled), rtol=0, atol=0)
    assert static.captures == 1


def test_report_tells_arguments_and_what_was_recorded():
    w = torch.ones(3, requires_grad=True)

    def f(x, n):
        while x.sum() > 1:
            x = x * w / n
        return x

    static = to_static(f, input_spec=[InputSpec(("N", 3))])
    static(torch.ones(2, 3), 4), static(torch.ones(5, 3), 4)
    lines = static.report().splitlines()
    assert lines[0].endswith("f: 1 specialisation, 1 capture")
    assert lines[1].startswith("specialisation 0: replayed: ")
    assert lines[2].strip() == "arguments: x f32[N, 3]"
    assert lines[3].strip() == "reads: w"
    assert lines[4].strip().endswith("1 while")
    static(torch.ones(2, 3), 5)
    assert "x f32[N, 3], n int" in static.report() and "2 captures" in static.report()


def test_the_graph_of_a_first_argument_is_not_kept():
    static = to_static(lambda x: x * 2 if x.sum() > 0 else x)
    leaf = torch.ones(1000, requires_grad=True)
    kept = weakref.ref(leaf)
    static(leaf * 2).sum().backward()
    del leaf
    gc.collect()
    assert kept() is None


def test_a_list_that_a_partial_gives_may_change():
    def run(history, x):
        history.append(x if x.sum() > 0 else -x)
        return x * len(history)

    eager, static = functools.partial(run, []), to_static(functools.partial(run, []))
    for x in (torch.ones(2), -torch.ones(2), torch.ones(2)):
        assert torch.equal(static(x), eager(x))
    assert [x.tolist() for x in static.given[1][0]] == [[1.0, 1.0]] * 3


def test_defaults_that_are_set_later():
    def scaled(x, n=2, *, m=1):
        return x * n + m

    static, x = to_static(scaled, backend="replay"), torch.ones(2)
    assert torch.equal(static(x), scaled(x))
    for defaults, named in (((5,), {"m": 1}), ((5,), {"m": 7}), ((torch.full((2,), 3.0),), None)):
        scaled.__defaults__, scaled.__kwdefaults__ = defaults, named or {"m": 0}
        assert torch.equal(static(x), scaled(x))
