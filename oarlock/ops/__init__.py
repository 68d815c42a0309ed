"""The op records; importing this package fills the registry."""

from oarlock.ops import activation, conv, elementwise, index, matmul, norm, pool, reduce, shape  # noqa: F401
