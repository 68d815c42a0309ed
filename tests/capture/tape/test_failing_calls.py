"""What a call that fails at run time has left in objects until then: what eager leaves."""

from __future__ import annotations

import copy
from collections import deque

import pytest
import torch
from torch import nn

from oarlock.capture.to_static import to_static

GOOD, BAD = torch.tensor([0, 2, 1]), torch.tensor([0, 9, 1])
DOWN = torch.tensor([0, -1, -1])


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(3, 4)
        self.register_buffer("mean", torch.zeros(4))
        self.count, self.last, self.pair = 0, None, (0, 0)
        self.names, self.seen, self.recent = ["a"], {"a": 0}, deque(maxlen=2)
        self.kinds = {0}
        self.inner = nn.Linear(4, 4)
        self.inner.calls = 0


def attribute(self, x):
    self.count += 1
    y = self.table(x)
    self.count += 10
    return y


def several(self, x):
    self.count += 1
    first = self.table(x % 3)
    self.last = first
    self.names.append("b")
    second = first * 2
    self.last = second
    self.seen["b"] = self.count
    y = self.table(x)
    self.last, self.count = y, 0
    return y


def items(self, x):
    self.names.append("b")
    self.seen["a"] += 1
    self.recent.append(self.count)
    self.kinds.add(7)
    y = self.table(x)
    self.names.append("c")
    self.seen["c"] = 1
    self.kinds.add(99)
    return y


def removed(self, x):
    self.names.clear()
    self.seen.pop("a", None)
    self.last = torch.ones(2)
    y = self.table(x)
    self.names.append("z")
    self.seen["a"] = 5
    return y


def buffer(self, x):
    with torch.no_grad():
        self.mean.copy_(torch.full((4,), float(self.count)))
    self.count += 1
    y = self.table(x)
    self.mean.add_(1)
    return y


def buffer_replaced(self, x):
    self.mean = self.mean + 1
    y = self.table(x)
    self.mean = self.mean * 0
    return y


def on_one_way(self, x):
    if x.sum() > 0:
        self.count += 1
        y = self.table(x)
        self.count += 10
    else:
        self.count -= 1
        y = self.table(x)
        self.count -= 10
    return y


def after_a_decision(self, x):
    if x.sum() > 0:
        self.count += 1
    y = self.table(x)
    self.count += 10
    return y


def of_another_structure(self, x):
    if x.sum() > 0:
        self.last = x
    else:
        self.last = {"x": x}
    self.count += 1
    y = self.table(x)
    self.last = None
    return y


def in_a_loop(self, x):
    for row in x:
        self.count += 1
        self.last = self.table(row)
    return self.last


def in_a_loop_on_data(self, x):
    n = x[1] + 1
    while n > 0:
        self.count += 1
        n = n - 4
        self.table(x % 3 + (n > 0) * 2)
    return n


def made_and_changed_later(self, x):
    self.last = [x]
    y = self.table(x)
    self.last.append(y)
    return y


def around_the_call(self, x):
    self.names.append("first")
    self.names.append(self.named(x))
    return x


def in_a_module(self, x):
    self.inner.calls += 1
    y = self.inner(self.table(x))
    self.inner.calls += 10
    return y


def in_a_function(self, x):
    def run(x):
        return self.table(x)

    self.count += 1
    return torch.utils.checkpoint.checkpoint(run, x, use_reentrant=False)


def then_an_assertion(self, x):
    self.count += 1
    y = self.table(x % 3)
    self.count += 10
    assert (x < 5).all()
    self.count += 100
    return y


def gradients(self, x):
    self.count += 1
    self.table(x % 3).sum().backward()
    self.count += 1
    self.table.weight.grad[x] += 1
    self.count += 1
    return x


def by_size(self, x):
    self.count += 1
    self.names.append("b")
    return x.float() @ torch.ones(3, 2)


def outer(self, x):
    global TOTAL
    TOTAL = TOTAL + float(self.table(x % 3).shape[0])
    self.table(x)
    TOTAL = 0.0
    return x


TOTAL = 0.0
FUNCTIONS = [
    attribute, several, items, removed, buffer, buffer_replaced, on_one_way, after_a_decision,
    of_another_structure, in_a_loop, in_a_loop_on_data, made_and_changed_later, around_the_call,
    in_a_module, in_a_function, then_an_assertion, gradients, by_size, outer,
]  # fmt: skip
CALLS = [GOOD, BAD, GOOD, torch.tensor([0, 2, 1, 1, 3]), DOWN, BAD, GOOD]


def state(model):
    held = {k: v for k, v in vars(model).items() if not k.startswith("_") and k != "named"}
    grads = [p.grad for p in model.parameters()]
    return kept((held, dict(model.state_dict()), grads, model.inner.calls, TOTAL))


def kept(x):
    if isinstance(x, torch.Tensor):
        return x.detach().clone()
    if isinstance(x, dict):
        return {k: kept(v) for k, v in x.items()}
    return type(x)(map(kept, x)) if isinstance(x, (list, tuple, deque)) else copy.copy(x)


def same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return type(b) is dict and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple, deque)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def followed(fn, wrap):
    """The outcome of each call, and what it leaves."""
    global TOTAL
    TOTAL = 0.0
    model, found = Model(), []

    def named(x):
        return str(model.table(x).dim())

    model.named = named

    def step(x):
        return fn(model, x)

    run = wrap(step)
    for x in CALLS:
        try:
            outcome = run(x.clone())
        except (IndexError, AssertionError, RuntimeError) as error:
            outcome = type(error)
        found.append((outcome if isinstance(outcome, type) else outcome.detach(), state(model)))
    return found


@pytest.mark.parametrize("fn", FUNCTIONS, ids=lambda f: f.__name__)
def test_what_a_call_that_fails_leaves(fn):
    want = followed(fn, lambda f: f)
    assert any(isinstance(outcome, type) for outcome, _ in want)
    got = followed(fn, lambda f: to_static(f, backend="replay"))
    for i, (a, b) in enumerate(zip(want, got, strict=True)):
        assert same(list(a), list(b)), f"call {i}: {a} / {b}"


def test_a_call_that_goes_well_does_nothing_more():
    def text(model):
        static = to_static(several.__get__(model), backend="replay")
        static(GOOD)
        return str(static.tapes[0])

    assert "try" not in text(Model())


class Lock:
    held = 0

    def __enter__(self):
        self.held += 1

    def __exit__(self, *error):
        self.held -= 1


def test_managers_of_operations_that_fail_on_data():
    lock, table = Lock(), torch.arange(5.0)

    @to_static
    def look_up(i):
        with lock:
            return table[i] * 2

    look_up(torch.tensor(1))
    with pytest.raises(IndexError):
        look_up(torch.tensor(9))
    assert lock.held == 0
