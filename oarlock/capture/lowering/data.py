"""ATen calls whose result's size depends on data, and slices between numbers known at run time.

A rule is called with the recorder active: the torch functions that it calls are recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sympy
import torch

from oarlock.capture.aliases import View
from oarlock.capture.fakes import run_fake
from oarlock.capture.torch_private import outside_modes
from oarlock.capture.unfused import UNFUSED
from oarlock.ir import Dim, Size, TensorType, Value, bounds, dim_max, dim_min, i64
from oarlock.ir.dim import product, without_mod
from oarlock.ops.shape import full_slice

Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}
ATEN = torch.ops.aten


def rule(*overloads: str) -> Callable[[Rule], Rule]:
    """Register a rule for overloads."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(overloads, function))
        return function

    return register


@rule("aten.nonzero.default", "aten.argwhere.default")
def nonzero(r: Any, x: torch.Tensor) -> torch.Tensor:
    found = _places_outside(r, r.value(x))
    if found is not None:
        return found
    value = r.b.frame.local(r.value(x))
    if value not in r.places:
        size = r.shapes.fresh()
        r.places[value] = r.new(r.b.nonzero(value, size=size))
    return r.places[value]


def _places_outside(r: Any, value: Value) -> torch.Tensor | None:
    """The places that were found already, in this graph or in one around it."""
    frame = r.b.frame
    while frame is not None:
        own = value if value in frame.known else frame.here.get(value)
        if own in r.places:
            return r.places[own]
        frame = frame.parent
    return None


@rule("aten.nonzero_numpy.default", "aten.where.default")
def where(r: Any, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    places = nonzero(r, x if x.dim() else x.reshape(1))
    return tuple(places.select(1, i) for i in range(max(x.dim(), 1)))


@rule("aten.masked_select.default")
def masked_select(r: Any, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    x, mask = torch.broadcast_tensors(x, mask)
    places = nonzero(r, mask.reshape(-1)).select(1, 0)
    return x.reshape(-1).index_select(0, places)


def _is_mask(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.dtype in (torch.bool, torch.uint8)


def _places(r: Any, indices: Any) -> list[Any]:
    """Masks as the places where they are true."""
    found: list[Any] = []
    for item in indices:
        found += where(r, item) if _is_mask(item) else [item]
    return found


@rule("aten.index.Tensor", "aten._unsafe_index.Tensor")
def index(r: Any, x: torch.Tensor, indices: Any) -> Any:
    if not any(map(_is_mask, indices)):
        return NotImplemented
    return ATEN.index.Tensor(x, _places(r, indices))


@rule("aten.index_put_.default", "aten.index_put.default", "aten._index_put_impl_.default")
def index_put(
    r: Any, x: torch.Tensor, indices: Any, values: torch.Tensor, accumulate: bool = False,
    *rest: Any,
) -> Any:  # fmt: skip
    masks = [i for i in indices if _is_mask(i)]
    is_one = all(n == 1 for n in r.value(values).shape)
    if not masks or (len(indices) == 1 and is_one):
        return NotImplemented
    places = _places(r, indices)
    if len(indices) == 1:
        values = _one_for_each(r, values, places[0], 1 + x.dim() - masks[0].dim())
    return ATEN.index_put_.default(x, places, values, accumulate)


def _one_for_each(r: Any, values: torch.Tensor, places: torch.Tensor, rank: int) -> torch.Tensor:
    """``values``, as many as there are places: what else they are is an error when the program runs."""
    value, count = r.value(values), r.value(places).shape[0]
    if value.rank != rank or value.shape[0] in (1, count):
        return values
    with outside_modes():
        return r.new(r.b.refine(value, shape=(count, *value.shape[1:])))


@rule("aten.isin.Tensor_Tensor", "aten.isin.Tensor_Scalar", "aten.isin.Scalar_Tensor")
def isin(
    r: Any, elements: Any, tests: Any, *, assume_unique: bool = False, invert: bool = False
) -> torch.Tensor:
    """Each with each: torch chooses between two ways by how many there are."""
    if isinstance(tests, torch.Tensor):
        tests = tests.reshape(-1)
        elements = elements.unsqueeze(-1) if isinstance(elements, torch.Tensor) else elements
        found = (tests == elements).any(-1)
    else:
        found = elements == tests
    return ~found if invert else found


def _size(r: Any, x: torch.Tensor) -> Any:
    """The number in ``x``, which is never negative, as a SymInt."""
    with outside_modes():
        return r.shapes.symbolic(r.shapes.dim_of(r.scalar_of(x), "k", 3))


@rule("aten.repeat_interleave.Tensor")
def repeat_interleave(r: Any, repeats: torch.Tensor, output_size: Any = None) -> torch.Tensor:
    """``i`` as often as ``repeats[i]`` says: how many spans have begun at each place, less one."""
    repeats = repeats.to(torch.int64)
    total = _size(r, repeats.sum()) if output_size is None else output_size
    starts = repeats.cumsum(0) - repeats
    begun = repeats.new_zeros(total + 1).index_add(0, starts, torch.ones_like(repeats))
    return begun.cumsum(0)[:-1] - 1


@rule("aten.repeat_interleave.self_Tensor")
def repeat_rows(
    r: Any, x: torch.Tensor, repeats: torch.Tensor, dim: int | None = None, output_size: Any = None
) -> torch.Tensor:
    x, dim = (x.reshape(-1), 0) if dim is None else (x, dim)
    if repeats.numel() == 1:
        repeats = repeats.reshape(1).expand(x.shape[dim])
    return x.index_select(dim, repeat_interleave(r, repeats, output_size))


@rule("aten.bincount.default")
def bincount(r: Any, x: torch.Tensor, weights: Any = None, minlength: int = 0) -> torch.Tensor:
    like = torch.ones_like(x, dtype=torch.int64) if weights is None else weights
    padded = torch.cat([x.to(torch.int64), x.new_full((1,), -1, dtype=torch.int64)])
    size = _size(r, torch.clamp(padded.max() + 1, min=minlength))
    return like.new_zeros(size).index_add(0, x.to(torch.int64), like)


def _groups(r: Any, sorted_: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The first row of every run of equal rows, the run of each row, the lengths of the runs."""
    is_first = torch.arange(sorted_.shape[0]) == 0
    first = (sorted_ != sorted_.roll(1)) | is_first
    places = nonzero(r, first).select(1, 0)
    group = first.to(torch.int64).cumsum(0) - 1
    counts = torch.zeros_like(places).index_add(0, group, torch.ones_like(group))
    return sorted_.index_select(0, places), group, counts


@rule("aten._unique2.default", "aten._unique.default")
def unique(
    r: Any, x: torch.Tensor, sorted: bool = True, return_inverse: bool = False,
    return_counts: bool = False,
) -> tuple[torch.Tensor, ...]:  # fmt: skip
    row, order = torch.sort(x.reshape(-1), stable=True)
    found, group, counts = _groups(r, row)
    inverse = torch.zeros_like(group).scatter(0, order, group).reshape(x.shape)
    return found, inverse, counts


@rule("aten.unique_consecutive.default")
def unique_consecutive(
    r: Any, x: torch.Tensor, return_inverse: bool = False, return_counts: bool = False,
    dim: int | None = None,
) -> tuple[torch.Tensor, ...]:  # fmt: skip
    if dim is not None:
        raise NotImplementedError("unique_consecutive along an axis")
    row = x.reshape(-1)
    found, group, counts = _groups(r, row)
    return found, group.reshape(x.shape), counts


@rule("aten.slice.Tensor")
def slice_(
    r: Any, x: torch.Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Any:
    """A slice whose bounds the run decides: they are cut to the axis, as Python does."""
    size = r.type_of(r.fake(x)).shape[dim]
    is_open = end is None or (isinstance(end, int) and end >= 2**62)
    given = [s for s in (start, None if is_open else end) if s is not None]
    if all(_is_certain(r, s, size) for s in given):
        return NotImplemented
    with outside_modes():
        cut = _cut if any(_is_number(r, s) for s in given) else _cut_by_sizes
        found = cut(r, x, dim % x.dim(), start, None if is_open else end)
    return found if step == 1 else ATEN.slice.Tensor(found, dim, None, None, step)


@rule("aten.squeeze.default", "aten.squeeze.dim", "aten.squeeze.dims")
def squeeze(r: Any, x: torch.Tensor, dim: Any = None) -> Any:
    """Axes of a free size stay: a run checks that they do not have one element."""
    shape = r.type_of(r.fake(x)).shape
    dims = range(len(shape)) if dim is None else [dim] if isinstance(dim, int) else dim
    for size in dict.fromkeys(shape[i] for i in dims if shape):
        low, high = bounds(size)
        if isinstance(size, Dim) and low <= 1 and (high is None or high >= 1):
            message = f"{r.where}: squeeze() of an axis with one element, which leaves fewer axes"
            with outside_modes():
                many = r.b.ne(r.b.size(dim=size), r.b.const(1, i64))
                r.b.assert_(many, message=message, kind="Respecialise")
    return NotImplemented


@rule(*(f"aten.{name}" for name in (
    "max.default", "min.default", "max.dim", "min.dim", "amax.default", "amin.default",
    "argmax.default", "argmin.default", "aminmax.default",
)))  # fmt: skip
def extreme(r: Any, x: torch.Tensor, dim: Any = None, *_: Any, **__: Any) -> Any:
    """Of nothing there is none: a run checks that data have left something."""
    shape = r.type_of(r.fake(x)).shape
    given = [dim] if isinstance(dim, int) else list(dim or ())
    dims = given or range(len(shape))
    for size in dict.fromkeys(shape[i] for i in dims if shape):
        if isinstance(size, Dim) and not size.symbols() <= r.shapes.given and bounds(size)[0] <= 0:
            message = f"{r.where}: the largest or smallest of no elements"
            kind = "IndexError" if given else "RuntimeError"
            with outside_modes():
                some = r.b.gt(r.b.size(dim=size), r.b.const(0, i64))
                r.b.assert_(some, message=message, kind=kind)
    return NotImplemented


@rule("aten.select.int")
def select(r: Any, x: torch.Tensor, dim: int, index: Any) -> Any:
    """``x[n]``: a negative n counts from the end."""
    if not isinstance(index, torch.SymInt) or not _is_decided_by_run(r, index):
        return NotImplemented
    with outside_modes():
        place, axis = r.scalars.value(index, i64), dim % x.dim()
        with r.shapes.mode:
            out = run_fake(ATEN.select.int, (r.fake(x), axis, 0), {})
        return _show(r, x, out, lambda w: r.b.take(w, place, axis=axis))


@rule("aten.narrow.default")
def narrow(r: Any, x: torch.Tensor, dim: int, start: Any, length: Any) -> Any:
    if not isinstance(start, torch.SymInt) or not r.shapes.is_number(start.node.expr):
        return NotImplemented
    with outside_modes():
        size = r.type_of(r.fake(x)).shape[dim]
        first = r.scalars.value(start, i64)
        wrapped = r.b.where(r.b.lt(first, 0), r.b.add(first, r.b.to(size, i64)), first)
        begin = r.shapes.dim_of(wrapped, "s", 0)
        return _view(r, x, dim % x.dim(), begin, begin + r.shapes.size(length))


def _is_certain(r: Any, bound: Any, size: Any) -> bool:
    """No number of the run decides whether the bound is inside of the axis."""
    if _is_number(r, bound):
        return False
    cut = r.shapes.size(bound)
    symbols = (cut.symbols() if isinstance(cut, Dim) else set()) | (
        size.symbols() if isinstance(size, Dim) else set()
    )
    if symbols <= r.shapes.given:
        return True
    low, spare = bounds(cut), bounds(size - cut)
    if low[0] >= 0:
        return spare[0] >= 0
    return low[1] is not None and low[1] < 0 and bounds(size + cut)[0] >= 0


def _is_decided_by_run(r: Any, number: torch.SymInt) -> bool:
    """Not known from the sizes of the inputs."""
    if r.shapes.is_number(number.node.expr):
        return True
    size = r.shapes.size(number)
    return isinstance(size, Dim) and not size.symbols() <= r.shapes.given


def _is_number(r: Any, bound: Any) -> bool:
    return isinstance(bound, torch.SymInt) and r.shapes.is_number(bound.node.expr)


def _cut_by_sizes(r: Any, x: torch.Tensor, dim: int, start: Any, end: Any) -> torch.Tensor:
    """Bounds that are sizes: cut to the axis by sizes alone."""
    size = r.type_of(r.fake(x)).shape[dim]

    def inside(bound: Any, low: Size) -> Size:
        cut = r.shapes.size(bound)
        high = bounds(cut)[1]
        cut = cut + size if high is not None and high < 0 else cut
        return dim_min(dim_max(cut, low), size)

    begin = 0 if start is None or (isinstance(start, int) and start == 0) else inside(start, 0)
    return _view(r, x, dim, begin, size if end is None else inside(end, begin))


def _cut(r: Any, x: torch.Tensor, dim: int, start: Any, end: Any) -> torch.Tensor:
    b = r.b
    size = r.type_of(r.fake(x)).shape[dim]
    length, zero = b.to(size, i64), b.const(0, i64)

    def inside(bound: Any, low: Value) -> Value:
        value = r.scalars.value(bound, i64)
        wrapped = b.where(b.lt(value, zero), b.add(value, length), value)
        return b.minimum(b.maximum(wrapped, low), length)

    first = zero if start is None else inside(start, zero)
    last = length if end is None else inside(end, first)
    begin = 0 if start is None else r.shapes.dim_of(first, "s", 0)
    whole = size.evaluate(r.shapes.hints) if isinstance(size, Dim) else size
    hint = min(_steps(start, end) or _length(start, end, whole), whole)
    many = r.shapes.dim_of(b.sub(last, first), "k", hint)
    return _view(r, x, dim, begin, begin + many)


def _steps(start: Any, end: Any) -> int:
    """How far the end of a slice is from its start, where that is always the same; else 0."""
    if not all(isinstance(x, (int, torch.SymInt)) for x in (start, end)):
        return 0
    first, last = (x.node.expr if isinstance(x, torch.SymInt) else x for x in (start, end))
    steps = sympy.simplify(last - first)
    return int(steps) if steps.is_Integer and steps > 0 else 0


def _length(start: Any, end: Any, whole: int) -> int:
    """How long a slice is where numbers are as torch is told: as long as all that they cut so."""
    first, last = (n.node.hint if isinstance(n, torch.SymInt) else n for n in (start, end))
    known = all(n is None or isinstance(n, int) for n in (first, last))
    return max(2, len(range(whole)[first:last]) if known else 2)


def _view(
    r: Any, x: torch.Tensor, dim: int, begin: Any, stop: Any, is_within: bool = False
) -> torch.Tensor:
    """The view of x between dims; ``is_within``: which torch would cut to the sizes it is told."""
    fake = r.fake(x)
    if is_within:
        sizes = list(fake.shape)
        sizes[dim] = r.shapes.symbolic(stop - begin)
        out = r.shapes.strided(sizes, fake.stride(), fake.dtype)
    else:
        bounds_ = tuple(r.shapes.symbolic(s) for s in (begin, stop))
        with r.shapes.mode:
            out = run_fake(ATEN.slice.Tensor, (fake, dim, *bounds_), {})

    def derive(whole: Value) -> Value:
        return r.b.slice(whole, **full_slice(whole.type, dim, begin, stop))

    return _show(r, x, out, derive)


def _show(
    r: Any, x: torch.Tensor, out: torch.Tensor, derive: Callable[[Value], Value]
) -> torch.Tensor:
    """The view of x that ``derive`` builds, with the fake ``out``."""
    parent, type = r.view(x), r.type_of(out)
    whole = parent.read()

    def shown(value: Value) -> Value:
        return r.same_sizes(derive(value), type)

    view = View(parent.memory, shown(whole), parent, shown, parent.memory.version, whole)
    if view.value.type != type:
        raise NotImplementedError(f"a view of type {view.value.type}, torch says {type}")
    r.bind_view(out, view)
    return out


@rule("aten.split_with_sizes.default", "aten.split.sizes")
def split(r: Any, x: torch.Tensor, sizes: Any, dim: int = 0) -> Any:
    """Pieces whose sizes the run decides: a run checks that they fill the axis."""
    whole = r.type_of(r.fake(x)).shape[dim]
    if not any(isinstance(n, torch.SymInt) and _is_decided_by_run(r, n) for n in sizes):
        return NotImplemented
    start, found = 0, []
    with outside_modes():
        parts = [r.shapes.size(n) for n in sizes]
        total = r.b.to(sum(parts), i64)
        message = f"split_with_sizes expects split_sizes to sum exactly to {whole}"
        r.b.assert_(r.b.eq(total, r.b.to(whole, i64)), message=message, kind="RuntimeError")
        for part in parts:
            found.append(_view(r, x, dim % x.dim(), start, start + part, is_within=True))
            start = start + part
    return found


@rule("aten.take_along_dim.default")
def take_along_dim(r: Any, x: torch.Tensor, places: torch.Tensor, dim: int | None = None) -> Any:
    """Torch's own asks for the sizes as plain numbers."""
    if dim is None:
        return x.reshape(-1).gather(0, places.reshape(-1))
    axis = dim % x.dim()
    pairs = list(zip(x.shape, places.shape))
    pairs = [(a, b) if i == axis else (_wider(a, b),) * 2 for i, (a, b) in enumerate(pairs)]
    sizes, of_places = zip(*pairs)
    return x.expand(sizes).gather(axis, places.expand(of_places))


@rule("aten.pad_sequence.default")
def pad_sequence(
    r: Any, rows: list[torch.Tensor], batch_first: bool = False, value: float = 0.0,
    side: str = "right",
) -> Any:  # fmt: skip
    """Torch's own decides which row is the longest."""
    longest = rows[0].shape[0]
    for row in rows[1:]:
        longest = torch.sym_max(longest, row.shape[0])
    padded = []
    for row in rows:  # longer than need be: torch would ask whether a gap is none
        gap = row.new_full((longest, *row.shape[1:]), value)
        wide = torch.cat([row, gap] if side == "right" else [gap, row])
        begin = 0 if side == "right" else row.shape[0]
        first, last = r.shapes.size(begin), r.shapes.size(begin + longest)
        padded.append(_view(r, wide, 0, first, last, is_within=True))
    return torch.stack(padded, 0 if batch_first else 1)


def _wider(a: Any, b: Any) -> Any:
    """What two sizes become together; only a plain 1 is repeated."""
    return b if isinstance(a, int) and a == 1 else a


@rule("aten.view.default", "aten._unsafe_view.default", "aten.reshape.default")
def view(r: Any, x: torch.Tensor, shape: Any) -> Any:
    """To sizes that fill x in each run, where they are not known to: that is checked when it runs."""
    sizes, own = list(shape), r.type_of(r.fake(x)).shape
    numbers = [n for n in sizes if isinstance(n, torch.SymInt)]
    if not any(_is_open(r, n) for n in own) and not any(_is_decided_by_run(r, n) for n in numbers):
        return NotImplemented
    known = [r.shapes.size(n) for n in sizes if not (isinstance(n, int) and n == -1)]
    if _fills(own, known, len(sizes)):
        return NotImplemented
    b, total, rest = r.b, product(own), product(known)
    if len(known) < len(sizes):
        whole = b.floor_div(b.to(total, i64), b.maximum(b.to(rest, i64), 1))
        missing = r.shapes.dim_of(whole, "k", 2)
        known.insert(
            next(i for i, n in enumerate(sizes) if isinstance(n, int) and n == -1), missing
        )

    def derive(value: Value) -> Value:
        flat = b.refine(b.reshape(value, shape=(total,)), shape=(product(known),))
        return b.reshape(flat, shape=tuple(known))

    out = r.shapes.fake(TensorType(r.value(x).dtype, tuple(known)))
    found = _show(r, x, out, derive)
    if not r.fake(x).is_contiguous():
        r.view(x).memory.tied.append("a view")  # which torch makes or copies, as strides are
    return found


def _is_open(r: Any, size: Size) -> bool:
    return isinstance(size, Dim) and not size.symbols() <= r.shapes.given


def _fills(own: Any, known: list[Size], count: int) -> bool:
    """Whether sizes are known to fill a tensor; one of them may be left to be found."""
    total, rest = product(own), product(known)
    if len(known) == count:
        return without_mod(total) == without_mod(rest)
    return rest != 0 and total % rest == 0


@rule("aten.batch_norm.default")
def batch_norm(
    r: Any, x: torch.Tensor, weight: Any, bias: Any, mean: Any, var: Any, train: bool,
    momentum: float, eps: float, _: bool,
) -> Any:  # fmt: skip
    """In training mode: by the statistics of the batch, whose running ones are state."""
    if not train:
        return NotImplemented
    axes, shape = [0, *range(2, x.dim())], (1, -1, *[1] * (x.dim() - 2))
    wide = x.to(torch.float32) if x.dtype in (torch.float16, torch.bfloat16) else x
    own = wide.mean(axes)
    centred = wide - own.reshape(shape)
    square = (centred * centred).mean(axes)
    if mean is not None:
        count = x.numel() // x.shape[1]
        mean.copy_((1 - momentum) * mean + momentum * own)
        var.copy_((1 - momentum) * var + momentum * square * (count / (count - 1)))
    y = centred * torch.rsqrt(square + eps).reshape(shape)
    y = y if weight is None else y * weight.reshape(shape)
    y = y if bias is None else y + bias.reshape(shape)
    return y.to(x.dtype)


def _plain(call: Callable[..., Any]) -> Rule:
    return lambda r, *args, **kwargs: call(*args, **kwargs)


for _name, _call in UNFUSED.items():
    rule(f"{_name.replace('::', '.')}.default")(_plain(_call))
