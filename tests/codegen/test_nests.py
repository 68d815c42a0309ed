"""Loop groups compiled by the system compiler against the evaluator."""

from __future__ import annotations

import numpy as np
import pytest

import oarlock.ops  # noqa: F401  registers the records
from oarlock.codegen import fuse
from oarlock.codegen import target as targets
from oarlock.errors import TypeMismatch
from oarlock.ir import (
    Builder,
    Dim,
    Graph,
    TensorType,
    bf16,
    bool_,
    encode,
    f16,
    f32,
    f64,
    i8,
    i16,
    i32,
    i64,
    u8,
)  # fmt: skip
from oarlock.ir.op import REGISTRY
from tests.codegen.harness import c_text, check, decomposed, kernels_of

PLAIN, WIDE = targets.get("plain"), targets.get(targets.native().name)
N, T = Dim("N"), Dim("T", min=0)
ENV = {"N": 5, "T": 3}
DTYPES = [f32, f64, f16, bf16, i64, i32, i16, i8, u8, bool_]


def draw(type, env, rng, low=-2.0, high=2.0):
    shape = type.concrete(env).shape
    if type.dtype.is_bool:
        return rng.random(shape) < 0.5
    if type.dtype.is_float:
        return encode(rng.uniform(low, high, shape).astype(np.float32), type.dtype)
    low = 0 if type.dtype is u8 else -9
    return rng.integers(low, 10, shape).astype(type.dtype.numpy)


def graph_of(build, *types):
    g = Graph()
    b = Builder(g)
    out = build(b, *[b.input(t, f"x{i}") for i, t in enumerate(types)])
    g.outputs = list(out) if isinstance(out, tuple) else [out]
    return g


def run(graph, target, env=ENV, seed=0, **options):
    rng = np.random.default_rng(seed)
    arrays = [draw(v.type, env, rng) for v in graph.inputs]
    return check(graph, arrays, target, env, **options)


def loop_ops():
    """Ops whose samples decompose into loop nodes."""
    return [
        name for name, record in sorted(REGISTRY.items())
        if record.samples and not record.has_graphs and name not in ("param", "lgamma", "erfinv")
    ]  # fmt: skip


def sample_graph(name):
    """Every sample of an op in one graph, or None when it needs another kind of kernel."""
    b, arrays = Builder(Graph()), []
    rng = np.random.default_rng(0)
    outputs = []
    for i, sample in enumerate(REGISTRY[name].samples):
        values = []
        for k, x in enumerate(sample.inputs):
            kind = x if isinstance(x, TensorType) else TensorType(_dtype(x), x.shape)
            values.append(b.input(kind, f"x{i}_{k}"))
            array = x if isinstance(x, np.ndarray) else draw(x, {}, rng, sample.low, sample.high)
            arrays.append(np.asarray(array, order="C"))
        out = b.build(REGISTRY[name](**sample.attrs), *values)
        outputs += list(out) if isinstance(out, tuple) else [out]
    b.graph.outputs = outputs
    for node in decomposed(b.graph).nodes:
        if not (fuse.is_loop_node(node) or node.name in fuse.LEAVES or type(node.op).view):
            return None
    return b.graph, arrays


def _dtype(x):
    from oarlock.ir import DType

    return DType.of(x.dtype)


@pytest.mark.parametrize("target", [PLAIN, WIDE], ids=lambda t: t.name)
@pytest.mark.parametrize("name", loop_ops())
def test_samples(name, target):
    made = sample_graph(name)
    if made is None:
        pytest.skip("needs a kernel of its own")
    graph, arrays = made
    check(graph, arrays, target, {}, tolerance=2e-5)


@pytest.mark.parametrize("target", [PLAIN, WIDE], ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype(dtype, target):
    def build(b, x, y):
        outs = []
        for name in [
            "add",
            "sub",
            "mul",
            "maximum",
            "minimum",
            "eq",
            "lt",
            "ge",
            "floor_div",
            "remainder",
            "fmod",
            "trunc_div",
            "bit_and",
            "bit_or",
            "bit_xor",
            "shift_left",
            "shift_right",
            "neg",
            "abs",
            "sign",
            "bit_not",
            "logical_not",
        ]:
            operands = (x, y) if REGISTRY[name].infer.__code__.co_argcount > 2 else (x,)
            try:
                outs.append(getattr(b, name)(*operands))
            except TypeMismatch:
                continue
        outs += [b.cast(x, dtype=d) for d in DTYPES]
        outs += [b.where(b.ne(x, y), x, y), b.reduce_max(x, axes=(1,)), b.reduce_min(y, axes=(0,))]
        if not dtype.is_bool:
            outs += [b.reduce_sum(x, axes=(1,)), b.reduce_prod(y, axes=(0,), keepdims=True)]
        return (*outs, b.argmax(x, axis=1), b.argmin(x, axis=0), b.pad(x, low=(1, 0), high=(0, 2)))

    run(graph_of(build, TensorType(dtype, (N, 37)), TensorType(dtype, (N, 37))), target)


CASES = {
    "broadcast": (lambda b, x, y: b.add(b.mul(x, y), 1.5), (N, 37), (37,)),
    "flat": (lambda b, x, y: b.maximum(b.add(x, y), 0.0), (N, 8, 7, 7), (N, 8, 7, 7)),
    "transposed": (lambda b, x, y: b.add(b.transpose(x, perm=(0, 2, 1)), y), (N, 20, 30), (30, 20)),
    "column": (lambda b, x: b.reduce_sum(x, axes=(0,)), (N, 100)),
    "middle": (lambda b, x: b.reduce_max(x, axes=(1,), keepdims=True), (N, 12, 33)),
    "ends": (lambda b, x: b.reduce_sum(b.mul(x, x), axes=(0, 2)), (N, 12, 33)),
    "all": (lambda b, x: b.reduce_sum(x, axes=(0, 1)), (N, 64)),
    "softmax": (lambda b, x: b.softmax(x, axis=-1), (N, 7, 53)),
    "softmax over rows": (lambda b, x: b.softmax(x, axis=1), (N, 7, 53)),
    "log_softmax": (lambda b, x: b.log_softmax(x, axis=-1), (N, 100)),
    "logsumexp": (lambda b, x: b.logsumexp(x, axes=(1,)), (N, 100)),
    "layer_norm": (lambda b, x, s, t: b.layer_norm(x, s, t, axes=1, eps=1e-5), (N, T, 70), (70,), (70,)),
    "residual": (
        lambda b, x, y, s, t: ((r := b.add(x, y)), b.layer_norm(r, s, t, axes=1, eps=1e-5)),
        (N, T, 70), (N, T, 70), (70,), (70,),
    ),
    "rms_norm": (lambda b, x, s: b.rms_norm(x, s, axes=1, eps=1e-5), (N, 70), (70,)),
    "group_norm": (
        lambda b, x, s, t: b.group_norm(x, s, t, groups=4, eps=1e-5),
        (N, 32, 7, 5), (32,), (32,),
    ),
    "statistics": (lambda b, x: b.var(x, axes=(0, 2), keepdims=True), (N, 12, 33)),
    "argmax": (lambda b, x: (b.argmax(x, axis=1), b.argmin(x, axis=0)), (N, 64)),
    "slices": (
        lambda b, x: b.add(
            b.slice(x, starts=(0, 1), stops=(N, 41), steps=(1, 2)),
            b.flip(b.slice(x, starts=(0, 2), stops=(N, 22), steps=(1, 1)), axes=(1,)),
        ),
        (N, 64),
    ),
    "glu": (lambda b, x: b.glu(x, axis=-1), (N, 64)),
    "heads": (
        lambda b, x, y: b.add(b.transpose(b.reshape(x, shape=(N, 7, 4, 16)), perm=(0, 2, 1, 3)), y),
        (N, 7, 64), (16,),
    ),
    "concat": (lambda b, x, y: b.concat(b.neg(x), y, axis=1), (N, T, 8), (N, 5, 8)),
    "concat inside": (lambda b, x, y: b.mul(b.concat(x, y, axis=-1), 2.0), (N, T, 8), (N, T, 17)),
    "pad": (lambda b, x: b.pad(x, low=(0, 1, 2), high=(0, 0, 1), value=3.0), (N, 5, 40)),
    "masks": (
        lambda b, x, y: (b.where(b.bit_and(b.lt(x, y), b.gt(x, 0.0)), x, y), b.lt(x, y)),
        (N, 64), (N, 64),
    ),
    "iota": (lambda b, x: b.add(x, b.cast(b.iota(size=64, dtype=i64), dtype=f32)), (N, 64)),
    "table": (lambda b, x: b.mul(x, b.const((1.0, 2.0, 4.0), f32)), (N, 3)),
    "scalars": (lambda b, x: b.exp(b.mul(x, 0.5)), ()),
    "merge": (lambda b, x: b.exp(b.reshape(b.neg(x), shape=(N * 12, 7))), (N, 12, 7)),
    "merge transposed": (
        lambda b, x: b.exp(b.reshape(b.transpose(x, perm=(0, 2, 1)), shape=(N, 84))), (N, 12, 7)),
    "shuffle": (
        lambda b, x: b.neg(b.reshape(
            b.transpose(b.reshape(x, shape=(N, 2, 2, 2, 3, 5)), perm=(0, 1, 4, 2, 5, 3)),
            shape=(N, 2, 6, 10),
        )),
        (N, 8, 3, 5),
    ),
    "softmax of a sum": (
        lambda b, x, m: b.softmax(b.add(b.mul(x, 0.125), m), axis=-1), (N, 4, T, 20), (T, 20)),
    "row used transposed": (
        lambda b, x: b.sub(x, b.transpose(b.reduce_max(x, axes=(1,), keepdims=True), perm=(1, 0))),
        (6, 6),
    ),
}  # fmt: skip


@pytest.mark.parametrize("target", [PLAIN, WIDE], ids=lambda t: t.name)
@pytest.mark.parametrize("case", CASES)
def test_cases(case, target):
    build, *shapes = CASES[case]
    graph = graph_of(build, *[TensorType(f32, s) for s in shapes])
    run(graph, target, tolerance=1e-5)
    run(graph, target, {"N": 1, "T": 0}, tolerance=1e-5)


@pytest.mark.parametrize("case", [
    "softmax", "softmax over rows", "layer_norm", "residual", "rms_norm", "group_norm", "glu",
    "log_softmax", "logsumexp", "softmax of a sum", "statistics", "heads", "flat",
])  # fmt: skip
def test_is_one_kernel(case):
    build, *shapes = CASES[case]
    graph = decomposed(graph_of(build, *[TensorType(f32, s) for s in shapes]))
    groups = [g for g in fuse.group(graph, WIDE) if g.kind != "alias"]
    assert len(groups) == 1, [[n.name for n in g.nodes] for g in groups]


def test_picked_rows_are_read_as_vectors():
    """Lanes run along the rows, not along the places that are picked."""
    b = Builder()
    x, weight = b.input(TensorType(f32, (14, 48)), "x"), b.input(TensorType(f32, (56, 1)), "w")
    first, second = (b.input(TensorType(i64, (56,)), name) for name in "ij")
    b.graph.outputs = [b.add(b.mul(b.take(x, first), weight), b.take(x, second))]
    text = c_text([k for _, k in kernels_of(b.graph, WIDE) if k is not None], WIDE, [])
    assert "gather" not in text.split("int32_t k0", 2)[-1]
    assert "strided" not in text.split("int32_t k0", 2)[-1]
