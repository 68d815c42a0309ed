"""Optimizers inside a static function: their state is part of it, their settings are read at each call."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from oarlock.capture.slots import attributes_of
from oarlock.capture.tape.sources import Source

if TYPE_CHECKING:
    from oarlock.capture.tape.guards import Guards
    from oarlock.capture.tape.tracer import Tracer

_DEPTH = 3
_AS_A_WHOLE = (torch.optim.LBFGS, torch.optim.SparseAdam)


def is_step_as_a_whole(method: Any) -> bool:
    """``optimizer.step`` of a class whose decisions are on data: each run calls the method itself."""
    owner = getattr(method, "__self__", None)
    if not isinstance(owner, _AS_A_WHOLE):
        return False
    return getattr(method, "__func__", None) is type(owner).step


def step_(optimizer: torch.optim.Optimizer, closure: Any = None) -> Any:
    """One step, with what the class itself keeps; the closure is a function of the tape."""
    return optimizer.step() if closure is None else optimizer.step(closure)


def optimizers_of(roots: list[Any]) -> list[torch.optim.Optimizer]:
    """Optimizers that callables close over, hold or use as globals."""
    found: dict[int, torch.optim.Optimizer] = {}
    for root in roots:
        for x in _near(root, _DEPTH, set()):
            if isinstance(x, torch.optim.Optimizer):
                found[id(x)] = x
    return list(found.values())


def _near(x: Any, depth: int, seen: set[int]) -> Iterator[Any]:
    if id(x) in seen or not depth:
        return
    seen.add(id(x))
    yield x
    if isinstance(x, (torch.Tensor, torch.optim.Optimizer, type)):
        return
    inner: list[Any] = []
    function = x.__func__ if inspect.ismethod(x) else x
    if inspect.isfunction(function):
        closed = inspect.getclosurevars(function)
        inner += [*closed.nonlocals.values(), *closed.globals.values()]
    if inspect.ismethod(x):
        inner.append(x.__self__)
    if isinstance(x, functools.partial):
        inner += [x.func, *x.args, *x.keywords.values()]
    elif isinstance(x, dict):
        inner += x.values()
    elif isinstance(x, (list, tuple)):
        inner += x
    elif not inspect.ismodule(x) and not inspect.isfunction(x):
        inner += attributes_of(x).values()
    for item in inner:
        yield from _near(item, depth - 1, seen)


def is_fresh(optimizers: list[torch.optim.Optimizer]) -> bool:
    """Some optimizer makes its state at its first step, which is still to come."""
    return any(not o.state for o in optimizers)


class Held:
    """An optimizer's state and settings while a step is traced: put back after it."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.table = {k: v for k, v in vars(optimizer).items() if k != "state"}
        self.state = {p: dict(s) for p, s in optimizer.state.items()}
        self.given = list(optimizer.param_groups)
        self.groups = [dict(g) for g in self.given]
        self.params = [list(g["params"]) for g in self.given]
        self.grows = False  # what ran before ``close`` has made state

    def open(self, tracer: Tracer) -> None:
        """Let the tracer know where the state is, and read numbers of the groups at each call."""
        for state in self.optimizer.state.values():
            for name, x in state.items():
                if isinstance(x, torch.Tensor):
                    source = Source(state, f"[{name!r}]", f"optimizer.state.{name}")
                    tracer.inputs.state.setdefault(id(x), (x, source))
        for i, group in enumerate(self.optimizer.param_groups):
            tracer.objects.know(group, Source(group, "", f"optimizer.param_groups[{i}]"))
            for name, x in group.items():
                if name == "params":
                    continue
                at = Source(group, f"[{name!r}]", f"optimizer.param_groups[{i}].{name}")
                if isinstance(x, torch.Tensor):
                    tracer.inputs.state.setdefault(id(x), (x, at))
                elif type(x) in (int, float):
                    group[name] = tracer.inputs.plain(x, at, tracer.objects.guarded)
                elif type(x) is tuple and all(type(v) in (int, float) for v in x):
                    tracer.objects.structures.append((at, x))
                    made = tuple(
                        tracer.inputs.plain(v, at.step(f"[{j}]"), tracer.objects.guarded)
                        for j, v in enumerate(x)
                    )
                    group[name] = tracer.objects.settings[id(made)] = made
                else:
                    tracer.objects.guarded.append((at, x))

    def close(self) -> None:
        optimizer = self.optimizer
        for name in [n for n in vars(optimizer) if n != "state" and n not in self.table]:
            del vars(optimizer)[name]
        vars(optimizer).update(self.table)
        for p in [p for p in optimizer.state if p not in self.state]:
            self.grows = True
            del optimizer.state[p]
        for p, state in self.state.items():
            now = optimizer.state[p]
            for name in [n for n in now if n not in state]:
                self.grows = True
                del now[name]
            now.update(state)
        if len(optimizer.param_groups) != len(self.given):
            self.grows = True
            optimizer.param_groups[:] = self.given
        for group, before, params in zip(self.given, self.groups, self.params):
            for name in [n for n in group if n not in before]:
                del group[name]
            group.update(before)
            group["params"][:] = params

    def guard(self, guards: Guards) -> None:
        name = guards.emitter.constant(self.optimizer)
        groups = guards.emitter.constant(self.optimizer.param_groups)
        texts = [f"{name}.param_groups is {groups}", f"len({groups}) == {len(self.groups)}"]
        for i, group in enumerate(self.groups):
            params = guards.emitter.constant(list(group["params"]))
            texts.append(f"same_objects({groups}[{i}]['params'], {params})")
        texts.append(f"len({name}.state) == {len(self.state)}")
        for p, _ in self.state.items():
            state = guards.emitter.constant(self.optimizer.state[p])
            texts.append(f"{name}.state[{guards.emitter.constant(p)}] is {state}")
        guards.add(" and ".join(texts), "the optimizer keeps its parameters and state")
