"""Records the ATen calls of an eager model into a graph."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
import torch.utils._pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from oarlock.capture.expand import expand_by_torch, overload_of
from oarlock.capture.lift import LIFTS, Lifter
from oarlock.capture.torch_private import Shapes, is_fake
from oarlock.errors import OarlockError
from oarlock.ir import DType, Graph, Origin, TensorType, Value

_DTYPES = {
    torch.float64: "f64", torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16",
    torch.int64: "i64", torch.int32: "i32", torch.int16: "i16", torch.int8: "i8",
    torch.uint8: "u8", torch.bool: "bool",
}  # fmt: skip


def dtype_of(dtype: torch.dtype) -> DType:
    """The element type.  Raises: NotImplementedError for one that the IR lacks."""
    if dtype not in _DTYPES:
        raise NotImplementedError(f"element type {dtype}")
    return DType.all[_DTYPES[dtype]]


def torch_dtype(dtype: DType) -> torch.dtype:
    return next(t for t, name in _DTYPES.items() if name == dtype.name)


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """A copy in storage: bf16 as uint16 bits."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype is torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16).copy()
    return tensor.numpy().copy()


class Recorder(TorchDispatchMode):
    """Runs under ``inference_mode``, where composites such as linear arrive whole.

    Problems are collected: recording goes on with a fake result after each.
    """

    def __init__(self, shapes: Shapes, names: dict[int, str]) -> None:
        super().__init__()
        self.shapes, self.names = shapes, names
        self.graph = Graph()
        self.b = Lifter(self.graph)
        self.values: dict[int, Value] = {}
        self.alive: list[torch.Tensor] = []
        self.fakes: dict[int, torch.Tensor] = {}
        self.weights: dict[str, torch.Tensor] = {}
        self.problems: list[str] = []
        self.modules: list[str] = []
        self.expanding: list[str] = []

    def bind(self, tensor: torch.Tensor, value: Value) -> None:
        """``tensor`` is ``value`` from now on."""
        self.alive.append(tensor)
        self.values[id(tensor)] = value

    def value(self, tensor: torch.Tensor) -> Value:
        """The value of a tensor; a real one seen for the first time becomes a param."""
        if id(tensor) not in self.values:
            assert not is_fake(tensor), "a fake tensor that no recorded op made"
            key = self.names.get(id(tensor), f"constant{len(self.weights)}")
            self.weights[key] = tensor
            type = TensorType(dtype_of(tensor.dtype), tuple(tensor.shape))
            self.bind(tensor, self.b.param(key, type))
        return self.values[id(tensor)]

    def fake(self, x: Any) -> Any:
        """The fake stand-in of a real tensor argument."""
        if not isinstance(x, torch.Tensor) or is_fake(x):
            return x
        if id(x) not in self.fakes:
            self.alive.append(x)
            self.fakes[id(x)] = self.shapes.fake_constant(x.detach())
        return self.fakes[id(x)]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        fake_args, fake_kwargs = pytree.tree_map(self.fake, (args, kwargs))
        out = func(*fake_args, **fake_kwargs)
        if func.namespace in ("prim", "profiler"):
            return out
        self.b.origin = self.origin()
        try:
            self.record(func, args, kwargs, out)
        except (NotImplementedError, OarlockError, TypeError) as error:
            self.problem(func, str(error))
            self.bind_placeholders(out)
        return out

    def record(self, func: Any, args: tuple, kwargs: dict[str, Any], out: Any) -> None:
        name = str(func)
        target, functional = None, name
        if func._schema.is_mutable:
            target, functional = args[0], _functional_name(name)
            self.check_mutation(target)
        leaves = [x for x in pytree.tree_leaves(out) if isinstance(x, torch.Tensor)]
        out_types = [self.type_of(x) for x in leaves]
        lifted = self.lifted if functional in LIFTS else self.expanded
        results = lifted(functional, args, kwargs, out_types)
        for tensor, value, type in zip(leaves, results, out_types):
            if value.type != type:
                raise NotImplementedError(f"the lift gives {value.type}, torch {type}")
            self.bind(tensor if target is None else target, value)

    def lifted(
        self, name: str, args: tuple, kwargs: dict[str, Any], out: list[TensorType]
    ) -> list[Value]:
        """The results as the lift of ``name`` builds them."""
        self.b.out, self.b.common = out, _promoted(args)
        operands = [self.operand(a) for a in args]
        options = {k: self.operand(v) for k, v in kwargs.items() if k not in _DROPPED}
        result = LIFTS[name](self.b, *operands, **options)
        return [result] if isinstance(result, Value) else list(result)

    def expanded(
        self, name: str, args: tuple, kwargs: dict[str, Any], out: list[TensorType]
    ) -> list[Value]:
        """The results as smaller overloads give them, each recorded in its turn."""
        if name in self.expanding:
            raise NotImplementedError("no op captures it; see `oarlock ops --aten`")
        self.expanding.append(name)
        try:
            with self:
                result = expand_by_torch(overload_of(name), args, kwargs)
        finally:
            self.expanding.pop()
        tensors = [x for x in pytree.tree_leaves(result) if isinstance(x, torch.Tensor)]
        return [self.value(x) for x in tensors]

    def check_mutation(self, target: torch.Tensor) -> None:
        """In-place updates are recorded where no other tensor shares the storage."""
        if not is_fake(target):
            raise NotImplementedError("an update of a parameter or buffer in place")
        storage = target.untyped_storage()._cdata
        others = [
            t for t in self.alive
            if t is not target and is_fake(t) and t.untyped_storage()._cdata == storage
        ]  # fmt: skip
        if others:
            raise NotImplementedError("an update in place of a tensor that has views")

    def type_of(self, tensor: torch.Tensor) -> TensorType:
        return TensorType(dtype_of(tensor.dtype), tuple(map(self.shapes.size, tensor.shape)))

    def operand(self, x: Any) -> Any:
        if isinstance(x, torch.Tensor):
            return self.value(x)
        if isinstance(x, (list, tuple)):
            return [self.operand(item) for item in x]
        if isinstance(x, torch.dtype):
            return dtype_of(x)
        if isinstance(x, torch.SymInt):
            return self.shapes.size(x)
        if isinstance(x, (torch.SymFloat, torch.SymBool)):
            raise NotImplementedError(f"a number computed from sizes: {x}")
        return x

    def bind_placeholders(self, out: Any) -> None:
        for tensor in pytree.tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and id(tensor) not in self.values:
                try:
                    self.bind(tensor, Value(self.type_of(tensor)))
                except (NotImplementedError, OarlockError):
                    self.bind(tensor, Value(TensorType(DType.all["f32"], ())))

    def problem(self, func: Any, why: str) -> None:
        where = str(self.b.origin) or "?"
        self.problems.append(f"{where}: {func}: {why}")

    def origin(self) -> Origin:
        """The innermost module, and the innermost line outside torch and Oarlock."""
        return Origin(self.modules[-1] if self.modules else "", source_line())


_DROPPED = {"layout", "device", "pin_memory", "memory_format", "non_blocking", "dtype"}
_SKIPPED = ("/torch/", "/oarlock/capture/", "/oarlock/ir/")


def source_line() -> str:
    """``file.py:line`` of the user's code."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not any(part in name for part in _SKIPPED):
            return f"{name.rsplit('/', 1)[-1]}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def _functional_name(name: str) -> str:
    """``aten.add_.Tensor`` to ``aten.add.Tensor``."""
    namespace, op, overload = name.split(".")
    if not op.endswith("_") or op.endswith("__"):
        raise NotImplementedError("an update in place")
    return f"{namespace}.{op[:-1]}.{overload}"


def _promoted(args: tuple) -> DType | None:
    """The element type that torch computes a binary op in."""
    first = [a for a in args[:2] if isinstance(a, (torch.Tensor, bool, int, float))]
    if len(first) < 2 or not any(isinstance(a, torch.Tensor) for a in first):
        return None
    return dtype_of(torch.result_type(*first))
