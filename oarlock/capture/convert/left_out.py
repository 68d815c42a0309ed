"""Functions that run as they are when code that calls them is converted: libraries, and what users mark."""

from __future__ import annotations

import functools
import sys
import sysconfig
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodWrapperType, ModuleType
from typing import Any
from weakref import WeakSet

from oarlock.errors import ArgumentTypeError

_GENERATOR = 0x20
_PYTHON = tuple({str(Path(sysconfig.get_path(k))) for k in ("stdlib", "platstdlib")})
_SITE = ("/site-packages/", "/dist-packages/")
_LIBRARIES = ("torch", "numpy", "oarlock", "sympy", "functorch")
_CONVERTED_LIBRARIES = (
    "torch.distributions",
    "torch.nn.modules.transformer",
    "torch.nn.modules.rnn",
    "torch.nn.utils.rnn",
    "torch.nn.modules.batchnorm",
    "torch.nn.utils.clip_grad",
    "torch.amp.grad_scaler",
    "torch.optim",
    "oarlock.capture.convert.streams",
    "oarlock.capture.convert.torch_control",
)
_CONVERTED_STDLIB = (
    "collections.ChainMap.",
    "collections.UserDict.",
    "collections.UserList.",
    "contextlib.ExitStack.",
    "contextlib._BaseExitStack.",
    "contextlib.closing.",
    *(
        f"functools._{a}_from_{b}"
        for a in ("gt", "ge", "lt", "le")
        for b in ("lt", "le", "gt", "ge")
    ),
)
_OURS = str(Path(__file__).parents[2])

_excluded_modules: set[str] = set()
_excluded: WeakSet[Any] = WeakSet()


def not_to_static(fn: Any) -> Any:
    """Leave a function, or all methods of a class, as it is when code that calls it is converted.

    Raises: ArgumentTypeError for what is neither.
    """
    for function in _functions_of(fn):
        _excluded.add(function)
    return fn


def _functions_of(fn: Any) -> list[FunctionType]:
    """What is marked for ``not_to_static``; functions written in C run as they are anyway."""
    if isinstance(fn, functools.partial):
        return _functions_of(fn.func)
    inner = getattr(fn, "__func__", fn)
    if isinstance(inner, FunctionType):
        return [inner]
    if isinstance(fn, type):
        held = [getattr(x, "__func__", x) for x in vars(fn).values()]
        return [x for x in held if isinstance(x, FunctionType)]
    if isinstance(inner, (BuiltinFunctionType, MethodWrapperType)):
        return []
    kind = type(fn).__name__
    raise ArgumentTypeError(
        f"not_to_static: expected a function, a method or a class, got {kind}; mark the class "
        f"{kind} or the method that is called"
    )


def ignore_module(*modules: Any) -> None:
    """Leave all functions of these Python modules, and of modules in them, as they are.

    Args: modules: modules or their names, one by one or in lists.
    Raises: ArgumentTypeError for anything else.
    """
    for one in modules:
        if isinstance(one, (list, tuple, set)):
            ignore_module(*one)
        elif isinstance(one, (ModuleType, str)):
            _excluded_modules.add(one if isinstance(one, str) else one.__name__)
        else:
            raise ArgumentTypeError(
                f"ignore_module: expected Python modules or their names, got {type(one).__name__}; "
                f"a function or class is left out by not_to_static"
            )


def is_left_out(function: Any) -> bool:
    """Whether the user has left out this function, or method."""
    inner = getattr(function, "__func__", function)
    return type(inner) is FunctionType and (is_marked(inner) or _is_ignored(inner))


def is_marked(function: FunctionType) -> bool:
    """It was given to ``not_to_static``."""
    return function in _excluded


def _is_ignored(function: FunctionType) -> bool:
    """Its module, or a package around that, was given to ``ignore_module``."""
    module = function.__globals__.get("__name__", "")
    return any(module == m or module.startswith(f"{m}.") for m in _excluded_modules)


def is_excluded(function: FunctionType) -> bool:
    """Whether calls of it from converted code run it as it is."""
    if is_marked(function) or _is_ignored(function):
        return True
    wrapped = getattr(function, "__wrapped__", None)
    drives = function.__code__.co_flags & _GENERATOR  # the generator that it wraps, by send, throw
    if type(wrapped) is FunctionType and not drives:  # a decorator's: what it wraps decides
        return is_excluded(wrapped)
    module = function.__globals__.get("__name__", "")
    if f"{module}.{function.__qualname__}".startswith(_CONVERTED_STDLIB):
        return False
    return is_library(module, function.__code__.co_filename)


@functools.cache
def is_library(module: str, file: str) -> bool:
    top = module.partition(".")[0]
    if top in _LIBRARIES:
        return not (top == "oarlock" and not file.startswith(_OURS)) and not module.startswith(
            _CONVERTED_LIBRARIES
        )
    if any(part in file for part in _SITE) or module == "random":
        return False
    return file.startswith(_PYTHON) and (top in sys.stdlib_module_names or "/lib/python" in file)
