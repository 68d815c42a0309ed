"""Parameters by name: those that ``create_parameter`` makes, and the scopes that hold them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from oarlock.errors import ArgumentError, ArgumentTypeError
from oarlock.train.static.program import default_main_program, element_type

CREATED = WeakTensorKeyDictionary()  # names of what create_parameter has made
_COUNT = itertools.count()


class Scope:
    """Parameters by name."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}

    def find_var(self, name: str) -> Tensor | None:
        """The tensor of a name: of this scope, else of the program that is recorded now; or None."""
        return self.tensors.get(name, default_main_program().parameters().get(name))

    def var(self, name: str) -> Tensor:
        """``find_var`` of a name that is there.  Raises: ArgumentError."""
        found = self.find_var(name)
        if found is None:
            names = ", ".join([*self.tensors, *default_main_program().parameters()]) or "none"
            raise ArgumentError(f"no parameter {name!r} in the scope; names: {names}")
        return found

    def drop_kids(self) -> None:
        """Forget all."""
        self.tensors.clear()


_SCOPES = [Scope()]


def global_scope() -> Scope:
    """The scope of the innermost ``scope_guard``, else one that always exists."""
    return _SCOPES[-1]


@contextmanager
def scope_guard(scope: Scope) -> Iterator[Scope]:
    """Let ``create_parameter`` use another scope."""
    if not isinstance(scope, Scope):
        raise ArgumentTypeError(f"scope_guard: expected a Scope, got {type(scope).__name__}")
    _SCOPES.append(scope)
    try:
        yield scope
    finally:
        _SCOPES.remove(scope)


def create_parameter(
    shape: Sequence[int],
    dtype: Any = "float32",
    name: str | None = None,
    is_bias: bool = False,
    default_initializer: Callable[[Tensor], Any] | None = None,
) -> nn.Parameter:
    """A parameter: a new one, or that which has the name in the scope.

    Args:
        default_initializer: changes a tensor in place, such as those of ``torch.nn.init``; default:
            Xavier's uniform one (Glorot, 2010), zeros for a bias or a vector.
    Raises: ArgumentError when the name belongs to a parameter of another type.
    """
    if not isinstance(shape, (list, tuple)):
        raise ArgumentTypeError(f"create_parameter: shape: expected a list of sizes, got {shape!r}")
    if default_initializer is not None and not callable(default_initializer):
        raise ArgumentTypeError(
            f"create_parameter: default_initializer: expected a function that fills a tensor, such as "
            f"torch.nn.init.zeros_, got {default_initializer!r}"
        )
    sizes, kind = list(shape), element_type(dtype)
    if not all(type(n) is int and n >= 0 for n in sizes):
        raise ArgumentError(f"create_parameter: shape: expected sizes, got {sizes}")
    name = name or f"create_parameter_{next(_COUNT)}"
    known = global_scope().tensors.get(name)
    if known is not None:
        if list(known.shape) != sizes or known.dtype is not kind:
            raise ArgumentError(
                f"create_parameter: {name!r} is {known.dtype} {list(known.shape)} in this scope, "
                f"asked for as {kind} {sizes}"
            )
        return known  # type: ignore[return-value]
    with torch.no_grad(), torch._C.DisableTorchFunction():
        made = nn.Parameter(torch.zeros(sizes, dtype=kind))
        if default_initializer is not None:
            default_initializer(made)
        elif not is_bias and len(sizes) > 1:
            nn.init.xavier_uniform_(made)
    global_scope().tensors[name] = made
    CREATED[made] = name
    return made
