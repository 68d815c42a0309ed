"""Arguments for one more run of a call: what is one object, or one memory, is so in the copy too."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from oarlock.capture.tape.arguments import Stand
from oarlock.capture.tape.journal import content
from oarlock.capture.tape.sources import argument
from oarlock.capture.torch_private import storage_of

SPARSE = 64  # times as much memory as a tensor shows
SMALL = 1 << 16  # bytes

Call = tuple[tuple, dict[str, Any]]


def tensors_of(call: Call, known: Any = ()) -> list[torch.Tensor]:
    """The tensors in arguments, each place; those in objects of ``known`` left out."""
    found: list[torch.Tensor] = []
    stand = Stand(lambda x, source: found.append(x), lambda x, source: x, known=known)
    for x in (*call[0], *call[1].values()):
        stand.of(x, argument(""))
    return found


def kept_by(call: Call, tensors: Sequence[torch.Tensor], objects: Sequence[Any]) -> dict[int, Any]:
    """What a copy of a call shares with it, by id: ``tensors`` and ``objects`` from outside that
    are put back after a run, and tensors in the memory of these or of what the objects hold."""
    kept: dict[int, Any] = {id(x): x for x in (*tensors, *objects)}
    inner = {id(x) for x in tensors_of(call, kept)}
    memories = {_memory(x) for x in (*tensors, *_held(objects))} - {None}
    for x in tensors_of(call):
        if id(x) not in inner or _memory(x) in memories:
            kept[id(x)] = x
    return kept


def _held(objects: Iterable[Any]) -> Iterator[torch.Tensor]:
    """The tensors that are items or attributes of objects."""
    for obj in objects:
        inner = content(obj)
        values = inner.values() if isinstance(inner, dict) else inner or ()
        yield from (x for x in values if isinstance(x, torch.Tensor))


def copied(call: Call, kept: dict[int, Any]) -> Call:
    """The arguments again, tensors and containers new but for what is in ``kept``."""
    counts = Counter(_memory(x) for x in {id(x): x for x in tensors_of(call, kept)}.values())
    made: dict[int, torch.Tensor] = {}
    memories: dict[int | None, torch.UntypedStorage] = {}

    def tensor(x: torch.Tensor, source: Any) -> torch.Tensor:
        if id(x) in kept:
            return x
        if id(x) not in made:
            memory = _memory(x)
            is_one = memory is None or counts[memory] == 1 or x.requires_grad or _is_small_part(x)
            with _as_made(x):
                made[id(x)] = _alone(x) if is_one else _within(x, memories, memory)
        return made[id(x)]

    stand = Stand(tensor, lambda x, source: x, known=kept)
    new = tuple(stand.of(x, argument("")) for x in call[0])
    return new, {k: stand.of(v, argument("")) for k, v in call[1].items()}


class History:
    """How gradients go on from a tensor, put back after updates that are followed."""

    def __init__(self, x: torch.Tensor) -> None:
        self.x, self.node = x, x.grad_fn
        with torch.enable_grad():
            self.before = None if self.node is None else x.clone()

    @property
    def is_lost(self) -> bool:
        """An update of a view was followed: that can't be taken back."""
        return self.x._is_view() and self.x.grad_fn is not self.node

    def restore(self) -> None:
        if self.x.grad_fn is self.node or self.x._is_view():
            return
        self.x.detach_()
        if self.before is not None:
            with torch.enable_grad():
                self.x.copy_(self.before)


def refill(x: torch.Tensor, data: torch.Tensor) -> None:
    """Give ``x`` the values ``data`` back; rows that are the same memory are written once."""
    once = ()
    if x.layout is torch.strided and not x.is_nested:
        once = tuple(slice(0, 1) if s == 0 else slice(None) for s in x.stride())
    with _as_made(x):
        x.data[once].copy_(data[once]) if once else x.data.copy_(data)


def _as_made(x: torch.Tensor) -> Any:
    """Inference mode on for a tensor that was made in it, off for others."""
    is_other = x.is_inference() != torch.is_inference_mode_enabled()
    return torch.inference_mode(x.is_inference()) if is_other else contextlib.nullcontext()


def _alone(x: torch.Tensor) -> torch.Tensor:
    new = _strided(x) if x.layout is torch.strided else x.detach().clone()
    new.requires_grad_(x.requires_grad)
    if type(x) is torch.nn.Parameter:
        new = torch.nn.Parameter(new, x.requires_grad)
    if x.is_leaf and x.grad is not None:
        new.grad = x.grad.clone()
    if x.is_leaf or not x.requires_grad:
        return new
    with torch.enable_grad():
        return new.clone()


def _strided(x: torch.Tensor) -> torch.Tensor:
    """A copy with the strides of ``x``; rows that are the same memory are in the copy too."""
    if x.is_conj():
        return _strided(x.detach().conj()).conj()
    if x.is_neg():
        return torch._neg_view(_strided(torch._neg_view(x.detach())))
    new = x.detach().clone(memory_format=torch.preserve_format)
    if new.stride() == x.stride() or x.numel() == 0:
        return new
    inner = x.detach()[tuple(slice(0, 1) if s == 0 else slice(None) for s in x.stride())]
    new = torch.empty_strided(inner.shape, x.stride(), dtype=x.dtype, device=x.device)
    return new.copy_(inner).expand(x.shape)


def _within(
    x: torch.Tensor, memories: dict[int | None, torch.UntypedStorage], memory: int | None
) -> torch.Tensor:
    """A copy of ``x`` in the copy of its memory."""
    if memory not in memories:
        memories[memory] = x.untyped_storage().clone()
    new = torch.empty(0, dtype=x.dtype, device=x.device)
    return new.set_(memories[memory], x.storage_offset(), x.size(), x.stride())


def _is_small_part(x: torch.Tensor) -> bool:
    """A batch of a data set, say: all of its memory is not copied."""
    return x.untyped_storage().nbytes() > SPARSE * max(x.nbytes, SMALL)


def _memory(x: torch.Tensor) -> int | None:
    return storage_of(x) if x.layout is torch.strided else None
