"""Operations that fail as data decide, inside try."""

import math

import torch

from tests.constructs.case import case, t

KEYS = torch.tensor([1, 2, 1]), torch.tensor([3, 3, 3]), torch.tensor([5, 6, 7, 5])


@case(*KEYS, grad=False)
def counted_by_key_error(x):
    counts = {}
    for v in x.tolist():
        try:
            counts[v] += 1
        except KeyError:
            counts[v] = 1
    return x * counts[x[0].item()]


@case(*KEYS, grad=False)
def default_of_a_missing_key(x):
    table = {1: 10, 3: 30}
    total = 0
    for v in x:
        try:
            total += table[int(v)]
        except KeyError:
            total -= 1
    return x + total


@case(torch.tensor([0, 1, 2]), torch.tensor([0, 7, 1]), torch.tensor([-9, 3, -1]), grad=False)
def index_out_of_range(x):
    rows = [x * 1, x * 2, x * 3]
    out = x * 0
    for i in x.tolist():
        try:
            out = out + rows[i]
        except IndexError:
            out = out - 1
    return out


@case(torch.tensor([2, 1, 4]), torch.tensor([0, 0, 3]), torch.tensor([1, 0, 5]), grad=False)
def division_in_a_loop(x):
    total = 0
    for v in x.tolist():
        try:
            total += 12 // v
        except ZeroDivisionError as e:
            total += len(str(e))
    return x * total


@case(t(4.0, -1.0), t(-4.0, 9.0), t(1.0, 0.25))
def root_of_a_negative(x):
    total = 0.0
    for v in x.tolist():
        try:
            total += math.sqrt(v)
        except ValueError:
            total -= 1.0
    return x * total


@case(t(1.0, 2.0, 3.0), t(-1.0, 2.0, -3.0), t(-1.0, -2.0, -3.0))
def stack_that_may_be_empty(x):
    stack = []
    total = x[0] * 0
    for v in x:
        if v > 0:
            stack.append(v)
        else:
            try:
                total = total + stack.pop()
            except IndexError:
                total = total - 1
    return total, len(stack)


@case(t(1.0, 2.0, 3.0), t(-1.0, 2.0, -3.0), t(2.0, -2.0, -3.0))
def removed_twice(x):
    items = [1, 2, 3]
    misses = 0
    for v in x.tolist():
        try:
            items.remove(int(v))
        except ValueError:
            misses += 1
    return x * len(items), misses


class Box:
    pass


@case(t(1.0, 2.0), t(-1.0, -2.0), t(-3.0, 4.0))
def attribute_of_one_way(x):
    box = Box()
    if x[0] > 0:
        box.scale = x[1]
    try:
        y = x * box.scale
    except AttributeError:
        y = x - 1
    return y


@case(torch.tensor([1, 2]), torch.tensor([7, 1]), torch.tensor([7, 8]), grad=False)
def two_kinds_of_failures(x):
    table = {1: [10, 20], 2: []}
    out = []
    for k in x.tolist():
        try:
            out.append(table[k][1])
        except KeyError:
            out.append(-1)
        except IndexError:
            out.append(-2)
        else:
            out.append(0)
        finally:
            out.append(9)
    return torch.tensor(out)


def _scale(table, key, x):
    try:
        return x * table[key]
    except (KeyError, TypeError):
        return x


@case(torch.tensor([1, 2]), torch.tensor([7, 1]), torch.tensor([7, 8]), grad=False)
def failure_in_a_function(x):
    for k in x.tolist():
        x = _scale({1: 3, 2: 4}, k, x) + 1
    return x
