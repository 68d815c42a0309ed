"""Inputs and results of a tape as those of a program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from oarlock.capture.arrays import dtype_of
from oarlock.capture.lowering.attributes import Attributes
from oarlock.capture.lowering.columns import Even
from oarlock.capture.lowering.held import truth_of, value_of
from oarlock.capture.lowering.kinds import Either, Maybe, is_symbolic, kind_of
from oarlock.capture.lowering.lists import ListValue
from oarlock.capture.lowering.mixed import is_exact
from oarlock.capture.lowering.picks import Pick
from oarlock.capture.lowering.recorder import BlockRecorder
from oarlock.capture.slots import attributes_of
from oarlock.capture.structure import fields_of
from oarlock.capture.tape.nodes import Val
from oarlock.capture.tape.sources import key_of
from oarlock.errors import UnsupportedError
from oarlock.ir import Dim, Size, TensorType, Value, f64, i64
from oarlock.ir.signature import Tree


class Inputs:
    """Binds the inputs of a tape: arguments to inputs of the program, the rest to what they are.

    ``bind(val, x)`` is called with the stand-in of every input.
    """

    def __init__(
        self,
        recorder: BlockRecorder,
        tape: Any,
        bind: Callable[[Val, Any], None],
        ranges: Mapping[str, Dim],
    ) -> None:
        self.r, self.bind, self.ranges = recorder, bind, ranges
        self.sizes = getattr(tape, "symbolic", None) or {}
        self.given = {source.path: val for val, source in tape.inputs if source.base is None}
        self.keys = dict(tape.inputs)
        self.named = tape.dims
        self.others = [(val, source) for val, source in tape.inputs if source.base is not None]
        self.names: list[str] = []
        self.fakes: list[tuple[str, torch.Tensor]] = []
        self.dims: dict[Any, Dim] = {}
        self.seen: dict[Val, int] = {}

    def tree(self, x: Any, path: str, shown: str) -> Tree:
        """The tree of an argument."""
        val = self.given.get(path)
        if isinstance(x, torch.Generator):
            return self.generator(x, val)
        if isinstance(x, torch.Tensor) or val is not None:
            return {"leaf": self.leaf(x, val, shown)}
        if x is None or isinstance(x, (bool, int, float, str)):
            return {"const": x}
        if isinstance(x, (torch.dtype, torch.device)):
            return {"const": str(x)}
        fields = fields_of(x)
        if fields is not None:
            access = "[{!r}]" if isinstance(x, dict) else ".{}"
            trees = [[k, self.tree(v, path + access.format(k), f"{shown}.{k}")] for k, v in fields]
            return {"record": type(x).__name__, "fields": trees}
        if isinstance(x, dict):
            return {
                "dict": [[k, self.tree(v, f"{path}[{k!r}]", f"{shown}.{k}")] for k, v in x.items()]
            }
        if isinstance(x, (tuple, list)):
            kind = "tuple" if isinstance(x, tuple) else "list"
            return {kind: [self.tree(v, f"{path}[{i}]", f"{shown}.{i}") for i, v in enumerate(x)]}
        raise UnsupportedError(f"{shown}: a {type(x).__name__} is no argument of a program")

    def leaf(self, x: Any, val: Val | None, shown: str) -> int:
        if val is not None and val in self.seen:
            return self.seen[val]
        name = shown.replace(".", "_")
        index = len(self.names)
        if isinstance(x, torch.Tensor):
            shape = self.shape(x, val)
            value = self.r.b.input(TensorType(dtype_of(x.dtype), shape), name)
            stand_in: Any = self.r.new(value, f"input {shown}")
            self.fakes.append((shown, stand_in))
        else:
            kind = f64 if isinstance(x, float) else i64
            stand_in = self.r.scalars.number(self.r.b.input(TensorType(kind), name))
        self.names.append(shown)
        if val is not None:
            self.seen[val] = index
            self.bind(val, stand_in)
        return index

    def generator(self, x: torch.Generator, val: Val | None) -> Tree:
        """The program's own stands for it: calls pass None."""
        if val is not None:
            self.bind(val, x)
        return {"const": None}

    def shape(self, x: torch.Tensor, val: Val | None) -> tuple[Size, ...]:
        """Sizes of an argument: axes that may differ share a dim where their sizes are the same."""
        free = val.dims if val is not None else frozenset()
        sizes: list[Size] = []
        for axis, n in enumerate(x.shape):
            if axis not in free:
                sizes.append(n)
                continue
            key = key_of(self.keys[val], axis) if val is not None else None
            named = self.named.get(key)
            sizes.append(self.dim(n, self.sizes.get(key, n) if named is None else named))
        return tuple(sizes)

    def dim(self, n: int, key: Any) -> Dim:
        """The dim of a size that is ``n`` in the example; ``key``: the sizes that it was seen with, or
        its dim."""
        if isinstance(key, Dim) and not key.is_symbol:
            return key
        name = key.name if isinstance(key, Dim) else f"N{len(self.dims)}"
        seen = name if isinstance(key, Dim) else key
        if seen not in self.dims:
            dim = self.ranges.get(name) or (key if isinstance(key, Dim) else Dim(name))
            self.dims[seen] = dim
            self.r.shapes.hint(dim, n)
            self.r.shapes.given.add(dim.name)
        return self.dims[seen]

    def bind_others(self, attributes: Attributes) -> None:
        """Tensors and numbers that the code found beside its arguments."""
        for val, source in self.others:
            self.bind(val, attributes.before(source))


class Results:
    """Outputs of a program from what a call gives."""

    def __init__(self, recorder: BlockRecorder, env: Mapping[Val, Any]) -> None:
        self.r, self.env = recorder, env
        self.outputs: list[Value] = []

    def whole(self, x: Any, noted: Any, where: str) -> tuple:
        """``x``, an object of the capture, with run-time values in it: ``(kind, ...)``, as ways of a
        fork are joined by it; ``noted`` has its run-time values."""
        if isinstance(noted, Val):
            return ("value", self.env[noted])
        if x is None or isinstance(x, (bool, int, float, str)):
            return ("value", x)
        if isinstance(x, (torch.dtype, torch.device)):
            return ("value", str(x))
        if isinstance(x, dict):
            items = zip(x.items(), noted or [])
            parts = tuple(self.whole(v, n, f"{where}.{k}") for (k, v), n in items)
            named = hasattr(x, "__dataclass_fields__")
            return ("record", type(x).__name__, tuple(x), parts) if named else (
                "dict", tuple(x), parts)  # fmt: skip
        if isinstance(x, (tuple, list)):
            items = enumerate(zip(x, noted or []))
            parts = tuple(self.whole(v, n, f"{where}.{i}") for i, (v, n) in items)
            if hasattr(x, "_fields"):
                return ("record", type(x).__name__, x._fields, parts)
            return ("tuple" if isinstance(x, tuple) else "list", parts)
        fields = dict(fields_of(x) or ())
        if fields:
            known = dict(zip(attributes_of(x), noted or []))
            parts = tuple(self.whole(v, known.get(k), f"{where}.{k}") for k, v in fields.items())
            return ("record", type(x).__name__, tuple(fields), parts)
        raise UnsupportedError(f"{where}: a {type(x).__name__} is no result of a program")

    def tree(self, whole: tuple, where: str) -> Tree:
        """The tree of what ``whole`` gives."""
        kind, *rest = whole
        if kind == "value":
            return self.found(rest[0], where)
        if kind in ("tuple", "list"):
            return {kind: [self.tree(x, f"{where}.{i}") for i, x in enumerate(rest[0])]}
        keys, parts = rest[-2:]
        pairs = [[k, self.tree(x, f"{where}.{k}")] for k, x in zip(keys, parts)]
        return {"dict": pairs} if kind == "dict" else {"record": rest[0], "fields": pairs}

    def found(self, x: Any, where: str) -> Tree:
        """The tree of a run-time value."""
        if isinstance(x, (tuple, list)):
            trees = [self.found(item, f"{where}.{i}") for i, item in enumerate(x)]
            return {"tuple" if isinstance(x, tuple) else "list": trees}
        if isinstance(x, ListValue):
            return self.rows(x, where)
        if isinstance(x, Maybe):
            return self.optional(x, where)
        if isinstance(x, Pick):
            options = [self.found(option, where) for option in x.options]
            return {"choice": self.add(x.place), "options": options}
        if isinstance(x, Either):
            x = self.one(x, where)
        if isinstance(x, torch.Tensor):
            if x.is_complex():
                raise UnsupportedError(f"{where} is complex; return torch.view_as_real(x)")
            return {"leaf": self.add(self.r.value(x))}
        if is_symbolic(x):
            return {"leaf": self.add(self.r.scalars.value(x))}
        if x is None or isinstance(x, (bool, int, float, str)):
            return {"const": x}
        raise UnsupportedError(f"{where}: a {type(x).__name__} is no result of a program")

    def one(self, x: Either, where: str) -> Any:
        """A number or a wider one, in the type of that: a run ends where it holds not the integer."""
        if kind_of(x.number) is int and not is_exact(x):
            b, number = self.r.b, self.r.scalars.value(x.number)
            wide = value_of(self.r, x.wide)
            same = b.eq(b.cast(wide, dtype=number.dtype), number)
            message = f"{where}: an integer that {wide.dtype} does not hold"
            b.assert_(
                b.bit_or(b.logical_not(x.flag.value), same), message=message, kind="Respecialise"
            )
        return x.wide

    def optional(self, x: Maybe, where: str) -> Tree:
        """A value that is there, as far as is known or is checked."""
        flag = self.r.scalars.value(x.flag)
        if truth_of(flag) is None:
            if not x.unbound:
                return {"optional": self.add(flag), "tree": self.found(x.value, where)}
            self.r.b.assert_(flag, message=f"{where} has no value", kind="UnboundLocalError")
        return self.found(x.value, where)

    def rows(self, x: ListValue, where: str) -> Tree:
        """A list of run-time length: a leaf is a stack with a row per item."""
        if x.stacks is None:
            return {"list": []}
        columns = iter(x.columns())

        def build(like: Any) -> Tree:
            if isinstance(like, (tuple, list)):
                return {"tuple" if isinstance(like, tuple) else "list": list(map(build, like))}
            if isinstance(like, Maybe) and like.unbound:
                return build(like.value)
            if isinstance(like, Maybe):
                return {"optional": self.add(next(columns).values[0]), "tree": build(like.value)}
            if isinstance(like, ListValue):
                return {"rows": inner(like.like)}
            return leaf()

        def inner(like: Any) -> Tree:
            if isinstance(like, (tuple, list)):
                return {"tuple" if isinstance(like, tuple) else "list": list(map(inner, like))}
            return leaf()

        def leaf() -> Tree:
            column = next(columns)
            if isinstance(column, Even):
                return {"leaf": self.add(column.stack)}
            sizes = self.add(column.sizes)
            return {"part": self.add(column.data), "sizes": sizes, "axis": column.axis}

        return {"rows": build(x.like)}

    def add(self, value: Value) -> int:
        self.outputs.append(value)
        return len(self.outputs) - 1
