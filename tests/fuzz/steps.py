"""What random programs are grown by: a node of any record, or an idiom that stresses fusion."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from oarlock.errors import InputError, TypeMismatch
from oarlock.ir import Dim, TensorType, Value, bool_, decode, i32, i64, product, u8
from oarlock.ir.op import REGISTRY, Op, Sample
from tests.fuzz.maker import DTYPES, FLOATS, UNSAMPLED, Known, Maker


def grow(m: Maker, steps: int) -> None:
    """Try ``steps`` nodes or idioms."""
    if not m.pool:
        m.source(TensorType(m.rng.choice(FLOATS), m.shape()))
    names, weights = list(STEPS), list(STEPS.values())
    for _ in range(steps):
        step = m.rng.choices(names, weights)[0]
        try:
            step(m)
        except (TypeMismatch, InputError):
            continue


# Steps: pointwise


def _arity(record: type[Op]) -> float:
    return record._arity[1]


POINTWISE = {n: r for n, r in REGISTRY.items() if r.pointwise and not r.has_graphs and n != "cast"}
UNARY = sorted(n for n, r in POINTWISE.items() if _arity(r) == 1)
BINARY = sorted(n for n, r in POINTWISE.items() if _arity(r) == 2)
REDUCTIONS = sorted(n for n, r in REGISTRY.items() if r.reduction)
PLAIN = ("add", "sub", "mul", "maximum", "minimum", "div")


def attributes_of(rng: random.Random, record: type[Op]) -> dict[str, Any]:
    """The attributes of one of the record's samples."""
    found = [s.attrs for s in record.samples if s.attrs] + [{}]
    return dict(rng.choice(found))


def into_domain(m: Maker, name: str, x: Value) -> Value:
    """``x`` moved into the range that the record's samples stay in, mostly."""
    samples = REGISTRY[name].samples
    if not samples or not x.dtype.is_float or m.rng.random() < 0.15:
        return x
    low, high = samples[0].low, samples[0].high
    if (low, high) == (-2.0, 2.0):
        return x
    if low > 0:
        return m.add(REGISTRY["add"](), m.add(REGISTRY["abs"](), x)[0], m.scalar(low, x.dtype))[0]
    return m.add(REGISTRY["clamp"](low=low, high=high), x)[0]


def unary(m: Maker) -> None:
    name = m.rng.choice(UNARY)
    record = REGISTRY[name]
    x = into_domain(m, name, m.pick())
    m.add(record(**attributes_of(m.rng, record)), x)


def partner(m: Maker, x: Value) -> Value:
    """Another operand of a pointwise op: of the same type, broadcast, or a number."""
    kind = m.rng.random()
    if kind < 0.45:
        same = [k for k in m.pool if k.value.dtype == x.dtype and _broadcasts(k.value, x)]
        if same:
            return m.tame(m.rng.choice(same))
    if kind < 0.6:
        number = m.rng.choice((0, 1, 2, 3)) if not x.dtype.is_float else m.rng.uniform(-2, 2)
        return m.scalar(bool(number) if x.dtype.is_bool else number, x.dtype)
    cut = m.rng.randrange(x.rank + 1)
    shape = tuple(1 if m.rng.random() < 0.3 else s for s in x.shape[cut:])
    return m.source(TensorType(x.dtype, shape))


def _broadcasts(a: Value, b: Value) -> bool:
    try:
        REGISTRY["eq"]().infer_types([a.type, b.type])
    except TypeMismatch:
        return False
    return True


def binary(m: Maker) -> None:
    name = m.rng.choice(PLAIN if m.rng.random() < 0.6 else BINARY)
    x = m.pick()
    y = partner(m, x)
    if REGISTRY[name].samples[0].low > 0 and x.dtype.is_float:
        y = into_domain(m, name, y)
        x = into_domain(m, name, x) if name == "pow" else x
    elif name in ("pow", "shift_left", "shift_right") and m.rng.random() < 0.8:
        y = m.add(REGISTRY["clamp"](low=0, high=3), y)[0]
    m.add(REGISTRY[name](), *((y, x) if m.rng.random() < 0.3 and name in PLAIN[:5] else (x, y)))


def condition(m: Maker, x: Value) -> Value:
    """A bool value that broadcasts with x."""
    found = [k.value for k in m.pool if k.value.dtype is bool_ and _broadcasts_shape(k.value, x)]
    if found and m.rng.random() < 0.5:
        return m.rng.choice(found)
    name = m.rng.choice(("lt", "ge", "ne", "eq"))
    return m.add(REGISTRY[name](), x, partner(m, x))[0]


def _broadcasts_shape(a: Value, b: Value) -> bool:
    return _broadcasts(a, Value(b.type.with_dtype(a.dtype)))


def where(m: Maker) -> None:
    x = m.pick()
    m.add(REGISTRY["where"](), condition(m, x), x, partner(m, x))


def cast(m: Maker) -> None:
    m.add(REGISTRY["cast"](dtype=m.rng.choice(DTYPES)), m.pick())


# Steps: views and moves


def reshape(m: Maker) -> None:
    x = m.pick(lambda v: v.rank > 0)
    shape, axis = list(x.shape), m.rng.randrange(x.rank)
    kind = m.rng.choice(("merge", "split", "flat", "one", "drop"))
    if kind == "merge" and x.rank > 1:
        axis = min(axis, x.rank - 2)
        shape[axis : axis + 2] = [shape[axis] * shape[axis + 1]]
    elif kind == "split":
        factor = m.rng.choice((2, 3, 4))
        if (shape[axis] % factor) != 0:
            raise TypeMismatch("does not divide")
        parts = [shape[axis] // factor, factor]
        shape[axis : axis + 1] = parts if m.rng.random() < 0.5 else parts[::-1]
    elif kind == "flat":
        shape = [product(shape)]
    elif kind == "one":
        shape.insert(axis, 1)
    elif kind == "drop" and 1 in shape:
        shape.remove(1)
    m.add(REGISTRY["reshape"](shape=tuple(shape)), x)


def transpose(m: Maker) -> None:
    x = m.pick(lambda v: v.rank > 1)
    perm = list(range(x.rank))
    m.rng.shuffle(perm)
    m.add(REGISTRY["transpose"](perm=tuple(perm)), x)


def broadcast_to(m: Maker) -> None:
    x = m.pick(lambda v: v.rank < 4)
    shape = [m.shape(1)[0] if s == 1 and m.rng.random() < 0.7 else s for s in x.shape]
    if m.rng.random() < 0.5:
        shape.insert(0, m.rng.choice((1, 2, 3)))
    m.add(REGISTRY["broadcast_to"](shape=tuple(shape)), x)


def slice_(m: Maker) -> None:
    x = m.pick(lambda v: v.rank > 0)
    spans = [_span(m, s) if m.rng.random() < 0.6 else (0, s, 1) for s in x.shape]
    starts, stops, steps = zip(*spans)
    m.add(REGISTRY["slice"](starts=starts, stops=stops, steps=steps), x)


def _span(m: Maker, size: Any) -> tuple[Any, Any, int]:
    step = m.rng.choice((1, 1, 1, 2, 3))
    if isinstance(size, int):
        start = m.rng.randrange(size + 1)
        stop = m.rng.randint(start, size) if m.rng.random() < 0.9 else start
        return start, stop, step
    low = size.bounds()[0]
    if low >= 1 and m.rng.random() < 0.6:
        return m.rng.choice(((1, size, step), (0, size - 1, step), (size - 1, size, 1)))
    return m.rng.choice(((0, size // 2, step), (size // 2, size, step), (0, size, step)))


def flip(m: Maker) -> None:
    x = m.pick(lambda v: v.rank > 0)
    m.add(REGISTRY["flip"](axes=tuple(a for a in range(x.rank) if m.rng.random() < 0.5)), x)


def pad(m: Maker) -> None:
    x = m.pick(lambda v: v.rank > 0)
    low, high = (tuple(m.rng.choice((0, 0, 1, 2)) for _ in x.shape) for _ in range(2))
    value = m.rng.choice((0.0, 0.0, 1.0, -1.5, float("-inf"))) if x.dtype.is_float else 1
    m.add(REGISTRY["pad"](low=low, high=high, value=value), x)


def concat(m: Maker) -> None:
    x = m.pick(lambda v: v.rank > 0)
    axis = m.rng.randrange(x.rank)

    def fits(v: Value) -> bool:
        rest = lambda s: (*s[:axis], *s[axis + 1 :])  # noqa: E731
        return v.dtype == x.dtype and v.rank == x.rank and rest(v.shape) == rest(x.shape)

    parts = [x]
    for _ in range(m.rng.choice((1, 1, 2, 3))):
        found = [k.value for k in m.pool if fits(k.value)]
        shape = (*x.shape[:axis], m.rng.choice((1, 2, 3)), *x.shape[axis + 1 :])
        is_new = not found or m.rng.random() < 0.3
        parts.append(m.source(x.type.with_shape(shape)) if is_new else m.rng.choice(found))
    m.rng.shuffle(parts)
    m.add(REGISTRY["concat"](axis=axis if m.rng.random() < 0.5 else axis - x.rank), *parts)


# Steps: reductions and records along an axis


def axes(m: Maker, rank: int) -> tuple[int, ...]:
    chosen = [a for a in range(rank) if m.rng.random() < 0.5]
    if rank and m.rng.random() < 0.6:
        chosen = [m.rng.choice((0, rank - 1, rank - 1))]
    return tuple(a - rank if m.rng.random() < 0.2 else a for a in chosen)


def reduce(m: Maker) -> None:
    plain = ("reduce_sum", "reduce_max", "mean", "reduce_min")
    record = REGISTRY[m.rng.choice(plain if m.rng.random() < 0.5 else REDUCTIONS)]
    x = m.pick()
    fields = {f.name for f in dataclasses.fields(record)}
    chosen = attributes_of(m.rng, record)
    chosen = {k: v for k, v in chosen.items() if k not in ("axis", "axes")}
    if "axes" in fields:
        chosen["axes"] = axes(m, x.rank)
    else:
        chosen["axis"] = m.rng.randrange(x.rank) if x.rank else 0
        _refuse_empty(m, x, chosen["axis"])
    if "keepdims" in fields:
        chosen["keepdims"] = m.rng.random() < 0.5
    m.add(record(**chosen), x)


def _refuse_empty(m: Maker, x: Value, axis: int) -> None:
    if x.rank and isinstance(x.shape[axis], Dim) and x.shape[axis].bounds()[0] < 1:
        raise TypeMismatch("an axis that may be empty")


ALONG = sorted(
    n
    for n, r in REGISTRY.items()
    if "axis" in {f.name for f in dataclasses.fields(r)} and _arity(r) == 1 and not r.reduction
)


def along(m: Maker) -> None:
    record = REGISTRY[m.rng.choice(ALONG)]
    x = m.pick(lambda v: v.rank > 0)
    chosen = attributes_of(m.rng, record)
    chosen["axis"] = m.rng.randrange(-x.rank, x.rank)
    if "k" in chosen:
        chosen["k"] = m.rng.choice((1, 2, x.shape[chosen["axis"]]))
    m.add(record(**chosen), x)


# Steps: indices


def indices(m: Maker, size: Any, shape: Sequence[Any]) -> Value:
    """Integers in range for an axis."""
    smallest = min(s.evaluate(e) if isinstance(s := size, Dim) else s for e in m.envs)
    if smallest < 1:
        raise TypeMismatch("an empty axis has no places")
    dtype = m.rng.choice((i64, i64, i32, u8))
    low = -smallest if dtype.is_signed and m.rng.random() < 0.4 else 0
    type = TensorType(dtype, tuple(shape))
    arrays = [
        m.noise.integers(low, smallest, type.concrete(e).shape).astype(dtype.numpy) for e in m.envs
    ]
    is_fixed = all(isinstance(s, int) for s in shape)
    if m.depth or (is_fixed and m.rng.random() < 0.4):
        return m.weight(arrays[0])
    return m.feed(type, arrays)


def take(m: Maker) -> None:
    x = m.pick(lambda v: v.rank > 0)
    axis = m.rng.randrange(x.rank)
    shape = m.shape(m.rng.choice((0, 1, 1, 2)))
    m.add(REGISTRY["take"](axis=axis), x, indices(m, x.shape[axis], shape))


def gather(m: Maker) -> None:
    x = m.pick(lambda v: v.rank > 0)
    axis = m.rng.randrange(x.rank)
    shape = list(x.shape)
    shape[axis] = m.shape(1)[0]
    m.add(REGISTRY["gather"](axis=axis), x, indices(m, x.shape[axis], shape))


def put(m: Maker) -> None:
    x = m.pick(lambda v: v.rank > 0)
    axis = m.rng.randrange(x.rank)
    count = m.rng.choice((1, 2, 3, 5))
    shape = [*x.shape[:axis], count, *x.shape[axis + 1 :]]
    reduce = m.rng.choice(("none", "add", "mul", "max", "min"))
    if m.rng.random() < 0.5:
        where = indices(m, x.shape[axis], (count,))
        m.add(
            REGISTRY["put"](axis=axis, reduce=reduce),
            x,
            where,
            m.source(x.type.with_shape(tuple(shape))),
        )
        return
    where = indices(m, x.shape[axis], shape)
    updates = m.source(x.type.with_shape(tuple(shape)))
    m.add(REGISTRY["scatter"](axis=axis, reduce=reduce), x, where, updates)


# Steps: anchors


def linear(m: Maker) -> None:
    x = m.pick(lambda v: v.rank > 0 and v.dtype.is_float and isinstance(v.shape[-1], int))
    out = m.rng.choice((1, 2, 3, 5, 8, 16, 17, 33, 64))
    operands = [m.source(TensorType(x.dtype, (out, x.shape[-1])))]
    if m.rng.random() < 0.5:
        operands.append(m.source(TensorType(x.dtype, (out,))))
    y = m.add(REGISTRY["linear"](), x, *operands)[0]
    epilogue(m, y)


def matmul(m: Maker) -> None:
    a = m.pick(lambda v: v.rank > 1)
    inner = a.shape[-1]
    found = [
        k.value for k in m.pool if k.value.dtype == a.dtype and k.value.rank > 1
        and k.value.shape[-2] == inner
    ]  # fmt: skip
    if found and m.rng.random() < 0.4:
        b = m.rng.choice(found)
    else:
        head = a.shape[:-2] if m.rng.random() < 0.4 else ()
        b = m.source(TensorType(a.dtype, (*head, inner, m.rng.choice((1, 3, 4, 8, 16, 17, 32)))))
    y = m.add(REGISTRY["matmul"](), a, b)[0]
    epilogue(m, y)


def conv(m: Maker) -> None:
    x = m.pick(lambda v: v.rank > 2 and v.dtype.is_float and v.shape[1] in range(1, 999))
    n, channels = x.rank - 2, x.shape[1]
    groups = m.rng.choice([g for g in (1, 1, 2, 4, channels) if channels % g == 0])
    out = groups * m.rng.choice((1, 1, 2, 3, 8, 16))
    kernel = tuple(m.rng.choice((1, 1, 2, 3, 3)) for _ in range(n))
    w = m.source(TensorType(x.dtype, (out, channels // groups, *kernel)), finite=True)
    op = REGISTRY["conv"](
        stride=tuple(m.rng.choice((1, 1, 2)) for _ in range(n)),
        padding=tuple((m.rng.choice((0, 1, k // 2)), m.rng.choice((0, 1, k // 2))) for k in kernel),
        dilation=tuple(m.rng.choice((1, 1, 1, 2)) for _ in range(n)),
        groups=groups,
    )
    more = [m.source(TensorType(x.dtype, (out,)))] if m.rng.random() < 0.5 else []
    epilogue(m, m.add(op, x, w, *more)[0])


def _is_finite(array: np.ndarray, value: Value) -> bool:
    return bool(np.isfinite(decode(array, value.dtype)).all())


def epilogue(m: Maker, y: Value) -> None:
    """Pointwise, views and reductions after an anchor."""
    for _ in range(m.rng.choice((0, 1, 2, 3))):
        kind = m.rng.random()
        if kind < 0.3:
            record = REGISTRY[m.rng.choice(("relu", "gelu", "sigmoid", "neg", "tanh", "silu"))]
            y = m.add(record(), y)[0]
        elif kind < 0.65:
            y = m.add(REGISTRY[m.rng.choice(PLAIN[:4])](), y, partner(m, y))[0]
        elif kind < 0.75 and y.rank > 1:
            perm = (*range(y.rank - 2), y.rank - 1, y.rank - 2)
            y = m.add(REGISTRY["transpose"](perm=perm), y)[0]
        elif kind < 0.85 and y.rank > 1:
            y = m.add(REGISTRY["reshape"](shape=(product(y.shape[:2]), *y.shape[2:])), y)[0]
        elif kind < 0.92 and y.dtype.is_float:
            y = m.add(REGISTRY["softmax"](), y)[0]
        elif y.rank:
            y = m.add(REGISTRY["reduce_sum"](axes=(y.rank - 1,), keepdims=True), y)[0]


def diamond(m: Maker) -> None:
    """Two ways from one value that meet again."""
    x = m.pick()
    ends = []
    for _ in range(2):
        y = x
        for _ in range(m.rng.choice((1, 1, 2))):
            name = m.rng.choice(("neg", "abs", "relu", "square", *PLAIN[:5]))
            record = REGISTRY[name]
            operands = [partner(m, y)] if _arity(record) == 2 else []
            y = m.add(record(), y, *operands)[0]
        if m.rng.random() < 0.4 and y.rank:
            axis = m.rng.randrange(y.rank)
            y = m.add(REGISTRY["reduce_max"](axes=(axis,), keepdims=True), y)[0]
        ends.append(y)
    m.add(REGISTRY[m.rng.choice(PLAIN[:5])](), *ends)


# Steps: any record by its samples


SAMPLED = sorted(
    n
    for n, r in REGISTRY.items()
    if r.samples and not r.pointwise and not r.reduction and not r.has_graphs and n not in UNSAMPLED
)


def from_sample(m: Maker) -> None:
    """A record with the shapes of a sample, one size perhaps a symbol."""
    record = REGISTRY[m.rng.choice(SAMPLED)]
    sample = m.rng.choice(list(record.samples))
    op, types = record(**sample.attrs), list(sample.inputs)
    if m.open and m.rng.random() < 0.4:
        op, types = _with_symbol(m, op, types)
    first = [_operand(m, t, sample) for t in types[:1]]
    interpolates = op.name == "resize" and op.mode in ("linear", "cubic")
    if interpolates and not all(_is_finite(a, first[0]) for a in m.known(first[0]).arrays):
        raise TypeMismatch("infinity times a weight that is 0 but for its rounding is left open")
    m.add(op, *first, *(_weight(m, t, sample) for t in types[1:]))


def _with_symbol(m: Maker, op: Op, types: list) -> tuple[Op, list]:
    sizes = {s for t in types if isinstance(t, TensorType) for s in t.shape if s > 1}
    if not sizes:
        return op, types
    size, dim = m.rng.choice(sorted(sizes)), m.rng.choice(m.dims)
    made = [
        t.with_shape(tuple(dim if s == size else s for s in t.shape))
        if isinstance(t, TensorType)
        else t
        for t in types
    ]
    return op, made


def _weight(m: Maker, wanted: TensorType | np.ndarray, sample: Sample) -> Value:
    """Finite: what zeros of a padding times infinity are is left open."""
    is_array = isinstance(wanted, np.ndarray)
    return m.weight(wanted) if is_array else m.source(wanted, sample, finite=True)


def _operand(m: Maker, wanted: TensorType | np.ndarray, sample: Sample) -> Value:
    if isinstance(wanted, np.ndarray):
        return m.weight(wanted)
    same = [k for k in m.pool if k.value.type == wanted]
    if same and m.rng.random() < 0.7:
        return m.tame(m.rng.choice(same))
    count = wanted.size
    if wanted.dtype.is_float and m.rng.random() < 0.6:
        flat = [k for k in m.pool if k.value.dtype == wanted.dtype and k.value.type.size == count]
        if flat:
            return m.add(REGISTRY["reshape"](shape=wanted.shape), m.tame(m.rng.choice(flat)))[0]
    return m.source(wanted, sample)


# Steps: sub-graphs


def _sub_maker(m: Maker, args: Sequence[Known]) -> Maker:
    """A maker of a closed graph over these arguments."""
    inner = Maker(m.rng, m.depth + 1)
    inner.dims, inner.envs, inner.open = m.dims, m.envs, m.open
    inner.params = m.params
    for i, k in enumerate(args):
        value = inner.builder.input(k.value.type, f"a{i}")
        inner.pool.append(Known(value, k.arrays))
    return inner


def if_(m: Maker) -> None:
    if m.depth > 1:
        raise TypeMismatch("deep enough")
    args = [m.known(m.pick()) for _ in range(m.rng.choice((1, 2)))]
    predicate = _predicate(m)
    graphs = []
    then = _sub_maker(m, args)
    grow(then, m.rng.choice((1, 2, 4)))
    count = m.rng.choice((1, 2))
    outs = [m.rng.choice(then.pool).value for _ in range(count)]
    other = _sub_maker(m, args)
    grow(other, m.rng.choice((0, 1, 2)))
    for inner, results in ((then, outs), (other, [_like(other, v.type) for v in outs])):
        inner.builder.graph.outputs = list(results)
        graphs.append(inner.builder.graph)
    m.add(REGISTRY["if_"](), predicate, *(k.value for k in args), graphs=graphs)


def _like(m: Maker, type: TensorType) -> Value:
    """A value of this type in a sub-graph."""
    found = [k.value for k in m.pool if k.value.type == type]
    if found:
        return m.rng.choice(found)
    zero = m.scalar(1 if not type.dtype.is_bool else True, type.dtype)
    return m.add(REGISTRY["broadcast_to"](shape=type.shape), zero)[0]


def _predicate(m: Maker) -> Value:
    found = [k.value for k in m.pool if k.value.type == TensorType(bool_)]
    if found and m.rng.random() < 0.5:
        return m.rng.choice(found)
    if m.depth:
        return m.add(REGISTRY["const"](value=m.rng.random() < 0.5, dtype=bool_))[0]
    arrays = [np.array(m.rng.random() < 0.5) for _ in m.envs]
    return m.feed(TensorType(bool_), arrays)


def while_(m: Maker) -> None:
    """``for _ in range(n)`` over one or two values."""
    if m.depth > 1:
        raise TypeMismatch("deep enough")
    args = [m.known(m.pick()) for _ in range(m.rng.choice((1, 1, 2, 3)))]
    count = m.known(
        m.scalar(m.rng.choice((0, 1, 3)), i64)
        if m.depth
        else m.feed(TensorType(i64), [np.array(m.rng.choice((0, 1, 2, 4))) for _ in m.envs])
    )
    body, cond = _sub_maker(m, [count, *args]), _sub_maker(m, [count, *args])
    grow(body, m.rng.choice((1, 2, 4)))
    values = [k.value for k in body.pool[: 1 + len(args)]]
    results = [body.add(REGISTRY["sub"](), values[0], body.scalar(1, i64))[0]]
    for v in values[1:]:
        results.append(v if m.rng.random() < 0.2 else _bounded(body, v))
    body.builder.graph.outputs = results
    first = cond.pool[0].value
    cond.builder.graph.outputs = [cond.add(REGISTRY["gt"](), first, cond.scalar(0, i64))[0]]
    operands = [count.value, *(k.value for k in args)]
    m.add(REGISTRY["while_"](), *operands, graphs=[cond.builder.graph, body.builder.graph])


def _bounded(m: Maker, v: Value) -> Value:
    """Something of v's type that does not grow without bound."""
    found = [k.value for k in m.pool if k.value.type == v.type]
    y = m.rng.choice(found)
    if v.dtype.is_float:
        return m.add(REGISTRY["clamp"](low=-4.0, high=4.0), m.add(REGISTRY["add"](), y, v)[0])[0]
    return m.add(REGISTRY["maximum"](), y, v)[0]


STEPS: dict[Callable[[Maker], None], float] = {
    unary: 12, binary: 16, where: 4, cast: 4,
    reshape: 8, transpose: 6, broadcast_to: 4, slice_: 6, flip: 2, pad: 3, concat: 5,
    reduce: 8, along: 4, take: 3, gather: 2, put: 2,
    linear: 3, matmul: 3, conv: 3, diamond: 4, from_sample: 6,
    if_: 1.2, while_: 1.2,
}  # fmt: skip
