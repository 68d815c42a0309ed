"""Numbers, texts and tensors."""

from __future__ import annotations

import torch
from torch import nn

from oarlock import not_to_static


def complex_number(x):
    return x * complex(x.sum(), 1.0)  # here


def complex_number_rewritten(x):
    return x * torch.complex(x.sum(), torch.ones(()))


def complex_item(x):
    return x * (x.sum() * 1j).item()  # here


def complex_item_rewritten(x):
    return x * (x.sum() * 1j)


def numpy_of_data(x):
    return x + torch.from_numpy(x.numpy())  # here


def numpy_of_data_rewritten(x):
    return x + x.detach()


def other_ranks(x):
    y = x
    while y.sum() < 10:
        y = torch.stack([y, y])  # near
    return y.shape[0]


def other_ranks_rewritten(x):
    y = x
    while y.sum() < 10:
        y = torch.cat([y, y])
    return y.shape[0]


def dtype_that_data_decide(x):
    y, n = x, 0
    while n < x.sum():
        y = x.double() if n > 1 else x
        n += 1
    return y + 1 if y.dtype == torch.float32 else y  # here


def dtype_that_data_decide_rewritten(x):
    y, n = x.double(), 0
    while n < x.sum():
        y = x.double() * 2 if n > 1 else x.double()
        n += 1
    return y + 1 if y.dtype == torch.float32 else y


def words_of_a_text(x):
    return len(f"{x.sum().item()} a".split())  # here


def words_of_a_text_rewritten(x):
    return len([f"{x.sum().item()}", "a"])


@not_to_static
def shown(x):
    return f"{float(x.sum()):.1f}"


def letters_of_a_text(x):
    return sorted(f"{int(x.sum())}")  # here


def letters_of_a_text_rewritten(x):
    return [x.sum()]


def text_of_a_left_out_function(x):
    return x, shown(x)  # here


def text_of_a_left_out_function_rewritten(x):
    return x, f"{x.sum().item():.1f}"


@not_to_static
def text_of_tensor(x):
    return f"<{x}>"


def text_of_a_tensor_in_a_left_out_function(x):
    return x, text_of_tensor(x)  # here


def text_of_a_tensor_in_a_left_out_function_rewritten(x):
    return x, f"<{x}>"


@not_to_static
def one_of_two_types(x):
    return x.sum().item() if float(x.sum()) > 2 else x


def types_of_a_left_out_function(x):
    return one_of_two_types(x)  # here


@not_to_static
def one_type(x):
    return x.sum() if float(x.sum()) > 2 else x.max()


def types_of_a_left_out_function_rewritten(x):
    return one_type(x)


@not_to_static
def needs_data(x):
    return x * {1: 3}[int(x[1]) - int(x[0])]


def left_out_function_that_fails_on_examples(x):
    return needs_data(x)  # here


def left_out_function_that_fails_on_examples_rewritten(x):
    return x * 3


def one_of_two_objects(x):
    p, n = x, 0
    while n < x.sum():
        p = (x * n,) if n > 1 else nn.ReLU()  # near
        n += 1
    return p


def one_of_two_objects_rewritten(x):
    p, n = (x,), 0
    while n < x.sum():
        p = (x * n,) if n > 1 else (x.relu(),)
        n += 1
    return p


def what_torch_cannot_tell(x):
    return torch.linalg.lstsq(x[None], x[None]).solution  # here


def what_torch_cannot_tell_rewritten(x):
    return torch.linalg.pinv(x[None]) @ x[None]


def length_of_a_set(x):
    return x * len({*x[x > 0].tolist()})  # here


def length_of_a_set_rewritten(x):
    return x * x[x > 0].unique().numel()


def ratio_of_data(x):
    return x * x.sum().item().as_integer_ratio()[0]  # here


def ratio_of_data_rewritten(x):
    return x * x.sum()
