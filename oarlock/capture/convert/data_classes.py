"""Methods that ``dataclasses`` has generated, as functions with a source that can be converted."""

from __future__ import annotations

import dataclasses
import linecache
from dataclasses import MISSING, Field
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

_GENERATED = "<string>"
_SIGNS = {"__eq__": "==", "__lt__": "<", "__le__": "<=", "__gt__": ">", "__ge__": ">="}
_written: WeakKeyDictionary[FunctionType, FunctionType] = WeakKeyDictionary()


def written(cls: type, name: str, method: FunctionType) -> FunctionType:
    """``method``, what ``cls`` has under ``name``; with a source where a data class generated it."""
    if method.__code__.co_filename != _GENERATED:
        return method
    if method not in _written:
        owner = next(c for c in cls.__mro__ if vars(c).get(name) is method)
        text = _text(owner, name, method) if "__dataclass_fields__" in vars(owner) else None
        _written[method] = method if text is None else _compiled(owner, name, method, text)
    return _written[method]


def _text(owner: type, name: str, method: FunctionType) -> list[str] | None:
    if name in _SIGNS:
        return _comparison(owner, name)
    return _init(owner, method) if name == "__init__" else None


def _comparison(owner: type, name: str) -> list[str]:
    names = [f.name for f in dataclasses.fields(owner) if f.compare]
    ours, theirs = (f"({''.join(f'{x}.{n}, ' for n in names)})" for x in ("self", "other"))
    return [
        f"def {name}(self, other):",
        "    if other.__class__ is self.__class__:",
        f"        return {ours} {_SIGNS[name]} {theirs}",
        "    return NotImplemented",
    ]


def _init(owner: type, method: FunctionType) -> list[str] | None:
    """Assigns the fields, then calls ``__post_init__``."""
    code = method.__code__
    count = code.co_argcount
    names = code.co_varnames
    only = names[count : count + code.co_kwonlyargcount]
    if names[0] != "self":
        return None
    arguments = [*names[:count], *(["*", *only] if only else [])]
    fields: dict[str, Field[Any]] = owner.__dataclass_fields__  # type: ignore[attr-defined]
    frozen = owner.__dataclass_params__.frozen  # type: ignore[attr-defined]
    lines = [f"def __init__({', '.join(arguments)}):"]
    for f in fields.values():
        value = _value(f)
        if f._field_type is not dataclasses._FIELD or value is None:  # type: ignore[attr-defined]
            continue
        set_it = f"set_(self, {f.name!r}, {value})" if frozen else f"self.{f.name} = {value}"
        lines.append(f"    {set_it}")
    if hasattr(owner, "__post_init__"):
        variables = [f.name for f in fields.values() if _is_variable(f)]
        lines.append(f"    self.__post_init__({', '.join(variables)})")
    return [*lines, "    return"]


def _is_variable(f: Field[Any]) -> bool:
    return f._field_type is dataclasses._FIELD_INITVAR  # type: ignore[attr-defined]


def _value(f: Field[Any]) -> str | None:
    """What ``__init__`` gives the field."""
    if f.default_factory is MISSING:
        return f.name if f.init else None
    made = f"make_{f.name}()"
    return f"{made} if {f.name} is absent_ else {f.name}" if f.init else made


def _compiled(owner: type, name: str, method: FunctionType, text: list[str]) -> FunctionType:
    file = f"<{method.__qualname__} of a data class {id(method)}>"
    linecache.cache[file] = (0, None, [f"{line}\n" for line in text], file)
    factories = {
        f"make_{f.name}": f.default_factory
        for f in dataclasses.fields(owner)
        if f.default_factory is not MISSING
    }
    table: dict[str, Any] = {"set_": object.__setattr__, **factories}
    table["absent_"] = dataclasses._HAS_DEFAULT_FACTORY  # type: ignore[attr-defined]
    table["__name__"] = owner.__module__
    exec(compile("\n".join(text) + "\n", file, "exec"), table)
    made = table.pop(name)
    made.__defaults__, made.__kwdefaults__ = method.__defaults__, method.__kwdefaults__
    made.__qualname__ = method.__qualname__
    return made
