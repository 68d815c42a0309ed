"""Functions that are handed to torch, and classes of it."""

from __future__ import annotations

import torch


def keywords_through_vmap(x):
    return torch.func.vmap(lambda a, b=1: a * b)(x, b=x)  # here


def keywords_through_vmap_rewritten(x):
    return torch.func.vmap(lambda a, b=1: a * b)(x, x)


def dict_changed_through_vmap(x):
    seen = {}

    def f(v):
        seen["v"] = v
        return v * 2

    return torch.vmap(f)(x), seen["v"]  # here


def dict_changed_through_vmap_rewritten(x):
    return torch.vmap(lambda v: (v * 2, v))(x)
