"""The type of a value that is one of two at run time, and a stand-in of that type."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from types import CellType
from typing import Any

import torch

from oarlock.capture.convert.state import Text, Undefined
from oarlock.capture.slots import attributes_of
from oarlock.capture.tape.active import active
from oarlock.capture.tape.arguments import is_record
from oarlock.capture.tape.nodes import Block, Val
from oarlock.capture.tape.numbers import Number
from oarlock.capture.tape.rebuilding import own_attributes
from oarlock.errors import UnsupportedError

_SCALARS = (bool, int, float)


class JoinRefused(UnsupportedError):
    """What two paths, or two trips of a loop, leave has no common type."""


@dataclass(eq=False)
class Same:
    """One value either way."""

    value: Any


@dataclass(eq=False)
class Leaf:
    """A run-time value of two origins.

    ``kind``: "tensor", "number", "list", "text" or "any"; ``a`` and ``b``: its samples in the two
    worlds (shapes and hints), or the class of a list.  ``parts``: the two values themselves;
    ``more``: other objects that it may be; ``item``: the joint of the items of lists.
    """

    kind: str
    parts: tuple[Any, Any]
    a: Any = None
    b: Any = None
    dims: frozenset[int] = frozenset()
    loose: frozenset[str] = frozenset()
    dtype: torch.dtype | None = None
    grad: bool = False
    is_data: bool = True
    item: Any = None
    cell: Any = None  # the Items of lists that are followed at run time
    more: tuple[Any, ...] = ()
    is_reached: bool = False  # by sizes that calls change

    def type_key(self) -> tuple:
        """What a fixpoint compares."""
        shape = tuple(None if i in self.dims else n for i, n in enumerate(self.a)) \
            if self.kind == "tensor" else type(self.a)  # fmt: skip
        objects = frozenset(map(identity, self.options())) if self.kind == "any" else None
        return self.kind, shape, self.dims, self.loose, self.dtype, self.grad, objects

    def options(self) -> list[Any]:
        """The objects that one of "any" kind may be, each once."""
        found: dict[Any, Any] = {}
        for part in (*self.parts, *self.more):
            for x in options(part):
                found.setdefault(identity(x), x)
        return list(found.values())


def options(x: Any) -> list[Any]:
    """The objects that a value may be."""
    parts = getattr(type(x), "parts_of_choice", None)
    return [x] if parts is None else [y for part in parts(x) for y in options(part)]


def identity(x: Any) -> Any:
    """Tells objects apart: texts by what they say, tuples of run-time values by their structure, what
    may be unbound as one."""
    if isinstance(x, Undefined):
        return Undefined
    if is_row_of_values(x):
        with torch._C.DisableTorchFunction():
            return structure(x)
    return x if type(x) is str else id(x)


def is_row_of_values(x: Any) -> bool:
    """A tuple of tensors and numbers of the run, perhaps in tuples: one is as good as another."""
    return isinstance(x, tuple) and _is_of_values(x) and holds_run_time(x)


def _is_of_values(x: Any) -> bool:
    if isinstance(x, tuple):
        return all(map(_is_of_values, x))
    return x is None or isinstance(x, (torch.Tensor, Number)) or type(x) in _SCALARS


def structure(x: Any, with_sizes: bool = True) -> Any:
    """Of a tuple: classes, dtypes and ranks; sizes, None where they are free."""
    if isinstance(x, tuple):
        return type(x), *(structure(item, with_sizes) for item in x)
    if isinstance(x, torch.Tensor):
        val = active().val(x)
        sizes = [None if i in val.dims else n for i, n in enumerate(val.sample.shape)]
        return torch.Tensor, val.sample.dtype, tuple(sizes) if with_sizes else len(sizes)
    return type(_hint(x)) if _is_number(x) else x


def is_textual(x: Any) -> bool:
    """A text, of the run or one of several."""
    return all(isinstance(y, str) for y in options(x))


@dataclass(eq=False)
class Many:
    """A container with joined items; ``like`` is one of the two containers."""

    like: Any
    keys: list[Any]
    items: list[Any] = field(default_factory=list)
    parts: tuple[Any, ...] = ()


def leaves_of(joint: Any) -> Iterator[Leaf]:
    """Run-time values inside a joined value, in order."""
    if isinstance(joint, Leaf):
        yield joint
    elif isinstance(joint, Many):
        for item in joint.items:
            yield from leaves_of(item)


def leaves_inside(obj: Any, joint: Any) -> Iterator[tuple[str, Leaf]]:
    """Run-time values of what a changed object holds, with names: ``Class.attribute`` or ``Class``."""
    kind, has_attributes = type(obj).__name__, not isinstance(obj, (list, dict, CellType))
    if has_attributes and isinstance(joint, Many):
        for key, item in zip(joint.keys, joint.items):
            yield from ((f"{kind}.{key}", leaf) for leaf in leaves_of(item))
    else:
        yield from ((kind, leaf) for leaf in leaves_of(joint))


class Joiner:
    """Joins the values that two paths leave in one variable.

    Args: val: the ``Val`` of a fake tensor; is_data: the choice between the paths depends on data;
        may_grow: lists and tuples of two lengths are one of a length that is known at run time;
        block: where the paths meet; a list that is older than they are stays itself; taken: whether
        the first path is the one of each world, so that sizes fit those of values around; outside:
        knows the objects that exist before the call.
    """

    def __init__(
        self, val: Any, is_data: bool = True, block: Block | None = None,
        taken: tuple[bool, bool] = (True, False), may_grow: bool = False, outside: Any = None,
    ) -> None:  # fmt: skip
        self.may_grow, self.outside = may_grow, outside
        self.is_ours = False  # a variable of ours is joined, that is read only where it is bound
        self.val, self.is_data, self.block, self.taken = val, is_data, block, taken

    def join(self, x: Any, y: Any) -> Any:
        """``Same``, ``Leaf`` or ``Many``."""
        with torch._C.DisableTorchFunction():
            return self.joined(x, y)

    def joined(self, x: Any, y: Any) -> Any:
        if x is y or _equal(x, y):
            return Same(x)
        if isinstance(x, Undefined) and isinstance(y, Undefined):
            return Same(x)
        if isinstance(x, Undefined) or isinstance(y, Undefined):
            return self.one(y if isinstance(x, Undefined) else x, (x, y), "unbound")
        if x is None or y is None:
            return self.one(y if x is None else x, (x, y), "none")
        if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor):
            return self.tensors(x, y)
        if isinstance(x, torch.Tensor) and _is_number(y):
            return self.one(x, (x, y), "number")
        if isinstance(y, torch.Tensor) and _is_number(x):
            return self.one(y, (x, y), "number")
        if _is_number(x) and _is_number(y):
            return self.numbers(x, y)
        return self.containers(x, y)

    def one(self, value: Any, parts: tuple[Any, Any], why: str) -> Any:
        """``value`` on one path, something that is not of its kind on the other."""
        if isinstance(value, torch.Tensor):
            leaf = self.tensors(value, value)
        elif _is_number(value):
            leaf = self.numbers(value, value)
        elif _is_run(value):
            kind = tuple if hasattr(type(value), "run_time_tuple") else list
            kind = deque if hasattr(type(value), "run_time_deque") else kind
            leaf = Leaf("list", parts, kind, kind, item=value.item, cell=value.items)
        elif why == "unbound" and (keys_of(value) or (self.is_ours and _is_empty(value))):
            return self.items_or_nothing(value, parts)
        else:
            leaf = Leaf("any", parts, value)
        leaf.parts, leaf.loose = parts, leaf.loose | {why}
        return leaf

    def result(self, x: Any, y: Any) -> Any:
        """What a variable of ours holds, that is read only where it is bound."""
        value = y if isinstance(x, Undefined) else x
        one_sided = isinstance(x, Undefined) != isinstance(y, Undefined)
        if one_sided and self.is_older(value):
            return Same(value)
        self.is_ours = one_sided
        try:
            return self.join(x, y)
        finally:
            self.is_ours = False

    def is_older(self, value: Any) -> bool:
        """Whether all that an object holds was made before the paths parted: it stays itself."""
        if isinstance(value, (torch.Tensor, Number)) or self.block is None:
            return False
        if callable(value) and not isinstance(value, (type, torch.nn.Module)):
            return False  # a closure holds more than one sees
        return all(map(self.is_above, self.vals(value, {})))

    def is_above(self, block: Block) -> bool:
        at = self.block
        while at is not None and at is not block:
            at = at.parent
        return at is not None

    def vals(self, value: Any, seen: dict[int, Any]) -> Iterator[Block]:
        """The blocks where run-time values below ``value`` were made."""
        if id(value) in seen:
            return
        seen[id(value)] = value
        born = getattr(value, "born", None)
        if isinstance(value, torch.Tensor):
            yield self.val(value).block
        elif isinstance(value, Number):
            yield value.val.block
        elif born is not None:
            yield born.block
        elif isinstance(value, (tuple, list, set, frozenset)):
            for item in value:
                yield from self.vals(item, seen)
        elif isinstance(value, dict):
            yield from self.vals(list(dict.values(value)), seen)
        elif not isinstance(value, (type, torch.nn.Module)):
            yield from self.vals(dict(attributes_of(value)), seen)

    def items_or_nothing(self, value: Any, parts: tuple[Any, Any]) -> Many:
        """A container whose items are bound on one path only."""
        keys = keys_of(value)
        assert keys is not None
        pairs = []
        for key in keys:
            nothing = Undefined(str(key))
            sides = [
                nothing if isinstance(part, Undefined) else item_of(part, key) for part in parts
            ]
            item = item_of(value, key)
            pairs.append(Same(item) if self.is_older(item) else self.joined(sides[0], sides[1]))
        return Many(value, keys, pairs, (value,))

    def tensors(self, x: torch.Tensor, y: torch.Tensor) -> Leaf:
        with torch._C.DisableTorchFunction():
            return self.joined_tensors(x, y)

    def joined_tensors(self, x: torch.Tensor, y: torch.Tensor) -> Leaf:
        p, q = self.val(x), self.val(y)
        x, y = p.sample, q.sample
        first, second = (p if is_first else q for is_first in self.taken)
        a = tuple(first.sample.shape)
        b = tuple((second.sample if second.twin is None else second.twin).shape)
        loose, dims = p.loose | q.loose, p.dims | q.dims
        if len(a) != len(b):
            a = b = max(a, b, key=len)
            loose |= {"rank"}
            dims = frozenset(range(len(a)))
        dims |= {i for i, (m, n) in enumerate(zip(a, b)) if m != n}
        dims |= {i for i, (m, n) in enumerate(zip(x.shape, y.shape)) if m != n}
        b = tuple(n + 2 if i in dims and n == a[i] else n for i, n in enumerate(b))
        if x.dtype != y.dtype:
            loose |= {"dtype"}
        dtype = torch.promote_types(x.dtype, y.dtype)
        grad = x.requires_grad or y.requires_grad
        found = Leaf("tensor", (x, y), a, b, frozenset(dims), loose, dtype, grad, self.is_data)
        found.is_reached = p.twin is not None or q.twin is not None
        return found

    def numbers(self, x: Any, y: Any) -> Leaf:
        a, b = _hint(x if self.taken[0] else y), _other(x if self.taken[1] else y)
        kind = _wider(type(_hint(x)), type(_hint(y)))
        a, b = kind(a), kind(b)
        is_data = self.is_data or _is_data(x) or _is_data(y)
        if a == b and (is_data or kind is not bool):
            b = (not a) if kind is bool else a + 1
        loose = _loose(x) | _loose(y)
        if type(_hint(x)) is not type(_hint(y)):
            loose |= {"type"}
        return Leaf("number", (x, y), a, b, loose=loose, is_data=is_data)

    def containers(self, x: Any, y: Any) -> Any:
        if all(hasattr(type(v), "is_run_table") for v in (x, y)) and x.kind is y.kind:
            x.tracer.tables.unify(x, y)
            return Leaf("table", (x, y), x.kind, x.kind)
        if (self.may_grow or _is_run(x) or _is_run(y)) and _are_rows(x, y):
            from oarlock.capture.tape.items import item_of_all

            kind = tuple if type(x) is tuple or hasattr(x, "run_time_tuple") else list
            kind = deque if hasattr(type(x), "run_time_deque") else kind
            return Leaf("list", (x, y), kind, kind, item=item_of_all(self, (x, y)))
        for one in (x, y):  # what a list from outside holds counts from now on
            if isinstance(one, list) and getattr(one, "observed", None) is not None:
                one.observe()
        keys = keys_of(x)
        if keys is None or type(x) is not type(y) or keys != keys_of(y) or _differ_beside(x, y):
            both = [*options(x), *options(y)]
            is_text = any(isinstance(v, Text) for v in both) and is_textual(x) and is_textual(y)
            return Leaf("text", (x, y), "") if is_text else Leaf("any", (x, y), x)
        pairs = [self.joined(self.item(x, k), self.item(y, k)) for k in keys]
        return Many(x, keys, pairs, (x, y))

    def item(self, x: Any, key: Any) -> Any:
        """What a container or object holds; of one from outside another at another call."""
        if self.outside is None or isinstance(x, (list, tuple)):
            return item_of(x, key)
        if isinstance(x, dict):
            self.outside.containers.observe(x)
        return self.outside.read(x, key, item_of(x, key))


def _differ_beside(x: Any, y: Any) -> bool:
    """Two objects of a subclass of dict hold other things beside their items."""
    if not isinstance(x, dict) or type(x) is dict:
        return False
    p, q = own_attributes(x), own_attributes(y)
    return p.keys() != q.keys() or any(p[k] is not q[k] and not _equal(p[k], q[k]) for k in p)


def _are_rows(x: Any, y: Any) -> bool:
    """Two lists of the code, or two tuples, that may have different lengths."""
    if not any(all(_is_row(v, kind) for v in (x, y)) for kind in (list, tuple, deque)):
        return False
    return _is_run(x) or _is_run(y) or _length(x) != _length(y)


def _is_empty(x: Any) -> bool:
    """A container of the code that holds nothing."""
    return keys_of(x) == [] and (type(x) in (dict, tuple) or (_is_row(x, list) and not _is_run(x)))


def _length(x: Any) -> int:
    return list.__len__(x) if isinstance(x, list) else len(x)


def _is_run(x: Any) -> bool:
    """A list, or tuple, of run-time length."""
    return isinstance(x, list) and getattr(x, "val", None) is not None


def _is_row(x: Any, kind: type) -> bool:
    if isinstance(x, list) and hasattr(x, "run_time_length"):
        is_deque = hasattr(type(x), "run_time_deque") is (kind is deque)
        return is_deque and hasattr(x, "run_time_tuple") is (kind is tuple)
    return type(x) is tuple and kind is tuple


def keys_of(x: Any) -> list[Any] | None:
    if hasattr(type(x), "is_run_table"):
        return None
    if isinstance(x, dict):
        return list(x)
    if isinstance(x, (tuple, list)):
        return list(range(_length(x)))
    if not is_record(x):
        return None
    return list(attributes_of(x)) if holds_run_time(x) or _is_frozen(x) else None


def _is_frozen(x: Any) -> bool:
    """An object that nobody can change: a copy is as good."""
    return dataclasses.is_dataclass(x) and x.__dataclass_params__.frozen  # type: ignore[attr-defined]


def item_of(x: Any, key: Any) -> Any:
    if isinstance(x, (dict, tuple)):
        return x[key]
    return list.__getitem__(x, key) if isinstance(x, list) else attributes_of(x)[key]


def holds_run_time(x: Any, depth: int = 4) -> bool:
    """A tensor or symbolic number is inside."""
    if isinstance(x, (torch.Tensor, Number)):
        return True
    if not depth or isinstance(x, Text) or hasattr(type(x), "is_run_table"):  # one value itself
        return False
    if isinstance(x, dict):
        return any(holds_run_time(v, depth - 1) for v in x.values())
    if isinstance(x, (tuple, list)):
        items = list.__iter__(x) if isinstance(x, list) else x
        return any(holds_run_time(v, depth - 1) for v in items)
    return is_record(x) and any(holds_run_time(v, depth - 1) for v in attributes_of(x).values())


def _equal(x: Any, y: Any) -> bool:
    plain = (bool, int, float, str, bytes, complex, torch.dtype, torch.device)
    return (
        type(x) is type(y)
        and isinstance(x, plain)
        and not isinstance(x, Text)
        and (x == y or (x != x and y != y))
        and (x or repr(x) == repr(y))  # zeros have signs
    )


def _is_number(x: Any) -> bool:
    return isinstance(x, (*_SCALARS, Number)) and not isinstance(x, Enum)


def _hint(x: Any) -> Any:
    return x.hint if isinstance(x, Number) else _plain(x)


def _plain(x: Any) -> Any:
    """A number of a class of its own, such as that of an enumeration, as the number that it is."""
    return next(kind(x) for kind in _SCALARS if isinstance(x, kind))


def _other(x: Any) -> Any:
    return x.other if isinstance(x, Number) else _plain(x)


def _is_data(x: Any) -> bool:
    return isinstance(x, Number) and x.is_data


def _loose(x: Any) -> frozenset[str]:
    return x.val.loose if isinstance(x, Number) else frozenset()


def _wider(a: type, b: type) -> type:
    return _SCALARS[max(_SCALARS.index(a), _SCALARS.index(b))]


def stand_in(
    shape: Any, dtype: torch.dtype, device: torch.device, grad: bool, sources: list[torch.Tensor]
) -> torch.Tensor:  # fmt: skip
    """A fake tensor, tied to ``sources`` for gradients; made inside the fake mode."""
    new = torch.empty(shape, dtype=dtype, device=device)
    if not grad or not torch.is_grad_enabled():
        return new.requires_grad_(grad and not sources)
    found = [x for x in sources if x.requires_grad]
    if not found:
        return new.requires_grad_()
    for x in found:
        total = torch.ones((), dtype=dtype) if x.is_complex() else x.sum().to(dtype)
        new = new + total
    return new


def val_of_number(x: Any) -> Val | Any:
    return x.val if isinstance(x, Number) else x
