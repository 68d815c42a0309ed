"""The differential check: eager against the captured program, on inputs of several sizes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from oarlock.capture.recorder import to_numpy
from oarlock.capture.structure import map_tensors, tree_of
from oarlock.errors import DivergenceError
from oarlock.evaluate import evaluate_graph, solve_dims
from oarlock.ir import Program, decode, evaluate_size

OTHER_SIZES = (3, 2, 5, 4)
ROUNDINGS = 64  # of a float32 model against itself in float64, as a multiple of its own error


def check_against_eager(
    program: Program, fn: Callable[..., Any], args: tuple, kwargs: dict[str, Any],
    more: Sequence[Any] = (),
) -> None:  # fmt: skip
    """Compare on the example, on one input of other sizes and values, and on ``more``.

    Raises: DivergenceError naming the output that differs.
    """
    cases = [(args, kwargs), other_input(program, args, kwargs)]
    cases += [(tuple(case), {}) for case in more]
    for case_args, case_kwargs in cases:
        _compare(program, fn, case_args, case_kwargs)


def _leaves(tree: Any) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []

    def leaf(tensor: torch.Tensor, _: str) -> int:
        found.append(tensor)
        return len(found) - 1

    tree_of(tree, "value", leaf)
    return found


def other_input(program: Program, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict]:
    """Inputs of other sizes inside the ranges and of other values of the same kind."""
    generator = torch.Generator().manual_seed(1)
    env = {}
    for (name, dim), wanted in zip(program.dims.items(), OTHER_SIZES * 8):
        low, high = dim.bounds()
        env[name] = max(low, wanted if high is None else min(wanted, high))
    types = iter([v.type for v in program.graph.inputs])

    def change(x: torch.Tensor) -> torch.Tensor:
        shape = [evaluate_size(s, env) for s in next(types).shape]
        if x.is_floating_point():
            return torch.randn(shape, generator=generator).to(x.dtype)
        if x.dtype is torch.bool:
            return torch.randint(0, 2, shape, generator=generator).bool()
        low, high = (int(x.min()), int(x.max())) if x.numel() else (0, 0)
        return torch.randint(low, high + 1, shape, generator=generator).to(x.dtype)

    return map_tensors((args, kwargs), change)


def _compare(program: Program, fn: Any, args: tuple, kwargs: dict[str, Any]) -> None:
    inputs = [to_numpy(x) for x in _leaves((args, kwargs))]
    with torch.inference_mode():
        expected = _leaves(fn(*args, **kwargs))
    env = solve_dims(program, inputs)
    got = evaluate_graph(program.graph, program.params, env, inputs)
    exact = _in_float64(fn, args, kwargs)
    for i, (value, e, g) in enumerate(zip(program.graph.outputs, expected, got)):
        want = decode(to_numpy(e), value.dtype)
        have = decode(g, value.dtype)
        bound = _bound(want, exact[i] if exact else None, value.dtype)
        where = value.producer.origin if value.producer else ""
        if want.shape != have.shape:
            raise DivergenceError(f"output {i} ({where}): eager {want.shape}, program {have.shape}")
        if not np.allclose(have, want, rtol=0, atol=bound, equal_nan=True):
            error = float(np.nanmax(np.abs(have.astype(np.float64) - want)))
            sizes = ", ".join(f"{k}={v}" for k, v in env.items())
            raise DivergenceError(
                f"output {i} ({where}) differs from eager with {sizes or 'the example'}: "
                f"max abs error {error:.3e}, expected at most {bound:.3e}"
            )


def _in_float64(fn: Any, args: tuple, kwargs: dict[str, Any]) -> list[np.ndarray] | None:
    """The model in float64, whose distance from eager measures eager's own rounding."""
    if not isinstance(fn, torch.nn.Module):
        return None
    try:
        wide = copy.deepcopy(fn).double()
        args, kwargs = map_tensors(
            (args, kwargs), lambda x: x.double() if x.is_floating_point() else x
        )
        with torch.inference_mode():
            return [x.numpy() for x in _leaves(wide(*args, **kwargs))]
    except (RuntimeError, TypeError, NotImplementedError):
        return None  # a model that holds float32 of its own; the bound is then by size


def _bound(want: np.ndarray, exact: np.ndarray | None, dtype: Any) -> float:
    """Absolute error allowed: exact for integers, else a multiple of eager's own rounding."""
    if not dtype.is_float or not want.size:
        return 0.0
    finite = want[np.isfinite(want)]
    scale = float(np.abs(finite).max(initial=0.0))
    eps = {8: 2.0**-52, 4: 2.0**-23}.get(dtype.bytes, 2.0**-10 if dtype.name == "f16" else 2.0**-7)
    own = 0.0
    if exact is not None and exact.shape == want.shape:
        own = float(np.nanmax(np.abs(np.where(np.isfinite(exact), exact - want, 0)), initial=0.0))
    return ROUNDINGS * (own + eps * max(scale, 2.0**-20)) / (4 if own else 1)
