"""What is outside of the function: settings, modes, generators, arrays, gradients."""

from __future__ import annotations

import os
import random

import numpy as np
import torch
from torch import nn

W = torch.ones(3, requires_grad=True)
ARRAY = np.ones(3)


class Numbers(list):
    pass


SEEN = Numbers()


def generator_state(x):
    g = torch.Generator()
    g.manual_seed(3)
    g.get_state()  # here
    return x * torch.rand(3, generator=g)


def generator_state_rewritten(x):
    g = torch.Generator()
    g.manual_seed(3)
    return x * torch.rand(3, generator=g)


def shuffled(x):
    order = [0, 1, 2]
    random.shuffle(order)  # here
    return x[order].sum()


def shuffled_rewritten(x):
    return x[torch.randperm(3)].sum()


def array_of_draws(x):
    return x + torch.from_numpy(np.random.rand(3)).float() * 0  # here


def array_of_draws_rewritten(x):
    return x + torch.rand(3) * 0


def draw_with_data(x):
    return x + np.random.normal(x.sum().item()) * 0  # here


def draw_with_data_rewritten(x):
    return x + torch.normal(x.sum(), torch.ones(())) * 0


def setting(x):
    torch.set_num_threads(1)  # here
    return x * 2


def setting_rewritten(x):
    return x * 2


def environment(x):
    os.environ["OL_REFUSED"] = "2"  # here
    return x * 2


def environment_rewritten(x):
    return x * 2


def array_from_outside(x):
    ARRAY[0] = 2  # here
    return x * 2


KEPT = torch.ones(3)


def array_from_outside_rewritten(x):
    KEPT[0] = 2
    return x * 2


def default_of_a_function(x):
    scaled.__defaults__ = (3,)  # here
    return scaled(x)


def scaled(x, k=2):
    return x * k


def default_of_a_function_rewritten(x):
    return scaled(x, 3)


def function_of_torch(x):
    nn.functional.gelu = None  # here
    return x


def function_of_torch_rewritten(x):
    return x


def grad_mode_on_one_way(x):
    n = 0
    while n < x.sum():
        if n > 1:  # near
            torch.set_grad_enabled(False)
        n += 1
    return x * W


def grad_mode_on_one_way_rewritten(x):
    n = 0
    while n < x.sum():
        n += 1
    return x * W


def requires_grad_in_a_loop(x):
    n = 0
    while n < x.sum():
        if n > 1:  # near
            W.requires_grad_(False)
        n += 1
    return x * 2


def requires_grad_in_a_loop_rewritten(x):
    n = 0
    while n < x.sum():
        n += 1
    return x * 2


def list_of_a_class_from_outside(x):
    while x.sum() > 0:
        SEEN.append(1)  # near
        x = x - 1
    return x


def list_of_a_class_from_outside_rewritten(x):
    found = []
    while x.sum() > 0:
        found.append(1)
        x = x - 1
    return x, len(found)


class Hooked(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(3, 3)
        self.lin.register_backward_hook(lambda module, given, got: None)

    def forward(self, x):
        return self.lin(x)  # here


class FullyHooked(Hooked):
    def __init__(self):
        nn.Module.__init__(self)
        self.lin = nn.Linear(3, 3)
        self.lin.register_full_backward_hook(lambda module, given, got: None)


HOOKED, FULLY = Hooked(), FullyHooked()


def hooks_that_torch_tells_less(x):
    return HOOKED(x)


def hooks_that_torch_tells_less_rewritten(x):
    return FULLY(x)
