"""The code that a capture has followed, and the settings that it has asked for, stay what they were.

Users patch functions, methods and modules between calls: what a tape has followed is a condition.
"""

from __future__ import annotations

import abc
import functools
import logging
import os
import weakref
from collections.abc import Mapping
from contextvars import ContextVar
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.modules import module as torch_modules

from oarlock.capture.tape.machinery import is_setter
from oarlock.capture.tape.sources import Source, item_path
from oarlock.errors import UnsupportedError

if TYPE_CHECKING:
    from oarlock.capture.tape.guards import Guards
    from oarlock.capture.tape.tracer import Tracer

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class whose attributes can be set
_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
_SETTINGS = ("torch", "sys", "os", "posix", "locale", "threading", "_thread")
_ASKS = ("get", "is_", "are_", "initial_seed", "num_")
_OF_MODES = ("grad", "inference", "autocast", "compiling", "tracing", "scripting", "exporting")
_GLOBAL_HOOKS = [
    table for name, table in vars(torch_modules).items()
    if name.startswith("_global_") and isinstance(table, dict)
]  # fmt: skip


class Code:
    """Conditions on functions, classes, modules and settings outside of a capture.

    ``rules``: a source with a condition as text, ``{at}`` for the place and ``{0}`` for a value.
    """

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.rules: dict[Any, tuple[Source, str, tuple]] = {}
        self.modules: dict[torch.nn.Module, None] = {}
        self.made: dict[tuple[int, Any], tuple[FunctionType, FunctionType]] = {}
        self.changed: set[Any] = set()  # settings that the code itself sets

    def rule(self, key: Any, source: Source, text: str, *values: Any) -> None:
        self.rules.setdefault(key, (source, text, values))

    def runs(self, function: FunctionType, made: FunctionType) -> FunctionType:
        """``made``, the converted ``function``, with what later calls find as its defaults."""
        key = id(function), made.__code__
        if key in self.made:
            return self.made[key][1]
        here = Source(function, "", function.__qualname__)
        self.rule((id(function), "code"), here, "{at}.__code__ is {0}", function.__code__)
        self.made[key] = (function, made)
        defaults, keywords = function.__defaults__, function.__kwdefaults__ or {}
        if defaults:
            self.rule((id(function), "defaults"), here, "{at}.__defaults__ is {0}", defaults)
        if keywords:
            self.rule((id(function), "names"), here, "{at}.__kwdefaults__ == {0}", dict(keywords))
        now = tuple(
            self.default(here.step(f".__defaults__[{i}]"), x) for i, x in enumerate(defaults or ())
        )
        named = {
            k: self.default(here.step(f".__kwdefaults__[{k!r}]"), x) for k, x in keywords.items()
        }
        if any(a is not b for a, b in zip(now, defaults or ())) or any(
            named[k] is not keywords[k] for k in named
        ):
            closure, name = made.__closure__, made.__name__
            new = FunctionType(made.__code__, made.__globals__, name, now or None, closure)
            new.__kwdefaults__ = named or None
            new.__dict__.update(made.__dict__)
            self.made[key] = (function, new)
        return self.made[key][1]

    def default(self, at: Source, value: Any) -> Any:
        is_fixed = isinstance(value, (*_PLAIN, FunctionType, type, torch.nn.Module))
        return value if is_fixed else self.tracer.objects.first(at, value)

    def method(self, cls: type, name: str, owner: Any = None) -> None:
        """Code uses what ``cls`` has under ``name``; for ``owner``, which has none of its own."""
        base = next((b for b in cls.__mro__ if name in vars(b)), None)
        if base is None or not base.__flags__ & _HEAP_TYPE or not name.isidentifier():
            return
        if base.__module__.startswith("oarlock."):  # what stands for a value of the run
            return
        raw = vars(base)[name]
        if base is torch.nn.Module and name == "__call__":  # ours while code is converted
            return
        if self.tracer.objects.is_changed(base, name, raw):
            return
        if type(raw) is FunctionType:
            self.rule(
                (id(cls), name), Source(cls, "", cls.__name__), f"{{at}}.{name} is {{0}}", raw
            )
        elif isinstance(raw, (staticmethod, classmethod, property)):
            text = f"{{at}}.__dict__[{name!r}] is {{0}}"
            self.rule((id(cls), name), Source(base, "", base.__name__), text, raw)
        else:
            return
        self.unshadowed(owner, name)

    def inherits(self, cls: type) -> None:
        """Code goes to the classes above ``cls``."""
        at = Source(cls, "", cls.__name__)
        self.rule((id(cls), "bases"), at, "{at}.__mro__ == {0}", cls.__mro__)

    def unshadowed(self, owner: Any, name: str) -> None:
        """``owner`` has no ``name`` of its own."""
        if isinstance(owner, type) or not isinstance(getattr(owner, "__dict__", None), dict):
            return
        source = self.tracer.objects.source(owner)
        entry = self.tracer.journal.frames[0].before.get(id(owner))
        if source is not None and (entry is None or name not in entry[1]):
            self.rule((id(owner), "no", name), source, f"{name!r} not in {{at}}.__dict__")

    def calls(self, module: torch.nn.Module) -> None:
        """Code calls ``module``."""
        self.modules[module] = None
        self.method(type(module), "forward")

    def asks(self, function: Any, args: tuple, kwargs: dict[str, Any], found: Any) -> None:
        """``function``, which runs as it is, has given ``found``."""
        place = place_of(function)
        if getattr(function, "__name__", "").startswith(("set", "reset")):
            self.changed.add(place)
        if kwargs or place in self.changed or not is_question(function, args, found):
            return
        if isinstance(function, weakref.ref) and self.tracer.objects.source(function) is None:
            return
        if not isinstance(found, _PLAIN):
            self.tracer.objects.know(found)
        key = (id(getattr(function, "__self__", function)), getattr(function, "__name__", ""), args)
        test = "is" if not isinstance(found, _PLAIN) or found is None else "=="
        names = "".join(f"{{{i}}}, " for i in range(len(args)))
        text = f"{{at}}({names}) {test} {{{len(args)}}}"
        self.rule(key, Source(function, "", str(function)), text, *args, found)

    def item(self, owner: Any, key: Any, value: Any) -> None:
        """Code has looked up ``key`` in a mapping that is no dict."""
        source = None if isinstance(owner, dict) else self.mapping(owner)
        if source is None or not isinstance(key, (str, int, bool, bytes)):
            return
        test = "==" if isinstance(value, _PLAIN) else "is"
        text = f"{{at}}{item_path(key).replace('{', '{{').replace('}', '}}')} {test} {{0}}"
        self.rule((id(owner), "item", key), source, text, value)

    def instance(self, x: Any, kinds: Any, found: bool) -> None:
        """Code asks for the class of ``x``, of classes that answer that themselves."""
        every = kinds if isinstance(kinds, tuple) else (kinds,)
        source = self.tracer.objects.source(x)
        if source is not None and any(isinstance(k, abc.ABCMeta) for k in every):
            key = (id(x), "isinstance", *map(id, every))
            self.rule(key, source, "isinstance({at}, {0}) is {1}", kinds, found)

    def has(self, owner: Any, key: Any) -> None:
        """Code asks whether a mapping that is no dict has ``key``."""
        source = None if isinstance(owner, dict) else self.mapping(owner)
        if source is not None and isinstance(key, (str, int, bool, bytes)):
            self.rule((id(owner), "has", key), source, "({0} in {at}) is {1}", key, key in owner)

    def whole(self, owner: Any) -> None:
        """Code reads a mapping that is no dict as a whole."""
        source = None if isinstance(owner, dict) else self.mapping(owner)
        if source is not None:
            self.rule((id(owner), "whole"), source, "[*{at}.items()] == {0}", [*owner.items()])

    def mapping(self, owner: Any) -> Source | None:
        if not isinstance(owner, Mapping):
            return None
        found = self.tracer.objects.source(owner)
        return Source(owner, "", "os.environ") if found is None and is_environment(owner) else found

    def array(self, at: Source, value: np.ndarray) -> None:
        """Code reads an array, whose numbers then stand in the tape."""
        text = "{at}.dtype == {0} and {at}.shape == {1} and {at}.tobytes() == {2}"
        held = (value.dtype, value.shape, value.tobytes())
        self.rule((id(value), "array"), at, text, *held)

    def setting(self, function: Any) -> Any:
        """What refuses to run in place of a function that changes a setting; None for others."""
        return functools.partial(self.refuse, function) if is_setter(function) else None

    def refuse(self, function: Any, *args: Any, **kwargs: Any) -> None:
        raise UnsupportedError(
            f"{self.tracer.where()}: {function.__name__} changes a setting for everybody; call it before "
            f"the function"
        )

    def changes(self, owner: Any) -> None:
        """Raises: UnsupportedError for an array from outside, which each call would have to change."""
        if is_environment(owner):
            raise UnsupportedError(
                f"{self.tracer.where()}: the environment is changed; set it before the function"
            )
        if isinstance(owner, np.ndarray) and self.tracer.objects.source(owner) is not None:
            raise UnsupportedError(
                f"{self.tracer.where()}: a numpy array from outside of the function is changed; use a "
                f"tensor, as torch.from_numpy gives"
            )

    def tables(self, module: torch.nn.Module) -> None:
        """Code goes over the parameters, buffers or children of ``module``."""
        for m in module.modules():
            for name in ("_parameters", "_buffers", "_modules"):
                keys = list(vars(m)[name])
                text = f"[*{{at}}[{name!r}]] == {{0}}"
                self.rule((id(m), name), Source(vars(m), "", type(m).__name__), text, keys)

    def guard(self, guards: Guards) -> None:
        """Add the conditions."""
        for source, text, values in self.rules.values():
            names = [guards.emitter.constant(x) for x in values]
            text = text.format(*names, at=guards.place(source))
            guards.add(text, f"{source} is as it was")
        if self.modules:
            tables = [guards.emitter.constant(table) for table in _GLOBAL_HOOKS]
            hooks = ", ".join(f"*{name}.values()" for name in tables)
            text = f"not ({' or '.join(tables)})"
            if any(_GLOBAL_HOOKS):
                held = [x for table in _GLOBAL_HOOKS for x in table.values()]
                text = f"[{hooks}] == {guards.emitter.constant(held)}"
            guards.add(text, "the hooks of all modules")


def is_environment(owner: Any) -> bool:
    return owner is os.environ


def place_of(function: Any) -> Any:
    """What holds the setting that a function sets or tells."""
    owner = getattr(function, "__self__", None)
    if isinstance(owner, ContextVar):
        return id(owner)
    return (getattr(function, "__module__", None) or "").partition(".")[0]


def is_question(function: Any, args: tuple, found: Any) -> bool:
    """A function that tells of a setting, which may be another at the next call."""
    if isinstance(function, weakref.ref):
        return True
    owner = getattr(function, "__self__", None)
    name = getattr(function, "__name__", "")
    if isinstance(owner, ContextVar) and name == "get":
        return True
    if isinstance(owner, logging.Logger):
        return name in ("isEnabledFor", "getEffectiveLevel", "hasHandlers")
    if not all(isinstance(x, _PLAIN) for x in (*args, found)):
        return False
    if name == "get" and isinstance(owner, Mapping) and not isinstance(owner, dict):
        return True
    top = (getattr(function, "__module__", None) or "").partition(".")[0]
    is_free = isinstance(function, (FunctionType, BuiltinFunctionType, MethodType))
    return (
        is_free and top in _SETTINGS and not isinstance(owner, torch.Tensor)
        and name.lstrip("_").startswith(_ASKS) and not any(x in name for x in _OF_MODES)
    )  # fmt: skip
