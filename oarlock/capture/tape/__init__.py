"""A tape: the torch calls of a Python function, with control flow, that replay as plain Python."""

from oarlock.capture.tape.active import active

__all__ = ["active"]
