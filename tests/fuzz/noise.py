"""How far from the reference a right executor may be, by Monte Carlo arithmetic.

The program is evaluated again with a random error of the size of a few roundings on every float that
a node computes (data movement is exact).  What spreads is what rounding can spread: an element whose
noisy values differ in kind (other integer, other bool, NaN or not) or spread by more than a hundredth
of its size is *loose* and not compared; for others the bound is a multiple of the spread.

Source: Parker, "Monte Carlo Arithmetic" (1997).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from oarlock.evaluate import evaluate_graph
from oarlock.ir import Graph, Program, Value, decode, encode
from oarlock.ir.dim import evaluate_size
from oarlock.ir.graph import Node

EPS = {"f64": 2.0**-52, "f32": 2.0**-23, "f16": 2.0**-10, "bf16": 2.0**-7}
TINY = {"f64": 1e-300, "f32": 1e-36, "f16": 2.0**-24, "bf16": 1e-36}
SUBNORMAL = {"f32": 2.0**-126, "f64": 2.0**-1022}  # below, a function may give 0
RUNS, MORE_RUNS = 3, 48
SPREAD = 6.0  # bound over the largest deviation seen
LOOSE = 1e-2
EXACT = frozenset(
    [
        "neg",
        "abs",
        "sign",
        "floor",
        "ceil",
        "round",
        "trunc",
        "maximum",
        "minimum",
        "where",
        "relu",
        "clamp",
        "sort",
        "topk",
        "cummax",
        "cummin",
        "reduce_max",
        "reduce_min",
        "argmax",
        "argmin",
        "take",
        "gather",
        "pad",
        "concat",
        "const",
        "param",
        "iota",
        "size",
        "flip",
        "rand",
        "max_pool",
        "one_hot",
        "triu",
        "tril",
        "channel_shuffle",
        "pixel_shuffle",
        "pixel_unshuffle",
    ]
)
ROUNDED = frozenset(("add", "sub", "mul", "div", "square", "cast", "sqrt", "reciprocal"))

ABSOLUTE = {"lgamma": 8.0}  # what its kernel states: not relative near its zeros


@dataclass(frozen=True)
class Bound:
    """``error`` per element of an output, infinite where it is not compared."""

    expected: np.ndarray
    error: np.ndarray

    @property
    def loose(self) -> float:
        """The part that is not compared."""
        return float(np.mean(np.isinf(self.error))) if self.error.size else 0.0


def bounds_of(
    program: Program,
    env: Mapping[str, int],
    arrays: Sequence[np.ndarray],
    expected: Sequence[np.ndarray],
    runs: int = RUNS,
) -> list[Bound]:
    """What each output may be."""
    rng = np.random.default_rng(1)
    tries = [noisy(program, env, arrays, rng) for _ in range(runs)]
    return [
        _bound(v, e, [t[i] for t in tries])
        for i, (v, e) in enumerate(zip(program.graph.outputs, expected))
    ]


def _bound(value: Value, expected: np.ndarray, tries: Sequence[np.ndarray]) -> Bound:
    if not value.dtype.is_float:
        differs = np.zeros(expected.shape, bool)
        for t in tries:
            differs |= t != expected
        return Bound(expected, np.where(differs, np.inf, 0.0))
    with np.errstate(all="ignore"):
        x = decode(expected, value.dtype).astype(np.float64)
        others = [decode(t, value.dtype).astype(np.float64) for t in tries]
        spread = np.zeros(x.shape)
        for y in others:
            same = (x == y) | (np.isnan(x) & np.isnan(y))
            spread = np.maximum(spread, np.where(same, 0.0, np.abs(x - y)))
        spread = np.where(np.isfinite(spread), spread, np.inf)
        eps = EPS[value.dtype.name]
        size = np.where(np.isfinite(x), np.abs(x), 0.0)
        error = SPREAD * spread + 4 * eps * size + TINY[value.dtype.name]
        limit = np.maximum(LOOSE, 16 * eps) * np.maximum(size, 1.0)
        error = np.where(spread > limit, np.inf, error)
        error = np.where(np.isfinite(x) | np.isinf(error), error, 0.0)
    return Bound(expected, error)


def wrong(value: Value, bound: Bound, got: np.ndarray) -> np.ndarray:
    """Where ``got`` is out of bounds."""
    if got.shape != bound.expected.shape or got.dtype != bound.expected.dtype:
        return np.ones(bound.expected.shape or (1,), bool)
    if not value.dtype.is_float:
        return (got != bound.expected) & np.isfinite(bound.error)
    with np.errstate(all="ignore"):
        x = decode(bound.expected, value.dtype).astype(np.float64)
        y = decode(got, value.dtype).astype(np.float64)
        same = (x == y) | (np.isnan(x) & np.isnan(y))
        return ~same & ~(np.abs(x - y) <= bound.error) & ~np.isinf(bound.error)


def noisy(
    program: Program,
    env: Mapping[str, int],
    arrays: Sequence[np.ndarray],
    rng: np.random.Generator,
) -> list[np.ndarray]:
    """The outputs with an error on every computed float."""
    return _run(program.graph, program, env, arrays, rng)


def _run(
    graph: Graph,
    program: Program,
    env: Mapping[str, int],
    arrays: Sequence[np.ndarray],
    rng: np.random.Generator,
) -> list[np.ndarray]:
    known = dict(zip(graph.inputs, arrays))
    for node in graph.nodes:
        inputs = [known[v] for v in node.inputs]
        if node.graphs:

            def run(inner: Graph, *args: np.ndarray) -> list[np.ndarray]:
                return _run(inner, program, env, args, rng)

            op = node.op.bind(env)
            results = list(op.reference_graphs(run, node.graphs, *inputs))
        else:
            moved = (
                inputs
                if _is_exact(node)
                else [_moved(v, x, rng) for v, x in zip(node.inputs, inputs)]
            )
            unique = dict(zip(node.inputs, moved))
            alone = Graph(list(unique), [node], node.outputs)
            results = evaluate_graph(alone, program.params, env, list(unique.values()))
            if not (node.op.view or node.name in EXACT):
                results = [
                    _disturbed(node, v, x, inputs, env, rng) for v, x in zip(node.outputs, results)
                ]
        known.update(zip(node.outputs, results))
    return [known[v] for v in graph.outputs]


def _is_exact(node: Node) -> bool:
    """A node whose result is rounded once, or not at all, or that sums."""
    return not type(node.op).pointwise or node.name in EXACT or node.name in ROUNDED


def _moved(value: Value, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An operand of a function that is approximated: a good approximation is the function near by."""
    if value.dtype.name not in ("f32", "f64"):
        return x
    with np.errstate(all="ignore"):
        return (x * (1 + _side(x.shape, rng) * EPS[value.dtype.name])).astype(x.dtype)


def _side(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return rng.choice((-1.0, 1.0), shape) * rng.uniform(0.5, 1.0, shape)


def _disturbed(
    node: Node,
    value: Value,
    x: np.ndarray,
    inputs: Sequence[np.ndarray],
    env: Mapping[str, int],
    rng: np.random.Generator,
) -> np.ndarray:
    if not value.dtype.is_float:
        return x
    y = decode(x, value.dtype).astype(np.float64)
    eps = EPS[value.dtype.name]
    size = np.where(np.isfinite(y), np.abs(y), 0.0)
    if node.name in ("add", "sub") and any(map(_may_contract, node.inputs)):
        amplitude = eps * np.maximum(size, _largest_operand(node, inputs))
    elif node.name in ROUNDED:
        amplitude = eps * size
    elif type(node.op).pointwise and not node.op.is_composite:
        amplitude = 2 * eps * (size + ABSOLUTE.get(node.name, 0.0))
    elif eps > EPS["f32"] and node.name not in (*PRODUCTS, *IN_PLACE):
        amplitude = eps * size + 8 * EPS["f32"] * _scale(node, inputs, env)
    else:
        amplitude = 2 * eps * (size + _scale(node, inputs, env))
    side = _side(x.shape, rng)
    with np.errstate(all="ignore"):
        moved = y + side * amplitude
        is_subnormal = (y != 0) & (np.abs(y) < SUBNORMAL.get(value.dtype.name, 0.0))
        moved = np.where(is_subnormal & (side > 0), 0.0, moved)
        return encode(moved if value.dtype.name == "f64" else moved.astype(np.float32), value.dtype)


def _may_contract(value: Value) -> bool:
    """A product that a fused multiply-add leaves unrounded, perhaps behind views."""
    while value.producer is not None and value.producer.op.view:
        value = value.producer.inputs[0]
    node = value.producer
    return node is not None and type(node.op).pointwise and node.name not in EXACT


def _largest_operand(node: Node, inputs: Sequence[np.ndarray]) -> np.ndarray:
    x, y = (np.abs(decode(a, v.dtype)) for a, v in zip(inputs, node.inputs))
    largest = np.maximum(x, y)
    return np.where(np.isfinite(largest), largest, 0.0)


def _scale(node: Node, inputs: Sequence[np.ndarray], env: Mapping[str, int]) -> float:
    """Of the terms that an element is the sum of: the largest input, or product of two, times the
    root of how many are joined."""
    sizes = [_largest(decode(a, v.dtype)) for a, v in zip(inputs, node.inputs) if v.dtype.is_float]
    if node.name in PRODUCTS and len(sizes) > 1:
        joined = max(a.size for a in inputs[:2])
        return float(np.sqrt(joined) * sizes[0] * sizes[1] + max(sizes[2:], default=0.0))
    count = max((a.size for a in inputs), default=1)
    total = max(1, *(int(np.prod([evaluate_size(s, env) for s in v.shape])) for v in node.outputs))
    return max(sizes, default=0.0) * float(np.sqrt(max(1.0, count / total)))


IN_PLACE = frozenset(("put", "scatter"))  # sums are rounded to the element at every step
PRODUCTS = frozenset(("matmul", "linear", "conv", "conv_transpose"))


def _largest(x: np.ndarray) -> float:
    finite = np.abs(x[np.isfinite(x)])
    return float(finite.max()) if finite.size else 0.0
