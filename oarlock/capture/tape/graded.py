"""Gradients of leaves that the ways of a decision leave different: there on one, none on the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from oarlock.capture.tape.forks import ForkNeeded
from oarlock.capture.tape.reached import Reached
from oarlock.capture.torch_private import is_fake
from oarlock.errors import UnsupportedError

if TYPE_CHECKING:
    from oarlock.capture.tape.tracer import Tracer

Table = dict[int, tuple[torch.Tensor, Any]]


class Way:
    """The gradients of leaves before a path, kept once it changes some, and what it leaves."""

    def __init__(self, unsure: dict[int, Any], depth: int) -> None:
        self.depth = depth  # of the block around
        self.before: Table | None = None
        self.unsure = dict(unsure)
        self.after: Table = {}
        self.left: dict[int, Any] = self.unsure
        self.needs: dict[int, tuple[torch.Tensor, bool]] = {}  # gradients, before and after it
        self.needs_after: dict[int, tuple[torch.Tensor, bool]] = {}


class Graded:
    """Which leaves may have a gradient, or none, at run time."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.ways: list[Way] = []
        self.unsure: dict[int, tuple[torch.Tensor, int | None]] = {}
        self.reached = Reached()
        self.coming: dict[int, tuple[torch.Tensor, int]] = {}  # unsure once the call is over

    def joined(self, fake: torch.Tensor, parts: list[Any]) -> None:
        """``fake`` stands for one of ``parts``, as the decision tells that ends here.

        Loops, and decisions inside of them, are taken to reach what each of their ways reaches.
        """
        number = self.tracer.control.number
        if number is not None and not self.tracer.control.running:
            self.reached.joined(fake, number, parts)

    def fake(self, x: torch.Tensor) -> torch.Tensor:
        """What stands for ``x`` in the graph of gradients."""
        return x if is_fake(x) else self.tracer.inputs.fake_of(x)

    def passes(self, name: str, args: tuple, kwargs: dict[str, Any]) -> None:
        """A backward pass begins.  Raises: ForkNeeded where it is asked for what it may not reach."""
        with torch._C.DisableTorchFunction():
            roots = args[0] if args else kwargs.get("tensors", kwargs.get("outputs"))
            found = self.reached.unsure(roots)
            if name == "backward":
                sure = {k for k, (x, _) in found.items() if x.grad is not None} - self.unsure.keys()
                self.coming = {k: x for k, x in found.items() if k not in sure}
                return
        inputs = args[1] if len(args) > 1 else kwargs.get("inputs")
        inputs = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        for x in [self.fake(x) for x in inputs if isinstance(x, torch.Tensor)]:
            if id(x) in found:
                raise ForkNeeded(found[id(x)][1], self.refusal())

    def starts(
        self, name: str, access: str | None, args: tuple, kwargs: dict[str, Any]
    ) -> list[tuple[Any, Any, int]]:
        """A call is about to read or set gradients; those that are not certain, as they are."""
        self.coming = {}
        if name == "grad" and access == "__get__":
            self.read(self.fake(args[0]))
        elif self.reached.joins and name in ("backward", "grad") and access is None:
            self.passes(name, args, kwargs)
        if name == "requires_grad_" or (name == "requires_grad" and access == "__set__"):
            x = self.fake(args[0])
            for way in self.ways:
                if self.tracer.val(x).block.depth <= way.depth:  # it is there on other ways too
                    way.needs.setdefault(id(x), (x, x.requires_grad))
        if name != "backward" and (name != "grad" or access != "__set__"):
            return []
        with torch._C.DisableTorchFunction():
            if any(way.before is None for way in self.ways):
                now = self.now()
                for way in self.ways:
                    way.before = now if way.before is None else way.before
            return [(x, x.grad, _version(x.grad)) for x, _ in self.unsure.values()]

    def ends(self, before: list[tuple[Any, Any, int]]) -> None:
        """The call is over: the gradients that it has set are certain."""
        with torch._C.DisableTorchFunction():
            for x, grad, version in before:
                if x.grad is not grad or _version(grad) != version:
                    self.unsure.pop(id(x), None)
        self.unsure |= self.coming
        self.coming = {}

    def now(self) -> Table:
        leaves = (x for x, _ in list(self.tracer.vals.values()) if x.requires_grad and x.is_leaf)
        return {id(x): (x, x.grad) for x in leaves}

    def open(self) -> Way:
        self.ways.append(Way(self.unsure, self.tracer.block.depth))
        return self.ways[-1]

    def close(self, way: Way) -> None:
        """Put the gradients back that a path has set."""
        self.ways.remove(way)
        way.left, self.unsure = self.unsure, way.unsure
        self.switch(way)
        if way.before is None:
            return
        with torch._C.DisableTorchFunction():
            for key, (x, grad) in way.before.items():
                if x.grad is not grad:
                    way.after[key] = (x, x.grad)
                    x.grad = grad

    def switch(self, way: Way) -> None:
        """Put back which leaves need gradients."""
        with torch._C.DisableTorchFunction():
            for key, (x, before) in way.needs.items():
                way.needs_after[key] = (x, x.requires_grad)
                if x.is_leaf:
                    x.requires_grad_(before)

    def join_needs(self, ways: tuple[Way, ...]) -> None:
        """Raises: UnsupportedError where the ways leave it different."""
        with torch._C.DisableTorchFunction():
            for key, (x, _) in {k: v for way in ways for k, v in way.needs_after.items()}.items():
                found = {way.needs_after.get(key, (x, x.requires_grad))[1] for way in ways}
                if len(found) > 1:
                    raise UnsupportedError(
                        f"{self.tracer.where()}: requires_grad of a tensor is switched on one path of "
                        f"a decision on data; set it on both, or decide outside of loops"
                    )
                if x.is_leaf:
                    x.requires_grad_(found.pop())

    def join(self, *ways: Way) -> bool:
        """Go on with what the ways leave; whether more is uncertain now."""
        self.join_needs(ways)
        number, count = self.tracer.control.number, len(self.unsure)
        self.unsure = {key: x for way in ways for key, x in way.left.items()}
        with torch._C.DisableTorchFunction():
            for key, (x, _) in {k: v for way in ways for k, v in way.after.items()}.items():
                grads = [way.after.get(key, (x, x.grad))[1] for way in ways]
                if len({g is None for g in grads}) > 1:
                    self.unsure[key] = (x, number)
                x.grad = next((g for g in grads if g is not None), None)
        return len(self.unsure) > count

    def read(self, x: Any) -> None:
        """Raises: ForkNeeded, or UnsupportedError, where decisions on data tell whether there is one."""
        found = self.unsure.get(id(x))
        if found is None or found[0] is not x:
            return
        if found[1] is None:
            raise self.refusal()
        raise ForkNeeded(found[1], self.refusal())

    def refusal(self) -> UnsupportedError:
        return UnsupportedError(
            f"{self.tracer.where()}: the gradient of a tensor is read, which is there or None as data "
            f"decide; set it on each way of the decision, or read it inside"
        )


def _version(grad: Any) -> int:
    return -1 if grad is None else grad._version
