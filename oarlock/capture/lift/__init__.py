"""Lifts by family; importing this package fills the table."""

from oarlock.capture.lift import contraction, pointwise, recurrent, shape
from oarlock.capture.lift.registry import LIFTS, Lifter, add_one_to_one, lift, overloads

add_one_to_one()

__all__ = [
    "LIFTS", "Lifter", "contraction", "lift", "overloads", "pointwise", "recurrent", "shape",
]  # fmt: skip
