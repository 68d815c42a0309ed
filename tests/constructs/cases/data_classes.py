"""Data classes that decide when they are made, dicts of the library, generators that go on."""

from collections import ChainMap, UserDict, defaultdict
from dataclasses import InitVar, dataclass, field

import torch

from tests.constructs.case import case, t

UP, DOWN, MIXED = t(1.0, 2.0, 3.0), t(-1.0, -2.0, -3.0), t(-1.0, 2.0, -3.0)


@dataclass
class Interval:
    low: torch.Tensor
    high: torch.Tensor
    marks: list = field(default_factory=list)
    scale: InitVar[float] = 1.0

    def __post_init__(self, scale):
        if self.low > self.high:
            self.low, self.high = self.high, self.low
        self.marks.append(self.high * scale)

    @property
    def width(self):
        return self.high - self.low


@dataclass(frozen=True, slots=True)
class Range:
    low: torch.Tensor
    width: torch.Tensor = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "width", self.low * 2 if self.low > 0 else self.low * 0)


@case((t(1.0), t(4.0)), (t(5.0), t(2.0)), (t(-1.0), t(-1.0)))
def data_class_that_decides_when_made(a, b):
    found = Interval(a, b, scale=2.0)
    if found.width > 2:
        found.high = found.low + 2
    return found.low, found.high, found.marks, Range(a).width


@case(UP, MIXED, DOWN)
def dicts_of_the_library(x):
    known, own = ChainMap({}, {"a": 1.0, "b": 2.0}), UserDict(c=3.0)
    if x.sum() > 0:
        known["a"], own["c"] = 10.0, 5.0
    return x * known["a"] + known["b"] * own["c"]


@case(UP, MIXED, DOWN)
def values_sent_to_generator(x):
    def totals():
        total = torch.zeros(())
        while True:
            v = yield total
            total = total + (v if v > 0 else -2 * v)

    run = totals()
    next(run)
    for v in x:
        found = run.send(v)
    return found


@case(UP, MIXED, DOWN)
def numbers_without_end(x):
    def numbers():
        n = 1
        while True:
            yield n
            n += 1

    ids, total = numbers(), x.sum() * 0
    for v in x:
        if v > 0:
            total = total + v * next(ids)
    return total, next(ids)


@case(UP, MIXED, DOWN)
def generator_left_early(x):
    def halves(v):
        while v > 0.2:
            yield v
            v = v / 2

    parts, total = halves(x.abs().max()), x[0] * 0
    for v in parts:
        total = total + v
        if total > 3:
            break
    return total, sum(1 for _ in parts)


@case((UP, t(2.0)), (UP, t(0.0)), (DOWN, t(-1.0)))
def division_by_zero_is_caught(x, y):
    try:
        part = 1 / y.item()
    except ZeroDivisionError:
        part = 100.0
    return x * part


@case(UP, MIXED, DOWN)
def groups_of_one_of_two_keys(x):
    groups = defaultdict(list)
    for k in range(len(x)):
        groups["up" if x[k] > 0 else "down"].append(x[k])
    return {k: torch.stack(v).sum() for k, v in sorted(groups.items())}


@case(UP, MIXED, DOWN)
def set_of_one_of_two(x):
    found = set()
    for v in x:
        found.add(1 if v > 0 else 2)
    return x * len(found), 1 in found


@case(
    torch.tensor([1, 2, 1, 2]), torch.tensor([3, 3, 3, 5]), torch.tensor([4, 4, 4, 1]), grad=False
)
def tuples_of_the_run_as_keys(x):
    ids = []
    for v in x.tolist():
        if v < 4:
            ids.append(v)
    seen, again = set(), 0
    for a in range(len(ids) - 1):
        pair = tuple(ids[a : a + 2])
        if pair in seen:
            again += 1
        seen.add(pair)
    return again, len(seen)
