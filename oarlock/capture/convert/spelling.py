"""Texts of objects and containers that hold run-time values: put together at run time."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch

from oarlock.capture.convert.state import Text, parts_of
from oarlock.capture.convert.tracing import tracer, used
from oarlock.capture.convert.truth import is_run_time, refuse_here, special

_BRACKETS: dict[type, str] = {tuple: "()", list: "[]", dict: "{}", torch.Size: "torch.Size([])"}
_OTHERS = (dict, set, frozenset, deque)
_DEPTH = 6


def spelled(value: Any, conversion: str = "") -> Text | None:
    """``str(value)``, or ``repr(value)`` with ``conversion="r"``; None where nothing in it is run-time."""
    if tracer() is None or isinstance(value, str):
        return value if isinstance(value, Text) and conversion != "r" else None
    found = _parts(used(value), conversion, _DEPTH)
    return (
        None
        if all(isinstance(x, str) and not isinstance(x, Text) for x in found)
        else joined(found)
    )


def joined(parts: list[Any]) -> Text:
    """One text of literal texts, texts and values."""
    flat: list[Any] = []
    for x in parts:
        flat += (x,) if type(x) is tuple else parts_of(x)
    return Text.of(tuple(flat))


def _parts(value: Any, conversion: str, depth: int) -> list[Any]:
    if isinstance(value, Text) and conversion == "r":
        return [(value, "r", "")]
    if isinstance(value, str) or not depth:
        return [value if conversion != "r" else repr(value)]
    if is_run_time(value):
        return [(value, conversion, "")]
    if isinstance(value, dict):
        tracer().uses(value)
    if _kind(value) in _BRACKETS and _holds(value, depth):
        return _of_container(value, depth)
    if isinstance(value, BaseException) and _holds(value.args, depth):
        return _of_error(value, conversion, depth)
    tracer().uses(value)
    if isinstance(value, _OTHERS) and _kind(value) not in _BRACKETS and _holds(value, depth):
        what = f"the text of a {type(value).__name__} that holds values of the run"
        refuse_here(what, "make it a list or a dict first")
    name = "__repr__" if conversion == "r" or type(value).__str__ is object.__str__ else "__str__"
    method = special(value, name)
    return [method(value) if method is not None else _plain(value, conversion)]


def _kind(value: Any) -> type:
    """Its class; a list that a trace made is a list."""
    return list if isinstance(value, list) and hasattr(value, "run_time_length") else type(value)


def _plain(value: Any, conversion: str) -> str:
    return repr(value) if conversion == "r" else str(value)


def _holds(value: Any, depth: int) -> bool:
    """A run-time value, or an object whose class spells itself, is inside."""
    items = [*value, *value.values()] if isinstance(value, dict) else value
    return any(
        is_run_time(x)
        or isinstance(x, Text)
        or (_kind(x) in _BRACKETS and depth > 0 and _holds(x, depth - 1))
        or (not isinstance(x, str) and special(x, "__repr__") is not None)
        for x in items
    )


def _of_error(error: BaseException, conversion: str, depth: int) -> list[Any]:
    """By its arguments, as those of Python's own errors are spelled."""
    own = special(error, "__repr__" if conversion == "r" else "__str__")
    if own is not None:
        return [own(error)]
    if conversion == "r":
        found = _of_container(error.args, depth)
        end = found[-1].removeprefix(",")
        return [type(error).__name__, *found[:-1], end]
    if len(error.args) > 1:
        return _of_container(error.args, depth)
    return _parts(next(iter(error.args)), "r" if isinstance(error, KeyError) else "", depth)


def _of_container(value: Any, depth: int) -> list[Any]:
    brackets = _BRACKETS[_kind(value)]
    half = (len(brackets) + 1) // 2 if type(value) is not torch.Size else len(brackets) - 2
    found: list[Any] = [brackets[:half]]
    for i, item in enumerate(value):
        found += [", "] if i else []
        found += _parts(item, "r", depth - 1)
        if isinstance(value, dict):
            found += [": ", *_parts(value[item], "r", depth - 1)]
    return [*found, "," * (type(value) is tuple and len(value) == 1) + brackets[half:]]
