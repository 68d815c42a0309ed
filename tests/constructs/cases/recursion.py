"""Functions that call themselves until data stop them."""

import functools

import torch
from torch import nn

from tests.constructs.case import case, r, t

POS, NEG = t(1.0, 2.0, 3.0), t(-1.0, -2.0, -3.0)


def factorial(n):
    if n <= 1:
        return 1
    return n * factorial(n - 1)


@case(t(3), t(6), t(1), grad=False)
def number_from_recursion(n):
    return factorial(n)


@case(t(3), t(7), t(1), grad=False)
def fibonacci(n):
    if n < 2:
        return n
    return fibonacci(n - 1) + fibonacci(n - 2)


def collatz(n, steps):
    if n == 1:
        return steps
    if n % 2 == 0:
        return collatz(n // 2, steps + 1)
    return collatz(3 * n + 1, steps + 1)


@case((POS, t(6)), (POS, t(7)), (POS, t(1)))
def counted_recursion(x, n):
    return x * collatz(n, steps=0), collatz(n, 10)


@case((t(12), t(18)), (t(7), t(3)), grad=False)
def greatest_common_divisor(a, b):
    return a if b == 0 else greatest_common_divisor(b, a % b)


@case(r(3) * 0.1, r(3) * 5, r(3).abs())
class Refiner(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def refined(self, h, depth=0):
        h = self.layer(h).tanh() + h
        if h.norm() > 2:
            return h, depth
        return self.refined(h * 1.5, depth + 1)

    def forward(self, x):
        return self.refined(x)


def subtree(left, right, values, i):
    total = values[i]
    if left[i] >= 0:
        total = total + subtree(left, right, values, left[i])
    if right[i] >= 0:
        total = total * 2 + subtree(left, right, values, right[i])
    return total


@case(
    (r(4), t(1, 3, -1, -1), t(2, -1, -1, -1)),
    (r(4), t(-1, -1, -1, -1), t(1, 2, 3, -1)),
)
def tree_given_by_indices(values, left, right):
    return subtree(left, right, values, torch.tensor(0))


def raised(x, n):
    if n == 0:
        return torch.ones_like(x)
    half = raised(x, n // 2)
    return half * half if n % 2 == 0 else half * half * x


@case((POS, t(5)), (POS, t(9)), (POS, t(0)))
def power_by_squares(x, n):
    y = raised(x, n)
    return raised(y, t(2)) if y.sum() < 100 else y


@case(r(5), r(7), r(1), r(9))
def quicksort(x):
    if x.numel() <= 1:
        return x
    pivot, rest = x[0], x[1:]
    return torch.cat([quicksort(rest[rest < pivot]), pivot[None], quicksort(rest[rest >= pivot])])


def moves(n, done):
    if n > 0:
        moves(n - 1, done)
        done.append(n * 1)
        moves(n - 1, done)


@case(t(3), t(1), t(4), grad=False)
def list_filled_by_recursion(n):
    done = []
    moves(n, done)
    return len(done), done


@case((POS, t(3)), (NEG, t(2)), (NEG * 0, t(3)))
def recursion_in_a_loop_and_a_branch(x, n):
    def halved(y):
        return y if y.norm() < 1 else halved(y / 2)

    while n > 0:
        if x.sum() > 0:
            x = halved(x) + 1
        else:
            x = x - halved(x * 2)
        n = n - 1
    return x


@case(t(3.0, 1.0, 2.0), t(1.0, -2.0, 5.0), t(2.0, 2.0, 2.0))
def sorted_by_parts_of_lists(x):
    def ordered(items):
        if len(items) <= 1:
            return items
        first = items[0]
        low = [v for v in items[1:] if v < first]
        high = [v for v in items[1:] if v >= first]
        return ordered(low) + [first] + ordered(high)

    return torch.stack(ordered(list(x)))


def _ordered(x):
    if x.numel() <= 1:
        return x
    first, rest = x[0], x[1:]
    return torch.cat([_ordered(rest[rest < first]), first[None], _ordered(rest[rest >= first])])


@case(t(3.0, 1.0, 2.0), t(1.0, -2.0, 5.0), t(2.0, 2.0, 2.0))
def sorted_by_parts_of_tensors(x):
    return _ordered(x)


@case(t(5), t(1), t(3), grad=False, every_line=False)
def recursion_in_a_try(n):
    try:
        if n <= 1:
            return n * 0 + 1
        return n * recursion_in_a_try(n - 1)
    except TypeError:
        return n


LEFT: list = []


@case(t(5), t(1), t(3), grad=False, shared=("LEFT",))
def recursion_with_finally(n):
    try:
        if n <= 1:
            return n * 0 + 1
        return n * recursion_with_finally(n - 1)
    finally:
        LEFT.append(1)


@case((t(1, 2), t(3, 1)), (t(1, 2), t(2, 1)), (t(2, 1), t(2, 1)), (t(1, 3), t(1, 2)), grad=False)
def remembered_in_one_branch_alone(a, b):
    @functools.lru_cache(None)
    def common(i, j):
        if i == len(a) or j == len(b):
            return 0
        if a[i] == b[j]:
            return 1 + common(i + 1, j + 1)
        return max(common(i + 1, j), common(i, j + 1))

    return common(0, 0)
