"""Both styles give the same program: ``oarlock.static`` and ``to_static`` of one model."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import oarlock
from oarlock import clip, static
from oarlock.capture.to_static import StaticFunction
from oarlock.ir import Program
from oarlock.passes.dead_code import dead_code


def skeleton(program: Program) -> str:
    """The text without origins and names; params by their order of appearance and their content."""
    text = re.sub(r"\s+# .*", "", str(program))
    text = re.sub(r"^(oarlock|dim|signature|state).*\n", "", text, flags=re.M)
    keys = list(dict.fromkeys(re.findall(r'param "([^"]*)"', text)))
    for i, key in enumerate(keys):
        text = text.replace(f'param "{key}"', f"param {i} {hash(program.params[key].tobytes())}")
    names = list(dict.fromkeys(re.findall(r"%[A-Za-z_]\w*", text)))
    dims = list(program.dims)
    renamed = {n: f"%i{i}" for i, n in enumerate(names)} | {d: f"D{i}" for i, d in enumerate(dims)}
    text = re.sub(r"%?\b[A-Za-z_]\w*\b", lambda m: renamed.get(m[0], m[0]), text)
    state = [keys.index(s.name) for s in program.state if s.name in keys]
    return f"{text}\nstate {state}, {[(d.bounds()) for d in program.dims.values()]}"


class Convolutions(nn.Module):
    """BatchNorm in training mode: its averages are state."""

    shape = (None, 3, 8, 8)

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        return self.head(F.relu(self.norm(self.conv(x))).mean((2, 3)))


class Recurrent(nn.Module):
    shape = (None, 6, 3)

    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.LSTM(3, 4, 2, batch_first=True), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


class Block(nn.Module):
    shape = (None, 5, 8)

    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.eval()

    def forward(self, x):
        return self.layer(x).softmax(-1)


class Perceptron(nn.Module):
    shape = (None, 4)

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 3))

    def forward(self, x):
        return F.log_softmax(self.layers(x), -1)


class Dropped(Perceptron):
    """Draws."""

    def forward(self, x):
        return F.dropout(self.layers(x), 0.5, True) + torch.rand_like(x[:, :3])


MODELS = [Convolutions, Recurrent, Block, Perceptron, Dropped]


def declared(model: nn.Module, shape) -> Program:
    with static.program_guard(static.Program()) as program:
        y = model(static.data("x", list(shape), "float32"))
    return program.lowered(None, [y])


def converted(fn, *inputs) -> Program:
    made = StaticFunction(fn)
    with torch.no_grad():
        for x in inputs:
            made(*x)
    (program,) = made.programs
    return program


@pytest.mark.parametrize("make", MODELS)
def test_modules(make):
    torch.manual_seed(0)
    model = make()
    first = declared(model, make.shape)
    inputs = [(torch.randn(n, *make.shape[1:]),) for n in (3, 5)]
    before = {k: v.clone() for k, v in model.state_dict().items()}
    made = StaticFunction(model.forward)
    with torch.no_grad():
        for x in inputs:
            made(*x)
    model.load_state_dict(before)
    (second,) = made.programs
    assert skeleton(first) == skeleton(second)


def test_branches():
    weight = torch.randn(4, 4)

    def dynamic(x):
        if x.sum() > 0:
            y = x @ weight
        else:
            y = x - 1
        return y * 2

    with static.program_guard(static.Program()) as program:
        x = static.data("x", [None, 4], "float32")
        y = static.cond(x.sum() > 0, lambda: x @ weight, lambda: x - 1) * 2
    first = program.lowered(None, [y])
    second = converted(dynamic, (torch.ones(3, 4),), (torch.ones(5, 4),))
    assert skeleton(first) == skeleton(second)


def test_loops():
    def dynamic(x, n):
        i = torch.zeros_like(n)
        while i < n:
            x = torch.tanh(x) + 1
            i = i + 1
        return x

    with static.program_guard(static.Program()) as program:
        x, n = static.data("x", [None, 4], "float32"), static.data("n", [], "int64")
        i = torch.zeros_like(n)
        turned = lambda i, x: [torch.tanh(x) + 1, i + 1][::-1]  # noqa: E731
        _, y = static.while_loop(lambda i, x: i < n, turned, [i, x])
    first = program.lowered(None, [y])
    second = converted(dynamic, *((torch.ones(k, 4), torch.tensor(k)) for k in (3, 5)))
    assert skeleton(first) == skeleton(second)


def steps(make):
    """A model and its optimizer, twice."""
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        model = make()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        clip.ClipGradByGlobalNorm(0.1).attach(optimizer)
        found.append((model, optimizer))
    return found


def ops_of(program: Program) -> Counter:
    """How often each op is there with which types, constants aside."""
    return Counter(
        (str(n.op), *map(str, (v.type for v in (*n.inputs, *n.outputs))))
        for n in program.graph.nodes
        if n.name not in ("const", "param")
    )


def test_training_steps_do_the_same():
    """One step of each style: the same updates of the same kinds of nodes."""
    (model, optimizer), (other, its) = steps(Perceptron)
    with static.program_guard(static.Program()) as program:
        x, y = static.data("x", [None, 4], "float32"), static.data("y", [None], "int64")
        loss = F.nll_loss(model(x), y)
        static.minimize(optimizer, loss)

    def step(x, y):
        loss = F.nll_loss(other(x), y)
        loss.backward()
        its.step()
        its.zero_grad()
        return loss

    compiled = oarlock.to_static(step, backend="compiled")
    executor = static.Executor(backend="compiled")
    rng = np.random.default_rng(0)
    for _ in range(4):
        x, y = rng.random((8, 4), np.float32), rng.integers(0, 3, 8)
        (got,) = executor.run(program, {"x": x, "y": y}, [loss])
        want = compiled(torch.from_numpy(x), torch.from_numpy(y))
        assert abs(float(got) - float(want.detach())) < 2.0**-18
    for a, b in zip(model.parameters(), other.parameters()):
        torch.testing.assert_close(a, b, rtol=0, atol=2.0**-18)
    (made,) = executor.compiled.values()
    (first,) = made.engines.found.values()
    (second,) = compiled.tapes[0].executor.steps.values()
    one, two = (ops_of(dead_code(s.recording.program)) for s in (first, second))
    assert one == two
