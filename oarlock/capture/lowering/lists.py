"""Python lists of run-time length: every tensor or number of an item is a stack with a row per item."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from oarlock.capture.lowering.scalars import Maybe, is_symbolic, kind_of
from oarlock.capture.tape import runtime
from oarlock.ir import Value, f64, i64


class ListValue:
    """``stacks``: of the leaves of the items, None while no item was seen; ``like``: an item.

    ``version`` counts the changes.
    """

    def __init__(self, r: Any) -> None:
        self.r = r
        self.stacks: list[Value] | None = None
        self.like: Any = None
        self.version = 0
        r.lists[self] = None

    # ---- items

    def leaves(self, item: Any) -> Iterator[Any]:
        if isinstance(item, (tuple, list)):
            for x in item:
                yield from self.leaves(x)
        elif isinstance(item, (torch.Tensor, bool, int, float)) or is_symbolic(item):
            yield item
        else:
            kind = "None or a value" if isinstance(item, Maybe) else type(item).__name__
            raise NotImplementedError(f"a list of run-time length whose items hold {kind}")

    def row(self, item: Any) -> list[Value]:
        """The leaves of an item, each as a stack of one."""
        r, found = self.r, []
        for x in self.leaves(item):
            if isinstance(x, torch.Tensor):
                value = r.value(x)
                r.view(x).memory.tied.append("a list")
            else:
                value = r.scalars.value(x)
            found.append(r.b.reshape(value, shape=(1, *value.shape)))
        return found

    def item(self, rows: Sequence[Value]) -> Any:
        """An item from values of its leaves."""
        values = iter(rows)

        def build(like: Any) -> Any:
            if isinstance(like, (tuple, list)):
                return type(like)(build(x) for x in like)
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
        """The stacks.  Raises: NotImplementedError while no item was seen."""
        if self.stacks is None:
            raise NotImplementedError("an item of a list that is always empty")
        return self.stacks

    def append(self, x: Any) -> None:
        self.join([self.row(x)], x)

    def join(self, rows: Sequence[Sequence[Value]], like: Any, before: bool = False) -> None:
        """Add stacks at the end."""
        for new in rows:
            if self.like is None:
                self.like = like
            if self.stacks is None:
                self.set(new)
                continue
            for a, b in zip(self.stacks, new):
                if a.dtype is not b.dtype or a.shape[1:] != b.shape[1:]:
                    raise NotImplementedError(
                        f"a list of run-time length with items {a.type} and {b.type}; "
                        f"give all one shape"
                    )
            self.set([self.r.b.concat(a, b, axis=0) for a, b in zip(self.stacks, new)])

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
        return self.item([self.r.b.take(s, place, axis=0) for s in self.known()])

    def put(self, index: Any, x: Any) -> None:
        b = self.r.b
        place = b.reshape(self.r.scalars.value(index, i64), shape=(1,))
        rows = self.row(x)
        self.set([b.put(s, place, new, axis=0) for s, new in zip(self.known(), rows)])

    def pop(self, index: Any = -1) -> Any:
        b, item = self.r.b, self.get(index)
        place = self.r.scalars.value(index, i64)
        wrapped = b.where(b.lt(place, 0), b.add(place, self.count()), place)
        rest = b.iota(size=self.known()[0].shape[0] - 1, dtype=i64)
        kept = b.add(rest, b.cast(b.ge(rest, wrapped), dtype=i64))
        self.set([b.take(s, kept, axis=0) for s in self.known()])
        return item

    def derived(self, change: Callable[[Value], Value]) -> ListValue:
        """A new list whose stacks are changed ones."""
        found = ListValue(self.r)
        found.like = self.like
        found.set(None if self.stacks is None else [change(s) for s in self.stacks])
        return found

    def through(self, change: Callable[[torch.Tensor], torch.Tensor]) -> ListValue:
        """A new list by torch functions on the stacks, which are recorded."""
        with self.r.lowering.recording():
            return self.derived(lambda s: self.r.value(change(self.r.new(s))))

    def tensor(self) -> torch.Tensor:
        """The stack of a list of tensors or numbers."""
        (stack,) = self.known()
        return self.r.new(stack)


def list_of(r: Any, items: Sequence[Any]) -> ListValue:
    found = ListValue(r)
    for x in items:
        found.append(x)
    return found


def of_rows(r: Any, stacks: Sequence[Value], like: Any) -> ListValue:
    """A list with a row of ``stacks`` for each item."""
    found = ListValue(r)
    found.like = like
    found.set(stacks)
    return found


def items_of(r: Any, x: Any) -> ListValue:
    """A list of the code, or a tuple, as one of run-time length."""
    return x if isinstance(x, ListValue) else list_of(r, x)


def numbers_of(r: Any, stack: Value) -> ListValue:
    """The elements of a vector as Python numbers."""
    wide = f64 if stack.dtype.is_float else stack.dtype if stack.dtype.is_bool else i64
    stack = r.b.to(stack, wide)
    like = False if wide.is_bool else 0.0 if wide.is_float else 0
    return of_rows(r, [stack], like)


def is_row(x: Any) -> bool:
    """It can be a list of run-time length."""
    return isinstance(x, ListValue) or type(x) in (list, tuple)


def same_leaves(lists: Sequence[ListValue]) -> ListValue:
    """The first that has items.  Raises: NotImplementedError where the others' are of other types."""
    full = [x for x in lists if x.stacks is not None]
    if not full:
        raise NotImplementedError("lists of different lengths that are always empty")
    types = [[(v.dtype, v.rank) for v in x.known()] for x in full]
    if any(t != types[0] for t in types):
        raise NotImplementedError("lists of different lengths whose items have different types")
    return full[0]


def _add(r: Any, a: Any, b: Any) -> ListValue:
    found = items_of(r, a).derived(lambda s: s)
    other = items_of(r, b)
    if other.stacks is not None:
        found.join([other.stacks], other.like)
    return found


def _spread(r: Any, kind: type, *parts: Any) -> ListValue:
    found = list_of(r, [])
    for x in parts:
        found = _add(r, found, x)
    return found


def _extend(r: Any, a: ListValue, b: Any) -> None:
    other = items_of(r, b)
    if other.stacks is not None:
        a.join([other.stacks], other.like)


def _getitem(r: Any, a: ListValue, index: Any) -> Any:
    return a.through(lambda s: s[index]) if isinstance(index, slice) else a.get(index)


def _insert(r: Any, a: ListValue, index: Any, x: Any) -> None:
    head, tail = (_getitem(r, a, s) for s in (slice(None, index), slice(index, None)))
    head.append(x)
    _extend(r, head, tail)
    a.set(head.stacks)


def _reverse(r: Any, a: ListValue) -> None:
    a.set(a.derived(lambda s: r.b.flip(s, axes=(0,))).stacks)


def _clear(r: Any, a: ListValue) -> None:
    a.set(a.derived(lambda s: _none_of(r, s)).stacks)


def _none_of(r: Any, s: Value) -> Value:
    return r.b.full(0, (0, *s.shape[1:]), s.dtype)


def _stack(r: Any, a: ListValue, dim: int = 0) -> torch.Tensor:
    with r.lowering.recording():
        return a.tensor().movedim(0, dim)


def _cat(r: Any, a: ListValue, dim: int = 0) -> torch.Tensor:
    with r.lowering.recording():
        x = a.tensor()
        dim = dim % (x.dim() - 1)
        return x.movedim(0, dim).flatten(dim, dim + 1)


def _tensor(r: Any, a: ListValue, dtype: Any = None, **options: Any) -> torch.Tensor:
    with r.lowering.recording():
        x = a.tensor()
        is_float = kind_of(a.like) is float
        wanted = dtype or (torch.get_default_dtype() if is_float else x.dtype)
        return x.to(wanted)


RULES: dict[Any, Callable[..., Any]] = {
    len: lambda r, a: a.length, list.append: lambda r, a, x: a.append(x), operator.getitem: _getitem,
    operator.setitem: lambda r, a, i, x: a.put(i, x), list.pop: lambda r, a, *i: a.pop(*i),
    list.insert: _insert, list.extend: _extend, operator.add: _add, list.clear: _clear,
    list.reverse: _reverse, list.copy: lambda r, a: a.derived(lambda s: s), torch.stack: _stack,
    runtime.spread: _spread, torch.cat: _cat, torch.concat: _cat, torch.tensor: _tensor, torch.as_tensor: _tensor,
}  # fmt: skip
