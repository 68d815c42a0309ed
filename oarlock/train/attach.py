"""A clip in front of every step of an optimizer."""

from __future__ import annotations

import functools
import inspect
import sys
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from oarlock.capture.torch_private import is_fake
from oarlock.errors import ArgumentTypeError, UnsupportedError, UserError
from oarlock.train.gradients import DOUBLE, Groups


class Clip(Protocol):
    """What ``attach`` needs of a clip."""

    def apply(
        self, groups: Groups, scale: Tensor | None = None, found_inf: Tensor | None = None
    ) -> Tensor | None: ...


class Slot:
    """A number that is kept: written in place, so that a captured step updates it too."""

    def __init__(self, kept: Tensor | None = None) -> None:
        self.kept = kept
        self.is_set = False

    def write(self, value: Tensor) -> None:
        kept = self.kept
        if kept is None or (kept.dtype, kept.device) != (value.dtype, value.device):
            if is_fake(value):
                return
            self.kept = value.clone()
        else:
            kept.copy_(value)
        self.is_set = True

    def read(self) -> Tensor | None:
        return self.kept.clone() if self.is_set and self.kept is not None else None


_ATTACHED: weakref.WeakKeyDictionary[Optimizer, ClipHandle] = weakref.WeakKeyDictionary()


class ClipHandle:
    """One clip on one optimizer, until ``remove()`` or the end of a ``with`` block."""

    def __init__(self, clip: Clip, optimizer: Optimizer) -> None:
        _check(clip, optimizer)
        self.clip = clip
        self._slot = Slot(_zero(optimizer))
        self._step: FrameType | None = None
        self._optimizer = weakref.ref(optimizer)
        self._hooks = (
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        )
        _ATTACHED[optimizer] = self

    def __repr__(self) -> str:
        optimizer = self._optimizer()
        where = f"attached to {type(optimizer).__name__}" if self.is_attached else "removed"
        return f"<{self.clip!r}, {where}>"

    @property
    def is_attached(self) -> bool:
        optimizer = self._optimizer()
        return optimizer is not None and _ATTACHED.get(optimizer) is self

    @property
    def last_norm(self) -> Tensor | None:
        """As of the clip, for this optimizer alone."""
        return self._slot.read()

    def remove(self) -> None:
        """Clip no more.  A second time does nothing."""
        for hook in self._hooks:
            hook.remove()
        optimizer = self._optimizer()
        if optimizer is not None and self.is_attached:
            del _ATTACHED[optimizer]

    def __enter__(self) -> ClipHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
        """A closure computes the gradients that a step uses, perhaps often: clip after each call."""
        caller = sys._getframe(1)
        if self._step is not None and _is_below(caller, self._step):
            return None  # step() of a base class
        self._step = caller
        if "grad_scaler" in kwargs:
            raise UnsupportedError(
                f"{type(optimizer).__name__}.step(grad_scaler=...) unscales gradients after they are "
                "clipped; call scaler.unscale_(optimizer) and clip the parameters before"
            )
        bound = _arguments(optimizer, args, kwargs)
        closure = bound.get("closure")
        if closure is None:
            self._clip(optimizer)
            return None
        clipped = self._after_each(closure, optimizer)
        if "closure" in kwargs:
            return args, {**kwargs, "closure": clipped}
        return tuple(clipped if x is closure else x for x in args), kwargs

    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if self._step is sys._getframe(1):
            self._step = None

    def _after_each(self, closure: Callable[[], Any], optimizer: Optimizer) -> Callable[[], Any]:
        @functools.wraps(closure)
        def evaluate_and_clip() -> Any:
            loss = closure()
            self._clip(optimizer)
            return loss

        return evaluate_and_clip

    def _clip(self, optimizer: Optimizer) -> None:
        scale = getattr(optimizer, "grad_scale", None)  # set by GradScaler for fused optimizers
        found_inf = getattr(optimizer, "found_inf", None)
        norm = self.clip.apply(optimizer.param_groups, scale, found_inf)
        if norm is not None:
            self._slot.write(norm)


def _check(clip: Clip, optimizer: Any) -> None:
    if not isinstance(optimizer, Optimizer):
        raise ArgumentTypeError(
            f"expected a torch.optim.Optimizer, got {type(optimizer).__name__}; "
            "to clip parameters once, call the clip with them"
        )
    there = _ATTACHED.get(optimizer)
    if there is not None:
        raise UserError(
            f"{type(optimizer).__name__} already has {there.clip!r} attached; "
            f"remove() that handle before {clip!r} is attached"
        )
    name = type(optimizer).__name__
    if not getattr(type(optimizer).step, "hooked", False):
        raise UnsupportedError(
            f"{name}.step() runs no step hooks, as in an optimizer that wraps another; "
            "attach to the optimizer that it wraps"
        )
    if getattr(optimizer, "_overlap_with_ddp", False):
        raise UnsupportedError(
            f"{name} with overlap_with_ddp=True steps inside of the backward pass, before all "
            "gradients are known; leave overlap_with_ddp out"
        )
    if any(group.get("differentiable") for group in optimizer.param_groups):
        raise UnsupportedError(
            f"{name} with differentiable=True needs gradients through clipping, which works in "
            "place; leave differentiable out, or clip by torch functions in the loss"
        )


def _zero(optimizer: Optimizer) -> Tensor:
    """Where the norm will be kept, made before a step is captured."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    dtype = torch.float64 if any(p.dtype in DOUBLE for p in params) else torch.float32
    device = next((p.device for p in params if p.device.type != "cpu"), torch.device("cpu"))
    return torch.zeros((), dtype=dtype, device=device)


def _arguments(optimizer: Optimizer, args: Any, kwargs: Any) -> dict[str, Any]:
    """``args`` by name; those that do not fit are left for step() to refuse."""
    if len(args) < 2:
        return kwargs
    try:
        return inspect.signature(type(optimizer).step).bind(*args, **kwargs).arguments
    except TypeError:
        return kwargs


def _is_below(frame: FrameType | None, outer: FrameType) -> bool:
    while frame is not None and frame is not outer:
        frame = frame.f_back
    return frame is outer
