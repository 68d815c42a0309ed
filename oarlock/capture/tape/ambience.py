"""The modes that are set around a call."""

from __future__ import annotations

import torch

from oarlock.capture.tape.nodes import Ambient


def ambient() -> Ambient:
    """What is set around the call that is made now."""
    autocast = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
    return Ambient(
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        autocast,
        autocast is None or torch.is_autocast_cache_enabled(),
    )
