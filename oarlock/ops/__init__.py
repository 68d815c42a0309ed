"""The op records; importing this package fills the registry."""

from oarlock.ops import activation, conv, elementwise, matmul, norm, reduce, shape  # noqa: F401
