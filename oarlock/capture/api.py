"""``capture``: an eager model and an example to a verified Program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch

from oarlock.capture.arrays import dtype_of, named_type, torch_dtype
from oarlock.capture.call import ExampleCall, refuse
from oarlock.capture.check import check_against_eager, differing_sizes
from oarlock.capture.owners import Attributes, forget_stand_ins
from oarlock.errors import ArgumentError, ArgumentTypeError, UserError
from oarlock.ir import Dim, DType, Program, bounds, f32
from oarlock.ir.verify import verify

Dynamic = Mapping[str, Mapping[int, "str | Dim"]]


@dataclass(frozen=True)
class InputSpec:
    """Stands for an example tensor: ``InputSpec(("N", 3, 32, 32), f32, "image")``.

    Args: shape: ints, names or Dims; for ``to_static`` also None or -1, any size; dtype: element
        type, one of torch or numpy, or a name such as "float32"; name: of the input, else its argument's.
    """

    shape: Sequence[int | str | Dim | None]
    dtype: DType = f32
    name: str | None = None

    def __post_init__(self) -> None:
        _check_shape(self.shape)
        if not isinstance(self.dtype, DType):
            object.__setattr__(self, "dtype", dtype_of(named_type(self.dtype)))

    def example(self, sizes: Sequence[int] | None = None) -> torch.Tensor:
        """A tensor of the given sizes, or of the smallest that the dims allow."""
        sizes = [_smallest(s) for s in self.shape] if sizes is None else list(sizes)
        if self.dtype.is_float:
            return torch.randn(sizes).to(torch_dtype(self.dtype))
        return torch.zeros(sizes, dtype=torch_dtype(self.dtype))


def _check_shape(shape: Any) -> None:
    """Raises: ArgumentTypeError, ArgumentError for what is no size of an axis."""
    if not isinstance(shape, (tuple, list)):
        raise ArgumentTypeError(
            f"InputSpec: shape: expected a list or tuple of sizes, got {shape!r}; "
            f"a scalar is (), a vector of any length ('N',)"
        )
    for i, n in enumerate(shape):
        if isinstance(n, bool) or not isinstance(n, (Integral, str, Dim, type(None))):
            raise ArgumentTypeError(
                f"InputSpec: shape[{i}]: expected an int, a name, a Dim or None, got {n!r}"
            )
        if isinstance(n, Integral) and n < -1:
            raise ArgumentError(f"InputSpec: shape[{i}]: expected a size, or -1 for any, got {n}")


def _smallest(size: int | str | Dim | None) -> int:
    if isinstance(size, int) and size >= 0:
        return size
    return max(bounds(size)[0], 1) if isinstance(size, Dim) else 1


def capture(
    model_or_fn: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic: Dynamic | None = None,
    check: Any = None,
) -> Program:
    """Record ``model_or_fn(*args, **kwargs)`` as a Program, and compare it with eager.

    Buffers that the model updates become the program's state.  An input that it updates in place is
    left as it was when the program runs: return it to get the new value (a warning says so).  Where
    a size has a largest value (a table of positions), the range of its dim is narrowed to it.

    Args:
        args, kwargs: an example; tensors at any depth of tuples, lists, dicts, dataclasses;
            an InputSpec may stand for a tensor.  Numbers and texts become constants.
        dynamic: ``{argument name: {axis: "N" or Dim("N", min=1, max=64)}}``; a nested tensor is
            addressed by its path, ``"batch.tokens"``.  One name is one size.
        check: further argument tuples to compare with eager; False compares nothing.
    Returns: the Program; weights are copied, the model is left as it was.
    Raises: UnsupportedError listing everything that cannot be captured, with its line;
        DivergenceError when the program does not compute what eager does.
    """
    if not callable(model_or_fn):
        raise UserError(f"capture: expected a module or function, got {type(model_or_fn).__name__}")
    args = (args,) if isinstance(args, (torch.Tensor, InputSpec)) else tuple(args)
    call = ExampleCall.of(model_or_fn, args, dict(kwargs or {}), dynamic or {})
    before = Attributes.of(model_or_fn)
    try:
        recording = call.record()
        verify(recording.program)
        refuse(differing_sizes(recording, model_or_fn, call.args, call.kwargs))
        if check is not False:
            check_against_eager(recording, model_or_fn, call.args, call.kwargs, check or ())
    finally:
        before.restore()
        forget_stand_ins()
    return recording.program
