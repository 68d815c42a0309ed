"""Calls with a number on one way and a wider one on another: one call where both give the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from oarlock.capture.arrays import dtype_of
from oarlock.capture.lowering.kinds import Either, is_symbolic, kind_of
from oarlock.capture.lowering.lists import ListValue
from oarlock.capture.lowering.recorder import PLAIN_REASONS, Refused
from oarlock.capture.tape import runtime
from oarlock.capture.tape.nodes import UNREAD, Call, leaves, map_tree
from oarlock.capture.tape.queries import INDEXED, name_of
from oarlock.ir import decode, encode, i64

if TYPE_CHECKING:
    from oarlock.capture.lowering.calls import Calls

_ARITHMETIC = {
    "add", "sub", "mul", "div", "truediv", "true_divide", "floordiv", "floor_divide", "mod",
    "remainder", "pow", "eq", "ne", "lt", "le", "gt", "ge",
}  # fmt: skip


def result(calls: Calls, call: Call, args: tuple, kwargs: dict[str, Any]) -> Any:
    """The result of a call with an Either among its arguments."""
    func = call.func
    if func in (runtime.is_none, runtime.is_missing, runtime.bound, runtime.attribute):
        return False if func in (runtime.is_none, runtime.is_missing) else None
    rewritten = _rewritten(calls, func, args, kwargs)
    if rewritten is not None:
        return calls.result(call, *rewritten)
    x = next(x for x in leaves((args, kwargs)) if isinstance(x, Either))
    mark = calls.r.mark()
    try:
        with calls.low.outside():
            ways = [_way(calls, call, args, kwargs, x, y) for y in (x.number, x.wide)]
            return calls.low.blocks.branch(calls.r.b.local(x.flag.value), *ways)[0]
    except (Refused, *PLAIN_REASONS):
        calls.r.back_to(mark)
    return calls.result(call, *_as_wide(calls, args, kwargs))


def _way(
    calls: Calls, call: Call, args: tuple, kwargs: dict[str, Any], x: Either, chosen: Any
) -> Callable[[], list[Any]]:
    def run() -> list[Any]:
        with calls.low.scope():
            found = map_tree((args, kwargs), lambda y: chosen if y is x else y)
            try:
                return [calls.result(call, *found)]
            except ArithmeticError as error:
                calls.low.ends.fail(type(error).__name__, [str(error)])
                return [UNREAD]

    return run


def _as_wide(calls: Calls, args: tuple, kwargs: dict[str, Any]) -> Any:
    """The arguments, where the run ends if one is a narrow number."""
    change = calls.low.expect_wide
    return map_tree((args, kwargs), lambda x: change(x) if isinstance(x, Either) else x)


def _rewritten(calls: Calls, func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Arguments without Eithers which give the same; None where there are none."""
    if getattr(func, "__name__", "") == "list_of" or any(isinstance(x, ListValue) for x in args):
        return _as_wide(calls, args, kwargs)
    if name_of(func) in INDEXED and not isinstance(args[0], Either):
        index = map_tree(args[1], lambda x: _place(calls, x))
        if not any(isinstance(x, Either) for x in leaves(index)):
            rest = [_stored(args[0], x) for x in args[2:]]
            if not any(isinstance(x, Either) for x in rest):
                return (args[0], index, *rest), kwargs
    if len(args) == 2 and not kwargs and _stem(func) in _ARITHMETIC:
        pairs = [(x, args[1 - i]) for i, x in enumerate(args)]
        found = [x.wide if _is_alike(func, x, y) else x for x, y in pairs]
        if not any(isinstance(x, Either) for x in found):
            return tuple(found), kwargs
    return None


def _stem(func: Any) -> str:
    """``add`` of ``__radd__``, ``__iadd__`` and ``add_``."""
    name = name_of(func).strip("_")
    return name if name in _ARITHMETIC else name[1:]


def _place(calls: Calls, x: Any) -> Any:
    """An index that is a number or a tensor of an integer: the number, as both pick the same."""
    if not (
        isinstance(x, Either) and kind_of(x.number) is int and isinstance(x.wide, torch.Tensor)
    ):
        return x
    r = calls.r
    with calls.low.outside():
        value = r.value(x.wide)
        if not value.dtype.is_int or x.wide.dtype is torch.uint8:
            return x
        place = r.b.cast(value, dtype=i64)
        return r.scalars.number(r.b.where(x.flag.value, r.scalars.value(x.number, i64), place))


def _stored(into: Any, x: Any) -> Any:
    """What is written into a tensor, in whose dtype it is then."""
    is_same = isinstance(x, Either) and isinstance(into, torch.Tensor) and _keeps(x, into.dtype)
    return x.wide if is_same else x


def _is_alike(func: Any, x: Any, other: Any) -> bool:
    """Both give the same with ``other``."""
    if not isinstance(x, Either) or isinstance(other, Either):
        return False
    if not isinstance(other, torch.Tensor):
        return not isinstance(x.wide, torch.Tensor) and kind_of(other) is float
    plain = [kind_of(y)(1) if not isinstance(y, torch.Tensor) else y for y in (x.number, x.wide)]
    dtype = torch.result_type(other, plain[1])
    if torch.result_type(other, plain[0]) is not dtype or not _keeps(x, dtype):
        return False
    return dtype.is_floating_point or "pow" not in name_of(func)


def _keeps(x: Either, dtype: torch.dtype) -> bool:
    """In ``dtype`` the narrow number is what the wide one is."""
    if isinstance(x.wide, torch.Tensor):
        is_own = dtype is x.wide.dtype and dtype in (torch.float32, torch.float64)
        return is_own or is_exact(x)
    return dtype.is_floating_point and kind_of(x.wide) is float


def is_exact(x: Either) -> bool:
    """The wide one is known to be the narrow number itself."""
    if not isinstance(x.wide, torch.Tensor):
        return kind_of(x.number) is bool or (not is_symbolic(x.number) and abs(x.number) <= 2**53)
    dtype = dtype_of(x.wide.dtype)
    if is_symbolic(x.number):
        return kind_of(x.number) is int and dtype is i64
    if dtype.is_float:
        found = float(decode(encode(np.asarray(x.number, np.float64), dtype), dtype))
        return found == x.number or x.number != x.number
    limits = np.iinfo(dtype.numpy)
    return int(limits.min) <= x.number <= int(limits.max)
