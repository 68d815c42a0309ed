"""From eager PyTorch to a Program; one of the few packages that import torch."""

from oarlock.capture.api import InputSpec, capture

__all__ = ["InputSpec", "capture"]
