"""One call of a tape on the values that a program has."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from oarlock.capture.lowering import caught, lists, messages, mixed, picks
from oarlock.capture.lowering.kinds import Either, Maybe, Truth, is_symbolic
from oarlock.capture.lowering.lists import ListValue
from oarlock.capture.lowering.picks import Pick
from oarlock.capture.tape import runtime
from oarlock.capture.tape.higher import seeded
from oarlock.capture.tape.nodes import Block, Call, SubTape, Val, leaves, map_tree
from oarlock.capture.tape.queries import INDEXED, LEFT_ALIGNED, PYTHONS, READS, name_of
from oarlock.capture.tape.runtime import recursive, table
from oarlock.capture.unfused import is_left_aligned
from oarlock.ir import i64

if TYPE_CHECKING:
    from oarlock.capture.lowering.replay import Lowering


class Calls:
    """What the calls of a tape give here."""

    def __init__(self, low: Lowering) -> None:
        self.low, self.r = low, low.r
        self.is_well: Any = True  # the last call whose failure is caught

    def result(self, call: Call, args: tuple, kwargs: dict[str, Any]) -> Any:
        """The result of a call."""
        func = call.func
        if call.catches is not None:
            self.is_well, args, kwargs = caught.checked(call, *self.low.present((args, kwargs)))
        if func is runtime.outcome:
            return self.is_well, caught.SAID
        if func is not runtime.text and any(isinstance(x, Either) for x in leaves((args, kwargs))):
            return mixed.result(self, call, args, kwargs)
        if name_of(func) in READS and args and isinstance(args[0], torch.Tensor):
            with self.low.outside():
                return self.read(name_of(func), *args)
        if getattr(func, "__name__", "") == "list_of":
            with self.low.outside():
                return lists.list_of(self.r, args, id(call))
        if func in _SEEDING:
            return self.seed(func, args)
        if func is runtime.text:
            return messages.Message(args)
        _expect_values(call, args, kwargs)
        if func in (runtime.bound, runtime.attribute) and isinstance(args[0], Maybe):
            return self.low.expect_bound(func, *args)
        if func in (runtime.is_none, runtime.is_missing):
            if is_symbolic(args[0]):
                return False
            if isinstance(args[0], Maybe):
                with self.low.outside():
                    return self.r.scalars.compute(operator.is_, (args[0], None))
        if any(isinstance(x, Pick) for x in args):
            with self.low.outside():
                return picks.apply(self.r, func, args)
        if any(isinstance(x, ListValue) for x in args):
            return self.on_list(call, args, kwargs)
        if func in _ROWS and isinstance(call.outs, Val):
            with self.low.outside():
                return lists.rows_of(self.r, *self.low.present(args), **kwargs)
        if func in _TRUTHS and isinstance(args[0], torch.Tensor):
            with self.low.outside():
                number = self.read(_TRUTHS[func], args[0])
                is_plain = func is not operator.not_
                return number if is_plain else self.r.scalars.compute(func, (number,))
        if name_of(func) in INDEXED and isinstance(args[0], (torch.Tensor, Maybe)):
            args = (args[0], self.index(args[1]), *args[2:])
        if name_of(func) in ("__setitem__", "setitem") and _picks_by_number(args[1]):
            return self.put(*self.low.present(args))
        numbers = list(leaves([*args, *kwargs.values()]))
        has_tensor = any(isinstance(x, (torch.Tensor, Maybe)) for x in numbers)
        if not has_tensor and any(map(is_symbolic, numbers)) and not _is_torch(func):
            with self.low.outside():
                return self.r.scalars.compute(func, args)
        if func in _IDENTITY and any(isinstance(x, Maybe) for x in args):
            with self.low.outside():
                return self.r.scalars.compute(func, args)
        try:
            return self.plain(call, func, args, kwargs)
        except TypeError as error:
            truth = next((x for x in numbers if isinstance(x, Truth)), None)
            if truth is None or "must be bool" not in str(error):
                raise
        return self.by_truth(call, truth, args, kwargs)

    def by_truth(self, call: Call, truth: Truth, args: tuple, kwargs: dict[str, Any]) -> Any:
        """A call that needs a bool which the run decides: a call for each."""

        def way(known: bool) -> Callable[[], list[Any]]:
            def run() -> list[Any]:
                with self.low.scope():
                    found = map_tree((args, kwargs), lambda x: known if x is truth else x)
                    return [self.result(call, *found)]

            return run

        with self.low.outside():
            return self.low.blocks.branch(truth.value, way(True), way(False))[0]

    def plain(self, call: Call, func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """The result of a function of torch."""
        args, kwargs = self.low.present(args), self.low.present(kwargs)
        if args and not kwargs and not isinstance(args[0], torch.Tensor):
            func = PYTHONS.get(func, func)
        with self.autocast(call):
            return func(*args, **kwargs)

    def index(self, index: Any) -> Any:
        """An index whose tensors of one number are numbers, as torch takes them."""
        items = index if isinstance(index, tuple) else (index,)
        if any(isinstance(x, list) or (isinstance(x, torch.Tensor) and x.dim()) for x in items):
            return index
        with self.low.outside():
            found = tuple(
                self.r.scalars.number(self.r.value(x)) if _is_place(x) else x for x in items
            )
        return found if isinstance(index, tuple) else found[0]

    def seed(self, func: Any, args: tuple) -> Any:
        """A generator is made, or gets a seed."""
        generators = self.r.generators
        if func is torch.Generator:
            return generators.made(torch.Generator())
        own, seed = (None, args[0]) if func is seeded else args
        generators.seed(own, seed)
        return own

    def put(self, x: torch.Tensor, index: Any, value: Any) -> None:
        """``x[index] = value`` where the index holds a number known at run time."""
        place = x[index]
        if isinstance(value, torch.Tensor):
            place.copy_(value)
        else:
            place.fill_(value)

    def on_list(self, call: Call, args: tuple, kwargs: dict[str, Any]) -> Any:
        """A call with a list of run-time length."""
        func = call.func
        rule = lists.RULES.get(func)
        if rule is None:
            raise NotImplementedError("a call with a list whose length is known at run time")
        own = args[0]
        if isinstance(own, ListValue) and own.stacks is None and func in _TAKING:
            self.r.layouts.guess(own.key, call.outs)
        with self.low.outside():
            return rule(self.r, *args, **kwargs)

    @contextlib.contextmanager
    def autocast(self, call: Call) -> Iterator[None]:
        if call.ambient.autocast is None:
            yield
        else:
            with torch.autocast("cpu", dtype=call.ambient.autocast):
                yield

    def read(self, name: str, x: torch.Tensor, *rest: Any) -> Any:
        """Python data of a tensor: numbers and truths known at run time."""
        s = self.r.scalars
        if name == "tolist":
            return self._listed(x)
        if name == "equal":
            return self._equal(x, rest[0])
        if name == LEFT_ALIGNED:
            with self.low.recording():
                x = is_left_aligned(x, *rest)
            name = "__bool__"
        if name not in _READERS:
            raise NotImplementedError(f"{name} of a tensor")
        number = s.number(self.r.scalar_of(x))
        return number if name == "item" else s.compute(_READERS[name], (number,))

    def _listed(self, x: torch.Tensor) -> Any:
        shape = self.r.value(x).shape
        if not shape:
            return self.r.scalars.number(self.r.value(x))
        if not isinstance(shape[0], int):
            return lists.numbers_of(self.r, self.r.value(x))
        with self.low.recording():
            rows = list(x.unbind(0))
        return [self._listed(row) for row in rows]

    def _equal(self, x: torch.Tensor, y: torch.Tensor) -> Any:
        a, b = self.r.value(x), self.r.value(y)
        if a.shape != b.shape:
            raise NotImplementedError("torch.equal of tensors of different shapes")
        same = self.r.b.cast(self.r.b.eq(a, b), dtype=i64)
        least = self.r.b.reduce_min(same, axes=tuple(range(a.rank))) if a.rank else same
        return Truth(self.r.b.ne(least, 0))


TABLE = "a dict or set whose keys data decide; count in a tensor, or mark in a tensor of bools"
INNER = "a function handed to torch, such as to vmap or checkpoint"


def without_form(root: Block) -> list[str]:
    """What has no form in a program wherever it is, each with its line."""
    found: list[str] = []
    for node in root.walk():
        if not isinstance(node, Call) or node.func is recursive:
            continue
        is_inner = any(isinstance(x, SubTape) for x in leaves((node.args, node.kwargs)))
        why = TABLE if node.func is table else INNER if is_inner else ""
        if why:
            found.append(f"{node.where}: {name_of(node.func)}: {why}")
    return list(dict.fromkeys(found))


def _is_torch(func: Any) -> bool:
    return "torch" in (getattr(func, "__module__", "") or "") or "torch" in str(func)


def _picks_by_number(index: Any) -> bool:
    items = index if isinstance(index, tuple) else (index,)
    mixed = any(isinstance(x, (torch.Tensor, list)) for x in items)
    return not mixed and any(isinstance(x, torch.SymInt) for x in items)


def _is_place(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.dtype not in (torch.bool, torch.uint8)


def _reader_table() -> dict[str, Any]:
    return {
        "__bool__": bool, "is_nonzero": bool, "__int__": int, "__float__": float,
        "__index__": int, "item": operator.pos,
    }  # fmt: skip


def _expect_values(call: Call, args: tuple, kwargs: dict[str, Any]) -> None:
    """Raises: NotImplementedError where what is given has no value of one type."""
    if any(isinstance(x, messages.Message) for x in leaves((args, kwargs))):
        raise NotImplementedError("a text with values of the run, other than in an error")
    if _counts_truths(call):
        raise NotImplementedError(
            "arithmetic of truths, of which one is a bool or a tensor, as data decide"
        )


def _counts_truths(call: Call) -> bool:
    """Whether it is an integer or a truth, as it is for Python's bools and for tensors, is not known."""
    is_counting = name_of(call.func).strip("_") in _COUNTING
    if not is_counting or not all(isinstance(x, (Val, bool)) for x in call.args):
        return False
    samples = [x.sample if isinstance(x, Val) else x for x in call.args]
    is_open = any(isinstance(x, Val) and "number" in x.loose for x in call.args)
    return is_open and all(
        type(x) is bool or (isinstance(x, torch.Tensor) and x.dtype is torch.bool) for x in samples
    )


_COUNTING = {
    "add", "radd", "iadd", "sub", "rsub", "isub", "mul", "rmul", "imul", "multiply", "pow", "rpow",
    "neg", "pos", "positive", "invert", "bitwise_not",
}  # fmt: skip
_TRUTHS = {
    bool: "__bool__", operator.truth: "__bool__", operator.not_: "__bool__", int: "__int__",
    float: "__float__", operator.index: "__index__",
}  # fmt: skip
_SEEDING = (seeded, torch.Generator, torch.Generator.manual_seed)
_READERS = _reader_table()
_TAKING = (operator.getitem, list.pop)
_ROWS = (torch.unbind, torch.Tensor.unbind)
_IDENTITY = (operator.is_, operator.is_not)
