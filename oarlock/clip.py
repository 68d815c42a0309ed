"""Gradient clipping: see ``oarlock.train.clip``."""

from oarlock.train.clip import (
    ClipGradAdaptive,
    ClipGradByGlobalNorm,
    ClipGradByNorm,
    ClipGradByValue,
    ClipHandle,
)

__all__ = [
    "ClipGradAdaptive",
    "ClipGradByGlobalNorm",
    "ClipGradByNorm",
    "ClipGradByValue",
    "ClipHandle",
]
