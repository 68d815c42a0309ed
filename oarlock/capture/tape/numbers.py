"""Symbolic numbers: run-time ints, floats and bools that stand in Python code for their value.

They are ``torch.SymInt`` (``SymFloat``, ``SymBool``) so that torch's argument parser and
``isinstance`` checks take them; every operation on them is a call on the tape, in exact Python
arithmetic.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import local
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from oarlock.capture.tape.active import activated, active
from oarlock.capture.tape.nodes import Val, map_tree
from oarlock.errors import CompilerBug

_STATE = local()


class _Node:
    """What torch's repr of a size asks for."""

    def __init__(self, text: str) -> None:
        self.text = text

    def _graph_repr(self) -> str:
        return self.text

    def __str__(self) -> str:
        return self.text


class Number:
    """A number known at run time; ``hint``: a value of it; ``is_data``: computed from data.

    ``is_free``: no size of a tensor is bound to it; ``expression``: the operation that gives it, and
    its operands.
    """

    val: Val
    hint: Any
    is_data: bool

    def __init__(self, val: Val, hint: Any, is_data: bool) -> None:
        self.node = _Node(f"n{val.id}")
        self.val, self.hint, self.is_data = val, hint, is_data
        self.other: Any = hint
        self.loops: frozenset[int] = frozenset()
        self.is_free = False
        self.expression: tuple[Callable[..., Any], tuple] | None = None
        self.depth = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__.lower()} n{self.val.id}>"

    def __str__(self) -> str:
        return _tracer().text_of(self, "")

    def __format__(self, spec: str) -> str:
        return _tracer().text_of(self, spec)

    def __hash__(self) -> int:
        return hash(_tracer().concrete(self, "a hash"))

    def __bool__(self) -> bool:
        return bool(_tracer().concrete(self, "a decision"))

    def __int__(self) -> int:
        return int(_tracer().concrete(self, "an int"))

    def __float__(self) -> float:
        return float(_tracer().concrete(self, "a float"))

    def __deepcopy__(self, memo: Any) -> Number:
        return self

    def __copy__(self) -> Number:
        return self

    def __reduce__(self) -> Any:
        raise TypeError("a number that is known at run time can't be pickled")


class Samples(TorchFunctionMode):
    """In place of a tracer: numbers are what they are in one of the worlds."""

    def __init__(self, world: int) -> None:
        super().__init__()
        self.world = world

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = map_tree((args, kwargs or {}), self.concrete)
        with torch._C.DisableTorchFunction():
            return func(*given[0], **given[1])

    def concrete(self, x: Any, what: str = "") -> Any:
        return (x.other if self.world else x.hint) if isinstance(x, Number) else x

    def compute(self, op: Callable[..., Any], *args: Any) -> Any:
        return op(*map(self.concrete, args))


@contextmanager
def sampled(world: int) -> Iterator[None]:
    """No tracer, and numbers are plain."""
    before = getattr(_STATE, "samples", None)
    _STATE.samples = Samples(world)
    try:
        with activated(None), torch._C._EnableTorchFunction(), _STATE.samples:
            yield
    finally:
        _STATE.samples = before


def _tracer() -> Any:
    tracer = active() or getattr(_STATE, "samples", None)
    if tracer is None:
        raise CompilerBug("a symbolic number left its capture")
    return tracer


def _binary(op: Callable[..., Any], is_reflected: bool) -> Callable[[Any, Any], Any]:
    def call(self: Any, other: Any) -> Any:
        if not isinstance(other, (int, float, complex, Number)):
            return NotImplemented
        return _tracer().compute(op, *((other, self) if is_reflected else (self, other)))

    return call


def _unary(op: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *rest: _tracer().compute(op, self, *rest)


def conjugate(x: Any) -> Any:
    return x.conjugate()


_BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "lshift", "rshift", "and", "or",
           "xor")  # fmt: skip
_COMPARE = ("eq", "ne", "lt", "le", "gt", "ge")
_UNARY: dict[str, Callable[..., Any]] = {
    "neg": operator.neg, "pos": operator.pos, "abs": abs, "invert": operator.invert,
    "round": round, "trunc": math.trunc, "floor": math.floor, "ceil": math.ceil,
}  # fmt: skip


def _operator(name: str) -> Callable[..., Any]:
    return getattr(operator, name + "_" if name in ("and", "or") else name)


def _install(cls: type) -> None:
    for name in _BINARY:
        setattr(cls, f"__{name}__", _binary(_operator(name), False))
        setattr(cls, f"__r{name}__", _binary(_operator(name), True))
    for name in _COMPARE:
        setattr(cls, f"__{name}__", _binary(_operator(name), False))
    cls.__divmod__ = _binary(divmod, False)  # type: ignore[attr-defined]
    cls.__rdivmod__ = _binary(divmod, True)  # type: ignore[attr-defined]
    for name, op in _UNARY.items():
        setattr(cls, f"__{name}__", _unary(op))
    for name in ("__hash__", "__bool__", "__int__", "__float__", "__repr__", "__str__"):
        setattr(cls, name, getattr(Number, name))


class Int(Number, torch.SymInt):
    def __index__(self) -> int:
        return int(_tracer().concrete(self, "a plain int"))

    def bit_length(self) -> Any:
        return _tracer().compute(int.bit_length, self)


class Float(Number, torch.SymFloat):
    def is_integer(self) -> Any:
        return _tracer().compute(float.is_integer, self)


class Bool(Number, torch.SymBool):
    def __index__(self) -> int:
        return int(_tracer().concrete(self, "a plain int"))


for _cls in (Int, Float, Bool):
    _install(_cls)
    _cls.conjugate = _unary(conjugate)  # type: ignore[attr-defined]
    _cls.real = property(lambda self: self)  # type: ignore[attr-defined]


def number_of(val: Val, hint: Any, is_data: bool) -> Any:
    """The symbolic number of ``val`` by the type of ``hint``."""
    kind = Bool if isinstance(hint, bool) else Int if isinstance(hint, int) else Float
    return kind(val, hint, is_data)
