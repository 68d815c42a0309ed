"""Whole training steps under ``to_static``: ten calls of each are eager's, bit for bit."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from oarlock.capture.to_static import to_static
from oarlock.errors import UnsupportedError

STEPS = {}


def case(make):
    STEPS[make.__name__] = make
    return make


def mlp():
    return nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 1))


def batch(i):
    draws = torch.Generator().manual_seed(i)
    return torch.randn(4, 8, generator=draws), torch.randn(4, 1, generator=draws)


def tokens(i):
    return torch.randint(0, 10, (4, 3), generator=torch.Generator().manual_seed(i)), batch(i)[1]


def states(*optimizers):
    return [
        [[o.state[p] for g in o.param_groups for p in g["params"]],
         [{k: v for k, v in g.items() if k != "params"} for g in o.param_groups]]
        for o in optimizers
    ]  # fmt: skip


def trained(model, optimizer):
    def step(x, y):
        loss = F.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "sgd_maximize": lambda p: torch.optim.SGD(
        p, lr=0.1, momentum=0.9, dampening=0.1, maximize=True
    ),
    "adam_foreach": lambda p: torch.optim.Adam(p, lr=0.01, foreach=True),
    "adam_fused": lambda p: torch.optim.Adam(p, lr=0.01, fused=True, amsgrad=True),
    "adam_of_a_tensor": lambda p: torch.optim.Adam(p, lr=torch.tensor(0.01)),
    "adagrad_fused": lambda p: torch.optim.Adagrad(p, lr=0.1, fused=True),
    "radam": lambda p: torch.optim.RAdam(p),
    "nadam": lambda p: torch.optim.NAdam(p, decoupled_weight_decay=True, weight_decay=0.01),
    "asgd": lambda p: torch.optim.ASGD(p, t0=3),
    "rprop": lambda p: torch.optim.Rprop(p),
    "rmsprop": lambda p: torch.optim.RMSprop(p, centered=True, momentum=0.9),
    "adafactor": lambda p: torch.optim.Adafactor(p),
    "muon": lambda p: torch.optim.Muon([x for x in p if x.dim() == 2]),
}


def of_optimizer(make):
    def build():
        model = mlp()
        optimizer = make(list(model.parameters()))
        return (
            trained(model, optimizer),
            batch,
            lambda: (list(model.parameters()), states(optimizer)),
        )

    return build


STEPS |= {name: of_optimizer(make) for name, make in OPTIMIZERS.items()}


def of_closure(**options):
    def build():
        model = mlp()
        optimizer = torch.optim.LBFGS(
            model.parameters(), lr=0.5, max_iter=4, history_size=3, **options
        )

        def step(x, y):
            def closure():
                optimizer.zero_grad()
                loss = F.mse_loss(model(x), y)
                loss.backward()
                return loss

            first = optimizer.step(closure)
            return first, model[0].weight.grad.norm()

        return step, batch, lambda: (list(model.parameters()), optimizer.state_dict()["state"])

    return build


STEPS["lbfgs"] = of_closure()
STEPS["lbfgs_wolfe"] = of_closure(line_search_fn="strong_wolfe")


@case
def sparse_adam():
    table = nn.Embedding(10, 1, sparse=True)
    optimizer = torch.optim.SparseAdam(table.parameters(), lr=0.1)
    model = nn.Sequential(table, nn.Flatten(0), nn.Unflatten(0, (4, 3)), nn.AvgPool1d(3))
    return trained(model, optimizer), tokens, lambda: (table.weight, states(optimizer))


@case
def freezing():
    model, count = mlp(), {"n": 0}
    step = trained(model, torch.optim.SGD(model.parameters(), lr=0.1))

    def freezes(x, y):
        count["n"] += 1
        model[0].requires_grad_(count["n"] > 3)
        return step(x, y)

    params = list(model.parameters())
    return freezes, batch, lambda: (params, [p.grad for p in params], count)


@case
def freezing_by_data():
    model = mlp()
    step = trained(model, torch.optim.SGD(model.parameters(), lr=0.1))

    def freezes(x, y):
        loss = step(x, y)
        if loss < 1.0:
            for p in model[0].parameters():
                p.requires_grad = False
        return loss

    params = list(model.parameters())
    return freezes, batch, lambda: (params, [p.grad for p in params])


@case
def adversarial():
    maker, judge = nn.Linear(8, 8), mlp()
    one = torch.optim.Adam(maker.parameters(), lr=0.01)
    two = torch.optim.Adam(judge.parameters(), lr=0.01)

    def step(x, y):
        for p in judge.parameters():
            p.requires_grad_(True)
        two.zero_grad()
        (F.softplus(-judge(x)).mean() + F.softplus(judge(maker(x).detach())).mean()).backward()
        two.step()
        for p in judge.parameters():
            p.requires_grad_(False)
        one.zero_grad()
        loss = F.softplus(-judge(maker(x))).mean()
        loss.backward()
        one.step()
        return loss

    params = [*maker.parameters(), *judge.parameters()]
    return step, batch, lambda: (params, [p.grad for p in params], states(one, two))


@case
def hooks_of_parameters():
    model, norms, count = mlp(), {}, []
    for name, p in model.named_parameters():
        p.register_hook(lambda g, name=name: norms.__setitem__(name, g.norm()))
        p.register_hook(lambda g: count.append(1))
    step = trained(model, torch.optim.SGD(model.parameters(), lr=0.1))
    return step, batch, lambda: (list(model.parameters()), norms, count)


@case
def hooks_of_the_step():
    model, kept = mlp(), {}

    def step(x, y):
        hidden = model[0](x)
        handle = hidden.register_hook(lambda g: kept.__setitem__("g", g))
        model[2](model[1](hidden)).sum().backward()
        handle.remove()
        return (kept["g"] * hidden).sum(1).detach()

    return step, batch, lambda: ([p.grad for p in model.parameters()], kept)


@case
def hooks_that_count():
    model, total, runs = mlp(), 0, 0

    def step(x, y):
        nonlocal runs
        hidden = model[0](x)

        def count(g):
            nonlocal total
            total += 1

        hidden.register_hook(count)
        model[2](model[1](hidden)).sum().backward()
        runs += 1
        return total

    return step, batch, lambda: (total, runs)


@case
def hooks_of_modules():
    model, kept = mlp(), {}
    model[1].register_forward_hook(lambda module, args, out: kept.__setitem__("a", out.detach()))
    model[0].register_full_backward_hook(
        lambda module, inner, outer: kept.__setitem__("g", outer[0].norm())
    )
    step = trained(model, torch.optim.SGD(model.parameters(), lr=0.1))
    return step, batch, lambda: (list(model.parameters()), kept)


@case
def hooks_that_come_later():
    model, kept, handles = mlp(), {}, []
    step = trained(model, torch.optim.SGD(model.parameters(), lr=0.1))

    def given(i):
        if i == 3:
            keep = lambda module, args, out: kept.__setitem__("a", out.detach())  # noqa: E731
            handles.append(model[1].register_forward_hook(keep))
        if i == 6:
            handles[0].remove()
        return batch(i)

    return step, given, lambda: (list(model.parameters()), kept)


@case
def group_added():
    model = mlp()
    optimizer = torch.optim.Adam(model[0].parameters(), lr=0.01)
    train = trained(model, optimizer)

    def step(x, y, adds):
        if adds:
            optimizer.add_param_group({"params": list(model[2].parameters()), "lr": 0.02})
        return train(x, y)

    return (
        step,
        lambda i: (*batch(i), i == 4),
        lambda: (list(model.parameters()), states(optimizer)),
    )


@case
def averaged():
    model = mlp()
    mean = torch.optim.swa_utils.AveragedModel(model)
    train = trained(model, torch.optim.SGD(model.parameters(), lr=0.1))

    def step(x, y):
        loss = train(x, y)
        mean.update_parameters(model)
        return loss

    return step, batch, lambda: (list(model.parameters()), mean.state_dict())


@case
def accumulated():
    model, count = mlp(), torch.zeros((), dtype=torch.long)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    def step(x, y):
        loss = F.mse_loss(model(x), y) / 3
        loss.backward()
        count.add_(1)
        if count % 3 == 0:
            optimizer.step()
            optimizer.zero_grad()
        return loss

    params = list(model.parameters())
    return step, batch, lambda: (params, [p.grad for p in params], states(optimizer), count)


@case
def scaled():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2)

    def step(x, y):
        loss = F.mse_loss(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        return loss

    return step, batch, lambda: (list(model.parameters()), scaler.state_dict())


@case
def skipped():
    model, count = mlp(), {"skipped": 0}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(x, y):
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        if not torch.isfinite(loss):
            count["skipped"] += 1
            return None
        loss.backward()
        optimizer.step()
        return loss

    def given(i):
        x, y = batch(i)
        return x * float("inf") if i % 4 == 2 else x, y

    return step, given, lambda: (list(model.parameters()), states(optimizer), count)


@case
def resumed():
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    kept = []

    def given(i):
        if i == 2:
            kept.append(copy.deepcopy((optimizer.state_dict(), model.state_dict())))
        if i in (4, 6):
            optimizer.load_state_dict(kept[0][0])
        if i == 6:
            model.load_state_dict(kept[0][1])
        if i == 8:
            optimizer.param_groups[0]["betas"] = (0.5, 0.6)
        return batch(i)

    return (
        trained(model, optimizer),
        given,
        lambda: (list(model.parameters()), states(optimizer)),
    )


@case
def replaced():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train = trained(model, optimizer)

    def step(x, y):
        kind = model[0].weight.dtype
        return train(x.to(kind), y.to(kind))

    def given(i):
        if i == 2:
            model[0].weight.data = torch.full((6, 8), 0.01)
        if i == 4:
            model.double()
        if i == 6:
            model.float()
        if i == 7:
            model[1] = nn.ReLU()
        if i == 8:
            model[0].weight.requires_grad = False
        return batch(i)

    return step, given, lambda: (list(model.parameters()),)


@case
def modes():
    model = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Dropout(0.3), nn.Linear(6, 1))
    step = trained(model, torch.optim.SGD(model.parameters(), lr=0.1))

    def given(i):
        model.train(i % 3 != 1)
        model[1].train(i % 2 == 0)
        return batch(i)

    return step, given, lambda: (model.state_dict(), torch.get_rng_state())


def leaves(x):
    if isinstance(x, torch.Tensor):
        shown = x.to_dense() if x.is_sparse else x
        return [str(x.dtype), x.requires_grad, shown.detach().clone()]
    if isinstance(x, dict):
        return [*map(str, x), *leaves(list(x.values()))]
    if isinstance(x, (list, tuple)):
        return [len(x), *(leaf for item in x for leaf in leaves(item))]
    return [x]


def ran(build, run):
    torch.manual_seed(0)
    step, given, state = build()
    torch.manual_seed(1)
    step = run(step)
    return [[*leaves(step(*given(i))), *leaves(state())] for i in range(10)]


def same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.shape == b.shape and a.equal(b)
    if isinstance(b, torch.Tensor):
        return b.dim() == 0 and b.item() == a
    return a == b or (a != a and b != b)


@pytest.mark.parametrize("name", STEPS)
def test_steps_are_eagers(name):
    want = ran(STEPS[name], lambda step: step)
    got = ran(STEPS[name], lambda step: to_static(step, backend="replay"))
    for i, (a, b) in enumerate(zip(want, got, strict=True)):
        assert len(a) == len(b), f"step {i}"
        assert all(map(same, a, b)), f"step {i}: {[p for p in zip(a, b) if not same(*p)]}"


def test_hooks_of_modules_that_torch_tells_less_are_refused():
    model = mlp()
    model[0].register_backward_hook(lambda module, inner, outer: None)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    step = to_static(trained(model, optimizer))
    step(*batch(0))  # makes the state of the optimizer
    with pytest.raises(UnsupportedError, match="use register_full_backward_hook"):
        step(*batch(1))
