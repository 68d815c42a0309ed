"""Functions that call themselves until data stop them, as programs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import oarlock
from oarlock.capture.to_static import StaticFunction
from oarlock.errors import InvalidProgram, ModelError, UnsupportedError
from oarlock.evaluate import evaluate
from oarlock.ir import Graph, Node, Program, TensorType, f32
from oarlock.ir.verify import verify
from oarlock.ops.recursion import Again


def halved(x, depth):
    """Halve until small; how often."""
    if x.sum() < 1:
        return x, depth
    y, d = halved(x / 2, depth + 1)
    return y + 1, d


class Chain(nn.Module):
    """A list by its links: weights, a value of its own and two functions that call each other."""

    def __init__(self):
        super().__init__()
        self.lift = nn.Linear(3, 3)

    def even(self, i, link, scale):
        if link[i] < 0:
            return scale
        return torch.tanh(self.lift(self.odd(link[i], link, scale)))

    def odd(self, i, link, scale):
        if link[i] < 0:
            return -scale
        return self.even(link[i], link, scale) * scale

    def forward(self, link, scale):
        doubled = scale * 2
        return self.even(torch.zeros((), dtype=torch.long), link, doubled)


class Summed(nn.Module):
    """Calls from two places, in a loop too; a buffer that is read below and updated."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def total(self, i, nexts, values):
        if i < 0:
            return torch.zeros(()) + self.seen
        return values[i] + self.total(nexts[i], nexts, values)

    def forward(self, nexts, values):
        self.seen.add_(1)
        out = self.total(torch.tensor(0), nexts, values)
        for i in range(values.shape[0]):
            if values[i] > 0:
                out = out + self.total(nexts[i], nexts, values)
        return out


def links(n):
    return torch.tensor([*range(1, n), -1])


CASES = {
    "numbers": (halved, [(torch.ones(3) * k, torch.tensor(2)) for k in (0.1, 3, 40)]),
    "mutual": (Chain().forward, [(links(n), torch.randn(3)) for n in (2, 5, 12)]),
    "buffer": (Summed().forward, [(links(n), torch.randn(n)) for n in (3, 6, 9)]),
}


@pytest.mark.parametrize("name", CASES)
def test_programs_that_call_themselves(name, tmp_path):
    fn, calls = CASES[name]
    static = StaticFunction(fn)
    with torch.no_grad():
        for call in calls:
            static(*call)
        static.save(tmp_path / "program.oar")
        predictor = oarlock.Predictor(tmp_path / "program.oar", threads=1)
        for call in calls:
            want = fn(*call)
            got = predictor(*call)
            for a, b in zip(*(x if isinstance(x, tuple) else (x,) for x in (got, want))):
                torch.testing.assert_close(a, torch.as_tensor(b), rtol=0, atol=2.0**-18)
    program = static.programs[0]
    assert oarlock.parse(str(program)) == program
    assert "recursive(" in str(program) and "again(" in str(program)


def counted(n):
    return torch.zeros(()) if n <= 0 else counted(n - 1) + 1


def test_depth_is_that_of_python():
    static = StaticFunction(counted)
    for n in (3, 4):
        static(torch.tensor(n))
    program = static.programs[0]
    predictor = oarlock.Predictor(program, threads=1)
    assert predictor(np.array(900)) == evaluate(program, np.array(900)) == 900
    for run in (predictor, lambda n: evaluate(program, n)):
        with pytest.raises(ModelError, match="maximum recursion depth"):
            run(np.array(10**6))
    assert predictor(np.array(7)) == 7


def grown(x, n):
    return x if n <= 0 else grown(torch.cat([x, x]), n - 1)


def drawn(n):
    return torch.rand(()) if n <= 0 else drawn(n - 1) * torch.rand(())


@pytest.mark.parametrize(
    ("fn", "args", "why"),
    [
        (grown, (torch.ones(2), torch.tensor(2)), "the same types and sizes"),
        (drawn, (torch.tensor(2),), "draws random numbers"),
    ],
)
def test_what_has_no_program_is_refused(fn, args, why):
    static = StaticFunction(fn)
    static(*args)
    with pytest.raises(UnsupportedError, match=why):
        _ = static.programs[0]


def test_a_call_of_no_graph_is_no_program():
    graph = Graph()
    x = graph.input(TensorType(f32), "x")
    node = Node(Again(label="f", types=(TensorType(f32),)), [x])
    graph.nodes.append(node)
    graph.outputs = [node.output]
    with pytest.raises(InvalidProgram, match="no graph 'f' around it"):
        verify(Program(graph, {}, {}))
