"""Gradient clipping, exported as ``oarlock.clip``.

Small immutable objects: attach one to an optimizer, or call it with parameters.  Only gradients are
written, in place, and their values are never read by Python (but for ``error_if_nonfinite=True``).
A parameter with ``need_clip = False``, or in a group with ``need_clip=False``, passes unchanged and
does not count.
"""

from __future__ import annotations

import math
import numbers
import warnings
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from oarlock.capture.torch_private import is_fake
from oarlock.errors import ArgumentError, ArgumentTypeError, NonFiniteGradient, UnsupportedError
from oarlock.train.attach import ClipHandle, Slot
from oarlock.train.gradients import (
    NONE,
    Gradients,
    Groups,
    Norms,
    groups_of,
    joined,
    measure,
    select,
)

LIMITS = torch.finfo(torch.float32)


@dataclass(frozen=True, repr=False)
class ClipGrad:
    """A way of clipping.

    Args: error_if_nonfinite: raise NonFiniteGradient, which names the first bad parameter, before
        any gradient is changed; reads the norm, so the host waits for the device.
    """

    error_if_nonfinite: bool = field(default=False, kw_only=True)
    _needs_norms: ClassVar[bool] = True
    _slot: Slot = field(default_factory=Slot, init=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.error_if_nonfinite, bool):
            raise ArgumentTypeError(
                f"{type(self).__name__}: error_if_nonfinite: expected a bool, "
                f"got {self.error_if_nonfinite!r}"
            )

    def __repr__(self) -> str:
        given = [f for f in fields(self) if f.init and not f.kw_only]
        shown = [f"{f.name}={getattr(self, f.name)!r}" for f in given]
        shown += ["error_if_nonfinite=True"] * self.error_if_nonfinite
        return f"{type(self).__name__}({', '.join(shown)})"

    def __reduce__(self) -> tuple[Any, ...]:
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        return _rebuild, (type(self), given)

    def attach(self, optimizer: Optimizer) -> ClipHandle:
        """Clip just before every ``optimizer.step()``, after each evaluation of a closure.

        The handle ends it: ``handle.remove()``, or ``with clip.attach(optimizer): ...``.  As torch
        copies no hooks, neither a copied nor an unpickled optimizer has the clip.
        Raises: UserError when a clip is attached already; UnsupportedError for an optimizer whose
        steps cannot be clipped.
        """
        return ClipHandle(self, optimizer)

    def __call__(self, parameters: Any) -> Tensor | None:
        """Clip the gradients of ``parameters`` now.

        Args: parameters: a tensor, an iterable of tensors or of (name, tensor) pairs, or the
            param_groups of an optimizer.
        Returns: ``last_norm``.
        """
        groups = groups_of(parameters)
        if not any(group["params"] for group in groups):
            warnings.warn("no parameters to clip: an empty or exhausted iterable", stacklevel=2)
        return self.apply(groups)

    @property
    def last_norm(self) -> Tensor | None:
        """The L2 norm of all gradients that took part in the last clipping, before it, a new tensor;
        None before the first.  Kept beside the object: it takes no part in ``==``, copies, pickles.
        """
        return self._slot.read()

    @torch.no_grad()
    def apply(
        self, groups: Groups, scale: Tensor | None = None, found_inf: Tensor | None = None
    ) -> Tensor | None:
        """Clip what takes part of ``groups``.

        Args: scale: what the gradients are multiplied by until the step divides by it;
            found_inf: not 0 when the step will leave the parameters as they are.
        """
        found = select(groups)
        if self._needs_norms or self.error_if_nonfinite:
            norms = measure(found, scale)
            if self.error_if_nonfinite:
                _check_finite(found, norms, groups, found_inf)
            self._slot.write(norms.total)
        else:
            norms = NONE
        if found.params:
            self._write(found, norms, scale)
        return norms.total

    def _write(self, found: Gradients, norms: Norms, scale: Tensor | None) -> None:
        raise NotImplementedError


@dataclass(frozen=True, repr=False)
class ClipGradByValue(ClipGrad):
    """``g = clamp(g, min, max)``; ``min=None`` is ``-max``, which then is positive.

    No norm is needed, so none is known: ``last_norm`` is None but for ``error_if_nonfinite=True``.
    """

    _needs_norms: ClassVar[bool] = False
    max: float
    min: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        high = _number(self, "max")
        if self.min is None and high <= 0:
            raise ArgumentError(
                f"ClipGradByValue: max: expected > 0 when min is left out, got {high}"
            )
        low = -high if self.min is None else _number(self, "min")
        if low > high:
            raise ArgumentError(f"ClipGradByValue: expected min <= max, got min={low}, max={high}")
        _set(self, min=low, max=high)

    def _write(self, found: Gradients, norms: Norms, scale: Tensor | None) -> None:
        if any(p.grad.is_complex() for p in found.params):
            raise UnsupportedError(
                "ClipGradByValue: complex numbers have no order; clip by norm, or set "
                "need_clip = False on complex parameters"
            )
        if scale is not None:
            for g in found.dense:
                factor = scale.to(g.device, torch.float32)
                g.clamp_(min=(self.min * factor).to(g.dtype), max=(self.max * factor).to(g.dtype))
            return
        for _, grads in found.batches():
            largest = torch.finfo(grads[0].dtype).max
            torch._foreach_clamp_min_(grads, _bound(self.min, largest))
            torch._foreach_clamp_max_(grads, _bound(self.max, largest))


@dataclass(frozen=True, repr=False)
class ClipGradByNorm(ClipGrad):
    """``g = g * c / max(c, |g|)``: each gradient scaled when its own L2 norm exceeds ``c``."""

    clip_norm: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _set(self, clip_norm=_positive(self, "clip_norm"))

    def _write(self, found: Gradients, norms: Norms, scale: Tensor | None) -> None:
        factors = (self.clip_norm / norms.each.clamp(min=self.clip_norm)).unbind()
        for at, grads in found.batches():
            device = grads[0].device
            own = [factors[i] for i in at]
            if device != norms.total.device:
                own = [x.to(device, non_blocking=True) for x in own]
            torch._foreach_mul_(grads, own)


@dataclass(frozen=True, repr=False)
class ClipGradByGlobalNorm(ClipGrad):
    """``g = g * c / max(c, G)``, with ``G`` the L2 norm of all gradients together."""

    clip_norm: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _set(self, clip_norm=_positive(self, "clip_norm"))

    def _write(self, found: Gradients, norms: Norms, scale: Tensor | None) -> None:
        factor = self.clip_norm / norms.total.clamp(min=self.clip_norm)
        for _, grads in found.batches():
            torch._foreach_mul_(grads, factor.to(grads[0].device, non_blocking=True))


@dataclass(frozen=True, repr=False)
class ClipGradAdaptive(ClipGrad):
    """``g_u = g_u * m_u / max(m_u, |g_u|)``, ``m_u = clip_factor * max(|w_u|, eps)``, by unit ``u``.

    A unit is a row of a matrix, the weights of one output of a convolution (the first axis), and
    all of a vector or scalar.  The paper leaves out the last linear layer: ``need_clip = False``.
    Source: Brock, De, Smith, Simonyan, High-Performance Large-Scale Image Recognition Without
    Normalization, 2021, equation 3.
    """

    clip_factor: float
    eps: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        _set(self, clip_factor=_positive(self, "clip_factor"), eps=_positive(self, "eps"))
        if self.clip_factor * self.eps < LIMITS.tiny:
            raise ArgumentError(
                f"ClipGradAdaptive: clip_factor * eps: expected at least {LIMITS.tiny:.3g}, "
                f"got {self.clip_factor * self.eps:.3g}"
            )

    def _write(self, found: Gradients, norms: Norms, scale: Tensor | None) -> None:
        weights, own = self._unit_norms(found)
        if scale is not None:
            own = [norm / scale.to(norm.device, norm.dtype) for norm in own]
        torch._foreach_clamp_min_(weights, self.eps)
        torch._foreach_mul_(weights, self.clip_factor)
        factors = torch._foreach_div(weights, torch._foreach_maximum(own, weights))
        for at, grads in found.batches():
            torch._foreach_mul_(grads, [factors[i] for i in at])

    def _unit_norms(self, found: Gradients) -> tuple[list[Tensor], list[Tensor]]:
        """Of each parameter and gradient, shaped to multiply the gradient."""
        weights, grads, cut = [], [], {}
        count, dtype = len(found.params), found.accumulate
        for i, (p, g) in enumerate(zip(found.params, found.dense)):
            has_units = p.ndim > 1
            axes = tuple(range(1, g.ndim)) if has_units else None
            weights.append(_norm(_weights(p, has_units), axes, dtype))
            grads.append(_norm(g, axes, dtype))
            if i in found.splits:
                split = found.splits[i]
                over = split.cuts(ignored=0 if has_units else None)
                cut[i] = cut[count + i] = (split.mesh, over)
        whole = joined(weights + grads, cut) if cut else weights + grads
        return whole[:count], whole[count:]


def _weights(param: Tensor, has_units: bool) -> Tensor:
    """The part of a parameter whose units its gradient has: the rows of a sparse one."""
    grad: Any = param.grad
    local = param.to_local() if hasattr(param, "to_local") else param
    local = torch.view_as_real(local) if local.is_complex() else local
    if grad.layout is torch.strided or not has_units:
        return local
    if grad.layout is torch.sparse_coo and grad.sparse_dim() == 1:
        return local.index_select(0, grad._indices()[0])
    raise UnsupportedError(
        f"ClipGradAdaptive: a gradient of layout {grad.layout} with {grad.sparse_dim()} sparse axes "
        "has no units along the first; make it dense, or set need_clip = False"
    )


def _norm(x: Tensor, axes: tuple[int, ...] | None, dtype: torch.dtype) -> Tensor:
    return torch.linalg.vector_norm(x, 2, axes, keepdim=axes is not None, dtype=dtype)


def _check_finite(found: Gradients, norms: Norms, groups: Groups, found_inf: Tensor | None) -> None:
    each, total = norms
    if is_fake(total):
        raise UnsupportedError(
            "error_if_nonfinite=True reads gradients in Python, which a captured step does not; "
            "leave it out and check handle.last_norm between steps"
        )
    if torch.isfinite(total) or (found_inf is not None and found_inf.item()):
        return
    bad = (~torch.isfinite(each)).nonzero().flatten().tolist()
    if not bad:
        raise NonFiniteGradient(
            f"the norm of {len(found.params)} finite gradients overflows {each.dtype}"
        )
    raise NonFiniteGradient(_complaint(found, bad[0], groups))


def _complaint(found: Gradients, at: int, groups: Groups) -> str:
    param, values = found.params[at], found.dense[at]
    group, index, name = _place(groups, param)
    nan, inf = int(values.isnan().sum()), int(values.isinf().sum())
    shape = ", ".join(map(str, param.shape))
    place = f"group {group}, index {index}, {str(param.dtype)[6:]}[{shape}]"
    what = (
        f"{nan} NaN and {inf} infinite" if nan or inf else "too large for a finite norm, none bad"
    )
    return (
        f"gradient of {repr(name) if name else 'parameter'} ({place}): {what} of {values.numel()} "
        "values; no gradient was changed; skip this step, or find the cause with "
        "torch.autograd.set_detect_anomaly(True)"
    )


def _place(groups: Groups, param: Tensor) -> tuple[int, int, str | None]:
    for g, group in enumerate(groups):
        for i, p in enumerate(group["params"]):
            if p is param:
                return g, i, (group.get("param_names") or {i: None})[i]
    raise AssertionError("a parameter that takes part is in a group")


def _rebuild(kind: type[ClipGrad], given: dict[str, Any]) -> ClipGrad:
    return kind(**given)


def _set(clip: ClipGrad, **values: float) -> None:
    for name, value in values.items():
        object.__setattr__(clip, name, value)


def _number(clip: ClipGrad, name: str) -> float:
    value = getattr(clip, name)
    where = f"{type(clip).__name__}: {name}"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        hint = "; pass x.item()" if isinstance(value, Tensor) else ""
        raise ArgumentTypeError(f"{where}: expected a number, got {type(value).__name__}{hint}")
    if not abs(value) <= LIMITS.max:
        raise ArgumentError(f"{where}: expected a finite float32, got {value}")
    return float(value)


def _positive(clip: ClipGrad, name: str) -> float:
    value = _number(clip, name)
    if value < LIMITS.tiny:
        raise ArgumentError(
            f"{type(clip).__name__}: {name}: expected > 0"
            + (f", at least {LIMITS.tiny:.3g}" if value > 0 else "")
            + f", got {value}"
        )
    return value


def _bound(value: float, largest: float) -> float:
    """``value``, or the infinity that a narrow type rounds it to."""
    return value if abs(value) <= largest else math.copysign(math.inf, value)
