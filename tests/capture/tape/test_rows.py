"""Lists and tuples that a loop of run-time length replaces by longer ones."""

from __future__ import annotations

import pytest
import torch

from oarlock.capture.to_static import to_static

INPUTS = [
    torch.tensor([1.0, 2.0, 3.0]),
    torch.tensor([-1.0, -2.0, -3.0]),
    torch.tensor([2.0, 0, 1]),
]


class Box:
    def __init__(self, x):
        self.x = x


def unpacked_tuple(x):
    out, n = (x,), x.sum()
    while n > 0:
        out = (*out, x * n)
        n = n - 1
    return torch.stack(out), len(out)


def added_tuple(x):
    out, n = (), x.sum()
    while n > 0:
        out = out + (x * n,)  # noqa: RUF005
        n = n - 1
    return out, isinstance(out, tuple), type(out) is tuple


def tuple_added_in_place(x):
    out, n = (x,), x.sum()
    kept = out
    while n > 0:
        out += (out[-1] + 1,)
        n = n - 1
    return kept, out[-1], out[1:], out[0]


def added_list(x):
    out, n = [], x.sum()
    while n > 0:
        out = out + [x * n]  # noqa: RUF005
        n = n - 1
    out = [x] + out  # noqa: RUF005
    return out, len(out), isinstance(out, tuple)


def unpacked_list(x):
    out, n = [], x.sum()
    while n > 0:
        out = [*out, x * n]
        n = n - 1
    return torch.stack([*out, x, *out])


def list_made_anew(x):
    rows, n = [x], x.sum()
    while n > 0:
        new = []
        for row in rows:
            new.append(row * 2)
        new.append(x)
        rows = new
        n = n - 1
    rows.append(x * 9)
    return torch.stack(rows)


def tuple_of_a_list(x):
    out, n = [], x.sum()
    while n > 0:
        out.append(n)
        n = n - 1
    rows = tuple(out)
    return rows, len(rows), list(rows)


def pairs(x):
    out, n = (), x.sum()
    while n > 0:
        out = (*out, (n, x * n))
        n = n - 1
    total = x * 0
    for a, b in out:
        total = total + a * b
    return total


def numbers(x):
    out = ()
    for i in range(int(x[0] + 2)):
        out = (*out, i)
    return out, sum(out)


def one_of_two_lengths(x):
    out, n = (x,), x.sum()
    while n > 0:
        out = (x, x * n) if n > 3 else (x,)
        n = n - 1
    return out


def in_an_attribute(x):
    box, n = Box(()), x.sum()
    while n > 0:
        box.x = (*box.x, n)
        n = n - 1
    return box.x


def in_a_dict(x):
    found, n = {"rows": []}, x.sum()
    while n > 0:
        found["rows"] = found["rows"] + [n]
        n = n - 1
    return found


FUNCTIONS = [
    unpacked_tuple, added_tuple, tuple_added_in_place, added_list, unpacked_list, list_made_anew,
    tuple_of_a_list, pairs, numbers, one_of_two_lengths, in_an_attribute, in_a_dict,
]  # fmt: skip


def plain(x):
    if isinstance(x, torch.Tensor):
        return x.tolist()
    if isinstance(x, dict):
        return {k: plain(v) for k, v in x.items()}
    return type(x)(map(plain, x)) if isinstance(x, (list, tuple)) else x


@pytest.mark.parametrize("fn", FUNCTIONS, ids=lambda f: f.__name__)
def test_what_eager_does(fn):
    static = to_static(fn, backend="replay")
    for x in INPUTS:
        assert plain(static(x)) == plain(fn(x))
    assert len(static.tapes) == 1


@pytest.mark.parametrize(
    "fn", [unpacked_tuple, added_list, unpacked_list], ids=lambda f: f.__name__
)
def test_gradients(fn):
    static = to_static(fn, backend="replay")
    for x in INPUTS:
        mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
        for f, y in ((static, mine), (fn, theirs)):
            found = f(y)
            torch.stack([t.sum() for t in (found if isinstance(found, tuple) else (found,))
                         if isinstance(t, torch.Tensor)] or [found[0][0].sum()]).sum().backward()  # fmt: skip
        assert torch.equal(mine.grad, theirs.grad)


def grows_in_place(x):
    out, n = (x,), x.sum()
    while n > 0:
        out = (*out, x)
        out.append(x)
        n = n - 1
    return out


def test_a_tuple_has_no_append():
    static = to_static(grows_in_place, backend="replay")
    with pytest.raises(AttributeError, match="'tuple' object has no attribute 'append'"):
        static(INPUTS[0])
