"""The op records; importing this package fills the registry."""

from oarlock.ops import activation, elementwise, reduce, shape  # noqa: F401
