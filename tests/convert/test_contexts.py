"""Context managers around decisions: what they do on entry and exit is part of the program."""

from __future__ import annotations

import contextlib

import pytest
import torch

import oarlock


class Scope:
    def __init__(self, log):
        self.log = log

    def __enter__(self):
        self.log.append("in")
        return self

    def __exit__(self, *error):
        self.log.append("out")


@contextlib.contextmanager
def scope(log):
    log.append("in")
    yield
    log.append("out")


def returns_inside(x, make):
    log = []
    with make(log):
        if x.sum() > 0:
            return x * 2, log
    return x, log


def returns_the_list(x, make):
    log = []
    with make(log):
        if x.sum() > 0:
            return log
    log.append("after")
    return log


@pytest.mark.parametrize("fn", [returns_inside, returns_the_list])
@pytest.mark.parametrize("make", [Scope, scope])
def test_exit_reaches_what_was_returned(fn, make):
    def call(x):
        return fn(x, make)

    static = oarlock.to_static(call)
    for sign in (1.0, -1.0, 1.0):
        x = torch.full((2,), sign)
        assert repr(static(x)) == repr(call(x))


class Box:
    def __init__(self, x):
        self.a = x


def same_again(x, held):
    with contextlib.nullcontext():
        if x.sum() > 0:
            return held
        x = x + 1
        x = x * 2
    return held


def changes_a_dict(x):
    held = {"a": x}
    again = same_again(x, held)
    held["b"] = x + 1
    return again, again is held


def changes_a_list(x):
    held = [x]
    again = same_again(x, held)
    held.append(x + 1)
    return again, again is held


def changes_inside_a_tuple(x):
    held = {"a": x}
    again = same_again(x, (held, 1))
    held["b"] = x + 1
    return again


def changes_an_object(x):
    held = Box(x)
    again = same_again(x, held)
    held.a = x + 1
    return again.a, again is held


@pytest.mark.parametrize(
    "fn", [changes_a_dict, changes_a_list, changes_inside_a_tuple, changes_an_object]
)
def test_what_one_way_returned_stays_itself(fn):
    static = oarlock.to_static(fn)
    for sign in (1.0, -1.0, 1.0):
        x = torch.full((2,), sign)
        assert repr(static(x)) == repr(fn(x))
