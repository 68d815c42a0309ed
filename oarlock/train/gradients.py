"""The gradients that take part in clipping, as dense real local tensors, and their norms."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from oarlock.capture.convert.calls import call
from oarlock.errors import ArgumentTypeError, UnsupportedError

Groups = Sequence[Mapping[str, Any]]  # of an optimizer: params, perhaps param_names and need_clip
DOUBLE = {torch.float64, torch.complex128}


class Split(NamedTuple):
    """How a tensor lies on a device mesh: ``axes[d]`` is the axis cut along mesh axis ``d``."""

    mesh: Any
    axes: tuple[int | None, ...]

    def cuts(self, ignored: int | None = None) -> tuple[int, ...]:
        """The mesh axes along which parts differ, cuts of the ``ignored`` axis left out."""
        return tuple(d for d, at in enumerate(self.axes) if at is not None and at != ignored)


class Gradients(NamedTuple):
    """Parameters that take part, and what is written of their gradients.

    ``dense[i]`` shares memory with the gradient of ``params[i]``: the values of a sparse one, the
    real and imaginary parts of a complex one, the local part of a distributed one.  ``alike`` has
    the positions of each device and dtype: what one multi-tensor call takes.
    """

    params: list[Tensor]
    dense: list[Tensor]
    alike: dict[tuple[torch.device, torch.dtype], list[int]]
    splits: dict[int, Split]

    @property
    def accumulate(self) -> torch.dtype:
        """fp32, or fp64 when one gradient is."""
        is_double = any(dtype is torch.float64 for _, dtype in self.alike)
        return torch.float64 if is_double else torch.float32

    @property
    def home(self) -> torch.device:
        """Where norms are added: an accelerator when one holds a gradient."""
        accelerators = (device for device, _ in self.alike if device.type != "cpu")
        return next(accelerators, torch.device("cpu"))

    def batches(self) -> Iterator[tuple[list[int], list[Tensor]]]:
        """Positions and tensors of each device and dtype."""
        for at in self.alike.values():
            is_all = len(at) == len(self.dense)
            yield at, self.dense if is_all else [self.dense[i] for i in at]


class Norms(NamedTuple):
    """Of each gradient, in the order of ``params``, and of all together."""

    each: Any
    total: Any


NONE = Norms(None, None)


def groups_of(parameters: Any) -> list[dict[str, Any]]:
    """``parameters`` as groups: a tensor, tensors, (name, tensor) pairs, or an optimizer's groups."""
    if isinstance(parameters, Tensor):
        return [{"params": [parameters]}]
    if isinstance(parameters, torch.nn.Module):
        raise ArgumentTypeError("expected parameters, got a module; pass module.parameters()")
    if isinstance(parameters, torch.optim.Optimizer):
        raise ArgumentTypeError("expected parameters, got an optimizer; use clip.attach(optimizer)")
    if not isinstance(parameters, Iterable):
        raise ArgumentTypeError(f"expected parameters, got {type(parameters).__name__}")
    items = list(parameters)
    if items and all(isinstance(x, Mapping) and "params" in x for x in items):
        return [dict(x) for x in items]
    if all(isinstance(x, Tensor) for x in items):
        return [{"params": items}]
    pairs = [_named(x, i) for i, x in enumerate(items)]
    return [{"params": [p for _, p in pairs], "param_names": [name for name, _ in pairs]}]


def _named(item: Any, at: int) -> tuple[str | None, Tensor]:
    is_pair = isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)
    name, param = item if is_pair else (None, item)
    if not isinstance(param, Tensor):
        raise ArgumentTypeError(
            f"parameter {at}: expected a tensor or a (name, tensor) pair, "
            f"got {type(param).__name__}"
        )
    return name, param


def select(groups: Groups) -> Gradients:
    """What takes part: has a gradient, and neither the parameter nor its group says
    ``need_clip=False``."""
    params = [p for g in groups if call(g.get)("need_clip", True) for p in g["params"]]
    if len(set(map(id, params))) != len(params):
        params = list({id(p): p for p in params}.values())
    if "torch.distributed.fsdp" in sys.modules:
        _refuse_flat(params)
    found = Gradients([], [], {}, {})
    taken, dense, alike = found.params, found.dense, found.alike
    read = call(getattr)  # what it finds is a condition of a capture
    for p in params:
        g: Any = p.grad
        if g is None or not read(p, "need_clip", True):
            continue
        dtype = g.dtype
        if type(g) is not Tensor or g.layout is not torch.strided or dtype.is_complex:
            g, split = _dense(p)
            dtype = g.dtype
            if split is not None:
                found.splits[len(dense)] = split
        alike.setdefault((g.device, dtype), []).append(len(dense))
        taken.append(p)
        dense.append(g)
    return found


def _refuse_flat(params: list[Tensor]) -> None:
    if any(getattr(p, "_fsdp_flattened", False) for p in params):
        raise UnsupportedError(
            "FullyShardedDataParallel (FSDP1) hides how its flat parameters are split, so the norm "
            "of the whole is unknown; use torch.distributed.fsdp.fully_shard (FSDP2)"
        )


def _dense(param: Tensor) -> tuple[Tensor, Split | None]:
    """The tensor to write; a gradient that has none, say uncoalesced, is replaced first."""
    g: Any = param.grad
    split = None
    tensors = sys.modules.get("torch.distributed.tensor")
    if tensors is not None and isinstance(g, tensors.DTensor):
        if any(x.is_partial() for x in g.placements):
            whole = [tensors.Replicate() if x.is_partial() else x for x in g.placements]
            param.grad = g = g.redistribute(placements=whole)
        split = Split(g.device_mesh, tuple(getattr(x, "dim", None) for x in g.placements))
        g = g.to_local()
    g = _values(param, g)
    if g.is_complex():
        if g.is_conj():
            param.grad = g = g.resolve_conj()
        g = torch.view_as_real(g)
    return g, split


def _values(param: Tensor, g: Any) -> Tensor:
    if g.layout is torch.strided:
        return g
    if g.layout is torch.sparse_coo:
        if not g.is_coalesced():
            param.grad = g = g.coalesce()
        return g._values()
    if g.layout in (torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc):
        return g.values()
    raise UnsupportedError(f"cannot clip a gradient of layout {g.layout}")


def measure(found: Gradients, scale: Tensor | None = None) -> Norms:
    """L2 norms of whole gradients, on one device, divided by ``scale``."""
    each = _norms(found)
    if scale is not None:
        each = each / scale.to(each.device, each.dtype)
    return Norms(each, torch.linalg.vector_norm(each))


def _norms(found: Gradients) -> Tensor:
    dtype = found.accumulate
    if not found.dense:
        return torch.zeros(0, dtype=dtype)
    each: list[Any] = [None] * len(found.dense)
    for at, tensors in found.batches():
        wider = None if tensors[0].dtype is dtype else dtype
        for i, norm in zip(at, torch._foreach_norm(tensors, 2, dtype=wider)):
            each[i] = norm
    if found.splits:
        each = joined(each, {i: (s.mesh, s.cuts()) for i, s in found.splits.items()})
    if len(found.alike) > 1:
        each = [norm.to(found.home, non_blocking=True) for norm in each]
    return torch.stack(each)


def joined(parts: list[Tensor], cut: Mapping[int, tuple[Any, tuple[int, ...]]]) -> list[Tensor]:
    """Norms of whole tensors from those of local parts: ``sqrt(sum over ranks of n**2)``.

    Args: cut: for a position, its mesh and the mesh axes to add over; others stay as they are.
    One collective for each mesh axis, device and set of axes, whatever the number of tensors.
    """
    groups: dict[Any, list[int]] = {}
    for i, (mesh, axes) in cut.items():
        if axes:
            groups.setdefault((id(mesh), axes, parts[i].device), []).append(i)
    whole = list(parts)
    for positions in groups.values():
        mesh, axes = cut[positions[0]]
        squares = torch.cat([parts[i].flatten() for i in positions]).square()
        for axis in axes:
            torch.distributed.all_reduce(squares, group=mesh.get_group(axis))
        sizes = [parts[i].numel() for i in positions]
        for i, total in zip(positions, squares.sqrt().split(sizes)):
            whole[i] = total.view(parts[i].shape)
    return whole
