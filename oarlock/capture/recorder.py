"""Records the ATen calls of an eager model into a graph."""

from __future__ import annotations

import json
import linecache
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np
import torch
import torch.utils._pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from oarlock.capture import aten_call, constants, inplace
from oarlock.capture.aliases import Memory, View
from oarlock.capture.arrays import dtype_of, to_numpy
from oarlock.capture.expand import expand_by_torch, expansion, overload_of
from oarlock.capture.fakes import counted_from_start, run_fake
from oarlock.capture.lift import LIFTS, Lifter
from oarlock.capture.lift.complexes import COMPLEX, mark
from oarlock.capture.suggestions import suggestion
from oarlock.capture.symbols import value_of
from oarlock.capture.torch_private import Shapes, is_fake, outside_modes, storage_of
from oarlock.errors import OarlockError, TypeMismatch
from oarlock.ir import Dim, DType, Graph, Origin, TensorType, Value
from oarlock.ir.dim import without_mod

INLINE = 8  # a constant of at most so many elements is written into the program text
_PLAIN = ("prim", "profiler")
_TO_PYTHON = {
    "aten._local_scalar_dense.default", "aten.item.default", "aten.is_nonzero.default",
    "aten.equal.default",
}  # fmt: skip


class Narrowed(Exception):
    """Recording must start again with ``dim`` in this range; ``decided``: by the captured code."""

    def __init__(self, dim: Dim, line: str, decided: bool = False) -> None:
        super().__init__(f"{line}: {dim} is in {list(dim.bounds())}")
        self.dim, self.decided = dim, decided


class WrongType(NotImplementedError):
    """A lift gives another type than torch."""


class Spoiled(NotImplementedError):
    """An operand comes from something that was refused already."""


@dataclass
class Call:
    """A recorded call, for comparing with eager: overload, where, what it gave."""

    name: str
    origin: Origin
    values: list[Value]


class Recorder(TorchDispatchMode):
    """Runs under ``inference_mode``, where composites such as linear arrive whole.

    Problems are collected: recording goes on with a fake result after each.
    """

    def __init__(self, shapes: Shapes, names: dict[int, str]) -> None:
        super().__init__()
        self.shapes, self.names = shapes, names
        self.graph = Graph()
        self.b = Lifter(self.graph)
        self.views: dict[int, View] = {}
        self.memories: dict[int, Memory] = {}
        self.alive: list[torch.Tensor] = []
        self.fakes: dict[int, torch.Tensor] = {}
        self.real: dict[tuple, View] = {}
        self.shared: dict[int, int] = {}
        self.weights: dict[str, torch.Tensor] = {}
        self.problems: list[str] = []
        self.asserted: set[str] = set()  # lines that only check the inputs
        self.spoiled: set[Value] = set()
        self.modules: list[str] = []
        self.expanding: list[str] = []
        self.calls: list[Call] = []
        self.example: tuple[dict[str, int], Sequence[np.ndarray]] = ({}, [])

    # Tensors

    def bind(self, tensor: torch.Tensor, value: Value, source: str = "") -> View:
        """``tensor`` is ``value``, in memory of its own."""
        memory = Memory(source=source)
        return self.bind_view(tensor, View(memory, value))

    def bind_view(self, tensor: torch.Tensor, view: View) -> View:
        self.alive.append(tensor)
        self.views[id(tensor)] = view
        if _has_storage(tensor):
            self.memories.setdefault(storage_of(tensor), view.memory)
        return view

    def view(self, tensor: torch.Tensor) -> View:
        """The view of a tensor; a real one seen for the first time becomes a param."""
        if id(tensor) in self.views:
            return self.views[id(tensor)]
        if is_fake(tensor):
            raise Spoiled("a tensor that no recorded call made")
        place = (
            storage_of(tensor),
            tensor.storage_offset(),
            tensor.shape,
            tensor.stride(),
            tensor.dtype,
        )
        if place not in self.real:
            self.shared[place[0]] = self.shared.get(place[0], 0) + 1
            self.real[place] = View(*self.weight(tensor))
        self.bind_view(self.fake(tensor), self.real[place])
        return self.bind_view(tensor, self.real[place])

    def weight(self, tensor: torch.Tensor) -> tuple[Memory, Value]:
        named = id(tensor) in self.names
        if tensor.is_complex():
            return self.complex_weight(tensor)
        if not named and tensor.numel() <= INLINE:
            dtype = dtype_of(tensor.dtype)
            with outside_modes():
                numbers = _nested(tensor.tolist())
            return Memory(source="a constant"), self.b.const(numbers, dtype)
        key = self.names.get(id(tensor), f"constant{len(self.weights)}")
        self.weights[key] = tensor
        type = TensorType(dtype_of(tensor.dtype), tuple(tensor.shape))
        return Memory(source=f"param {key}"), self.b.param(key, type)

    def complex_weight(self, tensor: torch.Tensor) -> tuple[Memory, Value]:
        key = self.names.get(id(tensor), f"constant{len(self.weights)}")
        with outside_modes():
            self.weights[key] = torch.view_as_real(tensor.detach().resolve_conj())
        pairs = self.weights[key]
        type = TensorType(dtype_of(pairs.dtype), tuple(pairs.shape))
        return Memory(source=f"param {key}"), self.b.param(key, type)

    def value(self, tensor: torch.Tensor) -> Value:
        """The value of a tensor now."""
        found = self.view(tensor).read()
        if found in self.spoiled:
            raise Spoiled("an operand was refused")
        return found

    def fake(self, x: Any) -> Any:
        """The fake stand-in of a real tensor argument."""
        if not isinstance(x, torch.Tensor) or is_fake(x):
            return x
        if id(x) not in self.fakes:
            self.alive.append(x)
            self.fakes[id(x)] = self.shapes.fake_constant(x)
        return self.fakes[id(x)]

    def states(self) -> dict[str, Value]:
        """The params that were written to, and what they hold at the end."""
        found = {}
        for view in self.real.values():
            if view.memory.version:
                if view.value.producer is None or not view.memory.source.startswith("param "):
                    continue
                found[view.memory.source.removeprefix("param ")] = view.read()
        return found

    # Calls

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        self.b.origin = self.origin()
        if str(func) in _TO_PYTHON:
            return self.to_python(func, args)
        if str(func) == "aten.slice.Tensor":
            args = counted_from_start(args)
        fake_args, fake_kwargs = pytree.tree_map(self.fake, (args, kwargs))
        if func.namespace in _PLAIN:
            return func(*fake_args, **fake_kwargs)
        with self.shapes.assumptions() as assumed:
            out = run_fake(func, fake_args, fake_kwargs)
        try:
            views = self.record(func, args, kwargs, out)
            if not self.expanding:
                self.calls.append(Call(str(func), self.b.origin, [v.read() for v in views]))
        except Spoiled:
            self.spoil(out)
        except (NotImplementedError, OarlockError, TypeError) as error:
            wrong = isinstance(error, (WrongType, TypeMismatch))
            narrow = self.shapes.narrowed(assumed) if wrong else None
            if narrow is not None:
                raise Narrowed(narrow, self.b.origin.source) from None
            if not wrong or not self.shapes.is_fixed():
                self.problem(func, str(error))
            self.spoil(out)
        return out

    def record(self, func: Any, args: tuple, kwargs: dict[str, Any], out: Any) -> list[View]:
        if func._schema.is_mutable:
            return self.record_write(func, args, kwargs, out)
        leaves = _tensors(out)
        views = self.computed(func, args, kwargs, leaves)
        for tensor, view in zip(leaves, views):
            if id(tensor) not in self.views:
                self.bind_view(tensor, view)
        return views

    def record_write(self, func: Any, args: tuple, kwargs: dict[str, Any], out: Any) -> list[View]:
        """An update in place: the functional overload, then its results into the targets."""
        found = inplace.functional_of(func)
        if found is None:
            raise NotImplementedError("an update in place that has no functional form")
        functional, outs = found
        targets = inplace.written(func, args, kwargs)
        kwargs = {k: v for k, v in kwargs.items() if k not in outs}
        if inplace.moves_only(func):
            leaves = _tensors(out)
        else:
            fake_args, fake_kwargs = pytree.tree_map(self.fake, (args, kwargs))
            leaves = _tensors(run_fake(functional, fake_args, fake_kwargs))
        views = self.computed(functional, args, kwargs, leaves)
        for target, view in zip(targets, views):
            if inplace.moves_only(func):
                self.views[id(target)] = view
            else:
                self.write(target, view.read())
        return [self.view(target) for target in targets]

    def write(self, target: torch.Tensor, value: Value) -> None:
        view, type = self.view(target), self.type_of(self.fake(target))
        if view.read() in self.spoiled:
            raise Spoiled("an operand was refused")
        if self.shared.get(storage_of(target), 0) > 1 and not is_fake(target):
            raise NotImplementedError("an update of a weight that shares memory with another")
        value = self.b.to(value, type.dtype)
        value = value if value.shape == type.shape else self.b.broadcast_to(value, shape=type.shape)
        if view.value.type != type:
            self.views[id(target)] = View(Memory(), value)  # out= has resized it
            return
        view.write(self.b, value)
        view.memory.writes.append(self.b.origin.source)

    def computed(
        self, func: Any, args: tuple, kwargs: dict[str, Any], leaves: list[torch.Tensor]
    ) -> list[View]:
        """The results by the lift of ``func``, in smaller overloads, or through PyTorch."""
        name = str(func)
        is_complex = any(x.is_complex() for x in [*_tensors((args, kwargs)), *leaves])
        if name in (COMPLEX if is_complex else LIFTS):
            return self.lifted(name, args, kwargs, leaves)
        if expansion(func) is not None and name not in self.expanding:
            mark = (len(self.problems), len(self.shapes.env.decisions))
            try:
                return self.expanded(name, args, kwargs, leaves)
            except NotImplementedError:
                if not aten_call.can_call(func):
                    raise
            del self.problems[mark[0] :], self.shapes.env.decisions[mark[1] :]
        return self.called(func, args, kwargs, leaves)

    def lifted(
        self, name: str, args: tuple, kwargs: dict[str, Any], leaves: list[torch.Tensor]
    ) -> list[View]:
        """The results as the lift of ``name`` builds them."""
        is_complex = any(x.is_complex() for x in [*_tensors((args, kwargs)), *leaves])
        out, common = [self.type_of(x) for x in leaves], None if is_complex else _promoted(args)
        operands = [self.operand(a) for a in args]
        options = {k: self.operand(v) for k, v in kwargs.items() if k not in _DROPPED}

        def build(operands: list[Any]) -> list[Value]:
            self.b.out, self.b.common = out, common
            marked = mark(operands, args) if is_complex else operands
            result = (COMPLEX if is_complex else LIFTS)[name](self.b, *marked, **options)
            values = [result] if isinstance(result, Value) else list(result)
            return [self.same_sizes(v, type) for v, type in zip(values, out)]

        values = build(operands)
        for value, type in zip(values, out):
            if value.type != type:
                raise WrongType(f"the lift gives {value.type}, torch {type}")
        return [
            self.result(x, v, i, args, operands, build)
            for i, (x, v) in enumerate(zip(leaves, values))
        ]

    def same_sizes(self, value: Value, type: TensorType) -> Value:
        """``value`` with the sizes of ``type``, where they differ in how multiples are written."""
        if value.shape == type.shape or value.rank != len(type.shape):
            return value
        if any(without_mod(a) != without_mod(b) for a, b in zip(value.shape, type.shape)):
            return value
        return self.b.reshape(value, shape=type.shape)

    def result(
        self, tensor: torch.Tensor, value: Value, index: int, args: tuple, operands: list[Any],
        build: Callable[[list[Any]], list[Value]],
    ) -> View:  # fmt: skip
        """A view of the argument whose memory the result shares, else a base."""
        storage = storage_of(tensor) if _has_storage(tensor) else None
        for i, arg in enumerate(args):
            if isinstance(arg, torch.Tensor) and storage == storage_of(self.fake(arg)):
                parent = self.view(arg)

                def derive(whole: Value, i: int = i, arg: torch.Tensor = arg) -> Value:
                    return build([*operands[:i], self.seen(arg, whole), *operands[i + 1 :]])[index]

                return View(
                    parent.memory, value, parent, derive, parent.memory.version, operands[i]
                )
        return View(Memory(), value)

    def expanded(
        self, name: str, args: tuple, kwargs: dict[str, Any], leaves: list[torch.Tensor]
    ) -> list[View]:
        """The results as smaller overloads give them, each recorded in its turn."""
        before, origin = len(self.problems), self.b.origin
        self.expanding.append(name)
        try:
            with self:
                result = expand_by_torch(overload_of(name), args, kwargs)
        finally:
            self.expanding.pop()
            self.b.origin = origin
        if len(self.problems) > before and name not in self.expanding:
            raise NotImplementedError(self.problems[-1])
        views = [self.view(x) for x in _tensors(result)]
        for view, tensor in zip(views, leaves):
            if view.value in self.spoiled:
                raise Spoiled("an operand was refused")
            type = self.type_of(tensor)
            if view.value.type != type:
                raise WrongType(f"the expansion gives {view.value.type}, torch {type}")
        return views

    def called(
        self, func: Any, args: tuple, kwargs: dict[str, Any], leaves: list[torch.Tensor]
    ) -> list[View]:
        """The results of an ``aten_call``, which needs torch to run."""
        if not aten_call.can_call(func) or any(x.is_complex() for x in _tensors((args, leaves))):
            raise NotImplementedError("no op captures it; see `oarlock ops --aten`")
        types = tuple(self.type_of(x) for x in leaves)
        tensors, template = aten_call.template(args, kwargs)
        if not tensors:
            raise NotImplementedError("no op captures it; see `oarlock ops --aten`")
        operands = [self.value(x) for x in tensors]
        values = self.b.build(aten_call.record(str(func), json.dumps(template), types), *operands)
        values = [values] if isinstance(values, Value) else list(values)
        return [View(Memory(), v) for v in values]

    def to_python(self, func: Any, args: tuple) -> Any:
        """``item`` and ``bool`` of a tensor: the number it always is, else a problem."""
        tensors = [x for x in args if isinstance(x, torch.Tensor)]
        try:
            values = [self.value(x) for x in tensors]
        except Spoiled:
            return _plain(func, [np.zeros((), np.int64)] * len(tensors))
        size = constants.size_in(values[0]) if "nonzero" not in str(func) else None
        if isinstance(size, Dim):
            return self.shapes.number(size)
        written = self.states()
        with outside_modes():
            return self.number(func, values, written)

    def number(self, func: Any, values: list[Value], written: dict[str, Value]) -> Any:
        params = {k: to_numpy(t) for k, t in self.weights.items() if k not in written}
        found = [constants.always(self.graph, v, params) for v in values]
        if any(x is None for x in found):
            env, arrays = self.example
            if in_assertion():
                self.asserted.add(self.b.origin.source)
            else:
                kind = "bool()" if "nonzero" in str(func) or "equal" in str(func) else ".item()"
                self.problem(
                    func,
                    f"the code asks for a number with {kind} of a tensor that depends on the inputs",
                )
            params = {k: to_numpy(t) for k, t in self.weights.items()}
            found = [constants.for_example(self.graph, v, params, env, arrays) for v in values]
        return _plain(func, found)

    def type_of(self, tensor: torch.Tensor) -> TensorType:
        shape = tuple(map(self.shapes.size, tensor.shape))
        if tensor.is_complex():
            return TensorType(dtype_of(tensor.dtype.to_real()), (*shape, 2))
        return TensorType(dtype_of(tensor.dtype), shape)

    def seen(self, tensor: torch.Tensor, value: Value) -> Value:
        """``value``, which ``tensor`` has, with the sizes that torch takes it to have."""
        return value

    def operand(self, x: Any) -> Any:
        if isinstance(x, torch.Tensor):
            return self.seen(x, self.value(x))
        if isinstance(x, (list, tuple)):
            return [self.operand(item) for item in x]
        if isinstance(x, torch.dtype):
            return x if x.is_complex else dtype_of(x)
        if isinstance(x, torch.SymInt):
            return self.shapes.size(x)
        if isinstance(x, torch.SymFloat):
            return value_of(self.b, x.node.expr, self.shapes.symbols)
        if isinstance(x, torch.SymBool):
            raise NotImplementedError(f"a condition computed from sizes: {x}")
        return x

    def spoil(self, out: Any) -> None:
        """Give the results values that spoil what they are used in."""
        for tensor in _tensors(out):
            try:
                type = self.type_of(tensor)
            except (NotImplementedError, OarlockError):
                type = TensorType(DType.all["f32"], ())
            value = Value(type)
            self.spoiled.add(value)
            if id(tensor) not in self.views:
                self.bind(tensor, value)

    def problem(self, func: Any, why: str) -> None:
        where = str(self.b.origin) or "?"
        hint = suggestion(str(func))
        self.problems.append(f"{where}: {func}: {why}{'; ' if hint else ''}{hint}")

    def origin(self) -> Origin:
        """The innermost module, and the innermost line outside torch and Oarlock."""
        return Origin(self.modules[-1] if self.modules else "", source_line())

    def origin_of(self, error: BaseException) -> Origin:
        """Where the captured code raised ``error``."""
        found, trace = "", error.__traceback__
        while trace is not None:
            name = trace.tb_frame.f_code.co_filename
            if not any(part in name for part in _SKIPPED):
                found = f"{name.rsplit('/', 1)[-1]}:{trace.tb_lineno}"
            trace = trace.tb_next
        return Origin(self.modules[-1] if self.modules else "", found)


_DROPPED = {"layout", "device", "pin_memory", "memory_format", "non_blocking", "dtype"}
_SKIPPED = ("/torch/", "/oarlock/capture/", "/oarlock/ir/")


def source_line() -> str:
    """``file.py:line`` of the user's code."""
    frame = _users_frame()
    return f"{frame.f_code.co_filename.rsplit('/', 1)[-1]}:{frame.f_lineno}" if frame else ""


def _users_frame() -> FrameType | None:
    frame = sys._getframe(1)
    while frame is not None:
        if not any(part in frame.f_code.co_filename for part in _SKIPPED):
            return frame
        frame = frame.f_back
    return None


def in_assertion() -> bool:
    """The user's line is an ``assert``: what it asks for is not used further."""
    frame = _users_frame()
    if frame is None:
        return False
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    return line.lstrip().startswith("assert ")


def _tensors(x: Any) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves(x) if isinstance(leaf, torch.Tensor)]


def _has_storage(tensor: torch.Tensor) -> bool:
    return tensor.layout is torch.strided


def _nested(x: Any) -> Any:
    return tuple(map(_nested, x)) if isinstance(x, list) else x


def _plain(func: Any, arrays: Sequence[Any]) -> Any:
    """The Python number or truth that ``func`` gives for these arrays."""
    if str(func) == "aten.equal.default":
        return bool(np.array_equal(arrays[0], arrays[1]))
    number = np.asarray(arrays[0]).reshape(-1)[0].item()
    return bool(number) if "is_nonzero" in str(func) else number


def _promoted(args: tuple) -> DType | None:
    """The element type that torch computes a binary op in."""
    numbers = (bool, int, float)
    first = [
        1.0 if isinstance(a, torch.SymFloat) else 1 if isinstance(a, torch.SymInt) else a
        for a in args[:2]
    ]
    first = [a for a in first if isinstance(a, (torch.Tensor, *numbers))]
    if len(first) < 2 or not any(isinstance(a, torch.Tensor) for a in first):
        return None
    return dtype_of(torch.result_type(*first))
