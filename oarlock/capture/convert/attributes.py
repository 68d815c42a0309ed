"""Attributes that converted code reads, writes and asks for, by what the user's class says of them."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from inspect import getattr_static
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch

from oarlock.capture.convert.sequences import item
from oarlock.capture.convert.tracing import tracer
from oarlock.capture.convert.truth import (
    as_number,
    contains,
    here,
    negated,
    own,
    refuse_here,
    select,
    special,
)

_PLAIN = (bool, int, float, str, bytes, type(None))
_UNREPORTED = (ModuleType, type, torch.Tensor)
_OF_TORCH = (torch.dtype, torch.layout, torch.memory_format)
_DATA = (int, float, str, list, dict, set, torch.Tensor)
_METHOD_KINDS = (MethodType, BuiltinFunctionType, types.MethodWrapperType)


def hasattr_(owner: Any, name: str) -> Any:
    active = tracer()
    if active is not None and active.is_choice(owner):
        return active.each(owner, lambda x: hasattr_(x, name))
    if active is not None and set(active.types_of(owner)) - {type(None), torch.Tensor}:
        return as_number(active.number(hasattr, (owner, name), True, True))
    if active is not None and active.may_be_none(owner) and _has_unread(owner, name):
        return hasattr(None, name) or as_number(negated(active.is_(owner, None)))
    if active is not None:
        active.read_has(owner, name)
    if active is None or isinstance(owner, torch.Tensor):
        return hasattr(owner, name)
    if own(owner, "__getattr__") or own(owner, "__getattribute__"):
        missing = object()
        return getattr_(owner, name, missing) is not missing
    missing = active.is_missing(getattr_static(owner, name, None))
    return hasattr(owner, name) if missing is False else negated(missing)


def _has_unread(owner: Any, name: str) -> bool:
    """Whether there is such an attribute; of a tensor it is not read, as there may be none."""
    if not isinstance(owner, torch.Tensor):
        return hasattr(owner, name)
    return hasattr(type(owner), name) or name in vars(owner)


def get_(owner: dict[Any, Any], key: Any, default: Any = None) -> Any:
    """``owner.get(key, default)`` of a dict."""
    has = contains(key, owner)
    return select(has, lambda: item(owner, key), lambda: default, here())


def vars_(*owner: Any) -> dict[str, Any]:
    """The attributes of an object, where all paths have set the same ones."""
    active, found = tracer(), vars(*owner)
    if active is not None and any(active.is_missing(x) is not False for x in found.values()):
        refuse_here("vars() of an object that has an attribute on one path only", "set it on both")
    return found


def getattr_(owner: Any, name: str, *default: Any) -> Any:
    if not default:
        return read_attribute(owner, name)
    if own(owner, "__getattr__") or own(owner, "__getattribute__"):
        try:
            return read_attribute(owner, name)
        except AttributeError:
            return default[0]
    has = hasattr_(owner, name)
    return select(has, lambda: read_attribute(owner, name), lambda: default[0], here())


def setattr_(owner: Any, name: str, value: Any) -> None:
    write_attribute(owner, name, value)


def delattr_(owner: Any, name: str) -> None:
    active = tracer()
    if active is not None and active.is_choice(owner):
        active.each(owner, lambda x: delattr_(x, name))
        return
    hook = own(owner, "__delattr__")
    made = own_property(owner, name)
    if hook is not None:
        hook(owner, name)
    elif made is not None:
        made(owner)
    else:
        delete_plainly(owner, name, delattr)


def own_property(owner: Any, name: str) -> Any:
    """The deleter of a property of the user's class, converted; or None."""
    from oarlock.capture.convert.calls import converted_function

    made = None if tracer() is None else in_class(owner, name)
    is_own = type(made) is property and type(made.fdel) is FunctionType
    return converted_function(made.fdel) if is_own else None


def delete_plainly(owner: Any, name: str, delete: Any = object.__delattr__) -> None:
    """``delete(owner, name)``"""
    from oarlock.capture.convert.operators import touch

    touch(owner)
    delete(owner, name)


def _is_descriptor(made: Any) -> bool:
    """What a class holds has a ``__get__`` in Python."""
    return made is not None and type(getattr(type(made), "__get__", None)) is FunctionType


def _is_hidden(made: Any, owner: Any, name: str) -> bool:
    """The object's own value comes before what its class holds, which sets none."""
    sets = hasattr(type(made), "__set__") or hasattr(type(made), "__delete__")
    return not sets and name in getattr(owner, "__dict__", ())


def read_attribute(owner: Any, name: str) -> Any:
    """``owner.name``; plain values of objects are reported, since later calls may find others."""
    active = tracer()
    if active is not None and active.is_choice(owner):
        return active.each(owner, lambda x: read_attribute(x, name))
    if active is None:
        return getattr(owner, name)
    is_variable = isinstance(owner, ModuleType) and name in vars(owner)  # not by its __getattr__
    if is_variable and isinstance(vars(owner)[name], (*_PLAIN, *_DATA)):
        return active.read(vars(owner), name, getattr(owner, name))
    if isinstance(owner, _UNREPORTED):
        return _of_code(active, owner, name)
    hook = special(owner, "__getattribute__")
    return read_plainly(owner, name) if hook is None else _hooked(hook, owner, name)


def _hooked(hook: Callable[[Any, str], Any], owner: Any, name: str) -> Any:
    """``owner.name`` of a class that has its own way of reading attributes."""
    fallback = special(owner, "__getattr__")
    if fallback is None:
        return hook(owner, name)
    try:
        return hook(owner, name)
    except AttributeError:
        return fallback(owner, name)


def read_plainly(owner: Any, name: str) -> Any:
    """What ``object.__getattribute__`` gives, or ``__getattr__`` of its class."""
    from oarlock.capture.convert.calls import call, converted_function

    active = tracer()
    active.journal.used(owner)
    made = in_class(owner, name)
    if type(made) is property and type(made.fget) is FunctionType:
        value = converted_function(made.fget)(owner)
    elif isinstance(made, functools.cached_property) and name not in vars(owner):
        active.code.unshadowed(owner, name)
        value = call(made.func)(owner)
        write_attribute(owner, name, value)
    elif _is_descriptor(made) and not _is_hidden(made, owner, name):
        value = converted_function(type(made).__get__)(made, owner, type(owner))
    else:
        fallback = special(owner, "__getattr__")
        if fallback is not None and not _has_plainly(owner, name):
            return fallback(owner, name)
        value = _value_of(active, owner, name)
        if active.is_missing(value) is not False:
            active.attribute(value, type(owner).__name__, name)
    if isinstance(owner, torch.Size):
        return value
    if made is not None and not _is_own(owner, name):
        active.code.method(type(owner), name, owner)
        if isinstance(value, _METHOD_KINDS):
            return value
    return active.read(owner, name, value)


def _has_plainly(owner: Any, name: str) -> bool:
    try:
        object.__getattribute__(owner, name)
    except AttributeError:
        return False
    return True


def _of_code(active: Any, owner: Any, name: str) -> Any:
    """``owner.name`` of a Python module, class or tensor."""
    value = getattr(owner, name)
    if isinstance(owner, torch.Tensor):
        is_own = not active.is_symbolic(value) and _is_own(owner, name)
        return active.read(owner, name, value) if is_own else value
    if isinstance(owner, type):
        active.code.method(owner, name)
        is_data = isinstance(value, _DATA) and any(name in vars(cls) for cls in owner.__mro__)
        return active.read(owner, name, value) if is_data else value
    is_fixed = isinstance(value, (ModuleType, *_OF_TORCH))
    if isinstance(owner, ModuleType) and _is_own(owner, name):
        owner = vars(owner)
    return value if is_fixed else active.read(owner, name, value)


def _is_own(owner: Any, name: str) -> bool:
    return name in getattr(owner, "__dict__", ())


def in_class(owner: Any, name: str) -> Any:
    """What the class of ``owner`` has under ``name``, as it stands there."""
    found = (vars(cls)[name] for cls in type(owner).__mro__ if name in vars(cls))
    return next(found, None)


def _value_of(active: Any, owner: Any, name: str) -> Any:
    is_hooked = special(owner, "__getattribute__") is not None
    try:
        return object.__getattribute__(owner, name) if is_hooked else getattr(owner, name)
    except AttributeError:
        active.read_has(owner, name)
        raise


def write_attribute(owner: Any, name: str, value: Any) -> None:
    """``owner.name = value``"""
    active = tracer()
    if active is not None and active.is_choice(owner):
        active.each(owner, lambda x: write_attribute(x, name, value))
        return
    if active is not None and isinstance(owner, ModuleType):
        _write_global(active, owner, name, value)
        return
    hook = None if active is None else special(owner, "__setattr__")
    if hook is not None:
        hook(owner, name, value)
    else:
        write_plainly(owner, name, value, setattr)


def write_plainly(owner: Any, name: str, value: Any, put: Any = object.__setattr__) -> None:
    """``put(owner, name, value)``, by a setter of the user's class, converted, where there is one."""
    from oarlock.capture.convert.calls import converted_function
    from oarlock.capture.convert.operators import touch

    active = tracer()
    touch(owner)
    if active is not None and name == "requires_grad" and isinstance(owner, torch.Tensor):
        value = active.concrete(value, name)
    if active is not None:
        if isinstance(owner, torch.Tensor) and not hasattr(torch.Tensor, name):
            active.machinery.tags(owner, name)
            active.journal.touch(owner)
        active.wrote(owner, name, value)
    made = in_class(owner, name) if active is not None else None
    if type(made) is property and type(made.fset) is FunctionType:
        converted_function(made.fset)(owner, value)
    elif made is not None and type(getattr(type(made), "__set__", None)) is FunctionType:
        converted_function(type(made).__set__)(made, owner, value)
    else:
        if active is not None and name in (
            "__code__",
            "__defaults__",
            "__kwdefaults__",
            "__bases__",
            "__class__",
        ):
            refuse_here(f"{name} is set", "call another function, or take an argument")
        put(owner, name, value)


def _write_global(active: Any, module: ModuleType, name: str, value: Any) -> None:
    """``module.name = value``: a global variable of it."""
    if module.__name__.startswith("torch"):
        refuse_here(f"{module.__name__}.{name} is set", "set it before the function")
    table = vars(module)
    active.journal.touch(table)
    active.wrote(table, name, value)
    table[name] = value


PLAINLY: dict[str, Callable[..., Any]] = {
    "__getattribute__": read_plainly,
    "__setattr__": write_plainly,
    "__delattr__": delete_plainly,
}
