"""Oarlock: a PyTorch model in, a verified fast engine out.

Names are imported on first use, so ``import oarlock`` loads neither torch nor a compiler.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

_EXPORTS = {
    "CompilerBug": "oarlock.errors",
    "Dim": "oarlock.ir",
    "InputSpec": "oarlock.capture",
    "OarlockError": "oarlock.errors",
    "Predictor": "oarlock.runtime.predictor",
    "Program": "oarlock.ir",
    "ToolError": "oarlock.errors",
    "UserError": "oarlock.errors",
    "capture": "oarlock.capture",
    "compare": "oarlock.runtime.compare",
    "evaluate": "oarlock.evaluate",
    "enable_to_static": "oarlock.capture.to_static",
    "ignore_module": "oarlock.capture.convert",
    "load": "oarlock.ir.archive",
    "not_to_static": "oarlock.capture.convert",
    "parse": "oarlock.ir.parser",
    "to_static": "oarlock.train.to_static",
}
_WITHOUT_OPS = ("oarlock.errors", "oarlock.runtime.predictor")  # a warm load parses no program
_MODULES = (
    "clip",
    "codegen",
    "errors",
    "ir",
    "knobs",
    "lite",
    "ops",
    "passes",
    "runtime",
    "static",
)

__all__ = ["__version__", *_EXPORTS, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"oarlock.{name}")
    if name not in _EXPORTS:
        raise AttributeError(f"module 'oarlock' has no attribute {name!r}")
    if _EXPORTS[name] not in _WITHOUT_OPS:
        importlib.import_module("oarlock.ops")
    value = getattr(importlib.import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


class _Package(ModuleType):
    """Keeps ``oarlock.capture`` the function when the folder of that name is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _EXPORTS and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
