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
