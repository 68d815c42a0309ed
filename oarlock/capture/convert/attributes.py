"""``hasattr``, ``getattr`` and their kind, for attributes that one path may have left out."""

from __future__ import annotations

from inspect import getattr_static
from types import FunctionType
from typing import Any

import torch

from oarlock.capture.convert.sequences import item
from oarlock.capture.convert.tracing import tracer
from oarlock.capture.convert.truth import contains, here, negated, own, refuse_here, select


def hasattr_(owner: Any, name: str) -> Any:
    active = tracer()
    if active is not None and active.is_choice(owner):
        return active.each(owner, lambda x: hasattr_(x, name))
    if active is not None:
        active.read_has(owner, name)
    if active is None or isinstance(owner, torch.Tensor):
        return hasattr(owner, name)
    if own(owner, "__getattr__") or own(owner, "__getattribute__"):
        missing = object()
        return getattr_(owner, name, missing) is not missing
    missing = active.is_missing(getattr_static(owner, name, None))
    return hasattr(owner, name) if missing is False else negated(missing)


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
    from oarlock.capture.convert.calls import read_attribute

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
    from oarlock.capture.convert.calls import write_attribute

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
    from oarlock.capture.convert.calls import converted_function, in_class

    made = None if tracer() is None else in_class(owner, name)
    is_own = type(made) is property and type(made.fdel) is FunctionType
    return converted_function(made.fdel) if is_own else None


def delete_plainly(owner: Any, name: str, delete: Any = object.__delattr__) -> None:
    """``delete(owner, name)``"""
    from oarlock.capture.convert.operators import touch

    touch(owner)
    delete(owner, name)
