"""The inputs of a tape: real tensors that the code meets, and numbers that are read at every call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from oarlock.capture.tape.arithmetic import differing
from oarlock.capture.tape.nodes import Val
from oarlock.capture.tape.numbers import number_of
from oarlock.capture.tape.sources import Source, key_of
from oarlock.capture.torch_private import outside_modes

if TYPE_CHECKING:
    from oarlock.capture.tape.tracer import Tracer


class Inputs:
    """What a capture has found outside, with the source that it is read from at every call.

    Args: state: tensors by id with their source; symbolic: the two values of each number, and of
        each size, that is read at every call; is_exact: an argument that is given twice, or that
        the code also finds elsewhere, is one input.
    """

    def __init__(
        self, tracer: Tracer, state: dict[int, tuple[torch.Tensor, Source]],
        symbolic: dict[Any, tuple[Any, Any]], is_exact: bool,
    ) -> None:  # fmt: skip
        self.tracer, self.state, self.symbolic = tracer, state, symbolic
        self.is_exact, self.is_repeated, self.given = is_exact, False, set[int]()
        self.fakes: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.found: list[tuple[Val, Source, Any]] = []
        self.ids = set[int]()
        self.aliases: list[tuple[Source, Source]] = []
        self.grads: dict[int, tuple[Source, torch.Tensor | None, int]] = {}  # as they come

    def __iter__(self) -> Iterator[tuple[Val, Source, Any]]:
        return iter(self.found)

    def __contains__(self, val: Val) -> bool:
        return val.id in self.ids

    def add(self, val: Val, source: Source, real: Any) -> None:
        self.found.append((val, source, real))
        self.ids.add(val.id)

    def fake_of(self, real: torch.Tensor) -> torch.Tensor:
        """The fake of a real tensor that the code meets: a new input of the tape at first."""
        found = self.fakes.get(id(real))
        if found is not None:
            return found[1]
        source = self.state[id(real)][1] if id(real) in self.state else Source(real, "", "a tensor")
        return self.tensor(real, source)

    def met(self, real: torch.Tensor, source: Source) -> None:
        """The code finds ``real`` at ``source``: where it is an input already, it must be that one."""
        if id(real) in self.fakes:
            first = next(s for _, s, x in self if x is real)
            if key_of(first, -1) != key_of(source, -1):
                self.aliases.append((first, source))

    def tensor(self, real: torch.Tensor, source: Source) -> torch.Tensor:
        """A fake of ``real`` as input of the tape."""
        found = self.fakes.get(id(real))
        if found is not None:
            first = next(s for _, s, x in self if x is real)
            self.aliases.append((first, source))
            return found[1]
        if self.is_exact and source.base is None and id(real) in self.state:
            self.aliases.append((source, self.state[id(real)][1]))
        self.is_repeated |= id(real) in self.given
        with torch._C.DisableTorchFunction(), outside_modes():
            sizes = [self.symbolic.get(key_of(source, i)) for i in range(real.dim())]
            is_inner = real.requires_grad and not real.is_leaf
            held = real.detach().requires_grad_(real.requires_grad)
            held = held if self.is_repeated or is_inner else real
            fake = self._with_history(held) if is_inner else self._fake(held)
            others = [n if s is None else differing(n, s) for n, s in zip(real.shape, sizes)]
            twin = None
            if any(s is not None for s in sizes):
                meta = torch.empty(others, dtype=real.dtype, requires_grad=real.requires_grad)
                twin = self._with_history(meta) if is_inner else self._fake(meta)
            grad = fake.grad if fake.is_leaf else None
        if self.is_exact or source.base is not None:
            self.fakes[id(real)] = (real, fake)
        self.given.add(id(real))
        val = self.tracer.name(fake, Val(self.tracer.root, fake, str(source)))
        val.dims = frozenset(i for i, s in enumerate(sizes) if s is not None)
        val.twin = twin
        self.grads[val.id] = (source, grad, -1 if grad is None else grad._version)
        self.add(val, source, real)
        return fake

    def source_of_grad(self, val: Val, grad: torch.Tensor | None) -> Source | None:
        """The source of an input that has the gradient ``grad`` that it came with: no pass has
        changed it."""
        source, first, version = self.grads.get(val.id, (None, None, -1))
        is_own = first is grad and (grad is None or grad._version == version)
        return source if is_own else None

    def _fake(self, real: torch.Tensor) -> torch.Tensor:
        return self.tracer.fake.from_tensor(real, static_shapes=True)

    def _with_history(self, leaf: torch.Tensor) -> torch.Tensor:
        """No leaf, and gradients pass through it, as through what eager code has computed."""
        fake = self._fake(leaf)
        with torch.inference_mode(False), torch.enable_grad():
            return fake.clone()

    def generator(self, x: torch.Generator, source: Source) -> torch.Generator:
        """A generator that each call gives: it stands for itself."""
        known = self.tracer.higher.generators
        if id(x) in known:
            self.aliases.append((next(s for _, s, real in self if real is x), source))
            return x
        val = Val(self.tracer.root, x, str(source))
        self.add(val, source, x)
        known[id(x)] = (x, val)
        return x

    def plain(self, x: Any, source: Source, atoms: list[tuple[Any, Source]]) -> Any:
        """An int or float from outside: itself, guarded by equality; or read at each call."""
        hints = self.symbolic.get(key_of(source, -1))
        if hints is None and source.shown.endswith("lr"):
            hints = (x, x / 2)
        if hints is None:
            atoms.append((x, source) if atoms is not self.tracer.objects.guarded else (source, x))  # type: ignore[arg-type]
            return x
        val = Val(self.tracer.root, x, str(source))
        self.add(val, source, x)
        number = number_of(val, x, False)
        number.other, number.is_free = differing(x, hints), True
        return number
