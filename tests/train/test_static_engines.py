"""Static programs in engines: what runs compute is what the replay and eager code compute."""

from __future__ import annotations

import copy
import logging
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

import oarlock  # noqa: E402
from oarlock import static  # noqa: E402
from oarlock.train.static import engines  # noqa: E402
from tests.train.test_step import assert_close, leaves  # noqa: E402


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 3))


class Images(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.head = nn.Linear(4 * 4, 3)

    def forward(self, x: Any) -> Any:
        return self.head(self.body(x.unflatten(1, (1, 4, 4))).flatten(1))


class Sequences(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(2, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x: Any) -> Any:
        return self.head(self.lstm(x)[0][:, -1])


MODELS = {
    "perceptron": (perceptron, (4,)),
    "images": (Images, (16,)),
    "sequences": (Sequences, (6, 2)),
}
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, foreach=True),
}


def made(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    torch.manual_seed(0)
    make, shape = MODELS[name]
    return make(), shape


def classifier(model: nn.Module, shape: tuple[int, ...], optimizer: Any = None) -> Any:
    main = static.Program()
    with static.program_guard(main):
        x, y = static.data("x", [None, *shape]), static.data("y", [None], "int64")
        logits = static.name(model(x), "logits")
        loss = static.name(F.cross_entropy(logits, y), "loss")
        if optimizer is not None:
            static.minimize(optimizer, loss)
    return main


def feed(shape: tuple[int, ...], n: int = 6, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {"x": rng.normal(size=(n, *shape)).astype(np.float32), "y": rng.integers(0, 3, n)}


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [("perceptron", "sgd"), ("perceptron", "adam"), ("images", "sgd"), ("sequences", "adamw")],
)
def test_training_is_one_compiled_step(name, optimizer):
    """Beside eager steps, with dropout, a clip and a schedule."""
    (one, shape), (two, _) = made(name), made(name)
    eager, mine = (OPTIMIZERS[optimizer](m.parameters()) for m in (one, two))
    for o in (eager, mine):
        oarlock.clip.ClipGradByGlobalNorm(0.05).attach(o)
    schedules = [torch.optim.lr_scheduler.ExponentialLR(o, 0.5) for o in (eager, mine)]
    main, exe = classifier(two, shape, mine), static.Executor()
    for i in range(5):
        given = feed(shape, seed=i)
        torch.manual_seed(i)
        want = F.cross_entropy(one(torch.from_numpy(given["x"])), torch.from_numpy(given["y"]))
        eager.zero_grad()
        want.backward()
        eager.step()
        drawn = torch.rand(1)
        torch.manual_seed(i)
        (got,) = exe.run(main, given, ["loss"], return_numpy=False)
        assert torch.equal(torch.rand(1), drawn)
        assert_close([got, *leaves(two, mine)], [want.detach(), *leaves(one, eager)], i + 1)
        for schedule in schedules:
            schedule.step()
    assert "compiled (" in exe.report() and "replayed" not in exe.report()
    assert len(compiled(exe).engines.found) == 1


def compiled(exe: Any) -> Any:
    (found,) = exe.compiled.values()
    return found


def test_each_signature_is_compiled_once(monkeypatch):
    model, shape = made("perceptron")
    main, exe = classifier(model.eval(), shape), static.Executor(backend="compiled")
    for n in (6, 2, 6, 2, 1):
        given = feed(shape, n)
        (got,) = exe.run(main, given, ["logits"], return_numpy=False)
        assert_close([got], [model(torch.from_numpy(given["x"])).detach()], 1)
    assert len(compiled(exe).engines.found) == 3
    monkeypatch.setattr(engines, "MANY", 3)
    auto = static.Executor()
    with pytest.warns(UserWarning, match="more than 3 signatures"):
        for n in range(1, 6):
            assert auto.run(main, feed(shape, n), ["logits"])[0].shape == (n, 3)
    assert len(compiled(auto).engines.found) == 3


def test_parameters_are_read_where_they_lie():
    model, shape = made("perceptron")
    main, exe = classifier(model.eval(), shape), static.Executor(backend="compiled")
    given = feed(shape)
    x = torch.from_numpy(given["x"])
    for change in (
        lambda p: p.data.mul_(2), lambda p: setattr(p, "data", torch.randn_like(p)), lambda p: None
    ):  # fmt: skip
        (got,) = exe.run(main, given, ["logits"], return_numpy=False)
        assert_close([got], [model(x).detach()], 1)
        change(model[0].weight)


def test_a_loaded_state_and_new_settings_are_used():
    model, shape = made("perceptron")
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    main, exe, plain = classifier(model, shape, optimizer), static.Executor(), None
    given = feed(shape)
    for _ in range(3):
        exe.run(main, given, ["loss"])
    twin = copy.deepcopy((model, optimizer))
    twin_main, plain = classifier(twin[0], shape, twin[1]), static.Executor(backend="replay")
    for o in (optimizer, twin[1]):
        o.load_state_dict(copy.deepcopy(o.state_dict()))
        o.param_groups[0]["betas"] = (0.5, 0.9)
        o.param_groups[0]["weight_decay"] = 0.1
    for i in range(2):
        for e, p in ((exe, main), (plain, twin_main)):
            torch.manual_seed(i)
            e.run(p, given, ["loss"])
    assert_close(leaves(model, optimizer), leaves(*twin), 5)
    assert "replayed" not in exe.report()


def test_eager_steps_in_between():
    (one, shape), (two, _) = made("perceptron"), made("perceptron")
    a, b = (OPTIMIZERS["adam"](m.parameters()) for m in (one.eval(), two.eval()))
    main, exe, given = classifier(two, shape, b), static.Executor(), feed(shape)
    x, y = torch.from_numpy(given["x"]), torch.from_numpy(given["y"])

    def step(model: Any, optimizer: Any) -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    for i in range(6):
        step(one, a)
        if i % 2:
            step(two, b)
        else:
            exe.run(main, given, [])
    assert_close(leaves(two, b), leaves(one, a), 6)
    assert exe.report().count("compiled (") == 1


def test_gradients_of_programs():
    model = nn.Linear(4, 1)
    main = static.Program()
    with static.program_guard(main):
        x = static.data("x", [None, 4], stop_gradient=False)
        loss = model(x).pow(2).mean()
        pairs = static.append_backward(loss)
        (dx,) = static.gradients(loss, x)
    given = feed((4,))["x"]
    exe = static.Executor(backend="compiled")
    found = exe.run(main, {"x": given}, [*(g for _, g in pairs), dx], return_numpy=False)
    leaf = torch.from_numpy(given).requires_grad_()
    want = torch.autograd.grad(model(leaf).pow(2).mean(), [model.weight, model.bias, leaf])
    assert_close(found, want, 1)
    assert model.weight.grad is None


def test_hooks_of_the_user_are_replayed(caplog):
    model, shape = made("perceptron")
    optimizer, calls = OPTIMIZERS["sgd"](model.parameters()), []
    optimizer.register_step_post_hook(lambda *_: calls.append(1))
    main, exe = classifier(model, shape, optimizer), static.Executor()
    with caplog.at_level(logging.INFO, "oarlock"):
        for _ in range(4):
            exe.run(main, feed(shape), ["loss"])
    assert len(calls) == 4
    assert "has hooks on its step" in exe.report() and "has hooks on its step" in caplog.text
    with pytest.raises(oarlock.UserError, match="hooks on its step"):
        static.Executor(backend="compiled").run(main, feed(shape), ["loss"])


def test_a_wrong_engine_is_left_out(monkeypatch, caplog):
    model, shape = made("perceptron")
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    main, exe, given = classifier(model, shape, optimizer), static.Executor(), feed(shape)
    exe.run(main, given, ["loss"])
    twin = copy.deepcopy((model, optimizer))
    run = engines.Step.run

    def spoiled(self: Any, leaves: Any) -> Any:
        found = run(self, leaves)
        model[0].bias.data.add_(1)
        return found

    monkeypatch.setattr(engines.Step, "run", spoiled)
    with caplog.at_level(logging.WARNING, "oarlock"):
        for _ in range(2):
            torch.manual_seed(3)
            exe.run(main, given, ["loss"])
    other = static.Executor(backend="replay")
    twin_main = classifier(*twin[:1], shape, twin[1])
    for _ in range(2):
        torch.manual_seed(3)
        other.run(twin_main, given, ["loss"])
    for a, b in zip(leaves(model, optimizer), leaves(*twin)):
        assert torch.equal(a, b)
    assert caplog.text.count("differs from the replay") == 1


def test_an_index_out_of_range_is_eagers_error():
    table = nn.Embedding(5, 2)
    main = static.Program()
    with static.program_guard(main):
        y = table(static.data("i", [None], "int64"))
    exe = static.Executor()
    for _ in range(2):
        exe.run(main, {"i": np.array([0, 4])}, [y])
        with pytest.raises(IndexError, match="out of range"):
            exe.run(main, {"i": np.array([0, 5])}, [y])
    assert "replayed" not in exe.report()


FRESH = """
import numpy as np, torch
from oarlock import static
model = torch.nn.Linear(4, 3)
with static.program_guard(static.default_main_program(), static.default_startup_program()):
    x = static.data("x", [None, 4])
    y = model(x)
exe = static.Executor()
assert exe.run(static.default_startup_program()) == []
(found,) = exe.run(static.default_main_program(), feed={"x": np.ones((2, 4), "float32")}, fetch_list=[y])
np.testing.assert_allclose(found, model(torch.ones(2, 4)).detach(), rtol=1e-5)
print(exe.report())
"""


def test_a_fresh_process():
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "compiled (" in done.stdout


def test_branches_and_loops_are_one_program():
    layer = nn.Linear(3, 3)
    main = static.Program()
    with static.program_guard(main):
        x, n = static.data("x", [None, 3]), static.data("n", [], "int64")
        y = static.cond(x.sum() > 0, lambda: layer(x), lambda: x * 2)
        i, z = static.while_loop(
            lambda i, z: i < n, lambda i, z: (i + 1, layer(z).tanh()), [torch.tensor(0), y]
        )
    exe, plain = static.Executor(backend="compiled"), static.Executor(backend="replay")
    for rows, count, sign in ((2, 0, 1), (2, 4, -1), (5, 3, 1), (2, 1, 1)):
        given = {"x": np.full((rows, 3), sign, np.float32), "n": np.int64(count)}
        got, want = (e.run(main, given, [i, z, y], return_numpy=False) for e in (exe, plain))
        assert int(got[0]) == count
        assert_close(got[1:], want[1:], 1)
        layer.weight.data.mul_(0.5)
    assert "as a program" in exe.report()


def test_what_is_fetched_is_a_copy():
    main = static.Program()
    with static.program_guard(main):
        x = static.data("x", [None])
        y = static.cond(x.sum() > 0, lambda: x, lambda: -x)
    for exe in (static.Executor(backend="compiled"), static.Executor(backend="replay")):
        for sign in (1, -1):
            given = torch.full((3,), float(sign))
            (got,) = exe.run(main, {"x": given}, [y], return_numpy=False)
            assert torch.equal(got, torch.ones(3)) and got.data_ptr() != given.data_ptr()


def test_training_through_a_branch_is_replayed():
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    main = static.Program()
    with static.program_guard(main):
        x = static.data("x", [None, 3])
        loss = static.cond(x.sum() > 0, lambda: model(x).sum(), lambda: model(-x).sum())
        static.minimize(optimizer, loss)
    exe, before = static.Executor(), model.weight.detach().clone()
    exe.run(main, {"x": np.ones((2, 3), np.float32)}, [loss])
    torch.testing.assert_close(model.weight, before - 0.1 * 2)
    assert "replayed: gradients through control flow" in exe.report()
