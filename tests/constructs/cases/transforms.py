"""Transforms of functions: inside each other, at points, over dicts, of functions that close over sizes."""

import torch
from torch import nn
from torch.nn import functional as F

from tests.constructs.case import case, t

ROWS = t([[1.0, 2.0], [-0.5, 0.5]])
MINUS = t([[-1.0, 0.25], [-2.0, -0.5]])
TALL = t([[0.3, -1.0], [2.0, 0.1], [0.7, 0.9]])


@case((ROWS,), (0.1 * ROWS,), (TALL,), factory=True)
def per_sample_gradients():
    model = nn.Linear(2, 1)

    def clipped(x):
        held = {k: v.detach() for k, v in model.named_parameters()}

        def loss(p, row):
            return torch.func.functional_call(model, p, (row,)).pow(2).sum()

        grads = torch.func.vmap(torch.func.grad(loss), (None, 0))(held, x)
        norms = sum(g.flatten(1).pow(2).sum(1) for g in grads.values()).sqrt()
        if (norms > 1).any():
            scale = (1 / norms).clamp(max=1)
            return {k: (g.flatten(1) * scale[:, None]).mean(0) for k, g in grads.items()}
        return {k: g.flatten(1).mean(0) for k, g in grads.items()}

    return clipped


@case((ROWS,), (MINUS,), (TALL,))
def jvp_and_jacobian(x):
    def fn(v):
        return torch.stack([v.prod(), (v**2).sum()])

    out, tangent = torch.func.jvp(fn, (x[0],), (torch.ones_like(x[0]),))
    jacobian = torch.func.jacrev(fn)(x[0])
    if tangent[0] > 0:
        return jacobian @ x[0]
    return jacobian.abs().sum(0), out


@case((ROWS,), (MINUS,), (TALL,))
def vmap_of_a_dict(x):
    def fn(d, k):
        return {"a": d["u"] * k, "b": d["u"].sum() + d["v"]}

    return torch.func.vmap(fn, in_dims=({"u": 0, "v": None}, None))({"u": x, "v": x.mean()}, 3.0)


@case((ROWS,), (MINUS,), (TALL,))
def closes_over_sizes(x):
    n = x.shape[0]
    k = int(x.argmax())
    g = torch.func.grad(lambda v: (v**2).sum() * n + v.flatten()[k] * (k + 1))(x)

    def weighted(row):
        total = 0.0
        for j in range(2):
            total = total + row[j] * (n - j)
        return total / n

    return g, torch.func.vmap(weighted)(x)


@case((ROWS,), (MINUS,), (TALL,))
def closes_over_a_list(x):
    weights = [x.mean(), x.sum()]

    def fn(v):
        outs = []
        for w in weights:
            outs.append((v * w).sum())
        return torch.stack(outs).prod()

    g, value = torch.func.grad_and_value(fn)(x[0])
    return g if value > 0 else -g * 2


@case((ROWS,), (MINUS,), (TALL,), (ROWS,), factory=True, captures=3)
def averaged_model():
    model = nn.Linear(2, 1)
    mean = torch.optim.swa_utils.AveragedModel(model)
    held = {"steps": 0}

    def step(x):
        held["steps"] += 1
        loss = F.mse_loss(model(x), x[:, :1].detach())
        if held["steps"] > 1:
            mean.update_parameters(model)
        return loss, mean(x).detach()

    return step


@case((ROWS[0],), (MINUS[0],), (TALL[:, 0],))
def categorical(x):
    found = torch.distributions.Categorical(logits=x)
    drawn = found.sample()
    return found.entropy(), found.log_prob(drawn)
