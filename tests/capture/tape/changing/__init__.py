"""State that a call reads and something changes: programs as text, made from two tables.

A kind of state is set up, read by an expression of ``x``, and changed by statements.  A position says
who changes it, and when.
"""

from tests.capture.tape.changing import code, containers, modules, objects, surroundings
from tests.capture.tape.changing.kinds import KINDS
from tests.capture.tape.changing.programs import POSITIONS, text_of

__all__ = [
    "KINDS",
    "POSITIONS",
    "code",
    "containers",
    "modules",
    "objects",
    "surroundings",
    "text_of",
]
