"""Random numbers: in branches, loops, by name, from generators; the same draws as eager."""

import random

import numpy as np
import torch
import torch.nn.functional as F

from tests.constructs.case import case, r, t

POS, NEG = t(1.0, 2.0, 3.0), t(-1.0, -2.0, -3.0)


@case(POS, NEG)
def noise_in_branch(x):
    if x.sum() > 0:
        return x + torch.randn(3)
    return x * torch.rand_like(x)


@case(POS, NEG, POS, POS, POS)
def branch_on_draw(x):
    if torch.rand(1) < 0.5:
        return x + 1
    return x - 1


@case((POS, t(3)), (POS, t(0)))
def draws_in_loop(x, n):
    for _ in range(n):
        x = x + torch.randn(())
    return x


@case(POS, NEG)
def rejection_sampling(x):
    tries = 0
    v = torch.rand(())
    while v < 0.7:
        v = torch.rand(())
        tries += 1
    return x * v, tries


@case((r(5), t(4)), (r(5), t(0)), (r(5), t(6)))
def sampling_loop(logits, n):
    out = []
    for _ in range(n):
        k = torch.multinomial(F.softmax(logits, -1), 1)
        if k == 0:
            break
        out.append(k)
        logits = logits.roll(1)
    return torch.cat(out) if len(out) > 0 else torch.tensor([-1])


@case((POS, True), (NEG, True), (POS, False), captures=2)
def functional_dropout(x, training):
    if x.sum() > 0:
        x = F.dropout(x, 0.5, training)
    return x * 2


@case(POS, NEG, POS, NEG, POS, NEG, POS, NEG, POS, NEG, POS, NEG)
def bernoulli_mask(x):
    keep = torch.bernoulli(torch.full((3,), 0.5))
    if keep.sum() == 0:
        keep = keep + 1
    return x * keep / keep.sum()


@case((r(6, 2), t(3)), (r(6, 2), t(5)))
def shuffle_and_take(x, n):
    return x[torch.randperm(6)[:n]]


@case((POS, t(5)), (POS, t(2)))
def random_integers(x, n):
    i = torch.randint(0, 3, (int(n),))
    return x[i] if i.sum() > 2 else x


@case(POS, NEG)
def fill_in_place(x):
    y = torch.empty(3).uniform_(-1, 1)
    z = torch.zeros(3).normal_()
    return x * y if y.sum() > 0 else x + z


@case(POS, NEG)
def exponential_race(x):
    p = x.softmax(0)
    k = (p / torch.empty(3).exponential_()).argmax()
    return x[k] if k > 0 else x.sum()


@case(POS, NEG, factory=True)
def own_generator():
    g = torch.Generator().manual_seed(3)

    def f(x):
        y = torch.rand(3, generator=g)
        return x * y if x.sum() > 0 else x

    return f


@case(POS, NEG)
def seed_inside(x):
    torch.manual_seed(5)
    return x + torch.rand(3) if x.sum() > 0 else x


@case(POS, NEG)
def distribution(x):
    d = torch.distributions.Normal(x, 1.0)
    s = d.rsample()
    return s if x.sum() > 0 else d.log_prob(s)


@case(POS, NEG)
def gumbel(x):
    y = F.gumbel_softmax(x, hard=True)
    return y if x.sum() > 0 else y * 2


@case(r(2, 3), r(2, 3))
def rrelu_and_feature_dropout(x):
    x = F.rrelu(x, training=True)
    return F.alpha_dropout(x, 0.3, True) if x.sum() > 0 else F.feature_alpha_dropout(x, 0.3, True)
