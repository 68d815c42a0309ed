"""What a call gives or leaves in objects is its own; what can't be is refused."""

from __future__ import annotations

import collections
import functools
import inspect
import types

import pytest
import torch

from oarlock.capture.to_static import to_static
from oarlock.errors import UnsupportedError

X = torch.tensor([1.0, 2.0, 0.0])


class Holder:
    def __init__(self, x):
        self.x = x

    def twice(self):
        return self.x * 2


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self, a, b):
        self.a, self.b = a, b


HELD = Holder(None)


def a_deque(x):
    return collections.deque([x, x + 1], maxlen=2)


def a_deque_in_an_attribute(x):
    HELD.x = collections.deque([x])
    HELD.x.append(x * 2)
    return HELD.x


def an_object_with_slots(x):
    return Slotted(x, [x + 1])


@pytest.mark.parametrize("fn", [a_deque, a_deque_in_an_attribute, an_object_with_slots])
def test_each_call_gives_its_own(fn):
    def values(given):
        if isinstance(given, Slotted):
            return given.a.tolist(), given.b[0].tolist()
        return [v.tolist() for v in given], given.maxlen

    static = to_static(fn)
    first = static(X)
    assert values(first) == values(fn(X))
    second = static(X * 3)
    assert values(second) == values(fn(X * 3)) and values(first) == values(fn(X))
    assert type(second) is type(first) and second is not first and static.captures == 1


def a_generator(x):
    yield x
    yield x + 1


def a_generator_expression(x):
    return {"all": (v * x for v in (1, 2))}


def an_iterator(x):
    return iter([x, x + 1])


def a_map(x):
    return map(x.mul, (1, 2))


def a_generator_in_an_attribute(x):
    HELD.x = (v * x for v in (1, 2))
    return x


def a_lambda(x):
    return lambda: x * 2


def a_partial(x):
    return functools.partial(torch.add, x)


def a_method(x):
    return Holder(x).twice


def a_set(x):
    return {x, x + 1}


def an_exception(x):
    return ValueError(x)


def a_view(x):
    return {"a": x}.values()


def a_proxy(x):
    return types.MappingProxyType({"a": x})


REFUSED = [
    a_generator, a_generator_expression, an_iterator, a_map, a_generator_in_an_attribute, a_lambda,
    a_partial, a_method, a_set, an_exception, a_view, a_proxy,
]  # fmt: skip


@pytest.mark.parametrize("fn", REFUSED, ids=lambda f: f.__name__)
def test_what_belongs_to_one_call_is_refused(fn):
    with pytest.raises(UnsupportedError, match="the function gives or keeps") as found:
        to_static(fn)(X)
    assert f"test_results.py:{inspect.getsourcelines(fn)[1]}: " in str(found.value)


def test_what_comes_from_outside_goes_through():
    numbers, scale = iter([1, 2]), functools.partial(torch.mul, 2)

    def f(x, items, how):
        return x * 2, items, how

    static = to_static(f)
    for x in (X, X + 1):
        found = static(x, numbers, scale)
        assert torch.equal(found[0], x * 2) and found[1] is numbers and found[2] is scale
