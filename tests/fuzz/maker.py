"""Grow a graph of random nodes, each evaluated as it is added."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import oarlock.ops  # noqa: F401  fills the registry
from oarlock.errors import TypeMismatch
from oarlock.evaluate import evaluate_graph
from oarlock.ir import (
    Builder,
    Dim,
    DType,
    Graph,
    Program,
    TensorType,
    Value,
    bf16,
    bool_,
    decode,
    encode,
    f16,
    f32,
    f64,
    i8,
    i16,
    i32,
    i64,
    u8,
)
from oarlock.ir.graph import Node
from oarlock.ir.op import REGISTRY, Op, Sample

Env = dict[str, int]
FLOATS = (f32, f32, f32, f32, f32, f32, f64, f16, bf16)
DTYPES = (*FLOATS, i64, i64, i32, i16, i8, u8, bool_)
SIZES = (1, 2, 2, 3, 3, 4, 4, 5, 6, 7, 8, 8, 12, 16, 17, 24, 33)
SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0, 0.5, -0.5, 1.5, 2.5, 1e-8, 100.0)
MAX_ELEMENTS = 2048
LARGEST = 1e3  # floats beyond are squashed before they are read again
UNSAMPLED = ("param", "aten_call", "const", "iota", "size", "call")


@dataclass(frozen=True)
class Case:
    """``arrays[k]`` are the inputs under ``envs[k]``."""

    program: Program
    envs: tuple[Env, ...]
    arrays: tuple[list[np.ndarray], ...]


@dataclass
class Known:
    """A value with what it is under each assignment."""

    value: Value
    arrays: list[np.ndarray]
    uses: int = 0


@dataclass
class Maker:
    """Grows one graph."""

    rng: random.Random
    depth: int = 0
    builder: Builder = field(default_factory=Builder)
    params: dict[str, np.ndarray] = field(default_factory=dict)
    pool: list[Known] = field(default_factory=list)
    inputs: list[Known] = field(default_factory=list)

    def __post_init__(self) -> None:
        low_n, low_t = self.rng.choice((0, 1, 1, 2)), self.rng.choice((1, 2))
        self.dims = [Dim("N", low_n, 64), Dim("T", low_t)]
        self.noise = np.random.default_rng(self.rng.getrandbits(32))
        self.envs = [self._env(low_n, low_t) for _ in range(2)]
        self.open = self.rng.random() < 0.6  # has symbols in its shapes

    def _env(self, low_n: int, low_t: int) -> Env:
        pick = self.rng.choice
        return {"N": pick((low_n, low_n, low_n + 1, 3, 5, 9)), "T": pick((low_t, 2, 4, 7, 17))}

    # Data

    def data(
        self, type: TensorType, low: float = -2.0, high: float = 2.0, finite: bool = False
    ) -> np.ndarray:
        """Random storage of a fixed type."""
        dtype, shape = type.dtype, type.shape
        if dtype.is_bool:
            return self.noise.integers(0, 2, shape).astype(bool)
        if dtype.is_int:
            return self._integers(dtype, shape)
        x = self.noise.uniform(low, high, shape)
        kind = self.noise.random()
        if kind < 0.15:
            x = np.round(x * 2) / 2
        elif kind < 0.2 and not finite:
            x = np.where(self.noise.random(shape) < 0.1, self.noise.choice(SPECIAL, shape), x)
        return encode(np.asarray(x).astype(np.float64 if dtype is f64 else np.float32), dtype)

    def _integers(self, dtype: DType, shape: Sequence[int]) -> np.ndarray:
        if self.noise.random() < 0.1:
            info = np.iinfo(dtype.numpy)
            return self.noise.integers(info.min, info.max, shape, dtype.numpy, endpoint=True)
        low = -4 if dtype.is_signed else 0
        return self.noise.integers(low, 5, shape).astype(dtype.numpy)

    def shape(self, rank: int | None = None) -> tuple[Any, ...]:
        """Random sizes, symbols among them."""
        rank = self.rng.choice((0, 1, 1, 2, 2, 2, 3, 3, 4)) if rank is None else rank
        sizes: list[Any] = [self.rng.choice(SIZES) for _ in range(rank)]
        for axis in range(rank):
            if self.open and self.rng.random() < (0.4 if axis == 0 else 0.15):
                n, t = self.dims
                sizes[axis] = self.rng.choice((n, n, t, n * 2, n + 1, t * 2 + 1, n * t))
        while self._elements(sizes) > MAX_ELEMENTS:
            sizes[self.rng.randrange(rank)] = self.rng.choice((1, 2, 3))
        return tuple(sizes)

    def _elements(self, shape: Sequence[Any]) -> int:
        return max(
            int(np.prod([s.evaluate(env) if isinstance(s, Dim) else s for s in shape]))
            for env in self.envs
        )

    def source(
        self, type: TensorType, sample: Sample | None = None, *, finite: bool = False
    ) -> Value:
        """A new input, or a param when the sizes are known."""
        low, high = (-2.0, 2.0) if sample is None else (sample.low, sample.high)
        arrays = [self.data(type.concrete(env), low, high, finite) for env in self.envs]
        is_fixed = all(isinstance(s, int) for s in type.shape)
        if self.depth or (is_fixed and self.rng.random() < 0.4):
            return self.weight(arrays[0])
        return self.feed(type, arrays)

    def weight(self, array: np.ndarray) -> Value:
        """A param with this storage, or a const."""
        dtype = bf16 if array.dtype == np.uint16 else DType.of(array.dtype)
        type = TensorType(dtype, array.shape)
        if array.size <= 4 and self.rng.random() < 0.3:
            value = decode(array, type.dtype).tolist()
            return self.add(REGISTRY["const"](value=_tuples(value), dtype=type.dtype))[0]
        key = f"w{len(self.params)}_{self.depth}"
        self.params[key] = array
        return self.add(REGISTRY["param"](key=key, type=type))[0]

    def feed(self, type: TensorType, arrays: list[np.ndarray]) -> Value:
        """A new graph input."""
        value = self.builder.input(type, f"x{len(self.inputs)}")
        self.inputs.append(Known(value, arrays))
        self.pool.append(self.inputs[-1])
        return value

    # Nodes

    def known(self, value: Value) -> Known:
        return next(k for k in self.pool if k.value is value)

    def add(self, op: Op, *values: Value, graphs: Sequence[Graph] = ()) -> tuple[Value, ...]:
        """Append a node and evaluate it.  Raises: TypeMismatch, InputError; nothing is appended."""
        node = Node(op, values, graphs)
        sizes = [v.shape for v in node.outputs]
        if any(self._elements(s) > 4 * MAX_ELEMENTS for s in sizes):
            raise TypeMismatch("too large for a test")
        if any(_may_be_negative(s) for shape in sizes for s in shape):
            raise TypeMismatch("a size may be negative")
        results = [self._run(node, k) for k in range(len(self.envs))]
        self.builder.graph.nodes.append(node)
        for value, *arrays in zip(node.outputs, *results):
            self.pool.append(Known(value, list(arrays)))
        for value in dict.fromkeys(values):
            self.known(value).uses += 1
        return node.outputs

    def _run(self, node: Node, k: int) -> list[np.ndarray]:
        inputs = list(dict.fromkeys(node.inputs))
        arrays = [self.known(v).arrays[k] for v in inputs]
        graph = Graph(inputs, [node], node.outputs)
        return evaluate_graph(graph, self.params, self.envs[k], arrays)

    def pick(self, accepts: Callable[[Value], bool] = lambda v: True) -> Value:
        """A value at hand, late and unread ones preferred; a new one when none fits."""
        found = [k for k in self.pool if accepts(k.value)]
        if not found or self.rng.random() < 0.06:
            for _ in range(20):
                type = TensorType(self.rng.choice(DTYPES), self.shape())
                if accepts(Value(type)):
                    return self.source(type)
        if not found:
            raise TypeMismatch("nothing fits")
        weights = [(4 if k.uses == 0 else 1) * (1 + i) for i, k in enumerate(found)]
        return self.tame(self.rng.choices(found, weights)[0])

    def tame(self, known: Known) -> Value:
        """The value, squashed when it holds large numbers or little but NaN."""
        value = known.value
        if not value.dtype.is_float:
            return value
        bad = [_badness(decode(x, value.dtype)) for x in known.arrays]
        if max(bad) > 0.5:
            (finite,) = self.add(REGISTRY["is_finite"](), value)
            zero = self.scalar(0.25, value.dtype)
            value = self.add(REGISTRY["where"](), finite, value, zero)[0]
            return self.add(REGISTRY["clamp"](low=-4.0, high=4.0), value)[0]
        return value

    def scalar(self, x: float, dtype: DType) -> Value:
        return self.add(REGISTRY["const"](value=x, dtype=dtype))[0]

    def finish(self) -> Case | None:
        """Sinks, and some of the rest, are the outputs."""
        rng, graph = self.rng, self.builder.graph
        made = [k for k in self.pool if k.value.producer is not None]
        made = [k for k in made if k.value.producer.name not in UNSAMPLED]
        outputs = [k.value for k in made if k.uses == 0]
        outputs += [k.value for k in made if k.uses and rng.random() < 0.12]
        if not outputs:
            return None
        if rng.random() < 0.15:
            outputs.append(rng.choice(self.pool).value)
        if rng.random() < 0.1:
            outputs.append(rng.choice(outputs))
        rng.shuffle(outputs)
        graph.outputs = outputs
        arrays = tuple([k.arrays[i] for k in self.inputs] for i in range(len(self.envs)))
        program = Program(graph, dict(self.params))
        envs = [{s: e[s] for s in program.dims} for e in self.envs]
        solved = {
            s.name for k in self.inputs for s in k.value.shape if isinstance(s, Dim) and s.is_symbol
        }
        return Case(program, tuple(envs), arrays) if set(program.dims) <= solved else None


def _tuples(x: Any) -> Any:
    return tuple(map(_tuples, x)) if isinstance(x, list) else x


def _may_be_negative(size: Any) -> bool:
    return isinstance(size, Dim) and size.bounds()[0] < 0


def _badness(x: np.ndarray) -> float:
    return float(np.mean(~(np.abs(x) < LARGEST))) if x.size else 0.0
