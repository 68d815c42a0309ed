"""While code is converted, every module's call runs its converted ``forward``, hooks included."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType, MethodType
from typing import Any

from torch import nn

from oarlock.capture.convert.handing import settled
from oarlock.capture.convert.tracing import tracer
from oarlock.errors import UnsupportedError

_local = threading.local()
_lock = threading.Lock()
_users = [0]
_original: Callable[..., Any] = nn.Module.__call__
_MISSING = object()
_own_entries: dict[int, dict[str, Any]] = {}  # of modules whose call is running, by id


@contextmanager
def converting_modules() -> Iterator[None]:
    """Calls of modules in this thread run converted code; nests."""
    depth = getattr(_local, "depth", 0)
    if depth == 0:
        with _lock:
            _users[0] += 1
            nn.Module.__call__ = _call  # type: ignore[method-assign]
    _local.depth = depth + 1
    try:
        yield
    finally:
        _local.depth = depth
        if depth == 0:
            with _lock:
                _users[0] -= 1
                if not _users[0]:
                    nn.Module.__call__ = _original  # type: ignore[method-assign]


_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


def _call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
    if not getattr(_local, "depth", 0):
        return _original(self, *args, **kwargs)
    active = tracer()
    if active is not None:
        active.code.calls(self)
        if self._backward_hooks or self._backward_pre_hooks:
            with without_backward_hooks(self):
                return active.higher.hooked(self, lambda *given: self(*given, **kwargs), args)
    with own_entries_known(self), converted_hooks(self):
        return _call_converted(self, *args, **kwargs)


@contextmanager
def without_backward_hooks(module: nn.Module) -> Iterator[None]:
    """Each run sets them around the call; only hooks that torch tells of all gradients are known."""
    if module._is_full_backward_hook is False:
        raise UnsupportedError(
            f"{tracer().where()}: {type(module).__name__} has hooks of register_backward_hook; use "
            f"register_full_backward_hook"
        )
    own = vars(module)
    held = {name: own[name] for name in ("_backward_hooks", "_backward_pre_hooks")}
    own.update({name: type(table)() for name, table in held.items()})
    try:
        yield
    finally:
        own.update(held)


@contextmanager
def own_entries_known(module: nn.Module) -> Iterator[None]:
    """``own_table`` of the module tells what it held before its outermost call."""
    own = vars(module)
    is_outermost = id(module) not in _own_entries
    if is_outermost:
        _own_entries[id(module)] = {name: own.get(name, _MISSING) for name in ("forward", *_HOOKS)}
    try:
        yield
    finally:
        if is_outermost:
            del _own_entries[id(module)]


def own_table(obj: Any) -> dict[str, Any]:
    """A copy of an object's ``__dict__`` without what stands in it for a converted call."""
    table = dict(vars(obj))
    for name, value in _own_entries.get(id(obj), {}).items():
        if value is _MISSING:
            table.pop(name, None)
        else:
            table[name] = value
    return table


def is_hooked(module: nn.Module) -> bool:
    """Something looks at what the module gives before its caller does."""
    shared = nn.modules.module
    every = (*_HOOKS, "_backward_hooks", "_backward_pre_hooks")
    return any(vars(module).get(name) for name in every) or bool(shared._global_forward_hooks)


def with_forward(module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The module's call by another form of its ``forward``."""
    _local.forward = (module, forward)
    return module(*args, **kwargs)


def _call_converted(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
    forward = converted_forward(self)
    if forward is None:
        if tracer() is None:
            return _original(self, *args, **kwargs)
        return settled(functools.partial(_original, self), args, kwargs)
    own = vars(self)
    before = own.get("forward", _MISSING)
    own["forward"] = forward
    try:
        return _original(self, *args, **kwargs)
    finally:
        if before is _MISSING:
            own.pop("forward", None)
        else:
            own["forward"] = before


@contextmanager
def converted_hooks(module: nn.Module) -> Iterator[None]:
    """Hooks of a module's forward run converted in here."""
    from oarlock.capture.convert.calls import call

    own = vars(module)
    hooks = {name: own[name] for name in _HOOKS if own.get(name)}
    for name, table in hooks.items():
        made = ((key, _decided(name, call(hook))) for key, hook in table.items())
        own[name] = type(table)(made)
    try:
        yield
    finally:
        own.update(hooks)


def _decided(name: str, hook: Callable[..., Any]) -> Callable[..., Any]:
    """A hook that gives what it leaves as it is where data decide whether it gives something."""
    from oarlock.capture.convert.truth import here, is_run_time, select

    is_pre = name == "_forward_pre_hooks"

    def decided(module: nn.Module, *given: Any) -> Any:
        found = hook(module, *given)
        is_nothing = tracer().is_(found, None) if is_run_time(found) else False
        if not is_run_time(is_nothing):
            return found
        if not is_pre:
            return select(is_nothing, lambda: given[-1], lambda: found, here())
        same = given[0] if len(given) == 1 else given
        new = found if isinstance(found, tuple) else (found,)
        return select(is_nothing, lambda: same, lambda: new, here())

    return decided


def converted_forward(module: nn.Module) -> Callable[..., Any] | None:
    """The converted ``forward`` of a module, None where it runs as it is."""
    from oarlock.capture.convert.calls import call
    from oarlock.capture.convert.left_out import is_excluded, is_left_out

    given = getattr(_local, "forward", None)
    if given is not None and given[0] is module:
        _local.forward = None
        return given[1]
    forward = vars(module).get("forward")
    if forward is None:
        function = type(module).forward
        if tracer() is not None and is_left_out(function):
            return tracer().override(MethodType(function, module))
        if type(function) is not FunctionType or is_excluded(function):
            return None
        forward = MethodType(function, module)
    if not isinstance(forward, (FunctionType, MethodType)):
        return None
    made = call(forward)
    return None if made is forward else made
