"""What the emitted code of a tape calls."""

from __future__ import annotations

import collections
import copy
import operator
import threading
from typing import Any

import torch

from oarlock.capture.convert.state import Undefined
from oarlock.capture.torch_private import is_fake
from oarlock.errors import UnsupportedError


class Respecialise(Exception):
    """The call does not meet an assumption of the tape."""


class Modes:
    """Sets inference mode and autocast for the calls that were made under them."""

    def __init__(self) -> None:
        self.stack: list[Any] = []

    def inference(self, on: bool) -> None:
        guard = torch.inference_mode(on)
        guard.__enter__()
        self.stack.append(guard)

    @staticmethod
    def autocast(dtype: torch.dtype | None, cache: bool) -> None:
        torch.clear_autocast_cache()
        torch.set_autocast_enabled("cpu", dtype is not None)
        if dtype is not None:
            torch.set_autocast_dtype("cpu", dtype)
        torch.set_autocast_cache_enabled(cache)

    def restore(self) -> None:
        while self.stack:
            self.stack.pop().__exit__(None, None, None)


NAMES: dict[str, Any] = {"Respecialise": Respecialise, "set_grad": torch._C._set_grad_enabled}


def ambient_text(modes: Any, emitter: Any) -> str:
    """The condition that the modes around a call are ``modes``, and the default dtype is that of now."""
    text = f"is_grad_enabled() is {modes.grad} and is_inference() is {modes.inference}"
    text += f" and default_dtype() is {emitter.expr(torch.get_default_dtype())}"
    if modes.autocast is None:
        return text + " and not is_autocast('cpu')"
    return (
        f"{text} and is_autocast('cpu') and autocast_dtype('cpu') is {emitter.expr(modes.autocast)}"
    )


NAMES.update(
    modes=Modes(),
    is_grad_enabled=torch.is_grad_enabled,
    is_inference=torch.is_inference_mode_enabled,
    is_autocast=torch.is_autocast_enabled,
    autocast_dtype=torch.get_autocast_dtype,
    default_dtype=torch.get_default_dtype,
)


class Failed(threading.local):
    """The error by which the last call that may fail has failed."""

    error: Exception | None = None

    def __call__(self, error: Exception) -> None:
        self.error = error.with_traceback(None)


failed = Failed()


def outcome() -> tuple[bool, Exception | None]:
    """Whether the last call that may fail went well, and its error."""
    error, failed.error = failed.error, None
    return error is None, error


NAMES["failed"] = failed


def remade(kind: type[BaseException], args: tuple, held: dict[str, Any]) -> BaseException:
    """An error with given ``args`` and attributes, without its ``__init__``."""
    error = kind.__new__(kind, *args)
    error.args = args
    vars(error).update(held)
    return error


NAMES["remade"] = remade


def bound(value: Any, name: str) -> None:
    """Raises: UnboundLocalError when a variable has no value on the path that ran, AttributeError
    when an attribute, ``Class.name``, has none."""
    if isinstance(value, Undefined):
        kind, _, attribute = name.rpartition(".")
        if kind:
            raise AttributeError(f"{kind!r} object has no attribute {attribute!r}")
        raise UnboundLocalError(
            f"cannot access local variable {name!r} where it is not associated with a value"
        )


def is_missing(value: Any) -> bool:
    """An attribute was not set on the path that ran."""
    return isinstance(value, Undefined)


def attribute(value: Any, kind: str, name: str) -> None:
    """Raises: AttributeError when the path that ran has not set it."""
    if isinstance(value, Undefined):
        raise AttributeError(f"{kind!r} object has no attribute {name!r}")


NAMES["is_missing"] = is_missing


def new_cell() -> list[Any]:
    """For what a hook leaves when torch calls it."""
    return []


def put_cell(cell: list[Any], value: Any) -> None:
    cell.append(value)


def taken(cell: list[Any], old: Any, adds: bool) -> Any:
    """What a hook has left in ``cell`` since the last time, else ``old``."""
    if adds and len(cell) > 1:
        raise UnsupportedError(
            "a hook that adds to a value has run more than once in one backward pass; append to a list"
        )
    found = cell[-1] if cell else old
    cell.clear()
    return found


def same_objects(a: Any, b: Any) -> bool:
    return len(a) == len(b) and all(map(operator.is_, a, b))


def alike(a: Any, b: Any) -> bool:
    """Containers that hold the same objects, or equal values of the same types."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return len(a) == len(b) and alike([*a.items()], [*b.items()])
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(alike, a, b))
    return a is b or (isinstance(a, _VALUES) and bool(a == b))


_VALUES = (bool, int, float, complex, str, bytes, set, frozenset, torch.dtype, torch.device)


def same(value: Any) -> Any:
    return value


def spread(kind: type, *parts: Any) -> Any:
    """One list or tuple of the items of several."""
    return kind([x for part in parts for x in part])


def is_none(value: Any) -> bool:
    return value is None


def deep_copy(x: torch.Tensor) -> torch.Tensor:
    """``copy.deepcopy`` of one tensor, a fake one too."""
    if not x.is_leaf or not is_fake(x):
        return copy.deepcopy(x)
    return x.detach().clone().requires_grad_(x.requires_grad)


def deep_copies(items: list[Any]) -> list[Any]:
    return [deep_copy(x) if isinstance(x, torch.Tensor) else copy.deepcopy(x) for x in items]


def deep_copied(table: Any) -> Any:
    """A copy of a dict or set, and of what it holds."""
    found = copy.copy(table)
    if isinstance(found, dict):
        for key, value in zip(table, deep_copies([*table.values()])):
            found[key] = value
    return found


def ordered(items: list[Any], keys: list[Any] | None, reverse: bool) -> list[Any]:
    """``sorted(items)`` by the keys of the items, or by the items themselves."""
    if keys is None:
        return sorted(items, reverse=reverse)
    return [items[i] for i in sorted(range(len(items)), key=keys.__getitem__, reverse=reverse)]


def sort(items: list[Any], keys: list[Any] | None, reverse: bool) -> None:
    items[:] = ordered(items, keys, reverse)


def recursive(function: Any, *args: Any) -> Any:
    """A function of the tape that calls itself."""
    return function(*args)


def text(*parts: Any) -> str:
    """A formatted text: literals, and (value, conversion, spec) of each field."""
    found = []
    for part in parts:
        if isinstance(part, tuple):
            value, conversion, spec = part
            value = {"r": repr, "s": str, "a": ascii}.get(conversion or "", lambda x: x)(value)
            found.append(format(value, spec or ""))
        else:
            found.append(part)
    return "".join(found)


NAMES["same_objects"] = same_objects


def table(kind: type, factory: Any, rows: Any, is_pairs: bool) -> Any:
    """A dict or set of given rows."""
    if kind is collections.defaultdict:
        return collections.defaultdict(factory, rows)
    return kind(dict(rows)) if is_pairs and kind is collections.Counter else kind(rows)


def items_of(x: Any) -> list[Any]:
    """The keys of a dict, the items of a set."""
    return list(x)


def values_of(x: dict[Any, Any]) -> list[Any]:
    return list(x.values())


def pairs_of(x: dict[Any, Any]) -> list[Any]:
    return list(x.items())


def elements_of(x: collections.Counter[Any]) -> list[Any]:
    return list(x.elements())


def copy_of(x: Any) -> Any:
    return x.copy()


def popitem(x: dict[Any, Any], last: bool) -> Any:
    return x.popitem() if last else x.popitem(last=False)  # type: ignore[call-arg]
