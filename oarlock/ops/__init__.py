"""The op records; importing this package fills the registry."""

# ruff: noqa: F401

from oarlock.ops import (
    activation,
    attention,
    control,
    conv,
    elementwise,
    index,
    matmul,
    norm,
    pool,
    random,
    recurrence,
    reduce,
    resize,
    rnn,
    scan,
    shape,
)
