"""How many captures a function needs: what calls have shown to vary is free in every state."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import oarlock
from oarlock.errors import UnsupportedError


def check(fn, calls, most, backend="replay"):
    """Eager and static on ``calls``, twice; the second time captures nothing."""
    eager, given = copy.deepcopy(fn), copy.deepcopy(fn)
    static = oarlock.to_static(given, backend=backend)
    counted = static.forward if isinstance(given, nn.Module) else static
    for _ in range(2):
        for args in calls:
            want, got = eager(*copy.deepcopy(args)), static(*copy.deepcopy(args))
            torch.testing.assert_close(got, want, rtol=0, atol=0)
    assert counted.captures <= most, counted.report()
    return counted


def sized(*sizes):
    return [torch.arange(3.0 * n).reshape(n, 3) for n in sizes]


def optional(x, scale=None):
    return x.cumsum(0) if scale is None else x * scale.sum()


def flagged(x, on):
    return x * x.shape[0] if on else x.cumsum(0)


def of_type(x, dtype):
    return x.to(dtype) * x.shape[0]


def powers(x, n):
    for _ in range(n):
        x = x * 2
    return x


def spread(x, n):
    return (x * n + x.shape[0]).sum(0)


def with_options(x, options):
    y = x * options["k"]
    return y.sum(0) if options["on"] else y.sum(1)


A, B, C, D = sized(2, 3, 4, 5)
STATES = [
    (optional, [(A,), (B, A), (C,), (D, A)], 3),
    (flagged, [(A, True), (B, False), (C, True), (D, False)], 3),
    (of_type, [(A, torch.float32), (B, torch.float64), (C, torch.float32)], 3),
    (powers, [(A, 1), (A, 2), (B, 2), (C, 3)], 3),
    (spread, [(A, 1), (B, 2), (C, 3)], 2),
    (spread, [(A, 0.5), (B, 1.5), (C, 2.5)], 2),
    (with_options, [(x, {"k": n, "on": n % 2 == 0}) for n, x in enumerate((A, B, C, D))], 3),
]


@pytest.mark.parametrize("fn, calls, most", STATES, ids=lambda x: getattr(x, "__name__", ""))
def test_states_share_what_varies(fn, calls, most):
    check(fn, calls, most)


class Modes(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.drop = nn.Linear(3, 2), nn.Dropout(0.5)

    def forward(self, x, is_training):
        self.train(is_training)
        return self.linear(x) if is_training else self.drop(self.linear(x))


def test_modes_share_free_sizes():
    check(Modes(), [(A, True), (B, False), (C, True), (D, False)], 4)


class Cache(nn.Module):
    """Keeps what it has seen: a state whose size is another one at each call."""

    def __init__(self):
        super().__init__()
        self.linear, self.seen = nn.Linear(3, 3), None

    def forward(self, x, is_new=False):
        if is_new:
            self.seen = None
        x = self.linear(x)
        self.seen = x if self.seen is None else torch.cat([self.seen, x])
        return x @ self.seen.T


def test_sizes_of_the_state_are_free():
    one = A[:1]
    with torch.no_grad():
        check(Cache(), [(A, True), (one,), (one,), (one,), (B, True), (one,)], 5)


def test_a_growing_state_is_no_constant_of_programs():
    with torch.no_grad():
        counted = check(Cache(), [(A, True), (A[:1],), (A[:1],), (A[:1],)], 4, "auto")
    with pytest.raises(UnsupportedError, match=r"seen is f32.* before the call"):
        list(counted.programs)


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.step = 0

    def forward(self, x):
        self.step += 1
        return x * self.step if x.shape[0] > 1 else x + self.step


def test_counters_vary_with_sizes():
    check(Counting(), [(A,), (B,), (C,)], 2)


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    @oarlock.to_static(backend="replay")
    def there(self, x):
        return self.linear(x)

    @oarlock.to_static(backend="replay")
    def squared(self, x):
        return self.linear(x) ** 2


def test_methods_share_what_varies():
    pair = Pair()
    for x in (A, B, C):
        pair.there(x)
    for x in (A, B, C, D):
        torch.testing.assert_close(pair.squared(x), pair.linear(x) ** 2, rtol=0, atol=0)
    assert pair.there.captures == 2 and pair.squared.captures == 1


def grouped(x, n):
    """``n`` is the number of a structure's items."""
    return {i: x * i for i in range(n)}


def test_a_number_leaves_sizes_free():
    static = check(grouped, [(A, 1), (B, 2), (C, 2), (D, 2), (D, 1)], 5)
    assert len(static.tapes) <= 2


def called_by_method(linear, x):
    run = linear.__call__  # ours while code is converted
    return run(x)


def test_the_call_of_a_module_as_a_method():
    linear = nn.Linear(3, 2)
    static = oarlock.to_static(lambda x: called_by_method(linear, x), backend="replay")
    for _ in range(2):
        assert torch.equal(static(A), linear(A))
    assert static.captures == 1


def multiples(x):
    for i in range(3):
        yield x * i


def driven(x):
    items = multiples(x)
    total = items.send(None) + next(items)
    items.close()
    for y in torch.no_grad()(multiples)(x):
        total = total + y
    for y in without_gradients(x):
        total = total + y
    return total


without_gradients = torch.no_grad()(multiples)


def test_generators_that_are_driven():
    check(driven, [(A,), (B,)], 2)


def size_of_a_view(x):
    return torch.arange(x.reshape(-1).size(0)) + x.sum()


def size_of_a_sum(x):
    made = torch.zeros(x.shape[0] + x.shape[1])
    return torch.ones(made.shape[0]) * x.sum()


def rows_of_a_view(x):
    return sum(r * i for i, r in enumerate(x.flatten()))


@pytest.mark.parametrize(
    ("fn", "shapes"),
    [
        (size_of_a_view, ((2, 3), (1, 6), (2, 4))),
        (size_of_a_view, ((2, 6), (3, 4), (2, 4))),
        (size_of_a_sum, ((2, 3), (1, 4), (4, 5))),
        (rows_of_a_view, ((2, 3), (1, 6), (2, 4))),
    ],
)
def test_sizes_that_are_one_by_chance(fn, shapes):
    """The first two calls have as many items: that is no constant."""
    static = oarlock.to_static(fn)
    for shape in (*shapes, shapes[0]):
        x = torch.rand(shape)
        assert torch.equal(static(x), fn(x))
