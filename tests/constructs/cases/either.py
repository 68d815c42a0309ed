"""One of two objects, texts or attributes at run time: what is done to it, and to the other one."""

import enum
import functools
import heapq
import itertools
from dataclasses import dataclass, replace

import torch
from torch import nn

from tests.constructs.case import case, t

UP, DOWN = t(1.0, 2.0), t(-1.0, -2.0)


class Account:
    def __init__(self, total=0):
        self.total, self.n = total, 0

    def add(self, value):
        self.total = self.total + value
        self.n += 1


@case(UP, DOWN)
def writes_to_one_of_two_objects(x):
    a, b = Account(), Account()
    p = a if x.sum() > 0 else b
    p.n = 5
    p.n += 1
    return x, a.n, b.n, p.n


@case(UP, DOWN)
def changes_one_of_two_objects_with_tensors(x):
    a, b = Account(x), Account(x * 2)
    if x.sum() > 0:
        p = a
    else:
        p = b
    p.add(x)
    return a.total, b.total, a.n, b.n


@case(UP, DOWN)
def changes_one_of_two_lists(x):
    first, second = [x], [x + 1]
    one = first if x.sum() > 0 else second
    one[0] = x * 10
    return first[0], second[0], one is first


@case(UP, DOWN)
def changes_one_of_two_dicts(x):
    first, second = {"v": x}, {"v": x + 1}
    one = first if x.sum() > 0 else second
    one["v"] = x * 10
    return first["v"], second["v"]


@case(UP, DOWN)
def changes_a_list_under_a_key(x):
    lists = {"a": [x], "b": [x]}
    key = "a" if x.sum() > 0 else "b"
    lists[key].append(x * 2)
    lists[key][0] = x * 3
    return len(lists["a"]), len(lists["b"]), lists["a"][0], lists["b"][0]


@case(UP, DOWN)
def changes_one_of_two_tensors(x):
    a, b = x.clone(), x.clone()
    p = a if x.sum() > 0 else b
    p.add_(1)
    return a, b, p is a


@case(UP, DOWN)
def methods_of_a_text_of_the_run(x):
    text = f"{x.sum().item():.1f}"
    changed = text.replace(".", ",").strip("-")
    if text.startswith("-"):
        return x, changed, len(text), text == "-3.0", text.upper()
    return x * len(text), changed, text[0], "." in text, text + "!" == "3.0!"


@case(UP, DOWN)
def one_of_two_texts(x):
    name = "alpha" if x.sum() > 0 else "be"
    y = x * len(name)
    if name.startswith("al"):
        y = y + 1
    if "p" in name:
        y = y * 2
    if name in ("be", "c"):
        y = y - 7
    return y, name.upper(), name + "!", f"<{name}>", name[0], name == "be"


@case(UP, DOWN)
def one_of_two_keys(x):
    name = "a" if x.sum() > 0 else "b"
    table = {"a": x, "b": x + 1, "n": 0}
    table[name] = table[name] * 2
    table.setdefault(name, 3)
    return table, {"a": 1, "b": 2}.get(name, 0), name in table


class Mode(enum.Enum):
    A = 1
    B = 2
    C = 3


@case(UP, DOWN, t(0.0, 0.0))
def one_of_three_members(x):
    mode = Mode.A if x.sum() > 0 else Mode.B if x.sum() < 0 else Mode.C
    y = x
    if mode is Mode.A:
        y = y + 1
    if mode == Mode.B:
        y = y * 2
    if mode in (Mode.B, Mode.C):
        y = y - 3
    match mode:
        case Mode.A:
            y = y + 0.25
        case Mode.B | Mode.C:
            y = y + 0.125
    return y, mode.name, {Mode.A: 1, Mode.B: 2, Mode.C: 3}[mode]


@case(UP, DOWN)
def attribute_of_one_path(x):
    o = Account()
    if x.sum() > 0:
        o.extra = x
    return getattr(o, "extra", x * 0), hasattr(o, "extra"), "extra" in vars(o)


@case(UP, DOWN)
def missing_attribute_of_one_path(x):
    o = Account()
    if x.sum() > 0:
        o.extra = x
    return o.extra


@case(UP, DOWN)
def truths_are_numbers(x):
    flag = bool(x.sum() > 0)
    other = not flag
    y = x * (flag + 1) if flag is True else x - 1
    return y, other, flag and 3, flag or "no", int(flag), flag ^ True, isinstance(other, int)


@case(UP, DOWN, UP, captures=6)
class AttributeOfSomeCalls(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            self.mode = "up"
        elif hasattr(self, "mode"):
            self.mode = self.mode + "d"
        return x * len(getattr(self, "mode", ""))


@case(t(1.0, 2.0, 3.0), t(-1.0, 2.0, 30.0), t(4.0, 7.0, 1.0))
def states_of_a_machine(x):
    mode, total = Mode.A, x.sum() * 0
    for v in x:
        if mode is Mode.A:
            if v > 0:
                mode = Mode.B
        elif mode == Mode.B:
            total = total + v
            if total > 5:
                mode = Mode.C
        else:
            break
    return total, mode.value, mode is Mode.B


@case(UP, DOWN)
def returns_one_of_two_objects(x):
    a, b = Account(), Account(2)
    p = a if x.sum() > 0 else b
    p.n = int(x.sum())
    return p


@case(t(1.0, 2.0, 3.0), t(-1.0, 2.0, 3.0), t(3.0, 1.0))
def number_that_becomes_a_tensor(x):
    total, n = 0.0, 0
    for v in x:
        if v > 0:
            n += v
        total += v
        if total > 3:
            break
    n -= 1
    return total, n


@dataclass(frozen=True)
class Rate:
    value: float
    decay: float = 0.5


@case(t(1.0, 2.0), t(-1.0, 0.5), t(30.0, 1.0))
def frozen_object_in_a_loop(x):
    rate = Rate(0.5)
    while x.abs().sum() > 2:
        rate = replace(rate, value=rate.value * rate.decay)
        x = x * (1 - rate.value)
        if rate.value < 0.05:
            break
    return x, rate.value


@case(t(3.0, 0.5), t(-3.0, 0.5), t(0.0, 0.5))
def truths_of_tensors_as_results(x):
    a, b = x[0], x[1]
    return a and b, a or b, not b, b in x, 7 not in x, any([a > 0, b > 1]), all([a > 0, b > 0])


@functools.cache
def coefficient(n):
    return 1.0 if n < 2 else coefficient(n - 1) + coefficient(n - 2)


@case(t(1.0, 2.0, 3.0), t(-1.0, -2.0, -3.0))
def function_with_a_cache(x):
    return x * coefficient(len(x)) if x.sum() > 0 else x * coefficient(2)


@case(t(1.0, 2.0, 3.0), t(3.0, 2.0, 1.0), t(1.0, 2.0, 0.5))
def itertools_with_functions(x):
    low = list(itertools.takewhile(lambda v: v < 3, x))
    sums = list(itertools.accumulate(x, lambda p, q: p + q if q > 1 else p))
    kept = [v * 2 for v in itertools.chain(low, sums) if v > 1.5]
    return (
        torch.stack(sums),
        len(low),
        sum(kept),
        len(list(itertools.dropwhile(lambda v: v > 2, x))),
    )


@case((t(3.0, 1.0, 2.0), 2), (t(1.0, 4.0, 1.0), 2))
def heap_of_the_largest(x, k):
    heap = []
    for i, v in enumerate(x.tolist()):
        if len(heap) < k:
            heapq.heappush(heap, (v, i))
        elif v > heap[0][0]:
            heapq.heapreplace(heap, (v, i))
    return heap[0][0], len(heap)


class Positive:
    def __set_name__(self, owner, name):
        self.name = "_" + name

    def __get__(self, owner, kind=None):
        return getattr(owner, self.name) * 2

    def __set__(self, owner, value):
        setattr(owner, self.name, -value if value.sum() < 0 else value)


class Vector:
    data = Positive()

    def __init__(self, data):
        self.data = data

    def __lt__(self, other):
        return self.data.norm() < other.data.norm()

    def __eq__(self, other):
        return bool((self.data == other.data).all())

    __hash__ = None

    @functools.cached_property
    def size(self):
        return self.data.norm() if self.data[0] > 1 else self.data.sum()


@case(t(1.0, 2.0), t(-1.0, -9.0), t(4.0, 0.0))
def own_comparisons_and_descriptors(x):
    a, b = Vector(x), Vector(x * 0 + 2)
    y = a.data if a < b else -b.data
    return y, a == b, a.size + b.size


@case(t(1.0, 2.0), t(-1.0, -9.0), t(4.0, 0.0))
def largest_of_sorted_objects(x):
    ranked = sorted([Vector(x), Vector(x * 0 + 2), Vector(x + 3)])
    again = sorted([ranked[2], ranked[0], ranked[1]], reverse=True)
    return max(ranked).data, min(ranked[1:]).data, again[0].data, max(ranked[0], ranked[1]).data


@case(t(4.0), t(5.0))
def largest_of_one(x):
    return max([int(x)])


@case(t(1.0, 2.0, -1.0), t(-1.0, -2.0, 1.0))
def list_or_none_that_grows(x):
    found = None
    for v in x:
        found = [] if found is None else found
        if v > 0:
            found.append(v)
    return found, len(found)


@case(t(1.5, 2.0), t(-1.5, -4.0), t(-1.5, 4.0), t(1.5, -4.0))
def function_chosen_before_a_fork(x):
    def up(v):
        return v + 1

    def double(v):
        return v * 2

    chosen = up if x.sum() > 0 else double
    found = {"a": x} if x[0] > 0 else {"b": -x}
    return chosen(x), found


class Factor:
    def __init__(self, k):
        self.k = k

    def times(self, v):
        return v * self.k


@case(t(1.5, 2.0), t(-1.5, -4.0), t(-1.5, 4.0), t(1.5, -4.0))
def method_chosen_before_a_fork(x):
    two, three = Factor(2), Factor(3)
    chosen = two if x.sum() > 0 else three
    act = two.times if x[1] > 0 else three.times
    found = {"a": x} if x[0] > 0 else {"b": -x}
    return x * chosen.k, act(x), found


@case(t(1.0, 3.0), t(-1.0, -2.0), t(3.0, 0.0, 1.0))
def truth_of_tensor_or_none(x):
    found = x[x > 2] if x.sum() > 0 else None
    return (found or torch.ones(2)), 3 if found else 4, not found
