"""``oarlock.to_static`` on training steps: compiled where it can be, else replayed with the reason."""

from __future__ import annotations

import copy
import logging
import sys
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

import oarlock  # noqa: E402
from bench.train_models import CASES, classes  # noqa: E402
from oarlock.capture.tape.verify import Slack  # noqa: E402
from tests.train.test_step import (  # noqa: E402
    OPTIMIZERS,
    Made,
    Sequences,
    assert_close,
    batches,
    convolutional,
    leaves,
    mlp,
)


def twins(make: Any) -> tuple[Made, Made]:
    torch.manual_seed(0)
    one = make()
    torch.manual_seed(0)
    return one, make()


def check(make: Any, given: list[Any], steps: int = 5, attach: Any = None) -> Any:
    """Static steps beside eager ones; learning rates change in between."""
    (model, optimizer, step), (other, other_optimizer, eager) = twins(make)
    if attach is not None:
        attach.attach(optimizer), attach.attach(other_optimizer)
    static = oarlock.to_static(step)
    for i in range(steps):
        results = []
        for call, o in ((static, optimizer), (eager, other_optimizer)):
            torch.manual_seed(i)
            results.append((call(*given[i % len(given)]), torch.rand(1)))
            o.param_groups[0]["lr"] *= 0.9
        assert torch.equal(results[0][1], results[1][1]), "the generator is elsewhere"
        assert_close([results[0][0]], [results[1][0]], steps)
        assert_close(leaves(model, optimizer), leaves(other, other_optimizer), steps)
    assert "compiled (" in static.report(), static.report()
    assert len(static.tapes) == 1 and len(static.tapes[0].executor.steps) == 1
    return static


@pytest.mark.parametrize("name", ["sgd-momentum", "adam", "adamw-fused", "rmsprop"])
def test_steps(name):
    check(lambda: mlp(OPTIMIZERS[name], clip=0.5, dropout=0.3), batches(8, 6))


def test_attached_clip():
    clip = oarlock.clip.ClipGradByGlobalNorm(0.1)
    check(lambda: mlp(OPTIMIZERS["adam"]), batches(8, 6), attach=clip)


def test_convolutions():
    check(convolutional, batches(4, 3, 8, 8))


def test_units_that_switch_at_zero():
    """A rounding more or less decides about gradients of a deep network, here and in eager."""
    (case,) = [c for c in CASES if c.name == "ResNet-20"]
    (_, step, given), (_, eager, _) = twins(case.make)
    static = oarlock.to_static(step)
    for batch in given[:3]:
        x, y = batch[0][:8], batch[1][:8]
        assert abs(float(static(x, y)) - float(eager(x, y))) < 1e-3
    assert "compiled (" in static.report(), static.report()


def test_a_recurrent_layer_is_one_scan():
    def make() -> Made:
        model = Sequences(nn.LSTM, batch_first=True)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        return model, optimizer, classes(model, optimizer)

    static = check(make, batches(4, 7, 5))
    (step,) = static.tapes[0].executor.steps.values()
    assert [n.name for n in step.recording.program.graph.nodes].count("lstm_scan_grad") == 1


def test_updates_that_roundings_decide():
    """Batch norm after a bias: its gradient is noise, which Adam makes as large as any."""

    def make() -> Made:
        model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        return model, optimizer, classes(model, optimizer)

    _, _, step = make()
    static = oarlock.to_static(step)
    for batch in batches(16, 6):
        static(*batch)
    assert "compiled (" in static.report(), static.report()


def test_eager_steps_in_between():
    (model, optimizer, step), (other, other_optimizer, eager) = twins(
        lambda: mlp(OPTIMIZERS["adam"])
    )
    static = oarlock.to_static(step)
    for i, batch in enumerate([*batches(8, 6), *batches(8, 6)]):
        (step if i % 2 else static)(*batch), eager(*batch)
    assert_close(leaves(model, optimizer), leaves(other, other_optimizer), 6)


def test_a_loaded_state_is_used():
    (model, optimizer, step), (other, other_optimizer, eager) = twins(
        lambda: mlp(OPTIMIZERS["adam"])
    )
    static, (batch, *_) = oarlock.to_static(step), batches(8, 6)
    for _ in range(3):
        static(*batch), eager(*batch)
    for o in (optimizer, other_optimizer):
        o.load_state_dict(o.state_dict())
    for _ in range(3):
        static(*batch), eager(*batch)
    assert_close(leaves(model, optimizer), leaves(other, other_optimizer), 6)


def test_gradients_of_tensors_outside_of_modules():
    w = torch.randn(4, requires_grad=True)

    def step(x: Any) -> Any:
        loss = (x * w).square().sum()
        loss.backward()
        return loss.detach()

    static, x = oarlock.to_static(step), torch.randn(3, 4)
    static(x), static(x), static(x)
    assert "compiled (" in static.report(), static.report()
    torch.testing.assert_close(w.grad, 3 * 2 * (x * x * w.detach()).sum(0))


def test_what_cannot_be_compiled_says_why(caplog):
    static = oarlock.to_static(lambda x: x + 1 if x.sum() > 0 else x - 1)
    with caplog.at_level(logging.INFO, "oarlock"):
        static(torch.ones(3, requires_grad=True))
    assert "replayed, not compiled: control flow" in caplog.text
    with pytest.raises(oarlock.UserError, match="control flow"):
        oarlock.to_static(static.fn, backend="compiled")(torch.ones(3, requires_grad=True))


@pytest.mark.parametrize("name, error", [("adam", 1e-3), ("sgd", 1e-5)])
def test_a_wrong_program_is_rejected(monkeypatch, caplog, name, error):
    from oarlock.train.step import Step

    (model, optimizer, step), (other, other_optimizer, eager) = twins(lambda: mlp(OPTIMIZERS[name]))
    run = Step.run

    def wrong(self: Any, given: Any) -> Any:
        found = run(self, given)
        with torch.no_grad():
            model[0].weight += error
        return found

    monkeypatch.setattr(Step, "run", wrong)
    static = oarlock.to_static(step)
    for batch in batches(8, 6):
        static(*batch), eager(*batch)
    assert "replayed, not compiled" in caplog.text and "does not do what eager" in static.report()
    assert_close(leaves(model, optimizer), leaves(other, other_optimizer), 3)


def test_arguments_in_the_memory_of_each_other():
    def step(x: Any, y: Any) -> Any:
        x.add_(1)
        return y * 2

    static = oarlock.to_static(step)
    static(torch.ones(3), torch.ones(3))
    x = torch.ones(3)
    assert static(x[:], x[:]).tolist() == [4.0, 4.0, 4.0]


def test_a_size_that_data_decide_is_never_taken_for_constant(monkeypatch):
    monkeypatch.setenv("OARLOCK_CHECK", "off")

    def f(n: torch.Tensor) -> torch.Tensor:
        return torch.zeros(2, n) + 1

    static = oarlock.to_static(f)
    for n in (3, 2, 4):
        assert static(torch.tensor(n)).shape == (2, n)
    assert "known at run time only" in static.report()


@pytest.mark.parametrize("backend", ["replay", "auto"])
def test_no_python_runs_from_the_second_call_on(backend):
    """The first makes the state of the optimizer; the next is captured and compared in it."""
    (model, optimizer, step), (other, other_optimizer, eager) = twins(
        lambda: mlp(OPTIMIZERS["adam"])
    )
    static = oarlock.to_static(step, backend=backend)
    ran: list[str] = []

    def watch(frame: Any, event: str, arg: Any) -> None:
        if event == "call" and frame.f_code is step.__code__:
            ran.append(frame.f_code.co_name)

    for i, batch in enumerate(batches(8, 6)):
        sys.setprofile(watch if i else None)
        try:
            static(*batch)
        finally:
            sys.setprofile(None)
        eager(*batch)
    assert not ran and static.captures == 1 and len(static.tapes) == 1
    assert_close(leaves(model, optimizer), leaves(other, other_optimizer), 8)


@pytest.mark.parametrize(
    "schedule",
    [
        lambda o: torch.optim.lr_scheduler.StepLR(o, 2, 0.5),
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 10),
        lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda epoch: 1 / (epoch + 1)),
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=20),
    ],
    ids=["step", "cosine", "lambda", "one cycle"],
)
def test_a_schedule_inside_of_the_step(schedule):
    pair, rates, losses = [], [[], []], [[], []]
    for _ in range(2):
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

        def step(x, model=model, optimizer=optimizer, scheduler=schedule(optimizer)):
            optimizer.zero_grad()
            loss = model(x).square().sum()
            loss.backward()
            optimizer.step()
            scheduler.step()
            return loss.detach()

        pair.append((step, optimizer))
    static = oarlock.to_static(pair[0][0])
    for i in range(8):
        x = torch.full((2, 3), (i + 1) / 10)
        for k, call in enumerate((static, pair[1][0])):
            losses[k].append(float(call(x)))
            rates[k].append(pair[k][1].param_groups[0]["lr"])
    assert rates[0] == rates[1] and losses[0] == losses[1]
    assert static.captures == 1


def test_what_is_too_small_for_an_engine_is_replayed(monkeypatch):
    monkeypatch.delenv("OARLOCK_LEAST_WORK")
    small, large = nn.Linear(4, 4), nn.Sequential(nn.Linear(512, 512), nn.ReLU())
    for module, size, is_small in ((small, 4, True), (large, 512, False)):
        static = oarlock.to_static(lambda x, module=module: module(x))
        with torch.no_grad():
            static(torch.ones(2, size))
        assert ("would pay for" in static.report()) == is_small, static.report()
    forced = oarlock.to_static(lambda x: small(x), backend="compiled")
    forced(torch.ones(2, 4))
    assert "compiled (" in forced.report()


class Turned(nn.Module):
    """A layer of channels on rows of features, whose result is turned in memory."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x.transpose(1, 2)).transpose(1, 2)


@pytest.mark.parametrize("seed", range(2))
def test_updates_of_noise_alone(seed):
    """Norms on norms: the gradients of all but the last scale are noise, of eager as well."""

    def make() -> Made:
        torch.manual_seed(seed)
        norms = [Turned(nn.BatchNorm1d(6)) for _ in range(3)]
        model = nn.Sequential(*norms, nn.Flatten(), nn.Linear(24, 3))
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        return model, optimizer, classes(model, optimizer)

    _, _, step = make()
    static = oarlock.to_static(step)
    for batch in batches(4, 4, 6):
        static(*batch)
    assert "compiled (" in static.report(), static.report()


@pytest.mark.parametrize(
    "layer",
    [
        Turned(nn.BatchNorm1d(6)),
        Turned(nn.BatchNorm1d(6, track_running_stats=False)),
        nn.Sequential(nn.Unflatten(2, (2, 3)), Turned(nn.BatchNorm2d(2)), nn.Flatten(2)),
    ],
    ids=["rows", "no statistics", "planes"],
)
def test_dropout_of_what_a_norm_gives(layer):
    """Masks are drawn in the order of the memory of what is masked."""

    def make() -> Made:
        model = nn.Sequential(copy.deepcopy(layer), nn.Dropout(0.5), nn.Flatten(), nn.Linear(24, 3))
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
        return model, optimizer, classes(model, optimizer)

    check(make, batches(4, 4, 6))


def test_slack_is_on_both_sides_of_the_exact_value():
    """Eager's value may be the one that is far from it."""
    slack = Slack([torch.tensor([1.0]), 2.0], [])
    slack.add([torch.tensor([0.5]), 2.25], [])
    assert slack.values == [[1.0], [0.5]]
