"""The modes that are set around a call."""

from __future__ import annotations

import torch

from oarlock.capture.tape.nodes import Ambient
from oarlock.capture.tape.runtime import Modes


def ambient() -> Ambient:
    """What is set around the call that is made now."""
    autocast = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
    return Ambient(
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        autocast,
        autocast is None or torch.is_autocast_cache_enabled(),
    )


def restore_modes(wanted: Ambient) -> bool:
    """Set the modes for gradients and autocast again; whether there were others."""
    now = ambient()
    if now.grad != wanted.grad:
        torch._C._set_grad_enabled(wanted.grad)
    if (now.autocast, now.cache) != (wanted.autocast, wanted.cache):
        Modes.autocast(wanted.autocast, wanted.cache)
    return now != wanted
