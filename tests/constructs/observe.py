"""What a program does, as plain data: results, errors, text, gradients, mutations, random draws."""

from __future__ import annotations

import contextlib
import copy
import enum
import io
import random
import types
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from tests.constructs.case import Case, leaves

_HIDDEN = {"forward", "_is_full_backward_hook", "_compiled_call_impl"}


@dataclass(frozen=True)
class TensorSeen:
    """A tensor: its values, and where the same tensor or its memory was seen before."""

    values: torch.Tensor
    dtype: torch.dtype
    requires_grad: bool
    same: str | None
    memory: str | None
    kind: str


@dataclass(frozen=True)
class Same:
    """A container that was seen before."""

    path: str


class Observer:
    """Turns objects into plain data that outlives their mutation; knows objects met before."""

    def __init__(self) -> None:
        self.seen: dict[int, tuple[Any, str]] = {}
        self.memory: dict[int, str] = {}

    def look(self, x: Any, path: str) -> Any:
        if isinstance(x, torch.Tensor):
            return self.tensor(x, path)
        if isinstance(
            x, (int, float, complex, str, bytes, bool, type(None), torch.dtype, enum.Enum)
        ):
            return x
        if isinstance(x, (np.ndarray, np.generic)):
            return ("numpy", str(x.dtype), x.tolist())
        if isinstance(x, tuple):
            return (type(x).__name__, *[self.look(v, f"{path}[{i}]") for i, v in enumerate(x)])
        if isinstance(x, (torch.device, type, range, slice, torch.Size)):
            return str(x)
        if isinstance(x, torch.Generator):
            return x.get_state().numpy().tobytes()
        if id(x) in self.seen:
            return Same(self.seen[id(x)][1])
        self.seen[id(x)] = (x, path)
        return self.container(x, path)

    def container(self, x: Any, path: str) -> Any:
        if isinstance(x, (list, deque)):
            items = [self.look(v, f"{path}[{i}]") for i, v in enumerate(x)]
            return {"type": type(x).__name__, "items": items}
        if isinstance(x, dict):
            items = [(k, self.look(v, f"{path}[{k!r}]")) for k, v in x.items()]
            return {"type": type(x).__name__, "keys": [k for k, _ in items], "items": items}
        if isinstance(x, (set, frozenset)):
            return {"type": type(x).__name__, "items": sorted(map(repr, x))}
        if isinstance(x, types.MethodType):
            return self.look(x.__self__, path)
        if isinstance(x, types.FunctionType):
            return self.function(x, path)
        if isinstance(x, nn.Module):
            return self.module(x, path)
        if hasattr(x, "__dict__"):
            items = [(k, self.look(v, f"{path}.{k}")) for k, v in vars(x).items()]
            return {"type": type(x).__name__, "items": items}
        return type(x).__name__

    def function(self, f: types.FunctionType, path: str) -> Any:
        cells = []
        for name, cell in zip(f.__code__.co_freevars, f.__closure__ or ()):
            with contextlib.suppress(ValueError):
                cells.append((name, self.look(cell.cell_contents, f"{path}.{name}")))
        defaults = self.look(list(f.__defaults__ or ()), f"{path}.defaults")
        return {"type": "function", "cells": cells, "defaults": defaults}

    def module(self, m: nn.Module, path: str) -> Any:
        held = {**m._parameters, **m._buffers, **m._modules}
        plain = {k: v for k, v in vars(m).items() if k not in _HIDDEN and not k.startswith("_")}
        own = {k: v for k, v in vars(m).items() if k.startswith("_") and k not in _BASE}
        parts = {**held, **plain, **own}
        items = [(k, self.look(v, f"{path}.{k}")) for k, v in sorted(parts.items())]
        return {"type": type(m).__name__, "items": items}

    def tensor(self, x: torch.Tensor, path: str) -> TensorSeen:
        same = self.seen.get(id(x))
        self.seen.setdefault(id(x), (x, path))
        try:
            memory = self.memory.setdefault(x.untyped_storage()._cdata, path)
        except NotImplementedError:
            memory = path
        values = (x.to_dense() if x.layout != torch.strided else x).detach().clone()
        shared = None if memory == path else memory
        kind = type(x).__name__
        return TensorSeen(values, x.dtype, x.requires_grad, same and same[1], shared, kind)


_BASE = set(vars(nn.Module())) | _HIDDEN


@dataclass
class Seen:
    """What one call did."""

    error: tuple[str, str] | None = None
    output: Any = None
    text: str = ""
    grads: Any = None
    arguments: Any = None
    subject: Any = None
    shared: Any = None
    draws: bytes = b""


def run_call(
    case: Case, call: Callable[..., Any], subject: Any, arguments: Any, grad: bool
) -> Seen:
    """Make a call and look at everything that it may have changed."""
    args, kwargs = arguments
    seen, text = Seen(), io.StringIO()
    output, failure = None, None
    with contextlib.redirect_stdout(text):
        try:
            output = call(*args, **kwargs)
        except Exception as error:
            failure = error
            seen.error = (type(error).__name__, str(error))
    seen.text, seen.draws = text.getvalue(), torch.get_rng_state().numpy().tobytes()
    observer = Observer()
    seen.arguments = observer.look([args, kwargs], "arguments")
    seen.subject = observer.look(subject, "subject")
    seen.shared = observer.look({n: case.namespace[n] for n in case.shared}, "globals")
    if failure is None:
        seen.output = observer.look(output, "output")
        seen.grads = gradients(case, output, subject, leaves([args, kwargs]), grad)
    return seen


def gradients(case: Case, output: Any, subject: Any, inputs: list[Any], grad: bool) -> Any:
    """The gradients of a weighted sum of the output; errors of the backward too."""
    held = list(subject.parameters()) if isinstance(subject, nn.Module) else []
    wanted = [x for x in [*inputs, *held] if isinstance(x, torch.Tensor) and x.requires_grad]
    ends = [x for x in leaves(output) if isinstance(x, torch.Tensor) and x.requires_grad]
    if not grad or not ends:
        return None
    sources = [x for x in wanted if x.is_leaf]
    loss = sum((torch.real(x) * _weights(x)).sum() for x in ends)
    try:
        if case.double:
            first = torch.autograd.grad(loss, sources, create_graph=True, allow_unused=True)
            loss = sum((g * g).sum() for g in first if g is not None)
        loss.backward()
    except RuntimeError as error:
        return str(error)
    found = [None if x.grad is None else x.grad.detach().clone() for x in sources]
    for x in sources:
        x.grad = None
    return found


def _weights(x: torch.Tensor) -> torch.Tensor:
    return (
        torch.linspace(0.5, 1.5, x.numel(), dtype=torch.float64).reshape(x.shape).to(torch.real(x))
    )


def seed(n: int) -> None:
    torch.manual_seed(n)
    random.seed(n)
    np.random.seed(n)


def run_all(
    case: Case,
    prepare: Callable[[Any], Callable[..., Any]],
    grad: bool,
    around: Callable[[int, Callable[[], Seen]], Seen],
    rounds: int = 2,
) -> list[Seen]:
    """Every call in order, ``rounds`` times, on one fresh subject."""
    before = {n: copy.deepcopy(case.namespace[n]) for n in case.shared}
    try:
        seed(7)
        subject = case.make()
        if isinstance(subject, nn.Module):
            subject.train(case.train)
        call = prepare(subject)
        seen = []
        for n, arguments in enumerate([a for _ in range(rounds) for a in case.fresh_calls(grad)]):
            seed(100 + n)
            seen.append(around(n, lambda: run_call(case, call, subject, arguments, grad)))  # noqa: B023
        return seen
    finally:
        case.namespace.update(before)


def differences(want: Any, got: Any, path: str = "") -> list[str]:
    """Where two observations differ; a tensor without axes may stand for a Python number."""
    if isinstance(want, TensorSeen):
        return _tensor_differences(want, got, path)
    if isinstance(got, TensorSeen):
        number = isinstance(want, (int, float)) and got.values.ndim == 0
        same = number and (got.values.item() == want or (want != want and got.values.isnan()))
        return [] if same else [f"{path}: {got.values} for {want!r}"]
    if isinstance(want, torch.Tensor):
        same = isinstance(got, torch.Tensor) and _equal(want, got)
        return [] if same else [f"{path}: {got} for {want}"]
    if isinstance(want, (list, tuple)) and type(want) is type(got):
        if len(want) != len(got):
            return [f"{path}: {got} for {want}"]
        return [
            d for i, (a, b) in enumerate(zip(want, got)) for d in differences(a, b, f"{path}[{i}]")
        ]
    if isinstance(want, dict) and isinstance(got, dict) and want.keys() == got.keys():
        return [d for k in want for d in differences(want[k], got[k], f"{path}.{k}")]
    same = type(want) is type(got) and (want == got or (want != want and got != got))
    return [] if same else [f"{path}: {got!r} for {want!r}"]


def _tensor_differences(want: TensorSeen, got: Any, path: str) -> list[str]:
    if not isinstance(got, TensorSeen):
        return [f"{path}: {got!r} for {want.values}"]
    found = [
        f"{path}: {name} is {getattr(got, name)}, not {getattr(want, name)}"
        for name in ("dtype", "requires_grad", "same", "memory", "kind")
        if getattr(want, name) != getattr(got, name)
    ]
    if not _equal(want.values, got.values):
        found.append(f"{path}: {got.values} for {want.values}")
    return found


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return bool(((a == b) | ((a != a) & (b != b))).all())
