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

from oarlock.capture.lift import backward, complexes  # noqa: E402  after the real table, which it reads

__all__ = [
    "LIFTS",
    "Lifter",
    "backward",
    "complexes",
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
