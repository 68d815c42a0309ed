"""Lifts by family; importing this package fills the table."""

from oarlock.capture.lift import (
    contraction,
    images,
    indexing,
    ordering,
    pointwise,
    recurrent,
    shape,
    special,
    windows,
)
from oarlock.capture.lift.registry import LIFTS, Lifter, add_one_to_one, lift, overloads

add_one_to_one()

__all__ = [
    "LIFTS",
    "Lifter",
    "contraction",
    "images",
    "indexing",
    "lift",
    "ordering",
    "overloads",
    "pointwise",
    "recurrent",
    "shape",
    "special",
    "windows",
]
