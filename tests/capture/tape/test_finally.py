"""What ``finally`` and ``__exit__`` do after errors that data raise is done by static calls too."""

from __future__ import annotations

import pytest
import torch

from oarlock.capture.to_static import to_static


class Owner:
    def __init__(self):
        self.depth, self.last, self.table = 0, None, {"a": 1.0}

    def __enter__(self):
        self.depth += 1

    def __exit__(self, *error):
        self.depth -= 10


def checked(x):
    if x.sum() > 2:
        raise ValueError("big")
    return x * 2


def with_a_manager(owner, x):
    with owner:
        return checked(x)


def after_a_call(owner, x):
    owner.depth += 1
    try:
        return checked(x)
    finally:
        owner.depth -= 10


def after_a_raise(owner, x):
    try:
        if x.sum() > 2:
            raise ValueError("big")
        x = x + 1
    finally:
        owner.table["a"] = owner.table["a"] * 0.5
    return x


def in_a_loop(owner, x):
    for row in x:
        try:
            if row > 2:
                raise ValueError("big")
        finally:
            owner.last = row
    return x


def around_a_loop(owner, x):
    i = 0
    try:
        while i < 3:
            x = x + checked(x)
            i += 1
    finally:
        owner.depth -= 10
    return x


def after_an_assert(owner, x):
    try:
        assert x.sum() < 2, "big"
        return x
    finally:
        owner.depth -= 10


def after_a_division(owner, x):
    try:
        return 1 / int(x[0])
    finally:
        owner.depth -= 10


def after_an_index(owner, x):
    try:
        return x[int(x[0])]
    finally:
        owner.depth -= 10


def inside_another(owner, x):
    try:
        try:
            return checked(x)
        finally:
            owner.depth -= 10
    except ValueError:
        return x * owner.depth


def with_handlers(owner, x):
    try:
        if x.sum() > 2:
            raise ValueError("big")
    except KeyError:
        owner.depth += 1
    finally:
        owner.depth -= 10
    return x


def of_variables(owner, x):
    trips = 0
    try:
        y = checked(x)
    finally:
        trips += 1
    return y * trips


CASES = [
    with_a_manager, after_a_call, after_a_raise, in_a_loop, around_a_loop, after_an_assert,
    after_a_division, after_an_index, inside_another, with_handlers, of_variables,
]  # fmt: skip


def outcomes(fn):
    owner, found = Owner(), []
    for value in (0.0, 1.0, 2.0, 0.0, 3.0, -3.0, 1.0):
        try:
            result = str(fn(owner, torch.full((2,), value)))
        except Exception as error:
            result = f"{type(error).__name__}: {error}".split("\n")[0]
        found.append((result, owner.depth, str(owner.last), owner.table["a"]))
    return found


@pytest.mark.parametrize("fn", CASES, ids=lambda fn: fn.__name__)
def test_errors_of_data(fn):
    assert outcomes(to_static(fn)) == outcomes(fn)
