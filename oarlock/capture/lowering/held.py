"""What a block of a tape holds: values of a graph as Python code has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from oarlock.capture.aliases import View
from oarlock.capture.convert.state import Undefined
from oarlock.capture.lowering.frames import Frame
from oarlock.capture.lowering.kinds import Either, Maybe, is_narrow, is_symbolic, kind_of, wide_of
from oarlock.capture.lowering.lists import ListValue
from oarlock.capture.lowering.picks import Pick
from oarlock.capture.lowering.recorder import BlockRecorder
from oarlock.ir import DType, TensorType, Value, bool_, f64, i64

KINDS: dict[type, DType] = {bool: bool_, int: i64, float: f64}
Holder = View | ListValue


def held(holder: Holder) -> list[Value]:
    """The values that a view or list has now."""
    return holder.known() if isinstance(holder, ListValue) else [holder.read()]


@dataclass
class Recorded:
    """A block after its recording: ``results`` as Python values, ``written``: changes outside of it."""

    frame: Frame
    results: list[Any]
    written: dict[Holder, list[Value]]


def truth_of(value: Value) -> bool | None:
    """What a constant bool is."""
    node = value.producer
    if node is None or node.name != "const" or value.type != TensorType(bool_):
        return None
    return bool(node.op.value)


def empty(r: BlockRecorder, like: Sequence[Value]) -> list[Value]:
    """Stacks without rows."""
    return [r.b.full(0, (0, *v.shape[1:]), v.dtype) for v in like]


def is_one(x: Any) -> bool:
    """A number, or a tensor without axes."""
    if isinstance(x, Either):
        return True
    if isinstance(x, torch.Tensor):
        return x.dim() == 0
    return is_symbolic(x) or isinstance(x, (bool, int, float))


def one_of(r: BlockRecorder, x: Any, type: TensorType) -> Value:
    """A number or tensor without axes as a scalar of ``type``.

    Raises: NotImplementedError where the number is of another kind.
    """
    if isinstance(x, (torch.Tensor, Either)):
        return value_of(r, x.wide if isinstance(x, Either) else x)
    kind = kind_of(x)
    fits = kind is bool if type.dtype.is_bool else kind is int or type.dtype.is_float
    if not fits:
        raise NotImplementedError(f"{type} or a {kind.__name__}; make both tensors")
    return r.b.frame.local(r.scalars.value(x, type.dtype))


def tie(r: BlockRecorder, side: torch.Tensor, result: torch.Tensor) -> None:
    """Refuse later updates where ``result`` may be the memory of a tensor from outside."""
    view = r.views.get(id(side))
    if view is not None and view in r.known_views:
        for memory in (view.memory, r.view(result).memory):
            memory.tied.append(r.where or "a branch")


def is_unbound(x: Any) -> bool:
    """A side of which None is no value."""
    return x.unbound if isinstance(x, Maybe) else x is not None


def is_nothing(x: Any) -> bool:
    """No value on this path: None, or a variable that was not assigned."""
    return x is None or isinstance(x, Undefined)


def number_of(x: Any, wide: Any, other: Any) -> Any:
    """The narrow number of one that may be ``wide``; ``other`` where it has none, and nothing reads it."""
    return x.number if isinstance(x, Either) else x if is_narrow(x, wide) else other


def narrow_flag(r: BlockRecorder, x: Any, wide: Any) -> Value:
    """Whether one that may be ``wide`` is a narrow number."""
    if isinstance(x, Either):
        return value_of(r, x.flag)
    return r.b.const(is_narrow(x, wide), bool_)


def is_mixed(a: Any, b: Any) -> bool:
    """One is, or may be, a narrower number than the other; a bool may be a tensor."""
    if not (is_one(a) and is_one(b)):
        return False
    wide = wide_of(a, b)
    if isinstance(wide, torch.Tensor) and wide.dtype is torch.bool:
        return False
    return any(isinstance(x, Either) or is_narrow(x, wide) for x in (a, b))


def is_plain(x: Any) -> bool:
    return not isinstance(x, (torch.Tensor, Maybe, Pick, Either)) and not is_symbolic(x)


def named(x: Any) -> str:
    return "None" if x is None else f"a {type(x).__name__}"


def value_of(r: BlockRecorder, x: Any) -> Value:
    """The value of a tensor or number, in the innermost graph."""
    found = r.value(x) if isinstance(x, torch.Tensor) else r.scalars.value(x)
    return r.b.frame.local(found)


def type_of(r: BlockRecorder, x: Any) -> TensorType:
    return r.type_of(x) if isinstance(x, torch.Tensor) else TensorType(KINDS[kind_of(x)])


def python_of(r: BlockRecorder, value: Value, like: Any) -> Any:
    """``value`` as code holds it: a tensor or a number, as ``like`` is one."""
    return r.new(value) if isinstance(like, torch.Tensor) else r.scalars.number(value)
