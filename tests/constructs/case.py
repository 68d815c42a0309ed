"""A case: one program and the calls that take it along every path of its data."""

from __future__ import annotations

import copy
import inspect
import itertools
import linecache
import re
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

CASES: dict[str, Case] = {}
_RANDOM: dict[str, torch.Generator] = {}


@dataclass(frozen=True)
class Case:
    """Args: make: gives a fresh subject; calls: argument sets; method: of the subject, or itself.

    grad: with gradients too; double: twice; shared: globals of the program that it changes;
    frames: names of functions that may run as Python; every_line: some call reaches each line;
    captures: the largest number allowed, instead of the one derived from the calls.
    """

    name: str
    make: Callable[[], Any]
    calls: tuple[tuple[Any, ...], ...]
    file: str
    codes: tuple[Any, ...]
    method: str | None = None
    grad: bool = True
    double: bool = False
    shared: tuple[str, ...] = ()
    frames: tuple[str, ...] = ()
    every_line: bool = True
    captures: int | None = None
    train: bool = True
    namespace: dict[str, Any] = field(default_factory=dict, repr=False)

    def fresh_calls(self, grad: bool) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        calls = copy.deepcopy(self.calls)
        split = [(a[:-1], a[-1]) if a and isinstance(a[-1], Keywords) else (a, {}) for a in calls]
        if grad:
            for x in leaves(calls):
                if isinstance(x, torch.Tensor) and x.is_floating_point():
                    x.requires_grad_()
        return split


class Keywords(dict[str, Any]):
    """Keyword arguments at the end of an argument set."""


def kw(**named: Any) -> Keywords:
    return Keywords(named)


def case(*calls: Any, factory: bool = False, **options: Any) -> Callable[[Any], Any]:
    """Register a function, a module class, a class with ``method=``, or a factory of one of them."""

    def register(subject: Any) -> Any:
        module = inspect.getmodule(subject)
        assert module is not None
        area = module.__name__.rsplit(".", 1)[-1]
        name = f"{area}.{subject.__name__}"
        assert name not in CASES, name
        makes = factory or inspect.isclass(subject)
        CASES[name] = Case(
            name,
            subject if makes else (lambda: subject),
            tuple(c if isinstance(c, tuple) and not hasattr(c, "_fields") else (c,) for c in calls),
            module.__file__ or "",
            tuple(_codes(subject)),
            namespace=vars(module),
            **options,
        )
        return subject

    return register


def _codes(subject: Any) -> list[Any]:
    """The code objects that a subject's source defines."""
    if inspect.isclass(subject):
        members = [m for m in vars(subject).values() if hasattr(m, "__code__")]
        return [c for m in members for c in _codes(m)]
    code = inspect.unwrap(subject).__code__
    found, queue = [], [code]
    while queue:
        found.append(queue.pop())
        queue += [c for c in found[-1].co_consts if inspect.iscode(c)]
    return found


def leaves(tree: Any) -> list[Any]:
    """What is in the containers of ``tree``."""
    if isinstance(tree, (list, tuple, set)):
        return [x for item in tree for x in leaves(item)]
    if isinstance(tree, dict):
        return [x for item in tree.values() for x in leaves(item)]
    if hasattr(tree, "__dataclass_fields__"):
        return leaves(vars(tree))
    return [tree]


def t(*values: Any, dtype: torch.dtype | None = None) -> torch.Tensor:
    """A tensor of the values; of no axes for a single number."""
    return torch.tensor(values[0] if len(values) == 1 else values, dtype=dtype)


def r(*shape: int) -> torch.Tensor:
    """Random numbers, the same in every run, whatever other files draw."""
    file = sys._getframe(1).f_code.co_filename
    generator = _RANDOM.setdefault(file, torch.Generator().manual_seed(20))
    return torch.randn(*shape, generator=generator)


def net(*sizes: int) -> nn.Module:
    """A small perceptron."""
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), nn.Tanh()]
    return nn.Sequential(*layers)


def module_of(file: str, text: str) -> Any:
    """A module of generated source, whose lines tracebacks show; ``CODES``: all its code."""
    module: Any = types.ModuleType(re.sub(r"\W", "_", file.removesuffix(".py")))
    module.__file__ = file
    sys.modules[module.__name__] = module
    linecache.cache[file] = (len(text), None, text.splitlines(True), file)
    code = compile(text, file, "exec")
    exec(code, vars(module))
    module.CODES = tuple(inner_codes(code))
    return module


def inner_codes(code: types.CodeType) -> list[types.CodeType]:
    """The code objects inside ``code``."""
    inner = [c for c in code.co_consts if inspect.iscode(c)]
    return [*inner, *(c for i in inner for c in inner_codes(i))]
