"""Sizes that the first calls round to one number: three or four items halved, five cut to four."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import oarlock

SIZES = [(3, 4, 6), (4, 5, 8), (5, 4, 9), (5, 7, 3), (4, 5, 2, 1), (2, 3, 7)]


def size_of_a_slice(x):
    return torch.arange(x[::2].size(0)) + x.sum()


def length_of_a_half(x):
    return torch.ones(len(x[: x.shape[0] // 2])) * x.sum()


def size_of_a_made_tensor(x):
    return torch.ones(torch.ones(x.shape[0] // 2).shape[0]) * x.sum()


def first_four(x):
    return torch.ones(len(x[:4])) * x.sum()


def least_of_size_and_three(x):
    return torch.ones(min(3, x.shape[0])) * x.sum()


def pooled(x):
    y = F.max_pool1d(x[None], 2)[0]
    return torch.zeros(y.shape[0]) + y.sum()


def strided_convolution(x):
    y = F.conv1d(x[None, None], torch.ones(1, 1, 2), stride=2)
    return y.reshape(y.shape[-1], 1) * y.shape[-1]


def interpolated(x):
    y = F.interpolate(x[None, None], scale_factor=0.5)[0, 0]
    return y * y.size(-1)


def pieces(x):
    return [c * 2 for c in x.split(2)]


def sums_of_chunks(x):
    return torch.stack([c.sum() for c in x.chunk(3)])


def unbound(x):
    return [r + 1 for r in x[::2].unbind(0)]


def loop_over_rows(x):
    total = 0
    for i, row in enumerate(x[::2]):
        total = total + row * i
    return total


def zipped_halves(x):
    return [a * b for a, b in zip(x[::2], x[1::2])]


def list_of_items(x):
    return x[::2].tolist(), sum(x[::2].tolist())


def axes_of_a_squeezed_half(x):
    y = x[: x.shape[0] // 2].squeeze()
    return y.dim() * x.sum(), y.unsqueeze(0) * y.ndim


def mean_by_length(x):
    y = x[::2]
    return y.sum() / len(y), x / y.numel()


def joined_ways(x):
    y = x[::2] if x.sum() > 0 else x[::2] - 1
    return y / y.shape[0]


def after_a_loop(x):
    while x.sum() < 100:
        x = x * 2 + 1
    y = x[::2]
    while y.sum() < 1000:
        y = y * 2 + 1
    return y / y.size(0)


def in_a_list(x):
    found = []
    for i in range(int(x.sum().item()) % 3 + 1):
        found.append(x[::2] + i)
    return found[0] / found[-1].size(0)


def decision(x):
    y = x[::2]
    return y.sum() if y.shape[0] > 2 else y.prod()


def windows(x):
    w = x.unfold(0, 2, 2)
    return w.sum() * w.shape[0]


def strides(x):
    y = x[: x.shape[0] // 2 * 2].view(2, -1)
    return y.sum(0) * y.stride(0)


def is_contiguous(x):
    y = x.view(1, -1)[:, ::2]
    return y + 1 if y.is_contiguous() else y - 1


def text(x):
    return f"{tuple(x[::2].shape)}", x + 1


def keys(x):
    return {2 * i: row for i, row in enumerate(x[::2])}


def indices(x):
    a = x[::2]
    m = torch.triu_indices(len(a), len(a))
    return a[m[0]] * m.shape[1]


def filled_part(x):
    found, y = torch.zeros(8), x[::2]
    found[: y.shape[0]] += y
    return found


PROGRAMS = [x for x in list(globals().values()) if getattr(x, "__module__", "") == __name__]


def is_same(a, b):
    if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
        a, b = torch.as_tensor(a), torch.as_tensor(b)
        return a.shape == b.shape and torch.equal(a.double(), b.double())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(is_same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(is_same, a, b))
    return a == b


@pytest.mark.parametrize("is_differentiated", [False, True])
@pytest.mark.parametrize("fn", PROGRAMS, ids=lambda fn: fn.__name__)
def test_later_sizes_are_rounded_again(fn, is_differentiated):
    for sizes in SIZES:
        static = oarlock.to_static(fn)
        for n in (*sizes, *sizes[:2]):
            x = (torch.arange(n) + 1.0).requires_grad_(is_differentiated)
            try:
                want = fn(x)
            except (RuntimeError, ValueError, IndexError) as error:
                with pytest.raises(type(error)):
                    static(x)
                continue
            assert is_same(static(x), want), (sizes, n)


class Audio(nn.Module):
    """Strided convolution; positions are made for the frames that it leaves."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(3, 4, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 2)
        self.optimizer = torch.optim.Adam(self.parameters(), 0.01)

    def forward(self, x):
        y = F.relu(self.norm(self.conv(x)))
        _, _, frames = y.shape
        return self.head((y * (torch.arange(frames) + 1.0)).sum(-1)) / frames

    def step(self, x):
        self.optimizer.zero_grad()
        loss = self(x).pow(2).mean()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def step_and_count(self, x):
        loss = self.step(x)
        with torch.no_grad():
            self.head.bias.add_(x[..., ::2].shape[-1])
        return loss + self.conv(x).shape[-1]


@pytest.mark.parametrize("backend", ["replay", "auto"])
@pytest.mark.parametrize("method", ["forward", "step", "step_and_count"])
def test_calls_that_update_what_they_are_given(method, backend):
    """The sizes of a call are tried before anything is updated."""
    torch.manual_seed(0)
    eager = Audio()
    other = copy.deepcopy(eager)
    static = oarlock.to_static(getattr(other, method), backend=backend)
    for n in (5, 6, 9, 7, 5, 3, 12, 9):
        x = torch.randn(2, 3, n)
        torch.testing.assert_close(static(x), getattr(eager, method)(x))
        for a, b in zip(eager.state_dict().values(), other.state_dict().values()):
            torch.testing.assert_close(a, b)
    assert static.captures <= 4


class Settled(nn.Module):
    """What it reads of sizes comes behind a loop on data, and behind updates."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.register_buffer("total", torch.tensor(0.0))
        self.register_buffer("history", torch.tensor(1.0))
        self.seen, self.kept = 0, []
        self.optimizer = torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)

    def settled(self, x):
        while x.abs().sum() > 4:
            x = x / 2
        return x[::2].shape[0]

    def counted(self, x):
        self.total += x.sum()
        self.seen += 1
        self.kept.append(x.shape[0])
        return self.settled(x) * self.scale

    def followed(self, x):
        self.history.mul_(self.scale).add_(x.sum() * self.scale)
        return self.settled(x) * self.scale

    def drawn(self, x):
        x = F.dropout(x, 0.5)
        self.total += x.sum()
        return torch.rand(()) + self.settled(x)

    def step(self, x):
        self.optimizer.zero_grad()
        (self.scale * x.detach().sum()).backward()
        self.optimizer.step()
        return self.settled(x * self.scale.detach())

    def argument(self, x):
        x += 1
        return self.settled(x) * self.scale


@pytest.mark.parametrize("backend", ["replay", "auto"])
@pytest.mark.parametrize("method", ["counted", "followed", "drawn", "step", "argument"])
@pytest.mark.parametrize("is_differentiated", [False, True])
def test_what_a_run_has_done_is_put_back(method, backend, is_differentiated):
    def run(make):
        torch.manual_seed(0)
        module, found = Settled(), []
        call = make(getattr(module, method))
        for n in (3, 4, 6, 5, 9, 4, 5, 7):
            x = (torch.arange(n) + 1.0).requires_grad_(is_differentiated) * 1
            y = call(x)
            found += [y, x, module.total, module.history, module.scale, module.seen, *module.kept]
            if is_differentiated:
                (x.sum() + module.history).backward(retain_graph=True)
                module.history.detach_()
                found.append(module.scale.grad)
            found = [v.detach().clone() if isinstance(v, torch.Tensor) else v for v in found]
        return found, torch.get_rng_state()

    want, got = run(lambda f: f), run(lambda f: oarlock.to_static(f, backend=backend))
    torch.testing.assert_close(got, want)


def half(x):
    y = x[: x.shape[0] // 2]
    return y * torch.ones(len(y)).sum()


def test_a_saved_program_is_right_or_says_that_it_does_not_hold(tmp_path):
    static = oarlock.to_static(half)
    for n in (4, 5):
        static(torch.ones(n))
    static.save(tmp_path / "narrow.oar")
    predictor = oarlock.Predictor(tmp_path / "narrow.oar")
    assert predictor(np.ones(5, np.float32)).tolist() == [2.0, 2.0]
    with pytest.raises(oarlock.errors.UserError, match="axis 0 has size 2"):
        predictor(np.ones(8, np.float32))
    static(torch.ones(8))
    static.save(tmp_path / "wide.oar")
    assert oarlock.Predictor(tmp_path / "wide.oar")(np.ones(6, np.float32)).tolist() == [3.0] * 3
