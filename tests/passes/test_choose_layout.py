"""Channels last: what is left of the transposes, and that random networks keep their meaning."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oarlock.ops  # noqa: F401  fills the registry
from oarlock.evaluate import evaluate
from oarlock.ir import Builder, Dim, Program, TensorType, Value, f32
from oarlock.passes.pipeline import run_pipeline


def conv(b: Builder, x: Value, o: int, k: int = 1, name: str | None = None, **more) -> Value:
    n, i = x.rank - 2, x.shape[1] // more.get("groups", 1)
    key = name or f"w{len(b.graph.nodes)}"
    w = b.param(key, TensorType(f32, (o, i, *[k] * n)))
    pads = ((k // 2, k // 2),) * n
    return b.conv(x, w, stride=(1,) * n, padding=pads, dilation=(1,) * n, **more)


def program(b: Builder, *outputs: Value, dims=None) -> Program:
    rng = np.random.default_rng(0)
    b.graph.outputs = list(outputs)
    params = {
        n.op.key: rng.integers(-2, 3, n.output.shape).astype(np.float32)
        for n in b.graph.nodes
        if n.name == "param"
    }
    return Program(b.graph, params, dims or {})


def transposes(p: Program) -> int:
    after = run_pipeline(p, ["choose_layout", "fold", "simplify", "cse", "dead_code"])
    return sum(n.name == "transpose" for n in after.graph.walk())


def test_a_network_has_one_transpose():
    b = Builder()
    x = b.input(TensorType(f32, (1, 3, 16, 16)), "x")
    y = b.relu(conv(b, x, 8, 3))
    y = b.max_pool(b.concat(y, b.sigmoid(conv(b, y, 8, 3)), axis=1))
    gate = b.sigmoid(conv(b, b.mean(y, axes=(2, 3), keepdims=True), 16))
    y = b.adaptive_avg_pool(b.mul(y, gate))
    assert transposes(program(b, b.reshape(y, shape=(1, 16)))) == 1


def test_patches_of_a_transformer_cost_nothing():
    b = Builder()
    x = b.input(TensorType(f32, (1, 3, 16, 16)), "x")
    w = b.param("w", TensorType(f32, (8, 3, 4, 4)))
    y = b.conv(x, w, stride=(4, 4))
    tokens = b.transpose(b.reshape(y, shape=(1, 8, 16)), perm=(0, 2, 1))
    assert transposes(program(b, tokens)) == 1


def test_shuffled_channels_move_once():
    b = Builder()
    x = b.input(TensorType(f32, (1, 6, 4, 4)), "x")
    y = b.reshape(conv(b, x, 6), shape=(1, 2, 3, 4, 4))
    y = b.reshape(b.transpose(y, perm=(0, 2, 1, 3, 4)), shape=(1, 6, 4, 4))
    y = b.mean(conv(b, y, 6), axes=(2, 3))
    assert transposes(program(b, y)) == 2


def test_programs_without_windows_stay():
    b = Builder()
    x = b.input(TensorType(f32, (2, 3)), "x")
    p = program(b, b.relu(b.transpose(x, perm=(1, 0))))
    assert run_pipeline(p, ["choose_layout"]) is p


class Net:
    """A random network of integers, so that sums are exact in any order."""

    def __init__(self, draw, symbolic: bool) -> None:
        self.draw, self.b = draw, Builder()
        n = draw(st.integers(1, 3))
        spatial = [draw(st.integers(1, 6)) for _ in range(n)]
        self.array = np.random.default_rng(n).integers(-3, 4, (2, 4, *spatial)).astype(np.float32)
        self.dims = {f"s{k}": Dim(f"s{k}", 1, 8) for k in range(n)} if symbolic else {}
        sizes = list(self.dims.values()) if symbolic else spatial
        self.values = [self.b.input(TensorType(f32, (2, 4, *sizes)), "x")]

    def build(self) -> Program:
        for _ in range(self.draw(st.integers(2, 8))):
            step = self.draw(st.sampled_from(STEPS))
            x = self.values[self.draw(st.integers(0, len(self.values) - 1))]
            y = step(self, x)
            if y is not None:
                self.values.append(y)
        chosen = self.values[1:][-3:] or [self.b.relu(self.values[0])]
        return program(self.b, *chosen, dims=self.dims)

    def axis(self, x: Value) -> int:
        return self.draw(st.integers(0, x.rank - 1))


def _conv(net: Net, x: Value) -> Value | None:
    if not 3 <= x.rank <= 5 or not isinstance(x.shape[1], int):
        return None
    groups = 2 if x.shape[1] % 2 == 0 and net.draw(st.booleans()) else 1
    return conv(net.b, x, 4, net.draw(st.sampled_from((1, 3))), groups=groups)


def _pool(net: Net, x: Value) -> Value | None:
    n = x.rank - 2
    same = {"kernel": (3,) * n, "stride": (1,) * n, "padding": ((1, 1),) * n}
    return net.b.max_pool(x, dilation=(1,) * n, **same) if n > 0 else None


def _pointwise(net: Net, x: Value) -> Value:
    like = [v for v in net.values if v.shape == x.shape]
    other = like[net.draw(st.integers(0, len(like) - 1))]
    return net.b.add(x, other) if net.draw(st.booleans()) else net.b.relu(x)


def _broadcast(net: Net, x: Value) -> Value | None:
    tail = x.shape[net.axis(x) :]
    if not all(isinstance(n, int) for n in tail):
        return None
    key = f"p{len(net.b.graph.nodes)}"
    return net.b.mul(x, net.b.param(key, TensorType(f32, tail)))


def _concat(net: Net, x: Value) -> Value:
    return net.b.concat(x, net.b.neg(x), axis=net.axis(x))


def _transpose(net: Net, x: Value) -> Value:
    return net.b.transpose(x, perm=tuple(net.draw(st.permutations(range(x.rank)))))


def _reduce(net: Net, x: Value) -> Value | None:
    axes = (net.axis(x),)
    keepdims = net.draw(st.booleans())
    return net.b.reduce_max(x, axes=axes, keepdims=keepdims) if x.rank > 1 else None


def _slice(net: Net, x: Value) -> Value:
    steps = [1] * x.rank
    steps[net.axis(x)] = 2
    return net.b.slice(x, starts=(0,) * x.rank, stops=x.shape, steps=tuple(steps))


def _pad(net: Net, x: Value) -> Value:
    low = [0] * x.rank
    low[net.axis(x)] = 1
    return net.b.pad(x, low=tuple(low), high=(0,) * x.rank, value=2.0)


def _flip(net: Net, x: Value) -> Value:
    return net.b.flip(x, axes=(net.axis(x),))


def _split_axis(net: Net, x: Value) -> Value | None:
    axis = net.axis(x)
    size = x.shape[axis]
    if not isinstance(size, int) or size % 2:
        return None
    return net.b.reshape(x, shape=(*x.shape[:axis], 2, size // 2, *x.shape[axis + 1 :]))


def _join_axes(net: Net, x: Value) -> Value | None:
    if x.rank < 2:
        return None
    axis = min(net.axis(x), x.rank - 2)
    joined = x.shape[axis] * x.shape[axis + 1]
    return net.b.reshape(x, shape=(*x.shape[:axis], joined, *x.shape[axis + 2 :]))


def _repeat(net: Net, x: Value) -> Value:
    return net.b.broadcast_to(x, shape=(2, *x.shape))


def _argmax(net: Net, x: Value) -> Value | None:
    if x.rank < 2:
        return None
    return net.b.cast(net.b.argmax(x, axis=net.axis(x)), dtype=f32)


STEPS = [
    _conv, _conv, _pool, _pointwise, _pointwise, _broadcast, _concat, _transpose, _reduce, _slice,
    _pad, _flip, _split_axis, _join_axes, _repeat, _argmax,
]  # fmt: skip


@pytest.mark.parametrize("symbolic", [False, True])
def test_random_networks_keep_their_meaning(symbolic):
    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(st.data())
    def run(data):
        net = Net(data.draw, symbolic)
        p = net.build()
        after = run_pipeline(p, ["choose_layout"])
        expected, got = evaluate(p, net.array), evaluate(after, net.array)
        pairs = zip(expected, got) if isinstance(expected, (list, tuple)) else [(expected, got)]
        for e, g in pairs:
            np.testing.assert_array_equal(g, e)

    run()
