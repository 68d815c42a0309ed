"""Views and updates in place, buffers that become state."""

from __future__ import annotations

import functools

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

import oarlock  # noqa: E402
from oarlock.errors import UnsupportedError  # noqa: E402


def fill_a_column(x):
    x = x.clone()
    x[:, 0] = 1
    return x


def fill_a_block(x):
    y = x * 2
    y[:, 1:3][:, :, ::2] = 5
    return y


def mask(x):
    y = x + 0
    y[y > 0] = -1
    return y


def mask_of_rows(x):
    y = x + 0
    y[torch.tensor([True, False, True, False])[None].expand(y.shape[0], 4)] = 7
    return y


def add_to_a_view(x):
    y = x.clone()
    v = y[:, 1]
    v += 3
    return y, v


def twice_to_a_view(x):
    y = x.clone()
    v = y[:, 1:3]
    v.mul_(2)
    y.add_(1)
    v.sub_(3).sigmoid_()
    v[:, 0].add_(1).neg_()
    return y, v


def relu_of_a_view(x):
    y = x - 0.5
    flat = y.view(y.shape[0], -1)
    flat.relu_()
    return y * flat.view_as(y)


def siblings(x):
    y = x * 1
    a, b = y.chunk(2, 1)
    a.mul_(2)
    y.add_(1)
    b.copy_(a)
    return y, a, b


def transposed(x):
    y = x.clone()
    y.transpose(1, 2)[:, 0] = 9
    return y


def permuted_slices_of_slices(x):
    y = x.clone()
    y.permute(2, 0, 1)[1:][1:, :, 1:].zero_()
    return y


def out_argument(x):
    y = torch.empty_like(x)
    torch.add(x, 1, out=y)
    torch.mul(y, 2, out=y)
    return y


def out_resized(x):
    y = torch.empty(0)
    return torch.exp(x, out=y) + y


def scatter(x):
    y = torch.zeros_like(x)
    return y.scatter_(2, torch.zeros_like(x[..., :1], dtype=torch.long), 4.0)


def index_put(x):
    y = x.clone()
    y[:, torch.tensor([2, 0])] = torch.ones(2, 6)
    y[:, torch.tensor([1])] += 2
    return y


def accumulate(x):
    y = x.clone()
    y.index_put_((torch.tensor([0, 0]),), x[:1].expand(2, -1, -1), accumulate=True)
    return y


def shapes_in_place(x):
    y = x.clone()
    y.unsqueeze_(0).mul_(2)
    y.squeeze_(0)
    return y.transpose_(1, 2)


def mixed_types(x):
    counts = torch.zeros(x.shape[0], dtype=torch.int64)
    counts += (x > 0).sum((1, 2))
    half = x.to(torch.bfloat16)
    half += x
    return counts, half.float()


def written_row_by_row(x):
    out = torch.zeros(x.shape[0], 4, 6)
    state = torch.zeros(x.shape[0], 6)
    for t in range(4):
        state = torch.tanh(x[:, t] + state)
        out[:, t] = state
    return out


def through_detach(x):
    y = x.clone()
    y.detach().add_(1)
    y.data.mul_(2)
    return y


def diagonal(x):
    y = x[:, :, :4].clone()
    y.fill_(2.0)
    y[..., 1, :].fill_(3)
    return y


UPDATES = [
    fill_a_column, fill_a_block, mask, mask_of_rows, add_to_a_view, twice_to_a_view, relu_of_a_view, siblings,
    transposed, permuted_slices_of_slices, out_argument, out_resized, scatter, index_put,
    accumulate, shapes_in_place, mixed_types, written_row_by_row, through_detach, diagonal,
]  # fmt: skip


@pytest.mark.parametrize("model", UPDATES, ids=lambda f: f.__name__)
def test_updates_equal_eager(model):
    program = oarlock.capture(model, (torch.randn(1, 4, 6),), dynamic={"x": {0: "N"}})
    for batch in (1, 3):
        x = torch.randn(batch, 4, 6)
        expected = model(x.clone())
        got = oarlock.evaluate(program, x.numpy())
        expected, got = (v if isinstance(v, tuple) else (v,) for v in (expected, got))
        for e, g in zip(expected, got):
            np.testing.assert_allclose(g, e.numpy(), rtol=1e-6, atol=1e-6)


def test_an_updated_input_is_reported_and_left_alone():
    def model(x):
        x += 1
        return x * 2

    with pytest.warns(UserWarning, match=r"test_updates.py:\d+: updates the input 'x' in place"):
        program = oarlock.capture(model, (torch.zeros(3),))
    x = np.zeros(3, np.float32)
    np.testing.assert_array_equal(oarlock.evaluate(program, x), np.full(3, 2, np.float32))
    assert not x.any()


class Counter(nn.Module):
    """Counts its calls and keeps a running sum."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("total", torch.zeros(4))

    def forward(self, x):
        self.calls += 1
        self.total[:2] += x.sum(0)[:2]
        return x * self.calls + self.total


def test_buffers_become_state():
    model = Counter().eval()
    program = oarlock.capture(model, (torch.ones(1, 4),), dynamic={"x": {0: "N"}})
    assert int(model.calls) == 0 and not model.total.any()
    assert sorted(s.name for s in program.state) == ["calls", "total"]
    predictor = oarlock.Predictor(program, threads=1)
    for batch in (1, 3, 2):
        x = torch.randn(batch, 4)
        np.testing.assert_allclose(predictor(x.numpy()), model(x).numpy(), rtol=1e-6, atol=1e-6)
    assert predictor.state["calls"] == 3


def test_tied_weights_are_stored_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(10, 4)
            self.head = nn.Linear(4, 10, bias=False)
            self.head.weight = self.embed.weight
            self.other = nn.Linear(4, 10, bias=False)
            self.other.weight.data = self.embed.weight.data

        def forward(self, tokens):
            x = self.embed(tokens)
            return self.head(x) + self.other(x)

    program = oarlock.capture(Tied().eval(), (torch.tensor([[1, 9]]),))
    assert list(program.params) == ["embed.weight"]


def test_constants_inside_the_model():
    table = np.arange(12, dtype=np.float32)

    def model(x):
        scale = torch.tensor([1.0, 2.0, 3.0])
        if torch.tensor(3).item() == 3 and scale.sum() > 5:
            x = x * scale.max().item()
        return x * scale + torch.from_numpy(table).view(4, 3)

    x = torch.randn(4, 3)
    got = oarlock.evaluate(oarlock.capture(model, (x,)), x.numpy())
    np.testing.assert_allclose(got, model(x).numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    "model",
    [lambda x: x * x.sum().item(), lambda x: x * 2 if x.sum() > 0 else x, lambda x: x * len(x.tolist())],
)  # fmt: skip
def test_decisions_on_data_are_refused(model):
    with pytest.raises(
        oarlock.errors.UnsupportedError, match=r"test_updates.py:\d+.*keep it a tensor"
    ):
        oarlock.capture(model, (torch.ones(3),))


class Keeps(nn.Module):
    """Keeps a table that grows, a log, and, if asked, a state that the next call reads."""

    def __init__(self, state: str = ""):
        super().__init__()
        self.state, self.table, self.log, self.names = state, None, [], {}
        self.hidden = torch.zeros(4)
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x):
        if self.table is None or len(self.table) < x.shape[1]:
            self.table = torch.arange(x.shape[1]).float()[:, None]
        self.log.append(x)
        self.names["last"] = self.last = x * 2 + self.table[: x.shape[1]]
        if self.state:
            setattr(self, self.state, getattr(self, self.state) + x.mean((0, 1)))
        return self.last + self.hidden


def test_what_a_model_keeps_in_its_attributes_is_left_alone():
    model = Keeps()
    program = oarlock.capture(model, (torch.randn(1, 5, 4),), dynamic={"x": {0: "N", 1: "T"}})
    assert model.table is None and not model.log and not model.names and not hasattr(model, "last")
    x = torch.randn(3, 7, 4)
    np.testing.assert_allclose(oarlock.evaluate(program, x.numpy()), model(x).numpy(), rtol=1e-6)
    oarlock.capture(model, (x[:1],), dynamic={"x": {0: "N"}})
    assert len(model.table) == 7 and len(model.log) == 1


@pytest.mark.parametrize("state", ["hidden", "mean"])
def test_a_state_that_is_replaced_is_refused(state):
    with pytest.raises(UnsupportedError, match=f"{state}' a new tensor.*self.{state}.copy_"):
        oarlock.capture(Keeps(state), (torch.randn(1, 5, 4),))


class Hooked(nn.Module):
    """Installs a hook of its own once, and keeps tables by sizes in a cache, as transformers do."""

    def __init__(self):
        super().__init__()
        self.fc, self.is_hooked = nn.Linear(4, 4), False

    def forward(self, x):
        if not self.is_hooked:
            self.fc.register_forward_hook(lambda module, args, out: out + 1)
            self.is_hooked = True
        return self.fc(x) + steps(4)[0]


@functools.lru_cache(maxsize=8)
def steps(n):
    return torch.arange(n) / n, n


def test_hooks_and_caches_are_left_alone():
    model = Hooked()
    program = oarlock.capture(model, (torch.randn(1, 4),), dynamic={"x": {0: "N"}})
    assert not model.is_hooked and not model.fc._forward_hooks
    x = torch.randn(3, 4)
    expected = model(x).detach().numpy()
    np.testing.assert_allclose(oarlock.evaluate(program, x.numpy()), expected, rtol=1e-5, atol=1e-6)
