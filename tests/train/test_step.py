"""Recorded training steps against eager ones: outputs, parameters, buffers, optimizer state, ``.grad``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from bench.train_models import classes  # noqa: E402
from oarlock.capture.joint.trace import record_step  # noqa: E402
from oarlock.train.step import Step  # noqa: E402

EPS = 2.0**-23
Made = tuple[nn.Module, Any, Callable[..., Any]]


def mlp(make: Callable[[Any], Any], clip: float = 0.0, dropout: float = 0.0) -> Made:
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 3))
    optimizer = make(model.parameters())
    return model, optimizer, classes(model, optimizer, clip)


OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "sgd-momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3),
    "sgd-nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "sgd-foreach": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, foreach=True),
    "sgd-fused": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, fused=True),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2),
    "adam-amsgrad": lambda p: torch.optim.Adam(p, lr=1e-2, amsgrad=True),
    "adam-foreach": lambda p: torch.optim.Adam(p, lr=1e-2, foreach=True),
    "adam-fused": lambda p: torch.optim.Adam(p, lr=1e-2, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1),
    "adamw-fused": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-2),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=1e-2),
    "nadam": lambda p: torch.optim.NAdam(p, lr=1e-2),
    "adamax": lambda p: torch.optim.Adamax(p, lr=1e-2),
    "adadelta-foreach": lambda p: torch.optim.Adadelta(p, foreach=True),
}


def leaves(model: nn.Module, optimizer: Any) -> list[Any]:
    """Everything that a step changes."""
    states = [x for s in optimizer.state.values() for x in s.values() if torch.is_tensor(x)]
    return [*model.parameters(), *model.buffers(), *states]


def assert_close(ours: Any, theirs: Any, steps: int) -> None:
    """Rounding of sums of a few hundred terms, once more in each step."""
    for a, b in zip(ours, theirs, strict=True):
        scale = max(1.0, float(b.detach().abs().max())) if b.numel() else 1.0
        torch.testing.assert_close(a, b, rtol=0, atol=256 * EPS * steps * scale)


def check(make: Callable[[], Made], batches: list[Any], steps: int = 6) -> Step:
    """Steps of ours beside steps of eager, from the same start and seeds."""
    torch.manual_seed(0)
    model, optimizer, step = make()
    torch.manual_seed(0)
    other, other_optimizer, eager = make()
    torch.manual_seed(1)
    step(*batches[0])
    torch.manual_seed(1)
    eager(*batches[0])
    ours = Step(record_step(step, tuple(batches[0])), threads=1)
    for i in range(steps):
        batch = batches[i % len(batches)]
        torch.manual_seed(i)
        got = ours.run(list(batch))
        after = torch.rand(1)
        torch.manual_seed(i)
        expected = eager(*batch)
        assert torch.equal(after, torch.rand(1)), "the generator is elsewhere"
        assert_close([got], [expected], steps)
        assert_close(leaves(model, optimizer), leaves(other, other_optimizer), steps)
        assert [p.grad is None for p in model.parameters()] == [
            p.grad is None for p in other.parameters()
        ]
    return ours


def batches(*shape: int, classes: int = 3) -> list[Any]:
    torch.manual_seed(7)
    return [(torch.randn(shape), torch.randint(classes, shape[:1])) for _ in range(3)]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer(name):
    ours = check(lambda: mlp(OPTIMIZERS[name], clip=0.5), batches(8, 6))
    assert not ours.recording.aten_calls


def test_dropout_draws_what_eager_draws():
    ours = check(lambda: mlp(OPTIMIZERS["adam"], dropout=0.5), batches(8, 6))
    assert len(ours.recording.draws) == 1


def twins():
    """Two equal models with optimizer and step, one step taken, and the batch of it."""
    made = []
    (batch, *_) = batches(8, 6)
    for _ in range(2):
        torch.manual_seed(0)
        made.append(mlp(OPTIMIZERS["adam"]))
        made[-1][2](*batch)
    return *made, batch


def test_a_changed_learning_rate_needs_no_recording():
    (model, optimizer, step), (other, other_optimizer, eager), batch = twins()
    ours = Step(record_step(step, batch), threads=1)
    schedules = [
        torch.optim.lr_scheduler.ExponentialLR(o, 0.5) for o in (optimizer, other_optimizer)
    ]
    for _ in range(4):
        ours.run(list(batch)), eager(*batch)
        for schedule in schedules:
            schedule.step()
    assert_close(leaves(model, optimizer), leaves(other, other_optimizer), 4)


def test_steps_of_both_kinds_interleave():
    (model, optimizer, step), (other, other_optimizer, eager), batch = twins()
    ours = Step(record_step(step, batch), threads=1)
    for i in range(6):
        ours.run(list(batch)) if i % 2 else step(*batch)
        eager(*batch)
    assert_close(leaves(model, optimizer), leaves(other, other_optimizer), 6)


def test_autograd_notices_what_a_run_has_changed():
    model, _, step = mlp(OPTIMIZERS["sgd"])
    (batch, *_) = batches(8, 6)
    ours = Step(record_step(step, batch), threads=1)
    pending = F.cross_entropy(model(batch[0]), batch[1])
    ours.run(list(batch))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        pending.backward()


def convolutional() -> Made:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.Tanh(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, stride=2, groups=2), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 3),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return model, optimizer, classes(model, optimizer)


def test_convolutions_and_batch_norm():
    check(convolutional, batches(4, 3, 8, 8))


class Sequences(nn.Module):
    def __init__(self, layer: type, **options: Any) -> None:
        super().__init__()
        self.rnn = layer(5, 8, **options)
        self.out = nn.Linear(16 if options.get("bidirectional") else 8, 3)

    def forward(self, x: Any) -> Any:
        return self.out(self.rnn(x)[0].mean(1))


RECURRENT: dict[str, Any] = {
    "lstm": (nn.LSTM, {}),
    "lstm-deep": (nn.LSTM, {"num_layers": 2, "dropout": 0.3, "bidirectional": True}),
    "gru": (nn.GRU, {}),
    "gru-deep": (nn.GRU, {"num_layers": 2, "bidirectional": True, "bias": False}),
    "rnn": (nn.RNN, {"bidirectional": True}),
    "rnn-relu": (nn.RNN, {"nonlinearity": "relu"}),
}


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers(name):
    layer, options = RECURRENT[name]

    def make() -> Made:
        model = Sequences(layer, batch_first=True, **options)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        return model, optimizer, classes(model, optimizer)

    ours = check(make, batches(4, 7, 5), steps=3)
    scans = [n for n in ours.recording.program.graph.nodes if n.name.endswith("_grad")]
    cells = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    assert len(scans) == cells


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Embedding(20, 16), nn.LayerNorm(16)
        self.q, self.kv, self.out = (
            nn.Linear(16, 16, False),
            nn.Linear(16, 32, False),
            nn.Linear(16, 3),
        )

    def forward(self, x: Any) -> Any:
        x = self.norm(self.embed(x))
        parts = [
            t.unflatten(-1, (2, 8)).transpose(1, 2) for t in (self.q(x), *self.kv(x).chunk(2, -1))
        ]
        y = F.scaled_dot_product_attention(*parts, is_causal=True)
        return self.out(F.gelu(y.transpose(1, 2).flatten(2)).mean(1))


def test_attention_layer_norm_embedding():
    def make() -> Made:
        model = Transformer()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        return model, optimizer, classes(model, optimizer)

    torch.manual_seed(3)
    tokens = [(torch.randint(20, (4, 6)), torch.randint(3, (4,))) for _ in range(2)]
    check(make, tokens)


def test_gradients_accumulate():
    """Two backward passes between updates: ``.grad`` is carried from call to call."""
    torch.manual_seed(0)
    model, optimizer, _ = mlp(OPTIMIZERS["adam"])
    torch.manual_seed(0)
    other, other_optimizer, _ = mlp(OPTIMIZERS["adam"])

    def backward(m: nn.Module) -> Callable[..., Any]:
        def step(x: Any, y: Any) -> Any:
            loss = F.cross_entropy(m(x), y)
            loss.backward()
            return loss.detach()

        return step

    (batch, *_) = batches(8, 6)
    first = Step(record_step(backward(model), batch), threads=1)
    first.run(list(batch)), backward(other)(*batch)
    assert_close([p.grad for p in model.parameters()], [p.grad for p in other.parameters()], 1)
    second = Step(record_step(backward(model), batch), threads=1)
    for _ in range(2):
        second.run(list(batch)), backward(other)(*batch)
    assert_close([p.grad for p in model.parameters()], [p.grad for p in other.parameters()], 3)
    optimizer.step(), other_optimizer.step()
    assert_close(leaves(model, optimizer), leaves(other, other_optimizer), 3)


def test_data_dependent_code_is_refused():
    from oarlock.capture.joint.numbers import DataDependent

    model, optimizer, step = mlp(OPTIMIZERS["sgd"])

    def decides(x: Any, y: Any) -> Any:
        return step(x, y) if x.sum() > 0 else None

    with pytest.raises(DataDependent, match=r"test_step\.py"):
        record_step(decides, batches(8, 6)[0])
    assert all(p.grad is None for p in model.parameters()) and not optimizer.state


@pytest.mark.parametrize("frozen", [(), (0,), (1,)], ids=["free", "weight frozen", "bias frozen"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_batch_norm_of_what_needs_no_gradient(frozen, training):
    def make() -> Made:
        model = nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 3)).train(training)
        for i in frozen:
            list(model.parameters())[i].requires_grad_(False)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return model, optimizer, classes(model, optimizer)

    assert not check(make, batches(8, 6), steps=3).recording.aten_calls


def test_batches_that_are_ignored():
    """Their mean loss is none, and their gradients are zero."""
    torch.manual_seed(0)
    nets = [nn.Linear(6, 3), nn.Linear(6, 3)]
    nets[1].load_state_dict(nets[0].state_dict())

    def step(net: nn.Module) -> Callable[..., Any]:
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

        def run(x: Any, y: Any) -> Any:
            loss = F.cross_entropy(net(x), y, ignore_index=1)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss.detach()

        return run

    x, eager = torch.randn(4, 6), step(nets[1])
    ours = Step(record_step(step(nets[0]), (x, torch.tensor([0, 1, 2, 0]))), threads=1)
    for numbers in ([0, 1, 2, 0], [1, 1, 1, 1], [2, 2, 1, 0]):
        given = [x, torch.tensor(numbers)]
        got, want = ours.run(given), eager(*given)
        torch.testing.assert_close(got, want, equal_nan=True)
        assert_close([*nets[0].parameters()], [*nets[1].parameters()], 3)
