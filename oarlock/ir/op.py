"""The record of an op: everything true of it whatever the target."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import numpy as np

from oarlock.errors import TypeMismatch, UnknownName
from oarlock.ir.dim import Dim, Size, bounds, evaluate_size
from oarlock.ir.types import TensorType

REGISTRY: dict[str, type[Op]] = {}


@dataclass(frozen=True)
class Sample:
    """A case for the tests: inputs are types (random data is drawn) or arrays, attrs by name.

    ``low``/``high`` bound the random data; ``tolerance`` scales the derived one.
    """

    inputs: tuple[TensorType | np.ndarray, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    low: float = -2.0
    high: float = 2.0
    tolerance: float = 1.0


@dataclass(frozen=True)
class Op:
    """Base of every record.  Dataclass fields are the attributes.

    A record gives ``infer`` (types), ``reference`` (numpy) and, when it is composite,
    ``decompose``.  References see f16 and bf16 as float32; results are rounded to the inferred
    type by the evaluator.
    """

    name: ClassVar[str] = ""
    aten: ClassVar[tuple[str, ...]] = ()
    onnx: ClassVar[tuple[str, int] | None] = None
    pointwise: ClassVar[bool] = False
    view: ClassVar[bool] = False
    reduction: ClassVar[bool] = False
    is_composite: ClassVar[bool] = False
    has_graphs: ClassVar[bool] = False
    effect: ClassVar[bool] = False  # kept although nothing reads it
    ends_run: ClassVar[bool] = False  # an engine ends its run where this is false
    samples: ClassVar[Sequence[Sample]] = ()

    def infer(self, *types: TensorType) -> TensorType | tuple[TensorType, ...]:
        """The types of the outputs.  Raises: TypeMismatch."""
        raise NotImplementedError(f"{self.name}.infer")

    def limits(self, *types: TensorType) -> Sequence[tuple[Size, Size]]:
        """Pairs (small, large) of sizes: where the first is larger, a run is refused."""
        return ()

    def infer_graphs(
        self, types: Sequence[TensorType], graphs: Sequence[Any]
    ) -> TensorType | tuple[TensorType, ...]:
        """The types of the outputs of an op with sub-graphs.  Raises: TypeMismatch."""
        raise NotImplementedError(f"{self.name}.infer_graphs")

    def reference_graphs(
        self, run: Callable[..., list[np.ndarray]], graphs: Sequence[Any], *arrays: np.ndarray
    ) -> Sequence[np.ndarray]:
        """The result of an op with sub-graphs on storage arrays; ``run(graph, *arrays)``."""
        raise NotImplementedError(f"{self.name}.reference_graphs")

    def reference(self, *arrays: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
        """The result in numpy, obvious, never optimised.  Attributes hold ints, no Dims."""
        raise NotImplementedError(f"{self.name}.reference")

    def decompose(self, b: Any, *values: Any) -> Any:
        """The same in more primitive ops, built with ``b``."""
        raise NotImplementedError(f"{self.name} is a primitive")

    @property
    def binds(self) -> tuple[str, ...]:
        """Names of the symbols that a node of this op gives their value."""
        return ()

    @property
    def binds_inside(self) -> tuple[str, ...]:
        """Names of the symbols that the inputs of its sub-graphs give their value."""
        return ()

    @property
    def defines(self) -> str:
        """The label by which nodes inside of its graph call that graph; empty for none."""
        return ""

    @property
    def calls(self) -> str:
        """The label of the graph around it that a node calls; empty for none."""
        return ""

    def bound(self, arrays: Sequence[np.ndarray]) -> Mapping[str, int]:
        """Values of the symbols that the shapes of the results do not show."""
        return {}

    @property
    def attributes(self) -> dict[str, Any]:
        """Attribute values by name."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    def infer_types(
        self, types: Sequence[TensorType], graphs: Sequence[Any] = ()
    ) -> tuple[TensorType, ...]:
        """``infer`` with the number of inputs checked and the result always a tuple."""
        if self.has_graphs:
            result = self.infer_graphs(types, graphs)
        else:
            _check_arity(self, types)
            result = self.infer(*types)
            self._check_limits(types)
        results = (result,) if isinstance(result, TensorType) else tuple(result)
        for t in results:
            if not all(isinstance(size, (int, Dim)) for size in t.shape):
                raise self.fail(types, f"sizes {list(t.shape)}; expected ints or dims")
            if any(isinstance(size, int) and size < 0 for size in t.shape):
                raise self.fail(types, f"the result has a negative size: {list(t.shape)}")
        return results

    def excesses(self, types: Sequence[TensorType]) -> list[tuple[Size, str]]:
        """What must be at least 0 at run time and is not known to be, with the reason."""
        pairs = [(large - small, f"{small} <= {large}") for small, large in self.limits(*types)]
        return [(spare, why) for spare, why in pairs if bounds(spare)[0] < 0]

    def _check_limits(self, types: Sequence[TensorType]) -> None:
        """Raises: TypeMismatch when no run fits."""
        for spare, why in self.excesses(types):
            high = bounds(spare)[1]
            if high is not None and high < 0:
                raise self.fail(types, f"expected {why}")

    def bind(self, env: Mapping[str, int]) -> Op:
        """The op with ints for the Dims of its attributes; an op that binds symbols as it is."""
        if self.binds or self.binds_inside:
            return self
        return self._map(lambda d: evaluate_size(d, env))

    def substitute(self, env: Mapping[str, Size]) -> Op:
        """The op with symbols of its attributes replaced."""
        return self._map(lambda d: d.substitute(env))

    def _map(self, change: Callable[[Dim], Size]) -> Op:
        attributes = self.attributes
        changed = {k: _map_dims(v, change) for k, v in attributes.items()}
        same = all(changed[k] is attributes[k] for k in attributes)
        return self if same else type(self)(**changed)

    def fail(self, types: Sequence[TensorType], why: str) -> TypeMismatch:
        """``name(types): why``, to be raised."""
        return TypeMismatch(f"{self.name}({', '.join(map(str, types))}): {why}")

    def __str__(self) -> str:
        shown = ", ".join(f"{k}={v!r}" for k, v in self.attributes.items())
        return f"{self.name}({shown})"


def _map_dims(value: Any, change: Callable[[Dim], Size]) -> Any:
    if isinstance(value, Dim):
        return change(value)
    if isinstance(value, tuple):
        items = tuple(_map_dims(item, change) for item in value)
        return value if all(a is b for a, b in zip(items, value)) else items
    if isinstance(value, TensorType):
        return value.with_shape(_map_dims(value.shape, change))
    return value


def _check_arity(op: Op, types: Sequence[TensorType]) -> None:
    low, high = type(op)._arity
    if not low <= len(types) <= high:
        expected = f"{low}" if low == high else f"{low} to {high}"
        raise op.fail(types, f"expected {expected} inputs, got {len(types)}")


def _arity(cls: type[Op]) -> tuple[float, float]:
    import inspect

    low, high = 0, 0.0
    for p in list(inspect.signature(cls.infer).parameters.values())[1:]:
        if p.kind is p.VAR_POSITIONAL:
            high = float("inf")
        else:
            low, high = low + (p.default is p.empty), high + 1
    return low, high


T = TypeVar("T", bound=type)


def op(
    name: str, *, aten: str | tuple[str, ...] = (), onnx: tuple[str, int] | None = None
) -> Callable[[T], T]:
    """Make a class the record of op ``name``: a frozen dataclass, registered.

    Args: aten: overloads that map one to one; onnx: operator and the version it follows.
    """

    def register(cls: T) -> T:
        record = dataclass(frozen=True, repr=False)(cls)
        record.name = name
        record.aten = (aten,) if isinstance(aten, str) else tuple(aten)
        record.onnx = onnx
        record.is_composite = record.decompose is not Op.decompose
        record._arity = _arity(record)
        assert name not in REGISTRY, f"op {name} is declared twice"
        REGISTRY[name] = record
        return record

    return register


def get(name: str) -> type[Op]:
    """The record of op ``name``.  Raises: UnknownName."""
    if name not in REGISTRY:
        import difflib

        near = difflib.get_close_matches(name, REGISTRY, 3)
        hint = f"; did you mean {', '.join(near)}?" if near else "; see `oarlock ops`"
        raise UnknownName(f"no op {name!r}{hint}")
    return REGISTRY[name]
