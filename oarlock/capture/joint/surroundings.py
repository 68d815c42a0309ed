"""What a training step reaches beside its arguments: modules, optimizers; and putting them back."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from oarlock.capture.owners import Attributes, forget_stand_ins, named_tensors

Option = tuple[
    dict[str, Any], str, int | None
]  # a group of an optimizer, a key, a place in a tuple


def reached(fn: Any, kind: type, depth: int = 2) -> Iterator[tuple[str, Any]]:
    """``(name, object)`` of class ``kind`` in what a callable closes over, its globals, its owner."""
    seen: set[int] = set()

    def visit(name: str, x: Any, depth: int) -> Iterator[tuple[str, Any]]:
        if isinstance(x, kind):
            if id(x) not in seen:
                seen.add(id(x))
                yield name, x
        elif depth and not isinstance(x, (type, torch.Tensor)):
            for child, value in _parts(x):
                yield from visit(f"{name}.{child}" if name else child, value, depth - 1)

    yield from visit("", fn, depth + 1)


def _parts(x: Any) -> list[tuple[str, Any]]:
    if isinstance(x, functools.partial):
        given = [(f"arg{i}", v) for i, v in enumerate(x.args)]
        return [*_parts(x.func), *given, *x.keywords.items()]
    if inspect.ismethod(x):
        return [("self", x.__self__), *_parts(x.__func__)]
    if inspect.isfunction(x):
        closed = inspect.getclosurevars(x)
        return [*closed.nonlocals.items(), *closed.globals.items()]
    if isinstance(x, (list, tuple)) and len(x) <= 16:
        return [(str(i), v) for i, v in enumerate(x)]
    if isinstance(x, dict) and len(x) <= 16:
        return [(str(k), v) for k, v in x.items()]
    return list(vars(x).items()) if hasattr(x, "__dict__") and not inspect.ismodule(x) else []


@dataclass
class Surroundings:
    """Names, optimizers and their float options; what they hold is restored by ``restore``."""

    fn: Any
    optimizers: list[tuple[str, torch.optim.Optimizer]]
    names: dict[int, str]
    options: list[tuple[str, Option]]
    _attributes: Attributes
    _grads: list[tuple[torch.Tensor, torch.Tensor | None]]
    _held: list[tuple[torch.optim.Optimizer, dict[str, Any]]]
    _groups: list[tuple[dict[str, Any], dict[str, Any]]]
    _states: list[tuple[Any, dict[Any, Any]]] = field(default_factory=list)

    @staticmethod
    def of(
        fn: Any, changing: Collection[Any] = (), extra: Sequence[torch.Tensor] = ()
    ) -> Surroundings:
        """Args: changing: options beside learning rates, by name or as in ``places``;
        extra: tensors whose ``.grad`` may change beside parameters."""
        optimizers = list(reached(fn, torch.optim.Optimizer))
        names = named_tensors(fn)
        for prefix, module in reached(fn, torch.nn.Module):
            for name, tensor in (*module.named_parameters(), *module.named_buffers()):
                names.setdefault(id(tensor), f"{prefix}.{name}" if prefix else name)
        groups = [g for _, o in optimizers for g in o.param_groups]
        tensors = {id(p): p for g in groups for p in g["params"]}
        for _, module in reached(fn, torch.nn.Module):
            tensors.update((id(p), p) for p in module.parameters())
        tensors.update((id(x), x) for x in extra if x.is_leaf and x.requires_grad)
        found = Surroundings(
            fn, optimizers, names, [], Attributes.of(fn),
            [(p, p.grad) for p in tensors.values()],
            [(o, dict(vars(o))) for _, o in optimizers], [(g, dict(g)) for g in groups],
        )  # fmt: skip
        for prefix, optimizer in optimizers:
            found._name_states(prefix, optimizer)
            found._find_options(prefix, optimizer, changing)
        return found

    def _name_states(self, prefix: str, optimizer: torch.optim.Optimizer) -> None:
        for p, state in optimizer.state.items():
            self._states.append((state, dict(state)))
            for key, x in state.items():
                if isinstance(x, torch.Tensor):
                    self.names.setdefault(id(x), f"{prefix}.{self.names.get(id(p), 'p')}.{key}")
        self._states.append((optimizer.state, dict(optimizer.state)))

    def _find_options(
        self, prefix: str, optimizer: torch.optim.Optimizer, changing: Collection[Any]
    ) -> None:
        """The learning rates, and what has changed before."""
        for i, group in enumerate(optimizer.param_groups):
            for key, value in group.items():
                for place, x in enumerate(value) if type(value) is tuple else [(None, value)]:
                    name = f"{prefix}.param_groups[{i}].{key}"
                    name = name if place is None else f"{name}[{place}]"
                    is_read = (
                        key == "lr" or name in changing or _path(group, key, place) in changing
                    )
                    if type(x) is float and is_read:
                        self.options.append((name, (group, key, place)))

    @property
    def places(self) -> set[tuple[int, str]]:
        """The options as ``(id(group), path)``, such as ``['betas'][0]``."""
        return {_path(*option) for _, option in self.options}

    def replace_options(self, numbers: Sequence[Any]) -> None:
        """Let the optimizers read ``numbers``, one for each of ``options``."""
        for (_, (group, key, place)), number in zip(self.options, numbers):
            if place is None:
                group[key] = number
            else:
                whole = list(group[key])
                whole[place] = number
                group[key] = tuple(whole)

    def read_options(self) -> list[Any]:
        """The options now."""
        return [
            group[key] if place is None else group[key][place]
            for _, (group, key, place) in self.options
        ]

    @property
    def grads(self) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
        """Parameters, and the gradients that they had."""
        return self._grads

    def is_new_state(self) -> bool:
        """The run has made state that the optimizers did not have."""
        return any(set(now) != set(before) for now, before in self._states)

    def fixed_options(self) -> list[tuple[str, Any]]:
        """The other options, which a program is made for, by name."""
        changing = {name for name, _ in self.options}
        found = []
        for prefix, optimizer in self.optimizers:
            for i, group in enumerate(optimizer.param_groups):
                for key, value in group.items():
                    name = f"{prefix}.param_groups[{i}].{key}"
                    if type(value) is tuple:
                        parts = [(f"{name}[{k}]", x) for k, x in enumerate(value)]
                        found += [(n, x) for n, x in parts if n not in changing]
                    elif key != "params" and name not in changing:
                        found.append((name, len(value) if type(value) is list else value))
        return found

    def restore(self) -> None:
        """Put back what the run has changed."""
        for p, grad in self._grads:
            if p.grad is not grad:
                p.grad = grad
        for now, before in (*self._states, *self._groups):
            for key in [k for k in now if k not in before]:
                del now[key]
            for key, value in before.items():
                if key not in now or now[key] is not value:
                    now[key] = value
        for optimizer, before in self._held:
            vars(optimizer).update(before)
        self._attributes.restore()
        forget_stand_ins()


def _path(group: dict[str, Any], key: str, place: int | None) -> tuple[int, str]:
    return id(group), f"[{key!r}]" if place is None else f"[{key!r}][{place}]"
