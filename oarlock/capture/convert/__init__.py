"""Python source to code whose control flow a tracer can record."""

from oarlock.capture.convert.convert import convert, source_of
from oarlock.capture.convert.handlers import open_handlers
from oarlock.capture.convert.left_out import ignore_module, is_left_out, not_to_static
from oarlock.capture.convert.problems import NotConvertible

__all__ = [
    "NotConvertible",
    "convert",
    "ignore_module",
    "is_left_out",
    "not_to_static",
    "open_handlers",
    "source_of",
]
