"""Gradients of leaves that some ways of a decision set."""

from __future__ import annotations

import pytest
import torch

from oarlock.capture.to_static import to_static
from oarlock.errors import UnsupportedError

UP, DOWN = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([-1.0, -2.0, -3.0])


def leaf():
    return torch.ones(3).requires_grad_()


def there_on_one_way(x):
    w = leaf()
    if x.sum() > 0:
        (w * x).sum().backward()
    return x * 2 if w.grad is None else x + w.grad


def there_on_both_ways(x):
    w = leaf()
    if x.sum() > 0:
        (w * x).sum().backward()
    else:
        (w * w).sum().backward()
    return w.grad


def gone_on_one_way(x):
    w = leaf()
    (w * x).sum().backward()
    if x.sum() > 0:
        w.grad = None
    return x if w.grad is None else w.grad * 2


def read_inside(x):
    w = leaf()
    if x.sum() > 0:
        (w * x).sum().backward()
        x = x + w.grad
    else:
        assert w.grad is None
    return x


def set_again_after(x):
    w = leaf()
    if x.sum() > 0:
        (w * x).sum().backward()
    (w * 3).sum().backward()
    return w.grad


def added_up_in_a_loop(x):
    w, n = leaf(), x.abs().sum()
    (w * x).sum().backward()
    while n > 0:
        (w * n).sum().backward()
        n = n - 1
    return w.grad


FUNCTIONS = [there_on_one_way, there_on_both_ways, gone_on_one_way, read_inside, set_again_after,
             added_up_in_a_loop]  # fmt: skip


@pytest.mark.parametrize("fn", FUNCTIONS, ids=lambda f: f.__name__)
def test_what_eager_does(fn):
    static = to_static(fn, backend="replay")
    for x in (UP, DOWN, UP):
        assert torch.equal(static(x), fn(x))


def made_on_one_way(x):
    w, total = leaf(), torch.zeros(3)
    for _ in range(3):
        if x.sum() > 0:
            w = (w.detach() - x).requires_grad_()
        (grad,) = torch.autograd.grad((w * w).sum(), w)
        total = total + grad
        x = x - 1
    return total, w.detach()


def test_leaves_made_on_one_way_join():
    static = to_static(made_on_one_way, backend="replay")
    for x in (UP, DOWN, UP * 5, UP):
        for got, want in zip(static(x), made_on_one_way(x)):
            assert torch.equal(got, want)
    assert static.captures == 1
    assert "else" in str(static.tapes[0])
    assert str(static.tapes[0]).count("return") == 1


def switched_on_one_way(x):
    w = torch.ones(3)
    if x.sum() > 0:
        w.requires_grad_()
    return w.requires_grad


def test_leaves_switched_on_one_way_are_told_apart():
    static = to_static(switched_on_one_way, backend="replay")
    assert [static(x) for x in (UP, DOWN, UP)] == [True, False, True]


def from_some_trip_on(x):
    w, n = leaf(), x.sum()
    while n > 0:
        if w.grad is not None:
            x = x + w.grad
        (w * n).sum().backward()
        n = n - 1
    return x


def there_after_some_trip(x):
    w, n = leaf(), x.sum()
    while n > 0:
        (w * n).sum().backward()
        n = n - 1
    return x if w.grad is None else x + w.grad


@pytest.mark.parametrize("fn", [from_some_trip_on, there_after_some_trip])
def test_gradients_that_a_loop_may_set_are_refused(fn):
    with pytest.raises(UnsupportedError, match="the gradient of a tensor is read, which is there"):
        to_static(fn, backend="replay")(UP)


def reached_on_one_way(x):
    v, w, h = leaf(), leaf(), x
    if x.sum() > 0:
        h = h * w
    (h * v).sum().backward()
    return v.grad if w.grad is None else v.grad + w.grad


def reached_on_each_way(x):
    v, w = leaf(), leaf()
    h = x * w if x.sum() > 0 else v * w
    (h * h).sum().backward()
    return w.grad if v.grad is None else w.grad + v.grad


def there_before_the_pass(x):
    w, h = leaf(), x * 2
    (w * 2).sum().backward()
    if x.sum() > 0:
        h = h * w
    h = h * leaf()
    h.sum().backward()
    return w.grad


def asked_for(x):
    v, w, h = leaf(), leaf(), x
    if x.sum() > 0:
        h = h * w
    found = torch.autograd.grad((h * v).sum(), [v, w], allow_unused=True)
    return found[0] if found[1] is None else found[0] + found[1]


def one_of_two_leaves(x):
    v, w = leaf(), leaf()
    (x * (v if x.sum() > 0 else w)).sum().backward()
    return (v.grad is None, w.grad is None)


@pytest.mark.parametrize(
    "fn",
    [reached_on_one_way, reached_on_each_way, there_before_the_pass, asked_for, one_of_two_leaves],
    ids=lambda f: f.__name__,
)
def test_leaves_that_some_ways_reach(fn):
    static = to_static(fn, backend="replay")
    for x in (UP, DOWN, UP):
        want, got = fn(x), static(x)
        assert torch.equal(got, want) if isinstance(want, torch.Tensor) else got == want
    assert (static.captures, len(static.tapes)) == (1, 1)
    forks = str(static.tapes[0]).count("return")
    assert forks == (1 if fn is there_before_the_pass else 2)


def test_blocks_that_are_skipped_are_not_updated():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.blocks = torch.nn.ModuleList(torch.nn.Linear(3, 3) for _ in range(2))
            self.optimizer = torch.optim.Adam(self.parameters(), 1e-2)

        def step(self, x, bound):
            for block in self.blocks:
                if torch.rand(1).item() < bound:
                    x = x + torch.relu(block(x))
            loss = (x * x).sum() + sum(p.sum() * 0 for p in self.blocks[0].parameters())
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            return loss.detach()

    found = []
    for is_static in (False, True):
        torch.manual_seed(1)
        net = Net()
        run = to_static(net.step, backend="replay") if is_static else net.step
        losses = [run(torch.ones(2, 3), torch.tensor(b)) for b in (1.0, 0.5, 0.5, 0.0, 0.5, 1.0)]
        state = [x for s in net.optimizer.state.values() for x in s.values()]
        found.append([*losses, *state, *net.state_dict().values()])
    assert all(map(torch.equal, *found))
