"""Programs that mix constructs: inner variables, own managers, modes, orders, counts of results."""

import contextlib
import copy
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional as F

from tests.constructs.case import case, t

UP, DOWN, SHORT = t(1.0, 2.0, 3.0), t(-1.0, -2.0, -3.0), t(4.0, -1.0)
ROWS, COLUMNS = t([[1.0, 2.0], [-0.5, 0.5]]), t([[-1.0, 0.25], [-2.0, -0.5]])


@case(UP, DOWN, SHORT)
def counter_of_inner_functions(x):
    def counter():
        n = 0

        def add(by=1):
            nonlocal n
            n += by
            return n

        return add

    add = counter()
    for v in x:
        if v > 0:
            add()
        else:
            add(10)
    return add(0)


class Swallowing:
    def __init__(self):
        self.log = []

    def __enter__(self):
        self.log.append("in")
        return self

    def __exit__(self, kind, error, trace):
        self.log.append("out" if kind is None else kind.__name__)
        return kind is KeyError


@case(UP, DOWN)
def manager_that_swallows(x):
    manager = Swallowing()
    with manager:
        if x.sum() < 0:
            raise KeyError("negative")
        x = x * 2
    return x, manager.log


@case(UP, DOWN)
def modes_until_the_stack_closes(x):
    log = []
    with contextlib.ExitStack() as stack:
        stack.callback(log.append, "done")
        if x.sum() > 0:
            stack.enter_context(torch.no_grad())
        y = x * 2
    return y, log


@case(UP, DOWN)
def type_of_tensor_or_number(x):
    y = x.sum() if x[0] > 0 else 3.0
    if isinstance(y, float):
        return x + y
    return x * y


@case(UP, DOWN, grad=False)
def copies_deeply(x):
    held = {"w": [x, x * 2]}
    other = copy.deepcopy(held)
    if x.sum() > 0:
        other["w"].reverse()
    return held, other


@case(UP, DOWN)
def sorts_by_key(x):
    items = [(k, v) for k, v in enumerate(x)]
    items.sort(key=lambda item: item[1])
    return [k for k, _ in items], [v for _, v in items]


@case(UP, DOWN)
def index_of_smallest(x):
    values = x.tolist()
    return values.index(min(values)), values.count(2.0)


@case((UP, t(2)), (DOWN, t(3)), (SHORT, t(1)))
def slice_to_a_tensor(x, k):
    head = x[:k].clone()
    return torch.stack([head[j] * j for j in range(k)])


@case(UP, DOWN, SHORT)
def sizes_of_pieces(x):
    return [piece.shape[0] for piece in x.split(2)], x.stride(), sum(x.unbind())


@case(ROWS, COLUMNS)
class ModeOfPart(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(2)

    def forward(self, x):
        before = self.norm.training
        if x.mean() > 0:
            self.norm.eval()
        y = self.norm(x)
        self.norm.train(before)
        return y


@case(UP, DOWN, UP * 2)
class KeepsTheLast(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("last", torch.zeros(()))
        self.text = "none"

    def forward(self, x):
        mean = x.detach().mean()
        if mean > 0:
            setattr(self, "last", mean)  # noqa: B010
        return x * 2


@dataclass
class Range:
    low: torch.Tensor
    hits: list = field(default_factory=list)

    def widen(self, x):
        if x.min() < self.low:
            self.low = x.min()
            self.hits.append("low")
        return self


@case(UP, DOWN)
def data_class_with_list(x):
    found = Range(torch.tensor(0.0))
    for v in x.split(1):
        found.widen(v)
    return found


class Batch:
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __iter__(self):
        for row in self.rows:
            if row.sum() > 0:
                yield row

    def keep(self, row):
        if row.sum() > -1:
            self.rows.append(row)


@case(ROWS, COLUMNS)
def own_length_and_items(x):
    batch = Batch([x[0]])
    batch.keep(x[1])
    total = torch.zeros(2)
    for row in batch:
        total = total + row
    return total, len(batch)


@case(UP, DOWN)
def truth_by_length(x):
    kept = Batch([])
    kept.keep(x)
    if kept and x[0] > -5:
        return x * len(kept)
    return x


@case((t(1.0, 2.0),), (t(-1.0, 2.0),), grad=False)
def changes_its_argument(x):
    x.add_(1)
    if x.sum() > 3:
        x.mul_(2)
    else:
        x[0] = 0
    return x


@case((t(0.5, 1.5), t(10.0)), (t(4.0, 8.0), t(10.0)))
def plain_index_from_a_decision(x, limit):
    names, k = ["low", "high"], 0
    if x.sum() > limit:
        k += 1
    return x * (k + 1), names[k], F.pad(x, (0, k))
