"""The op records; importing this package fills the registry."""

# ruff: noqa: F401

from oarlock.ops import (
    activation,
    attention,
    control,
    conv,
    conv_train,
    elementwise,
    index,
    matmul,
    norm,
    pool,
    random,
    recurrence,
    recurrence_train,
    recursion,
    reduce,
    resize,
    rnn,
    scan,
    shape,
    sizes,
)
