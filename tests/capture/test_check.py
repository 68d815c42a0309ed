"""The differential check: what diverges is named, what cannot be compared is said."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

import oarlock  # noqa: E402
from oarlock.capture.call import Recording  # noqa: E402
from oarlock.capture.check import check_against_eager  # noqa: E402
from oarlock.errors import DivergenceError, UnsupportedError  # noqa: E402
from oarlock.ir import Graph, Program, TensorType, f32  # noqa: E402
from oarlock.ir.builder import Builder  # noqa: E402

DYNAMIC = {"x": {0: "N", 1: "T"}}


class Drifting(nn.Module):
    """Multiplies by the number of its calls, which a program cannot know."""

    def __init__(self):
        super().__init__()
        self.fc, self.calls = nn.Linear(8, 8), [0]

    def forward(self, x):
        self.calls[0] += 1
        y = self.fc(x)
        return y * self.calls[0]


class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Drifting()

    def forward(self, x):
        return self.inner(x).relu()


def test_the_first_call_that_differs_is_named():
    with pytest.raises(DivergenceError) as error:
        oarlock.capture(Wrapped(), (torch.randn(1, 4, 8),), dynamic=DYNAMIC)
    line = Drifting.forward.__code__.co_firstlineno + 3
    assert f"it starts at model.inner  test_check.py:{line}, aten.mul.Tensor" in str(error.value)
    assert "expected at most" in str(error.value)


def test_another_path_is_named():
    seen = []

    def model(x):
        seen.append(1)
        return x.exp() if len(seen) > 1 else x.sin()

    with pytest.raises(
        DivergenceError, match=r"takes another path .* from test_check.py:\d+: aten"
    ):
        oarlock.capture(model, (torch.randn(3),))


def random_recording(wrong: float) -> Recording:
    """``(x * wrong, x + randn)`` as the program of ``(x, x + randn)``."""
    graph = Graph()
    b = Builder(graph)
    x = graph.input(TensorType(f32, (3,)), "x")
    graph.outputs = [b.mul(x, wrong), b.add(x, b.randn(shape=(3,), seed=1))]
    return Recording(Program(graph, {}, {}), [], {}, [])


def test_outputs_without_random_numbers_are_compared():
    def model(x):
        return x * 1.0, x + torch.randn(3)

    x = (torch.ones(3),)
    with pytest.warns(UserWarning, match="outputs 1 depend on random numbers"):
        check_against_eager(random_recording(1.0), model, x, {})
    with pytest.warns(UserWarning), pytest.raises(DivergenceError, match="output 0"):
        check_against_eager(random_recording(2.0), model, x, {})


class Many(nn.Module):
    """Four kinds of things that cannot be captured."""

    def forward(self, x):
        kept = x[x > 0]
        scale = 2.0 if x.sum().item() > 0 else 1.0
        noise = torch.randn_like(x)
        y = nn.functional.dropout(x, 0.5, training=True)
        return kept.sum() * scale + noise + y[:, : int(x.shape[1] * 0.5)].sum()


def test_problems_of_every_kind_are_listed_at_once():
    with pytest.raises(UnsupportedError) as error:
        oarlock.capture(Many(), (torch.randn(1, 4, 8),), dynamic=DYNAMIC)
    first = Many.forward.__code__.co_firstlineno
    expected = {
        first + 1: "use torch.where or masked_fill",
        first + 2: "torch.where instead of if",
        first + 3: "pass them in",
        first + 4: "call model.eval() first",
        first + 5: "n // 2",
    }
    for line, advice in expected.items():
        found = [p for p in error.value.problems if f"test_check.py:{line}:" in p]
        assert any(advice in p for p in found), (line, error.value.problems)


def test_packed_sequences_are_refused_with_advice():
    lstm = nn.LSTM(8, 8, batch_first=True)

    def model(x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
        return nn.utils.rnn.pad_packed_sequence(lstm(packed)[0], batch_first=True)[0]

    with pytest.raises(UnsupportedError, match="pass padded tensors and a mask"):
        oarlock.capture(model, (torch.randn(2, 5, 8), torch.tensor([5, 3])))


def test_assertions_on_the_inputs_are_left_to_eager():
    def model(ids, x):
        assert ids.max().item() <= x.shape[1]
        return x * 2

    args = (torch.tensor([2, 3]), torch.randn(1, 4))
    program = oarlock.capture(model, args, dynamic={"x": {0: "N", 1: "T"}})
    assert [node.name for node in program.graph.nodes if node.name == "mul"]


class Holds(nn.Module):
    """Keeps a tensor that it made, and moves a table."""

    def __init__(self):
        super().__init__()
        self.table = nn.Buffer(torch.arange(8.0))

    def forward(self, x):
        self.table = self.table.to(x.dtype)
        self.last = x * self.table
        return self.last + 1


def test_a_model_is_left_as_it_was():
    model = Holds()
    table = model.table
    oarlock.capture(model, (torch.randn(1, 8),), dynamic={"x": {0: "N"}}, check=False)
    assert model.table is table and not hasattr(model, "last")
    model(torch.randn(2, 8)).numpy()


def test_a_buffer_that_is_assigned_is_refused():
    class Counter(Holds):
        def forward(self, x):
            self.table = self.table + 1
            return x * self.table

    with pytest.raises(UnsupportedError, match=r"model: assigns the buffer 'table'.*copy_"):
        oarlock.capture(Counter(), (torch.randn(8),))


PRECISIONS = {torch.float64: "f64", torch.float16: "f16", torch.bfloat16: "bf16"}


@pytest.mark.parametrize("dtype", PRECISIONS, ids=PRECISIONS.values())
def test_modules_of_other_precisions(dtype):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3)).eval()
    model, x = model.to(dtype), torch.randn(1, 8).to(dtype)
    program = oarlock.capture(model, (x,), dynamic={"input": {0: "N"}})
    assert str(program.graph.outputs[0].type) == f"{PRECISIONS[dtype]}[N,3]"


def test_autocast_is_captured_as_casts():
    linear = nn.Linear(8, 4)

    def model(x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return linear(x)

    program = oarlock.capture(model, (torch.randn(1, 8),), dynamic={"x": {0: "N"}})
    assert str(program.graph.outputs[0].type) == "bf16[N,4]"


ATTENTIONS = {
    "rank 2": ((5, 8), None, {0: "T"}),
    "rank 3": ((2, 5, 8), (2, 5, 5), {}),
    "rank 5": ((1, 3, 2, 5, 8), None, {0: "N", 3: "T"}),
    "rank 5 masked": ((1, 3, 2, 5, 8), (3, 1, 5, 5), {0: "N"}),
}


@pytest.mark.parametrize("name", ATTENTIONS)
def test_attention_of_every_rank(name):
    shape, seen, dynamic = ATTENTIONS[name]
    generator = torch.Generator().manual_seed(0)
    mask = None if seen is None else torch.randn(seen, generator=generator)

    def model(x):
        return nn.functional.scaled_dot_product_attention(x, x, x, mask)

    program = oarlock.capture(model, (torch.randn(shape),), dynamic={"x": dynamic})
    x = torch.randn(shape)
    np.testing.assert_allclose(oarlock.evaluate(program, x.numpy()), model(x), rtol=0, atol=2**-18)
