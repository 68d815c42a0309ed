"""The op records; importing this package fills the registry."""

from oarlock.ops import elementwise, shape  # noqa: F401
