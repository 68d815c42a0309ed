"""Runs text architectures: captured from a batch-1 example, then through the engine at other sizes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import oarlock
from oarlock.capture.check import bound
from oarlock.capture.structure import map_tensors
from oarlock.ir import f32

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """``make()`` gives a model; ``inputs(*sizes)`` its keyword arguments, or a tuple of arguments.

    ``dynamic`` is as in ``capture``; the model is captured at ``sizes[0]``, the engine runs at all.
    """

    make: Callable[[], torch.nn.Module]
    inputs: Callable[..., Any]
    dynamic: Mapping[str, Mapping[int, Any]]
    sizes: Sequence[Sizes] = ((1, 6), (3, 9))
    slow: bool = False


def check(case: Case) -> oarlock.Program:
    """Engine equals eager at every size, within eager's own rounding error."""
    torch.manual_seed(0)
    model = case.make().eval()
    args, kwargs = _call(case.inputs(*case.sizes[0]))
    program = oarlock.capture(model, args, kwargs, dynamic=case.dynamic)
    predictor = oarlock.Predictor(program, threads=1)
    for sizes in case.sizes:
        args, kwargs = _call(case.inputs(*sizes))
        got = tensors(predictor(*_numpy(args), **_numpy(kwargs)))
        with torch.no_grad():
            expected = [x.numpy() for x in tensors(model(*args, **kwargs))]
        exact = _in_float64(model, args, kwargs)
        assert len(got) == len(expected)
        for i, (have, want) in enumerate(zip(got, expected)):
            allowed = bound(want, exact[i] if exact else None, f32) if want.dtype.kind == "f" else 0
            np.testing.assert_allclose(
                have, want, rtol=0, atol=allowed, err_msg=f"output {i} at sizes {sizes}"
            )
    return program


def _call(given: Any) -> tuple[tuple, dict[str, Any]]:
    return ((), dict(given)) if isinstance(given, Mapping) else (tuple(given), {})


def _numpy(tree: Any) -> Any:
    return map_tensors(tree, lambda x: x.numpy())


def tensors(tree: Any) -> list[Any]:
    """Tensors or arrays of a result, in order, whatever holds them."""
    if isinstance(tree, (torch.Tensor, np.ndarray)):
        return [tree]
    if isinstance(tree, Mapping):
        return [x for v in dict.values(tree) for x in tensors(v)]
    if isinstance(tree, (tuple, list)):
        return [x for v in tree for x in tensors(v)]
    if hasattr(tree, "__dict__") and not isinstance(tree, type):
        return [x for v in vars(tree).values() for x in tensors(v)]
    return []


def _in_float64(model: torch.nn.Module, args: tuple, kwargs: dict) -> list[np.ndarray] | None:
    wide = copy.deepcopy(model).double()
    args, kwargs = map_tensors((args, kwargs), lambda x: x.double() if x.is_floating_point() else x)
    try:
        with torch.no_grad():
            return [x.double().numpy() for x in tensors(wide(*args, **kwargs))]
    except RuntimeError:
        return None  # a model that makes float32 of its own
