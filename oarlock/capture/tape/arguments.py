"""The arguments of a call as the capture sees them, and where the replay finds their parts."""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections import deque
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

import torch

from oarlock.capture.convert.left_out import is_library
from oarlock.capture.convert.state import Text
from oarlock.capture.slots import attributes_of, slots_in
from oarlock.capture.tape.sources import Source, item_path

Leaf = Callable[[torch.Tensor, Source], Any]
Note = Callable[[Any, Source], Any]
_ATOMS = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
_DEPTH = 8
_FEW = 64


class Stand:
    """Copies an argument with stand-ins for tensors and numbers; remembers where each part is.

    Args: tensor: the fake of a tensor; number: an int or float, or a symbolic one;
        listed: a list of stand-ins; known: objects, by id, that the code also meets otherwise,
        which stand for themselves; random: a generator of random numbers, which each call reads.
    """

    def __init__(
        self, tensor: Leaf, number: Note, listed: Note | None = None, known: Any = (),
        random: Note | None = None,
    ) -> None:  # fmt: skip
        self.tensor, self.number, self.listed, self.known = tensor, number, listed, known
        self.random = random
        self.aliases: list[tuple[Source, Source]] = []
        self.copies: dict[int, tuple[Any, Any, Source]] = {}
        self.places: dict[int, tuple[Any, Source]] = {}
        self.atoms: list[tuple[Any, Source]] = []
        self.shapes: list[tuple[Any, Source]] = []

    def of(self, x: Any, source: Source) -> Any:
        """The stand-in of ``x``."""
        if isinstance(x, torch.Tensor):
            return self.tensor(x, source)
        if type(x) in (int, float):
            return self.number(x, source)
        if isinstance(x, torch.Generator) and self.random is not None:
            return self.random(x, source)
        if isinstance(x, _ATOMS) or id(x) in self.known or not _is_copied(x):
            self.atoms.append((x, source))
            return x
        if id(x) in self.copies:
            self.aliases.append((self.copies[id(x)][2], source))
        else:
            self.shapes.append((x, source))
            new = self.copy(x, source)
            self.copies[id(x)] = (x, new, source)
            self.places[id(new)] = (new, source)
        return self.copies[id(x)][1]

    def copy(self, x: Any, source: Source) -> Any:
        if isinstance(x, dict):
            items = {k: self.of(v, source.step(item_path(k))) for k, v in x.items()}
            if type(x) is dict:
                return items
            new = copy.copy(x)
            for k, v in items.items():
                new[k] = v
            return new
        if isinstance(x, set):
            return copy.copy(x)
        if isinstance(x, deque):
            items = [self.of(v, source.step(f"[{i}]")) for i, v in enumerate(x)]
            new = copy.copy(x)
            new.clear()
            new.extend(items)
            return new
        if isinstance(x, (tuple, list)):
            items = [self.of(v, source.step(f"[{i}]")) for i, v in enumerate(x)]
            if type(x) is list and self.listed is not None:
                return self.listed(items, source)
            if type(x) in (tuple, list):
                return type(x)(items)
            return type(x)(*items) if hasattr(x, "_fields") else type(x)(items)
        new = copy.copy(x)
        for name, value in attributes_of(x).items():
            object.__setattr__(new, name, self.of(value, source.step(f".{name}")))
        return new


def _is_copied(x: Any) -> bool:
    if isinstance(x, (tuple, list, dict, deque, set)):
        return True
    return is_record(x) and (dataclasses.is_dataclass(x) or holds_tensor(x) or is_plain(x))


def is_plain(x: Any, depth: int = 4) -> bool:
    """Plain values, and containers and small objects of them: what is equal to it serves as well.

    An object with an empty list or dict is none: that is there to be filled, call by call.
    """
    if x is None or type(x) in (bool, int, float, complex, str, bytes, torch.dtype, torch.device):
        return True
    if not depth:
        return False
    if type(x) in (tuple, list):
        return 0 < len(x) <= _FEW and all(is_plain(v, depth - 1) for v in x)
    if type(x) is dict:
        return 0 < len(x) <= _FEW and all(is_plain(v, depth - 1) for v in x.values())
    return is_record(x) and is_plain(attributes_of(x), depth)


def is_record(x: Any) -> bool:
    """An object with attributes of its own that may hold tensors."""
    if isinstance(x, (type, torch.nn.Module, ModuleType, FunctionType, torch.Tensor)):
        return False
    if isinstance(x, (torch.optim.Optimizer, Text)):
        return False
    if dataclasses.is_dataclass(x):
        return True
    return not _is_function(x) and (hasattr(x, "__dict__") or _is_slotted(type(x)))


def _is_function(x: Any) -> bool:
    """What is called by more than a ``__call__`` that a class of the user has."""
    if not callable(x):
        return False
    call = type(x).__call__
    return type(call) is not FunctionType or is_library(
        type(x).__module__, call.__code__.co_filename
    )


def _is_slotted(cls: type) -> bool:
    """A class of the user whose objects have ``__slots__`` alone."""
    if not hasattr(cls, "__slots__") or issubclass(cls, (tuple, str, bytes, int, float)):
        return False
    is_library = cls.__module__.partition(".")[0] in sys.stdlib_module_names
    return not is_library and bool(slots_in(cls))


def holds_tensor(x: Any, depth: int = _DEPTH) -> bool:
    if isinstance(x, torch.Tensor):
        return True
    if not depth:
        return False
    if isinstance(x, dict):
        return any(holds_tensor(v, depth - 1) for v in x.values())
    if isinstance(x, (tuple, list)):
        return any(holds_tensor(v, depth - 1) for v in x)
    return is_record(x) and any(holds_tensor(v, depth - 1) for v in attributes_of(x).values())
