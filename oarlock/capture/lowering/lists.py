"""Python lists of run-time length: every tensor or number of an item is a column (``columns``)."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from oarlock.capture.arrays import dtype_of
from oarlock.capture.lowering.columns import Column, Even, Ragged, first, kind
from oarlock.capture.lowering.kinds import Either, Maybe, is_symbolic, kind_of
from oarlock.capture.lowering.scalars import DTYPES
from oarlock.capture.tape import runtime
from oarlock.capture.tape.nodes import Val, leaves, map_tree
from oarlock.ir import Size, TensorType, Value, f64, i64
from oarlock.ir.scope import symbols_in


@dataclass
class Layout:
    """What is known of a list from an earlier attempt: which leaves have an axis whose size differs
    from item to item, and what an item is."""

    axes: dict[int, int] = field(default_factory=dict)
    like: Any = None
    types: list[TensorType] | None = None


class Layouts:
    """Of the lists of a tape, by the place that makes them; ``wanted``: to be known at the start."""

    def __init__(self) -> None:
        self.known: dict[Any, Layout] = {}
        self.seen: dict[Any, Layout] = {}
        self.wanted: set[Any] = set()
        self.has_more = False

    def of(self, key: Any) -> Layout:
        return self.known.get(key) or Layout()

    def uneven(self, key: Any, leaf: int, axis: int) -> None:
        """Items differ in the size of one axis."""
        layout = self.known.setdefault(key, Layout())
        self.has_more |= leaf not in layout.axes
        layout.axes.setdefault(leaf, axis)

    def met(self, key: Any, item: Layout) -> None:
        self.seen.setdefault(key, item)

    def guess(self, key: Any, outs: Any) -> None:
        """An item as the capture has met it; ``outs``: the tree of its run-time values."""
        vals = [x for x in leaves(outs) if isinstance(x, Val)]
        samples = [x.sample for x in vals]
        kinds = (torch.Tensor, bool, int, float)
        if key in self.seen or not vals or not all(isinstance(x, kinds) for x in samples):
            return
        if any(len(x.dims) > 1 or x.loose for x in vals):
            return
        layout = Layout(like=map_tree(outs, lambda x: x.sample if isinstance(x, Val) else x))
        layout.types = [_type_of(x) for x in samples]
        layout.axes = {i: axis for i, x in enumerate(vals) for axis in x.dims}
        self.seen[key] = layout

    def want(self, key: Any) -> None:
        self.wanted.add(key)

    def again(self) -> bool:
        """Whether another attempt knows more."""
        for key in self.wanted & self.seen.keys():
            layout, seen = self.known.setdefault(key, Layout()), self.seen[key]
            if key is not None and layout.types is None:
                layout.like, layout.types, self.has_more = seen.like, seen.types, True
                layout.axes = {**seen.axes, **layout.axes}
        found, self.has_more = self.has_more, False
        return found


def _type_of(sample: Any) -> TensorType:
    """Of a sample of the capture."""
    if isinstance(sample, torch.Tensor):
        return TensorType(dtype_of(sample.dtype), tuple(map(int, sample.shape)))
    return TensorType(DTYPES[kind_of(sample)])


class ListValue:
    """``stacks``: of the leaves of the items (``columns``), None while no item was seen; ``like``:
    an item; ``axes``: of leaves whose sizes differ on one axis.

    ``version`` counts the changes; ``inside``: it is an item of another list, a copy of ours.
    """

    def __init__(self, r: Any, key: Any = None) -> None:
        self.r, self.key = r, key
        self.stacks: list[Value] | None = None
        self.like: Any = None
        self.axes: dict[int, int] = dict(r.layouts.of(key).axes)
        self.version = 0
        self.inside = False
        r.lists[self] = None

    # ---- items

    def leaves(self, item: Any) -> Iterator[Any]:
        if isinstance(item, (tuple, list)):
            for x in item:
                yield from self.leaves(x)
        elif isinstance(item, (torch.Tensor, bool, int, float, ListValue)) or is_symbolic(item):
            yield item
        elif isinstance(item, Either):
            yield self.r.lowering.expect_wide(item)
        elif isinstance(item, Maybe):
            if item.unbound:
                self.r.lowering.expect(item)
            else:
                yield item.flag
            yield from self.leaves(item.value)
        else:
            kind = type(item).__name__
            raise NotImplementedError(f"a list of run-time length whose items hold {kind}")

    def values(self, item: Any) -> list[tuple[Value, bool]]:
        """The leaves of an item, and whether each is a list."""
        r, found = self.r, []
        for x in self.leaves(item):
            if isinstance(x, ListValue):
                if x.axes:
                    raise NotImplementedError("lists in lists in a list of run-time length")
                x.inside = True
                found += [(stack, True) for stack in x.known()]
            elif isinstance(x, torch.Tensor):
                found.append((r.value(x), False))
                r.view(x).memory.tied.append("a list")
            else:
                found.append((r.scalars.value(x), False))
        return found

    def row(self, item: Any) -> list[Value]:
        """The leaves of an item, each as a column of one."""
        values = self.values(item)
        if self.stacks is None:
            self.axes |= {i: 0 for i, (_, is_list) in enumerate(values) if is_list}
        self.r.layouts.met(self.key, Layout(dict(self.axes), item, [v.type for v, _ in values]))
        row: list[Value] = []
        for i, (value, _) in enumerate(values):
            self.check(i, value.type)
            row += kind(self.axes.get(i)).row(self.r, value, self.axes.get(i))  # type: ignore[arg-type]
        return row

    def check(self, i: int, item: TensorType) -> None:
        """Raises: NotImplementedError where an item does not fit to the others."""
        if self.stacks is None:
            return
        mine, axis = self.columns()[i].item_type, self.axes.get(i)
        are_alike = mine.dtype is item.dtype and mine.rank == item.rank
        pairs = enumerate(zip(mine.shape, item.shape))
        differ = [a for a, (p, q) in pairs if p != q and a != axis]
        if are_alike and not differ:
            return
        if are_alike and axis is None and len(differ) == 1 and self.relay(i, differ[0]):
            return
        raise NotImplementedError(
            f"a list of run-time length with items {mine} and {item}; give all one shape, or "
            f"sizes that differ on one axis"
        )

    def relay(self, i: int, axis: int) -> bool:
        """The sizes of a leaf differ on an axis: from now on, or where the list is made, in another
        attempt; whether the former."""
        if self.key is not None:
            self.r.layouts.uneven(self.key, i, axis)
            return False
        other = self.laid_out({**self.axes, i: axis})
        self.axes, self.stacks = other.axes, other.stacks
        return True

    def begin(self, layout: Layout) -> None:
        """No items, such as an earlier attempt has met."""
        assert layout.types is not None
        known, values = self.r.lowering.blocks.known(), []
        self.like = layout.like
        for i, type in enumerate(layout.types):
            unknown = [a for a, n in enumerate(type.shape) if not symbols_in(n) <= known]
            if len(unknown) > 1 or (unknown and self.axes.get(i, unknown[0]) != unknown[0]):
                raise NotImplementedError(f"a list of run-time length with items {type}")
            if unknown:
                self.axes[i] = unknown[0]
            values += kind(self.axes.get(i)).none(self.r, type, self.axes.get(i))  # type: ignore[arg-type]
        self.set(values)

    def item(self, rows: Sequence[Value]) -> Any:
        """An item from values of its leaves."""
        values = iter(rows)

        def build(like: Any) -> Any:
            if isinstance(like, (tuple, list)):
                return type(like)(build(x) for x in like)
            if isinstance(like, Maybe):
                flag = None if like.unbound else self.r.scalars.number(next(values))
                return build(like.value) if flag is None else Maybe(flag, build(like.value))
            if isinstance(like, ListValue):
                inner = of_rows(self.r, [next(values) for _ in like.known()], like)
                inner.inside = True
                return inner
            value = next(values)
            if isinstance(like, torch.Tensor):
                fake = self.r.new(value)
                self.r.view(fake).memory.tied.append("a list")
                return fake
            return self.r.scalars.number(value)

        return build(self.like)

    # ---- changes

    def set(self, stacks: Sequence[Value] | None) -> None:
        self.stacks = None if stacks is None else list(stacks)
        self.version += 1

    def known(self) -> list[Value]:
        """The values of the columns.  Raises: NotImplementedError while no item was seen."""
        if self.stacks is None:
            self.r.layouts.want(self.key)
            raise NotImplementedError("an item of a list that is always empty")
        return self.stacks

    def columns(self) -> list[Column]:
        values, found = list(self.known()), []
        while values:
            axis = self.axes.get(len(found))
            made = kind(axis)
            found.append(made(self.r, values[: made.WIDTH], axis))  # type: ignore[arg-type]
            del values[: made.WIDTH]
        return found

    def append(self, x: Any) -> None:
        if self.stacks is None:
            self.like = x
        self.extend(self.row(x))

    def extend(self, values: Sequence[Value]) -> None:
        """Add columns of the same layout at the end."""
        if self.stacks is None:
            self.set(values)
        else:
            self.set([self.r.b.concat(a, b, axis=0) for a, b in zip(self.stacks, values)])

    def join(self, other: ListValue) -> None:
        """Add the items of another list at the end."""
        if other.stacks is None:
            return
        if self.stacks is None:
            self.like, self.axes = other.like, dict(other.axes)
        self.match(other)
        self.extend(other.laid_out(self.axes).known())

    def match(self, other: ListValue) -> None:
        """Raises: NotImplementedError where the items of two lists do not fit."""
        if self.stacks is None or other.stacks is None:
            return
        for i, (mine, theirs) in enumerate(zip(self.columns(), other.columns())):
            uneven = theirs.axis is not None and mine.axis is None
            if uneven and not self.relay(i, theirs.axis):
                raise NotImplementedError("two lists, one with items of different sizes")
            self.check(i, theirs.item_type)

    def laid_out(self, axes: Mapping[int, int]) -> ListValue:
        """This list, or another with more columns of different sizes."""
        if axes == self.axes or self.stacks is None:
            return self
        found = ListValue(self.r, self.key)
        found.like, found.axes = self.like, dict(axes)
        values: list[Value] = []
        for i, column in enumerate(self.columns()):
            is_moved = isinstance(column, Even) and i in axes
            values += column.as_ragged(axes[i]) if is_moved else column.values  # pyright: ignore
        found.set(values)
        return found

    @property
    def length(self) -> Any:
        """An int or SymInt."""
        if self.stacks is None:
            return 0
        return self.r.shapes.symbolic(self.stacks[0].shape[0])

    def count(self) -> Value:
        """The length, i64[]."""
        return self.r.b.to(self.stacks[0].shape[0], i64) if self.stacks else self.r.b.const(0, i64)

    def get(self, index: Any) -> Any:
        place = self.r.scalars.value(index, i64)
        return self.item([column.take(place) for column in self.columns()])

    def put(self, index: Any, x: Any) -> None:
        place, row = self.r.scalars.value(index, i64), self.row(x)
        found: list[Value] = []
        for column in self.columns():
            found += column.put(place, row[: column.WIDTH])
            del row[: column.WIDTH]
        self.set(found)

    def pop(self, index: Any = -1) -> Any:
        b, item = self.r.b, self.get(index)
        place = self.r.scalars.value(index, i64)
        wrapped = b.where(b.lt(place, 0), b.add(place, self.count()), place)
        rest = b.iota(size=self._one_less(), dtype=i64)
        self.set(self.gathered(b.add(rest, b.cast(b.ge(rest, wrapped), dtype=i64))))
        return item

    def _one_less(self) -> Size:
        """The length less one; a list that is empty here need not be where this runs."""
        b, size = self.r.b, self.known()[0].shape[0] - 1
        if size != -1:
            return size
        bound = self.r.shapes.fresh("k")
        b.bind_size(b.maximum(b.sub(self.count(), 1), 0), size=bound)
        return bound

    def gathered(self, places: Value) -> list[Value]:
        """The values of the columns for the items at ``places``."""
        return [v for column in self.columns() for v in column.gather(places)]

    def derived(self, change: Callable[[Value], Value]) -> ListValue:
        """A new list whose values are changed ones."""
        found = ListValue(self.r, self.key)
        found.like, found.axes = self.like, dict(self.axes)
        found.set(None if self.stacks is None else [change(s) for s in self.stacks])
        return found

    def picked(self, index: slice) -> ListValue:
        """A new list of some items."""
        with self.r.lowering.recording():
            if not self.axes:
                return self.derived(lambda s: self.r.value(self.r.new(s)[index]))
            found = ListValue(self.r, self.key)
            found.like, found.axes = self.like, dict(self.axes)
            places = self.r.new(self.r.b.iota(size=self.known()[0].shape[0], dtype=i64))[index]
            found.set(self.gathered(self.r.value(places)))
            return found

    def tensor(self) -> torch.Tensor:
        """The stack of a list of tensors or numbers."""
        (column,) = self.columns()
        return self.r.new(column.stacked())


def list_of(r: Any, items: Sequence[Any], key: Any = None) -> ListValue:
    """A list; ``key``: the place in the tape that makes it."""
    found, layout = ListValue(r, key), r.layouts.of(key)
    if not items and layout.types is not None:
        found.begin(layout)
    for x in items:
        found.append(x)
    return found


def of_rows(r: Any, values: Sequence[Value], like: ListValue) -> ListValue:
    """A list of given columns, laid out as another one."""
    found = ListValue(r, like.key)
    found.like, found.axes = like.like, dict(like.axes)
    found.set(values)
    return found


def items_of(r: Any, x: Any) -> ListValue:
    """A list of the code, or a tuple, as one of run-time length."""
    return x if isinstance(x, ListValue) else list_of(r, x)


def numbers_of(r: Any, stack: Value) -> ListValue:
    """The elements of a vector as Python numbers; of more axes, the rows as lists of them."""
    wide = f64 if stack.dtype.is_float else stack.dtype if stack.dtype.is_bool else i64
    inner = stack.shape[1:]
    if not all(isinstance(n, int) for n in inner):
        raise NotImplementedError("lists in a list, as long as the data say")
    flat = r.b.reshape(r.b.to(stack, wide), shape=(stack.shape[0], math.prod(inner)))
    places = [r.b.const(i, i64) for i in range(math.prod(inner))]
    found = ListValue(r)
    found.like = _nested(False if wide.is_bool else 0.0 if wide.is_float else 0, inner)
    found.set([r.b.take(flat, i, axis=1) for i in places])
    return found


def rows_of(r: Any, x: torch.Tensor, dim: int = 0) -> ListValue:
    """``x.unbind(dim)``, as many as the run decides."""
    found = ListValue(r)
    found.like = x
    found.set([first(r, r.value(x), dim % x.dim())])
    return found


def _nested(x: Any, shape: Sequence[int]) -> Any:
    return [_nested(x, shape[1:]) for _ in range(shape[0])] if shape else x


def is_row(x: Any) -> bool:
    """It can be a list of run-time length."""
    return isinstance(x, ListValue) or type(x) in (list, tuple)


def same_leaves(lists: Sequence[ListValue]) -> ListValue:
    """One that has items, of the layout of all.

    Raises: NotImplementedError where the others' are of other types.
    """
    full = [x for x in lists if x.stacks is not None]
    if not full:
        raise NotImplementedError("lists of different lengths that are always empty")
    axes = {i: axis for x in full for i, axis in x.axes.items()}
    full = [x.laid_out(axes) for x in full]
    types = [[(v.dtype, v.rank) for v in x.known()] for x in full]
    if any(t != types[0] for t in types):
        raise NotImplementedError("lists of different lengths whose items have different types")
    return full[0]


def _add(r: Any, a: Any, b: Any) -> ListValue:
    found = items_of(r, a).derived(lambda s: s)
    found.join(items_of(r, b))
    return found


def _spread(r: Any, kind: type, *parts: Any) -> ListValue:
    found = list_of(r, [])
    for x in parts:
        found = _add(r, found, x)
    return found


def _extend(r: Any, a: ListValue, b: Any) -> None:
    a.join(items_of(r, b))


def _getitem(r: Any, a: ListValue, index: Any) -> Any:
    return a.picked(index) if isinstance(index, slice) else a.get(index)


def _insert(r: Any, a: ListValue, index: Any, x: Any) -> None:
    head, tail = (a.picked(s) for s in (slice(None, index), slice(index, None)))
    head.append(x)
    head.join(tail)
    a.set(head.stacks)


def _reverse(r: Any, a: ListValue) -> None:
    if a.stacks is not None:
        a.set(a.gathered(r.b.flip(r.b.iota(size=a.stacks[0].shape[0], dtype=i64), axes=(0,))))


def _clear(r: Any, a: ListValue) -> None:
    a.set(a.derived(lambda s: _none_of(r, s)).stacks)


def _none_of(r: Any, s: Value) -> Value:
    return r.b.full(0, (0, *s.shape[1:]), s.dtype)


def _require_items(r: Any, a: ListValue, message: str) -> None:
    r.b.assert_(r.b.gt(a.count(), r.b.const(0, i64)), message=message, kind="RuntimeError")


def _stack(r: Any, a: ListValue, dim: int = 0) -> torch.Tensor:
    _require_items(r, a, "stack expects a non-empty TensorList")
    with r.lowering.recording():
        return a.tensor().movedim(0, dim)


def _cat(r: Any, a: ListValue, dim: int = 0) -> torch.Tensor:
    _require_items(r, a, "torch.cat(): expected a non-empty list of Tensors")
    (column,) = a.columns()
    with r.lowering.recording():
        if isinstance(column, Ragged) and dim % column.data.rank == column.axis:
            return r.new(column.data).movedim(0, column.axis)
        x = a.tensor()
        dim = dim % (x.dim() - 1)
        return x.movedim(0, dim).flatten(dim, dim + 1)


def _split(r: Any, x: torch.Tensor, sizes: ListValue, dim: int = 0) -> ListValue:
    """Parts of sizes that the run decides."""
    dim = dim % x.dim()
    (column,) = sizes.columns()
    total = r.b.reduce_sum(column.stacked(), axes=(0,))
    whole = r.value(x)
    text = "split_with_sizes expects split_sizes to sum exactly to the size of the axis"
    good = r.b.eq(total, r.b.to(whole.shape[dim], i64))
    r.b.assert_(good, message=text, kind="RuntimeError")
    found = ListValue(r)
    found.like, found.axes = x, {0: dim}
    found.set([column.stacked(), first(r, whole, dim)])
    return found


def _tensor(r: Any, a: ListValue, dtype: Any = None, **options: Any) -> torch.Tensor:
    with r.lowering.recording():
        x = a.tensor()
        is_float = kind_of(a.like) is float
        wanted = dtype or (torch.get_default_dtype() if is_float else x.dtype)
        return x.to(wanted)


def _changing(rule: Callable[..., Any]) -> Callable[..., Any]:
    """A rule that changes a list, which must be the only one of its kind."""

    def change(r: Any, a: ListValue, *args: Any) -> Any:
        if isinstance(a, ListValue) and a.inside:
            raise NotImplementedError(
                "a list that is an item of a list of run-time length changes; put in a copy"
            )
        return rule(r, a, *args)

    return change


RULES: dict[Any, Callable[..., Any]] = {
    len: lambda r, a: a.length, bool: lambda r, a: a.length != 0, operator.getitem: _getitem, operator.add: _add, torch.stack: _stack,
    list.copy: lambda r, a: a.derived(lambda s: s), runtime.spread: _spread, torch.cat: _cat,
    torch.concat: _cat, torch.tensor: _tensor, torch.as_tensor: _tensor, torch.split: _split,
    torch.Tensor.split: _split, torch.split_with_sizes: _split, torch.Tensor.split_with_sizes: _split,
    operator.setitem: _changing(lambda r, a, i, x: a.put(i, x)), list.insert: _changing(_insert),
    list.append: _changing(lambda r, a, x: a.append(x)), list.extend: _changing(_extend),
    list.pop: _changing(lambda r, a, *i: a.pop(*i)), list.clear: _changing(_clear),
    list.reverse: _changing(_reverse),
}  # fmt: skip
