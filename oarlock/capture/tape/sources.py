"""Where a tape's inputs come from: read again at each call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from oarlock.capture.owners import modules_of


@dataclass(frozen=True, eq=False)
class Source:
    """An expression of the replay: ``base`` (an object kept by the tape, or None) and ``path``.

    ``path`` is Python text after the base, such as ``['weight']`` or ``.cell_contents``; without a
    base it starts at the call's ``args`` or ``kwargs``.
    """

    base: Any
    path: str
    shown: str = ""

    def __str__(self) -> str:
        return self.shown or self.path

    def step(self, path: str) -> Source:
        return Source(self.base, self.path + path, f"{self}{path}")

    def value(self) -> Any:
        """What is there now, where it has a base."""
        return eval("base" + self.path, {**KEYS, "base": self.base})


KEYS: dict[str, Any] = {}  # keys of dicts that have no literal, by the name they have in paths
_LITERALS = (str, int, bool, bytes, type(None))


def item_path(key: Any) -> str:
    """The path from a container to an item."""
    parts = key if type(key) is tuple else (key,)
    if all(type(part) in _LITERALS for part in parts):
        return f"[{key!r}]"
    name = f"key_{id(key)}"
    KEYS[name] = key
    return f"[{name}]"


def argument(path: str, shown: str = "") -> Source:
    return Source(None, path, shown)


def tables_of(module: torch.nn.Module, prefix: str) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """``(prefix, module, table)`` of every dict of a module and those below that holds tensors."""
    for name, child in module.named_modules():
        path = ".".join(x for x in (prefix, name) if x)
        yield path, child, child._parameters
        yield path, child, child._buffers
        yield path, child, child.__dict__


def state_sources(roots: list[Any]) -> dict[int, tuple[torch.Tensor, Source]]:
    """Parameters, buffers and tensor attributes of the modules that ``roots`` use, by id."""
    found: dict[int, tuple[torch.Tensor, Source]] = {}
    for x, source in _places(roots):
        found.setdefault(id(x), (x, source))
    return found


def tied(roots: list[Any]) -> list[tuple[torch.Tensor, Source]]:
    """Each place of the tensors that are at several places of modules."""
    found = list(_places(roots))
    counts = Counter(id(x) for x, _ in found)
    return [(x, source) for x, source in found if counts[id(x)] > 1]


def _places(roots: list[Any]) -> Iterator[tuple[torch.Tensor, Source]]:
    seen: set[int] = set()
    for root in roots:
        for prefix, module in modules_of(root):
            for path, _, table in tables_of(module, prefix.removesuffix(".")):
                if id(table) in seen:
                    continue
                seen.add(id(table))
                for name, x in table.items():
                    if isinstance(x, torch.Tensor):
                        shown = f"{path}.{name}" if path else name
                        yield x, Source(table, f"[{name!r}]", shown)


def modules_below(roots: list[Any]) -> list[torch.nn.Module]:
    """Every module that ``roots`` use, each once."""
    found: dict[torch.nn.Module, None] = {}
    for root in roots:
        for _, module in modules_of(root):
            found.update(dict.fromkeys(module.modules()))
    return list(found)


Key = tuple[int, str, int]  # base object, path, axis (-1: a number)


def key_of(source: Source, axis: int) -> Key:
    """What identifies a size or number over several captures."""
    return (id(source.base) if source.base is not None else 0, source.path, axis)
