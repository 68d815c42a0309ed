"""What is handed to code that is not converted: whether it is None is decided before that asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from oarlock.capture.convert.tracing import tracer
from oarlock.capture.convert.truth import here, is_run_time, select

Key = int | str


def settled(run: Callable[..., Any], args: tuple, options: dict[str, Any]) -> Any:
    """``run(*args, **options)``, once for each way in which arguments are None or not."""
    active = tracer()
    given: dict[Key, Any] = {**dict(enumerate(args)), **options}
    keys = [k for k, x in given.items() if is_run_time(x) and _may_be_none(active, x)]
    return _settled(run, given, keys) if keys else run(*args, **options)


def _may_be_none(active: Any, x: Any) -> bool:
    if active.is_choice(x):
        return any(option is None for option in active.options(x))
    return active.may_be_none(x)


def _settled(run: Callable[..., Any], given: dict[Key, Any], keys: list[Key]) -> Any:
    if not keys:
        args = [x for key, x in given.items() if isinstance(key, int)]
        return run(*args, **{key: x for key, x in given.items() if isinstance(key, str)})
    first, *rest = keys
    return select(
        tracer().is_(given[first], None),
        lambda: _settled(run, {**given, first: None}, rest),
        lambda: _settled(run, given, rest),
        here(),
    )
