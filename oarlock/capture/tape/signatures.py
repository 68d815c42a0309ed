"""One form for all calls of a function: arguments by position, defaults filled in."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any

Normal = Callable[..., tuple[tuple, dict[str, Any]]]


def normaliser(fn: Callable[..., Any]) -> Normal:
    """``(*args, **kwargs) -> (args, kwargs)`` with one result for calls that mean the same.

    A call that does not fit raises the TypeError that ``fn`` would raise.
    """
    try:
        signature = inspect.signature(fn, follow_wrapped=False)
    except (TypeError, ValueError):
        return _as_given
    kinds = inspect.Parameter
    parameters = list(signature.parameters.values())
    positional = [
        _item(p) for p in parameters if p.kind not in (kinds.KEYWORD_ONLY, kinds.VAR_KEYWORD)
    ]
    named = [_entry(p) for p in parameters if p.kind in (kinds.KEYWORD_ONLY, kinds.VAR_KEYWORD)]
    defaults = {f"default_{p.name}": p.default for p in parameters if p.default is not p.empty}
    shown = [
        p.replace(
            annotation=p.empty,
            default=_Text(f"default_{p.name}") if p.default is not p.empty else p.empty,
        )
        for p in parameters
    ]
    head = str(inspect.Signature(shown))
    text = f"def normal{head}:\n    return ({''.join(positional)}), {{{''.join(named)}}}\n"
    scope: dict[str, Any] = dict(defaults)
    exec(text, scope)
    scope["normal"].__qualname__ = scope["normal"].__name__ = getattr(
        fn, "__qualname__", "function"
    )
    return scope["normal"]


def defaults_of(fn: Callable[..., Any]) -> tuple[Any, Any]:
    """The defaults of a function or method, in place of which others may be set."""
    function = getattr(fn, "__func__", fn)
    is_plain = type(function) is FunctionType
    return (function.__defaults__, function.__kwdefaults__) if is_plain else (None, None)


class _Text(str):
    """Shown without quotes."""

    def __repr__(self) -> str:
        return str(self)


def _item(p: inspect.Parameter) -> str:
    return f"*{p.name}, " if p.kind is p.VAR_POSITIONAL else f"{p.name}, "


def _entry(p: inspect.Parameter) -> str:
    return f"**{p.name}, " if p.kind is p.VAR_KEYWORD else f"{p.name!r}: {p.name}, "


def _as_given(*args: Any, **kwargs: Any) -> tuple[tuple, dict[str, Any]]:
    return args, kwargs
