"""Small programs in ordinary PyTorch, one file for each kind of construct."""

import importlib
import pkgutil


def load() -> None:
    """Register every case."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
