"""What tensors, objects and generators hold, to be put back after a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from oarlock.capture.tape.chance import put_back, states
from oarlock.capture.tape.copies import History, refill
from oarlock.capture.tape.journal import content, put


class Snapshot:
    """Args: generators: of torch; chance: generators of Python and numpy, among others."""

    def __init__(
        self, tensors: Iterable[torch.Tensor], objects: Iterable[Any],
        generators: Iterable[torch.Generator], chance: Iterable[Any],
    ) -> None:  # fmt: skip
        self.tensors = list(tensors)
        self.places = [x.data for x in self.tensors]
        self.data = [x.detach().clone() for x in self.tensors]
        self.histories = [History(x) for x in self.tensors]
        self.needs = [x.requires_grad for x in self.tensors]
        self.grads = [x.grad if x.is_leaf else None for x in self.tensors]
        self.grad_data = [None if g is None else g.detach().clone() for g in self.grads]
        self.objects = [(x, content(x)) for x in objects]
        self.random = torch.get_rng_state()
        self.generators = [(x, x.get_state()) for x in generators]
        self.draws = states(chance)

    @property
    def is_lost(self) -> bool:
        """Something can't be put back: how gradients go on through views that were updated."""
        return any(history.is_lost for history in self.histories)

    def restore(self) -> None:
        for obj, old in self.objects:
            put(obj, old)
        for history in self.histories:
            history.restore()
        with torch.no_grad():
            for x, needs in zip(self.tensors, self.needs):
                if x.is_leaf and x.requires_grad != needs:
                    x.requires_grad_(needs)
            for x, place, data in zip(self.tensors, self.places, self.data):
                if _is_elsewhere(x, place):
                    x.data = place
                if x.shape == data.shape:
                    refill(x, data)
            for x, grad, data in zip(self.tensors, self.grads, self.grad_data):
                if x.is_leaf:
                    x.grad = grad
                if grad is not None:
                    refill(grad, data)
        torch.set_rng_state(self.random)
        for own, state in self.generators:
            own.set_state(state)
        put_back(self.draws)


def _is_elsewhere(x: torch.Tensor, place: torch.Tensor) -> bool:
    """``x`` has been given other memory than ``place``, or other strides."""
    if x.layout != torch.strided or place.layout != torch.strided or x.dtype != place.dtype:
        return False
    return x.data_ptr() != place.data_ptr() or x.stride() != place.stride()
