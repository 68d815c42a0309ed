"""Whether an operation will fail, asked before it happens, and the error that it raises then."""

from __future__ import annotations

import collections
import math
import operator
from collections.abc import Callable, Hashable
from inspect import getattr_static
from types import BuiltinFunctionType, MethodType
from typing import Any

import torch

from oarlock.capture.convert import cursors
from oarlock.capture.convert.handlers import expect, open_handlers
from oarlock.capture.convert.sequences import length
from oarlock.capture.convert.state import Text
from oarlock.capture.convert.tracing import is_table, tracer
from oarlock.capture.convert.truth import (
    any_of,
    contains,
    is_run_time,
    negated,
    number,
)

_DIVISIONS = {"/": operator.truediv, "//": operator.floordiv, "%": operator.mod}
_NUMBERS = (torch.SymInt, torch.SymFloat)


def fails(kind: str, operands: tuple[Any, ...]) -> Any:
    """Whether the operation fails, as far as that is an error that code may reckon with."""
    if tracer() is None:
        return False
    found = _KINDS[kind][0](*operands)
    if found is False or open_handlers(failure(kind, operands)) is None:
        return False
    expect(*operands)
    return found


def failure(kind: str, operands: tuple[Any, ...]) -> BaseException:
    """The error of an operation that fails."""
    return _KINDS[kind][1](*operands)


def _not(found: Any) -> Any:
    return negated(found) if is_run_time(found) else not found


# items


def _is_index(key: Any) -> bool:
    if isinstance(key, torch.Tensor):
        return not key.dim() and not key.dtype.is_floating_point and key.dtype is not torch.bool
    return isinstance(key, (int, torch.SymInt))


def _outside(key: Any, count: Any) -> Any:
    if isinstance(key, torch.Tensor):
        key = number(key)
    return any_of([lambda: key >= count, lambda: key < -count])


def _lacks_item(owner: Any, key: Any) -> Any:
    active = tracer()
    if active.is_choice(owner):
        return False
    if is_table(owner):
        makes = owner.factory is not None or owner.kind is collections.Counter
        return False if makes or isinstance(key, torch.Tensor) else negated(owner.has(key))
    if isinstance(owner, dict):
        if hasattr(type(owner), "__missing__") or isinstance(key, torch.Tensor):
            return False
        is_key = isinstance(key, (Hashable, Text)) or active.is_symbolic(key)
        return _not(contains(key, owner)) if is_key else False
    if isinstance(owner, (list, tuple)) and _is_index(key):
        if not isinstance(owner, list) and not is_run_time(key):
            return not -len(owner) <= key < len(owner)
        return _outside(key, length(owner))
    if isinstance(owner, torch.Tensor) and _is_index(key) and owner.dim():
        return False if isinstance(key, torch.Tensor) else _outside(key, owner.shape[0])
    return False


def _no_item(owner: Any, key: Any) -> BaseException:
    if isinstance(owner, dict) or is_table(owner):
        return KeyError(key)
    if isinstance(owner, torch.Tensor):
        text = ("index ", (key, "", ""), " is out of bounds for dimension 0 with size ")
        return IndexError(Text.of((*text, (owner.shape[0], "", ""))))
    kind = "list" if isinstance(owner, list) else "tuple"
    return IndexError(f"{kind} index out of range")


# divisions


def _is_by_zero(sign: str, left: Any, right: Any) -> Any:
    if isinstance(right, _NUMBERS) and not isinstance(left, torch.Tensor) and is_run_time(right):
        return right == 0
    return False


def _division(sign: str, left: Any, right: Any) -> BaseException:
    kinds = [tracer().type_of(x) if is_run_time(x) else type(x) for x in (left, right)]
    return _error_of(_DIVISIONS[sign], kinds[0](1), kinds[1](0))


def _error_of(function: Callable[..., Any], *args: Any) -> BaseException:
    try:
        function(*args)
    except Exception as error:
        return error.with_traceback(None)
    raise AssertionError(f"{function} of {args} fails")


# functions


def _call_fails(function: Any, *args: Any) -> Any:
    if function is next and len(args) == 1 and isinstance(args[0], cursors.Stream):
        return args[0].ends()
    if function is int and len(args) == 1 and is_run_time(args[0]):
        found = number(args[0])
        return tracer().compute(math.isnan, found) if isinstance(found, torch.SymFloat) else False
    if function is getattr and len(args) == 2 and isinstance(args[1], str):
        return _lacks_attribute(*args)
    return False


def _lacks_attribute(owner: Any, name: str) -> Any:
    active = tracer()
    if active.is_symbolic(owner) or not hasattr(owner, name):
        return False
    return active.is_missing(getattr_static(owner, name, None))


def _call_error(function: Any, *args: Any) -> BaseException:
    if function is next:
        return StopIteration()
    if function is int:
        return _error_of(int, math.nan)
    return _no_attribute(*args)


def _no_attribute(owner: Any, name: str) -> BaseException:
    return AttributeError(f"{type(owner).__name__!r} object has no attribute {name!r}")


# methods


def _bound(method: Any) -> tuple[Any, str]:
    is_bound = isinstance(method, (MethodType, BuiltinFunctionType))
    return (method.__self__, method.__name__) if is_bound else (None, "")


def _method_fails(method: Any, *args: Any) -> Any:
    owner, name = _bound(method)
    if method in (math.sqrt, math.log):
        if not args or not is_run_time(args[0]):
            return False
        found = number(args[0])
        return found < 0 if method is math.sqrt else found <= 0
    if isinstance(owner, list):
        return _list_fails(owner, name, args)
    if is_table(owner) or isinstance(owner, (dict, set, collections.deque)):
        return _table_fails(owner, name, args)
    return False


def _list_fails(owner: list[Any], name: str, args: tuple[Any, ...]) -> Any:
    if name == "popleft":
        return length(owner) == 0
    if name == "pop":
        return _outside(args[0] if args else -1, length(owner))
    if name in ("remove", "index") and len(args) == 1:
        return _not(contains(args[0], owner))
    return False


def _table_fails(owner: Any, name: str, args: tuple[Any, ...]) -> Any:
    is_dict = (owner.kind if is_table(owner) else type(owner)) is not set
    if name in ("popitem", "popleft") or (name == "pop" and not (args and is_dict)):
        count = owner.run_time_length() if is_table(owner) else len(owner)
        return count == 0
    if (name == "pop" and len(args) == 1) or (name == "remove" and not is_dict):
        is_key = not isinstance(args[0], torch.Tensor)
        return _not(contains(args[0], owner)) if is_key else False
    return False


def _method_error(method: Any, *args: Any) -> BaseException:
    owner, name = _bound(method)
    if method in (math.sqrt, math.log):
        return _error_of(method, -1.0)
    if isinstance(owner, list):
        return _list_error(owner, name, args)
    if args:
        return KeyError(args[0])
    kind = owner.kind if is_table(owner) else type(owner)
    return _error_of(getattr(kind(), name))


def _list_error(owner: list[Any], name: str, args: tuple[Any, ...]) -> BaseException:
    if name == "remove":
        return ValueError("list.remove(x): x not in list")
    if name == "index":
        return ValueError(Text.of(((args[0], "r", ""), " is not in list")))
    if hasattr(owner, "run_time_deque"):
        return IndexError("pop from an empty deque")
    return IndexError("pop index out of range" if args else "pop from empty list")


_KINDS: dict[str, tuple[Callable[..., Any], Callable[..., BaseException]]] = {
    "item": (_lacks_item, _no_item),
    "attribute": (_lacks_attribute, _no_attribute),
    "division": (_is_by_zero, _division),
    "call": (_call_fails, _call_error),
    "method": (_method_fails, _method_error),
}
