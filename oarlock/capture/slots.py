"""What an object holds by name, in ``__slots__`` or in its ``__dict__``."""

from __future__ import annotations

from typing import Any

_OF_PYTHON = ("__dict__", "__weakref__")
_ELSEWHERE = ("builtins", "torch", "oarlock", "numpy")


def slots_in(cls: type) -> list[str]:
    """The names in ``__slots__`` of classes of the user, as the attributes are called."""
    found: list[str] = []
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] not in _ELSEWHERE:
            names = vars(base).get("__slots__", ())
            names = [names] if isinstance(names, str) else names
            found += (_mangled(base, name) for name in names if name not in _OF_PYTHON)
    return found


def _mangled(cls: type, name: str) -> str:
    """What Python makes of a private name in ``cls``."""
    is_private = name.startswith("__") and not name.endswith("__")
    return f"_{cls.__name__.lstrip('_')}{name}" if is_private else name


def slots_of(x: Any) -> list[str]:
    """The ``__slots__`` that an object of a class of the user has filled."""
    cls = type(x)
    return [n for n in slots_in(cls) if hasattr(x, n)] if hasattr(cls, "__slots__") else []


def attributes_of(x: Any) -> dict[str, Any]:
    """All that an object holds by name."""
    return getattr(x, "__dict__", {}) | {name: getattr(x, name) for name in slots_of(x)}
