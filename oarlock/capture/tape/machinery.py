"""What code changes beside objects: hooks and children of modules, context variables, settings.

A replay does not do such a change again, and one way of a decision must not leave it to the other:
what stays changed is refused.
"""

from __future__ import annotations

import abc
import functools
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.modules import module as torch_modules

from oarlock.capture.tape.journal import MISSING, TABLES, content, put
from oarlock.capture.tape.nodes import leaves
from oarlock.capture.torch_private import is_fake
from oarlock.errors import UnsupportedError

if TYPE_CHECKING:
    from oarlock.capture.tape.tracer import Tracer

_SETTERS = (
    torch.set_default_dtype, torch.set_default_tensor_type, torch.set_default_device,
    torch.use_deterministic_algorithms, torch.set_deterministic_debug_mode, torch.set_num_threads,
    torch.set_float32_matmul_precision, torch.set_flush_denormal, torch.set_printoptions,
    sys.setrecursionlimit, os.putenv, os.unsetenv, logging.disable, logging.Logger.setLevel,
    abc.ABCMeta.register,
    *(f for name, f in vars(torch_modules).items() if name.startswith("register_module_")),
)  # fmt: skip
_CASTS = {
    torch.nn.Module.to: None, torch.nn.Module.cpu: None, torch.nn.Module.float: torch.float32,
    torch.nn.Module.double: torch.float64, torch.nn.Module.half: torch.float16,
    torch.nn.Module.bfloat16: torch.bfloat16,
}  # fmt: skip
_CACHED = functools._lru_cache_wrapper


def is_setter(function: Any) -> bool:
    """A function that changes a setting for everybody."""
    if getattr(function, "__name__", "") == "cache_clear":
        return isinstance(getattr(function, "__self__", None), _CACHED)
    inner = getattr(function, "__func__", function)
    return any(inner is known for known in _SETTERS)


class Machinery:
    """Knows what the traced code has changed so."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.variables: dict[ContextVar, Any] = {}  # with what they held before the call
        self.tokens: dict[ContextVar, Token] = {}  # of those that held nothing
        self.modules: dict[torch.nn.Module, str] = {}  # with what did it, and where
        self.cached = 0  # functions with a cache that run
        self.kept: dict[tuple[int, Any], Any] = {}  # what they read, with its owner
        self.tagged: dict[int, tuple[torch.Tensor, str]] = {}  # tensors of the run
        self.is_seed_asked = self.is_seed_set = False

    def override(self, function: Any) -> Any:
        """In place of methods that cast or move a module, and of ContextVar.set; None for others."""
        self.is_seed_asked |= function is torch.initial_seed
        owner = getattr(function, "__self__", None)
        if isinstance(owner, ContextVar) and function.__name__ == "set":
            return functools.partial(self.set, owner)
        if isinstance(owner, torch.nn.Module) and function.__func__ in _CASTS:
            return functools.partial(self.cast, function)
        return None

    def cast(self, function: Any, *args: Any, **kwargs: Any) -> torch.nn.Module:
        """``module.to(...)`` where that changes nothing.  Raises: UnsupportedError."""
        module, name = function.__self__, function.__name__
        dtype = _CASTS[function.__func__]
        device = torch.device("cpu") if name == "cpu" else None
        if name == "to":
            device, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
        for x in (*module.parameters(), *module.buffers()):
            is_cast = dtype is not None and x.is_floating_point() and x.dtype != dtype
            if is_cast or (device is not None and x.device.type != device.type):
                raise UnsupportedError(
                    f"{self.tracer.where()}: {name} changes the type of {type(module).__name__}; "
                    f"do it before the function"
                )
        return module

    def set(self, variable: ContextVar, value: Any) -> Token:
        """``variable.set(value)``"""
        self.variables.setdefault(variable, variable.get(MISSING))
        token = variable.set(value)
        if token.old_value is Token.MISSING:
            self.tokens[variable] = token
        self.tracer.code.asks(variable.set, (value,), {}, token)
        return token

    def put(self, variable: ContextVar, value: Any) -> bool:
        """Set it again; whether it held another one."""
        if variable.get(MISSING) is value:
            return False
        if value is MISSING:
            variable.reset(self.tokens.pop(variable))
        else:
            variable.set(value)
        return True

    @contextmanager
    def watching(self, function: Any, args: tuple) -> Iterator[None]:
        """What a function of a library does to the modules that it is given is seen."""
        given = (getattr(function, "__self__", None), *args)
        if any(map(self.tracer.notices.is_outer, args)):
            name = getattr(function, "__name__", "a function")
            self.tracer.notices.refuse(f"{name} is given a stream from outside")
        roots = [x for x in given if isinstance(x, torch.nn.Module)]
        held = [(m, content(m), type(m)) for m in {m: None for x in roots for m in x.modules()}]
        yield
        for module, old, kind in held:
            if type(module) is not kind:
                module.__class__ = kind
                put(module, old)
                raise UnsupportedError(
                    f"{self.tracer.where()}: {getattr(function, '__name__', 'a function')} changes the "
                    f"class of {kind.__name__}; do it before the function"
                )
            if _differs(old, content(module)):
                self.tracer.journal.found(module, old)
                name = getattr(function, "__name__", "a function")
                self.modules.setdefault(module, f"{self.tracer.where()}: {name}")

    @contextmanager
    def caching(self) -> Iterator[None]:
        """A function runs whose result a cache keeps from the first call on."""
        self.cached += 1
        try:
            yield
        finally:
            self.cached -= 1

    def reads(self, owner: Any, name: Any) -> None:
        if self.cached and owner is not None:
            self.kept[id(owner), name] = owner

    def tags(self, x: torch.Tensor, name: str) -> None:
        """Code sets an attribute of its own on a tensor."""
        if is_fake(x):
            self.tagged[id(x)] = (x, f"{self.tracer.where()}: the attribute {name}")

    def gives(self, result: Any) -> None:
        """The call returns ``result``.  Raises: UnsupportedError where a tensor that goes out, or
        came in, has got an attribute, which only this stand-in of it has."""
        outer = {val.id for val, _, _ in self.tracer.inputs}
        given = {id(x) for x in leaves(result)}
        for x, what in self.tagged.values():
            known = self.tracer.vals.get(id(x))
            if id(x) in given or (known is not None and known[1].id in outer):
                raise UnsupportedError(f"{what} is set on a tensor; keep it beside the tensor")

    def mark(self) -> dict[ContextVar, Any]:
        return {variable: variable.get(MISSING) for variable in self.variables}

    def settle(self, mark: dict[ContextVar, Any], where: Any) -> None:
        """One way of a decision, or trip of a loop, has ended.  Raises: UnsupportedError."""
        for variable, first in self.variables.items():
            if self.put(variable, mark.get(variable, first)):
                raise UnsupportedError(
                    f"{where}: the context variable {variable.name} is set on one way of a decision "
                    f"on data; set it before the decision, or reset it on that way"
                )

    def back(self) -> None:
        """Set context variables as they were before the call."""
        for variable, first in self.variables.items():
            self.put(variable, first)

    def ends(self) -> None:
        """The call is over.  Raises: UnsupportedError."""
        for variable, first in self.variables.items():
            if self.put(variable, first):
                raise UnsupportedError(
                    f"{self.tracer.where()}: the context variable {variable.name} is left with "
                    f"another value; reset it before the function returns, or set it outside"
                )
        before = self.tracer.journal.frames[0].before
        for (key, name), owner in self.kept.items():
            old, now = before[key][1] if key in before else None, content(owner)
            if isinstance(old, dict) and old.get(name, MISSING) is not now.get(name, MISSING):
                raise UnsupportedError(
                    f"{self.tracer.where()}: {name} is changed, which a function with a cache has "
                    f"read; leave out the cache, or give the function {name} as an argument"
                )
        if self.is_seed_asked and self.is_seed_set:
            raise UnsupportedError(
                f"{self.tracer.where()}: the seed is asked for in a function that sets it; keep it "
                f"in a variable"
            )
        for module, what in self.modules.items():
            if id(module) in before and _differs(before[id(module)][1], content(module)):
                raise UnsupportedError(
                    f"{what} changes what {type(module).__name__} is made of; do it before the function"
                )


def _differs(old: dict[str, Any], now: dict[str, Any]) -> bool:
    """The tables of a module hold other things, or in another order."""
    return any(
        list(old[name]) != list(now[name])
        or any(a is not b for a, b in zip(old[name].values(), now[name].values()))
        for name in TABLES
        if isinstance(old.get(name), dict) and isinstance(now.get(name), dict)
    )
