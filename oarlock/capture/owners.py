"""The modules that a callable uses, with the names of their tensors."""

from __future__ import annotations

import functools
import gc
import inspect
import sys
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from oarlock.capture.torch_private import is_fake


def modules_of(fn: Any) -> Iterator[tuple[str, torch.nn.Module]]:
    """``(prefix, module)``: itself, the owner of a method, those closed over or global in a function."""
    if isinstance(fn, torch.nn.Module):
        yield "", fn
    elif isinstance(fn, functools.partial):
        yield from modules_of(fn.func)
        for i, x in enumerate((*fn.args, *fn.keywords.values())):
            if isinstance(x, torch.nn.Module):
                yield f"arg{i}.", x
    elif inspect.ismethod(fn):
        yield from modules_of(fn.__self__)
    elif inspect.isfunction(fn):
        closed = inspect.getclosurevars(fn)
        for name, x in {**closed.globals, **closed.nonlocals}.items():
            if isinstance(x, torch.nn.Module):
                yield f"{name}.", x
    elif hasattr(fn, "__dict__"):
        for name, x in vars(fn).items():
            if isinstance(x, torch.nn.Module):
                yield f"{name}.", x


def named_tensors(fn: Any) -> dict[int, str]:
    """Names of parameters and buffers by id; a tied one has its first name."""
    names: dict[int, str] = {}
    for prefix, module in modules_of(fn):
        for name, tensor in module.named_parameters(remove_duplicate=False):
            names.setdefault(id(tensor), prefix + name)
        for name, tensor in module.named_buffers(remove_duplicate=False):
            names.setdefault(id(tensor), prefix + name)
    return names


def named_modules(fn: Any) -> dict[int, str]:
    """Paths such as ``model.fc1`` by id."""
    names: dict[int, str] = {}
    for prefix, module in modules_of(fn):
        root = prefix.removesuffix(".") or "model"
        for name, child in module.named_modules():
            names.setdefault(id(child), f"{root}.{name}" if name else root)
    return names


_CONTAINERS = (dict, list, set, OrderedDict)  # hooks, which a model may install itself, are ordered


@dataclass
class Attributes:
    """What the modules of a callable hold, put back after a run that left its tensors there.

    Lists, sets and dicts in their attributes, hooks among them, get back what they had; a cached
    function forgets what it made of stand-ins.
    """

    held: list[tuple[torch.nn.Module, dict[str, dict[str, Any]]]]
    contents: list[tuple[Any, Any]]

    @staticmethod
    def of(fn: Any) -> Attributes:
        roots = [module for _, module in modules_of(fn)]
        modules = dict.fromkeys(m for root in roots for m in root.modules())
        held = [(m, {k: dict(v) for k, v in _tables(m).items()}) for m in modules]
        kept = [x for m in modules for x in vars(m).values() if type(x) in _CONTAINERS]
        return Attributes(held, [(x, x.copy()) for x in kept])

    def lost(
        self,
        view: Callable[[torch.Tensor], Any],
        names: Mapping[int, str],
        is_read: Callable[[torch.Tensor], bool],
    ) -> list[str]:
        """Buffers, and other tensors that were read, that were given another tensor."""
        found = []
        for module, before in self.held:
            path = names.get(id(module), type(module).__name__)
            for table, now in _tables(module).items():
                for name, old in before[table].items():
                    new, kind = now.get(name), "buffer" if table == "_buffers" else "tensor"
                    both = isinstance(new, torch.Tensor) and isinstance(old, torch.Tensor)
                    if not both or new is old or not (kind == "buffer" or is_read(old)):
                        continue
                    if view(new).read() is not view(old).read():
                        found.append(
                            f"{path}: assigns the {kind} {name!r} a new tensor, which the next "
                            f"call reads; update it in place: self.{name}.copy_(...)"
                        )
        return found

    def restore(self) -> None:
        """Put back what changed."""
        for module, before in self.held:
            for table, now in _tables(module).items():
                for name, old in before[table].items():
                    if name not in now or now[name] is not old:
                        now[name] = old
                for name in [n for n in now if n not in before[table]]:
                    del now[name]
        for container, before in self.contents:
            container.clear()
            (container.extend if isinstance(container, list) else container.update)(before)


def _tables(module: torch.nn.Module) -> dict[str, dict[str, Any]]:
    return {"_buffers": module._buffers, "attributes": vars(module)}


_CACHE = functools._lru_cache_wrapper
_caches: dict[int, _Watched] = {}  # those known, by id
_modules = [0]  # how many were imported when they were looked for


@dataclass(slots=True)
class _Watched:
    """``misses``: of the cache when it held no stand-in."""

    cache: weakref.ref[Any]
    misses: int = -1


def know_cache(function: Any) -> None:
    """Code that is traced calls ``function``, which may be a ``functools.lru_cache``."""
    if type(function) is _CACHE:
        known = _caches.get(id(function))
        if known is None or known.cache() is not function:
            _caches[id(function)] = _Watched(weakref.ref(function))


def forget_stand_ins(of_all: bool = True) -> None:
    """Empty every ``functools.lru_cache`` that keeps a fake tensor of a recording.

    Args: of_all: look for them, a walk over all objects; else only if modules came since.
    """
    if of_all or _modules[0] != len(sys.modules):
        _modules[0] = len(sys.modules)
        for x in gc.get_referrers(_CACHE):
            know_cache(x)
    gone = []
    for key, known in _caches.items():
        cache = known.cache()
        if cache is None:
            gone.append(key)
            continue
        _, misses, _, size = cache.cache_info()
        if misses == known.misses:
            continue
        if size and _holds_fake(cache):
            cache.cache_clear()
            misses = 0
        known.misses = misses
    for key in gone:
        del _caches[key]


def _holds_fake(cache: Any) -> bool:
    kept = gc.get_referents(cache)  # keys and results; those of a cache without end in a dict
    kept += [x for item in kept if type(item) is dict for x in item.values()]
    kept += [x for item in kept if type(item) in (tuple, list) for x in item]
    return any(isinstance(x, torch.Tensor) and is_fake(x) for x in kept)
