"""One way to test a whole model: capture from a batch-1 example, predict, compare with eager.

A table of models maps a name to a ``Model``; sizes of its inputs are ints or names of dims.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

import oarlock

OURS = 8  # roundings of the engine for each of eager's own
EPS = {torch.float32: 2.0**-23, torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}
Sizes = Mapping[str, int]


@dataclass(frozen=True)
class Draw:
    """A random input: normal floats, or integers from ``start`` to below ``high``.

    ``mask`` gives truths; ``padded`` ones whose last row ends in two zeros; ``low`` uniform floats.
    """

    shape: tuple[int | str, ...]
    high: int = 0
    start: int = 0
    mask: bool = False
    padded: bool = False
    low: float | None = None

    def __call__(self, sizes: Sizes, generator: torch.Generator) -> torch.Tensor:
        shape = [sizes[s] if isinstance(s, str) else s for s in self.shape]
        if self.mask:
            return torch.randint(0, 2, shape, generator=generator).bool()
        if self.padded:
            ones = torch.ones(shape, dtype=torch.long)
            ones[-1, shape[-1] - 2 :] = 0
            return ones
        if self.high:
            return torch.randint(self.start, self.high, shape, generator=generator)
        if self.low is not None:
            return torch.rand(shape, generator=generator) + self.low
        return torch.randn(shape, generator=generator)

    @property
    def dynamic(self) -> dict[int, str]:
        return {axis: s for axis, s in enumerate(self.shape) if isinstance(s, str)}


@dataclass(frozen=True)
class Model:
    """``make()`` gives the module; ``inputs`` by argument name; ``sizes`` of the dims to run at.

    The first sizes are those of the example.
    """

    make: Callable[[], nn.Module]
    inputs: Mapping[str, Draw]
    sizes: Sequence[Sizes] = ({"N": 1}, {"N": 3})
    constants: tuple[tuple[str, Any], ...] = ()


def check(model: Model, *, checked: bool = False) -> None:
    """Capture ``model``, and compare its Predictor with eager at all its sizes.

    ``checked``: capture does its own comparison too.
    """
    torch.manual_seed(0)
    module = model.make().eval()
    generator = torch.Generator().manual_seed(1)
    cases = [{n: d(s, generator) for n, d in model.inputs.items()} for s in model.sizes]
    dynamic = {n: d.dynamic for n, d in model.inputs.items() if d.dynamic}
    constants = dict(model.constants)
    program = oarlock.capture(
        module, (), {**cases[0], **constants}, dynamic=dynamic, check=None if checked else False
    )
    predictor = oarlock.Predictor(program, threads=1)
    wide = copy.deepcopy(module).double()
    for case, sizes in zip(cases, model.sizes):
        expected, exact = _eager(module, case, constants), _exact(wide, case, constants)
        got = _leaves(predictor(**{n: x.numpy() for n, x in case.items()}))
        assert len(got) == len(expected)
        for i, (g, e) in enumerate(zip(got, expected)):
            _compare(np.asarray(g), e, exact[i] if exact else None, f"output {i} at {sizes}")


def _eager(module: nn.Module, case: Mapping[str, torch.Tensor], constants: Any) -> list:
    with torch.inference_mode():
        return _leaves(module(**case, **constants))


def _exact(wide: nn.Module, case: Mapping[str, torch.Tensor], constants: Any) -> list | None:
    """The results in float64; None for a model with float32 of its own."""
    try:
        doubled = {n: x.double() if x.is_floating_point() else x for n, x in case.items()}
        return _eager(wide, doubled, constants)
    except RuntimeError:
        return None


def _leaves(x: Any) -> list:
    """Tensors or arrays at any depth, in order."""
    if isinstance(x, (torch.Tensor, np.ndarray, np.generic)):
        return [x]
    if isinstance(x, Mapping):
        return [leaf for item in dict.values(x) for leaf in _leaves(item)]
    if isinstance(x, (tuple, list)):
        return [leaf for item in x for leaf in _leaves(item)]
    if hasattr(x, "__dict__") and not isinstance(x, type):
        return [leaf for item in vars(x).values() for leaf in _leaves(item)]
    return []


def _compare(got: np.ndarray, eager: torch.Tensor, exact: Any, where: str) -> None:
    assert got.shape == tuple(eager.shape), f"{where}: {got.shape}, eager {tuple(eager.shape)}"
    want = eager.numpy()
    if not eager.is_floating_point():
        np.testing.assert_array_equal(got, want, err_msg=where)
        return
    finite = np.isfinite(want)
    np.testing.assert_array_equal(got[~finite], want[~finite], err_msg=where)
    scale = float(np.abs(want[finite]).max(initial=0))
    distance = [] if exact is None else np.abs(np.nan_to_num(eager.double() - exact.double()))
    own = float(np.max(distance, initial=0))
    few = 16 if exact is not None else 512  # without float64, a guess at a deep model's roundings
    bound = OURS * own + few * EPS.get(eager.dtype, 2.0**-52) * scale
    error = float(np.abs(got[finite].astype(np.float64) - want[finite]).max(initial=0))
    assert error <= bound, f"{where}: error {error:.3e}, bound {bound:.3e}, scale {scale:.3e}"
