"""The differential check: eager against the captured program, on inputs of several sizes."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from oarlock.capture.arrays import to_numpy
from oarlock.capture.call import Recording
from oarlock.capture.locate import first_difference
from oarlock.capture.structure import map_tensors, tree_of
from oarlock.capture.torch_private import whole_composites
from oarlock.errors import DivergenceError, UserError
from oarlock.evaluate import evaluate_graph, solve_dims
from oarlock.ir import DType, Graph, Program, Value, decode, evaluate_size

OTHER_SIZES = (3, 2, 5, 4)
LARGER_SIZES = (17, 33, 48, 64)
ROUNDINGS = 16  # own rounding errors of eager, measured against float64, that are allowed
UNMEASURED = 64  # roundings of the largest output that are allowed where none was measured
MEASURED_BYTES = 64 << 20  # of weights: a larger model is not run in float64
RANDOM = ("rand", "randn")

Case = tuple[tuple, dict[str, Any]]


def check_against_eager(
    recording: Recording, fn: Callable[..., Any], args: tuple, kwargs: dict[str, Any],
    more: Sequence[Any] = (),
) -> None:  # fmt: skip
    """Compare on the example, on one input of other sizes and values, and on ``more``.

    Raises: DivergenceError naming the first node that differs.
    """
    program = recording.program
    drawn = random_outputs(program.graph)
    if drawn:
        warnings.warn(
            f"outputs {', '.join(map(str, sorted(drawn)))} depend on random numbers, of which eager "
            f"draws others: only their shapes are compared",
            stacklevel=3,
        )
    _compare(recording, fn, args, kwargs)
    other = _other_case(recording, fn, args, kwargs)
    if other is not None:
        _compare(recording, fn, *other)
    for case in more:
        case = tuple(case) if isinstance(case, (tuple, list)) else (case,)
        _compare(recording, fn, case, kwargs)


def random_outputs(graph: Graph) -> set[int]:
    """Positions of the outputs that depend on numbers drawn at random."""
    drawn: set[Value] = set()
    for node in graph.nodes:
        inner = [n for g in node.graphs for n in g.walk()]
        if drawn.intersection(node.inputs) or any(n.name in RANDOM for n in (node, *inner)):
            drawn.update(node.outputs)
    return {i for i, value in enumerate(graph.outputs) if value in drawn}


def leaves_of(tree: Any) -> list[torch.Tensor]:
    """The tensors of a structure, in order."""
    found: list[torch.Tensor] = []

    def leaf(tensor: torch.Tensor, _: str) -> int:
        found.append(tensor)
        return len(found) - 1

    tree_of(tree, "value", leaf)
    return found


def _other_case(recording: Recording, fn: Any, args: tuple, kwargs: dict[str, Any]) -> Case | None:
    """Inputs of other sizes and values that eager accepts.

    Raises: UserError when eager accepts no other sizes.
    """
    program = recording.program
    if not program.graph.inputs:
        return None
    failure: Exception | None = None
    for sizes in (OTHER_SIZES, LARGER_SIZES):
        case = other_input(program, args, kwargs, sizes)
        try:
            run_eager(recording, fn, *case)
            return case
        except (RuntimeError, ValueError, IndexError, AssertionError, TypeError) as error:
            failure = error
    if not program.dims:
        return None
    raise UserError(
        f"eager itself fails with sizes {_sizes(program, OTHER_SIZES)} and "
        f"{_sizes(program, LARGER_SIZES)}: {failure}; give the range it takes, "
        f"Dim(name, min=..., max=...)"
    )


def _sizes(program: Program, wanted: Sequence[int]) -> dict[str, int]:
    env = {}
    for (name, dim), size in zip(program.dims.items(), list(wanted) * 8):
        low, high = dim.bounds()
        env[name] = max(low, size if high is None else min(size, high))
    return env


def other_input(
    program: Program, args: tuple, kwargs: dict[str, Any], sizes: Sequence[int] = OTHER_SIZES
) -> Case:
    """Inputs of other sizes inside the ranges and of other values of the same kind.

    Integers and whole floats stay among the values of the example or between them, floats in its range.
    """
    generator = torch.Generator().manual_seed(1)
    return _case_of(program, args, kwargs, _sizes(program, sizes), generator)


def differing_sizes(
    recording: Recording, fn: Any, args: tuple, kwargs: dict[str, Any]
) -> list[str]:
    """The decisions that change the result at a size for which the code decides otherwise."""
    program = recording.program
    lowest = {name: dim.bounds()[0] for name, dim in program.dims.items()}
    found: dict[str, str] = {}
    tried: dict[tuple, bool] = {}
    for exception in recording.exceptional:
        for others in (_sizes(program, OTHER_SIZES), lowest):
            env = {**others, exception.dim: exception.value}
            key = tuple(env.items())
            if key not in tried:
                tried[key] = _agrees_at(recording, fn, args, kwargs, env)
            if not tried[key]:
                found.setdefault(exception.why, f"with {_show(env)} eager gives something else")
    return [f"{why}; {where}" for why, where in found.items()]


def _agrees_at(
    recording: Recording, fn: Any, args: tuple, kwargs: dict[str, Any], env: dict[str, int]
) -> bool:
    generator = torch.Generator().manual_seed(1)
    case = _case_of(recording.program, args, kwargs, env, generator)
    try:
        _compare(recording, fn, *case)
    except DivergenceError:
        return False
    except (RuntimeError, ValueError, IndexError, AssertionError, TypeError):
        return True  # eager refuses these sizes
    return True


def _case_of(
    program: Program, args: tuple, kwargs: dict[str, Any], env: Mapping[str, int],
    generator: torch.Generator,
) -> Case:  # fmt: skip
    types = iter([v.type for v in program.graph.inputs])

    def change(x: torch.Tensor) -> torch.Tensor:
        shape = [evaluate_size(s, env) for s in next(types).shape]
        return _drawn(x, shape, generator)

    return map_tensors((args, kwargs), change)


def _drawn(x: torch.Tensor, shape: list[int], generator: torch.Generator) -> torch.Tensor:
    if not x.numel():
        return torch.zeros(shape, dtype=x.dtype)
    if x.is_floating_point():
        low, high = float(x.min()), float(x.max())
        if (bool((x == x.round()).all()) and low != high) or not np.isfinite([low, high]).all():
            picks = torch.randint(0, x.numel(), shape, generator=generator)
            return x.detach().reshape(-1)[picks]
        if low == high:
            return torch.randn(shape, generator=generator).to(x.dtype)
        return (torch.rand(shape, generator=generator) * (high - low) + low).to(x.dtype)
    if x.dtype is torch.bool:
        picks = torch.randint(0, x.numel(), shape, generator=generator)
        return x.reshape(-1)[picks]
    low, high = int(x.min()), int(x.max())
    return torch.randint(low, high + 1, shape, generator=generator).to(x.dtype)


@contextmanager
def _kept(states: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """The buffers that the model updates, put back afterwards."""
    before = {name: tensor.detach().clone() for name, tensor in states.items()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, tensor in states.items():
                tensor.data.copy_(before[name])


def run_eager(
    recording: Recording, fn: Any, args: tuple, kwargs: dict[str, Any]
) -> list[torch.Tensor]:
    """What eager gives, then the next values of the state; inputs and buffers stay as they were."""
    args, kwargs = map_tensors((args, kwargs), torch.Tensor.clone)
    with _kept(recording.states), torch.no_grad(), whole_composites():
        found = leaves_of(fn(*args, **kwargs))
        return [*found, *(tensor.detach().clone() for tensor in recording.states.values())]


def _compare(recording: Recording, fn: Any, args: tuple, kwargs: dict[str, Any]) -> None:
    program = recording.program
    inputs = [to_numpy(x) for x in leaves_of((args, kwargs))]
    expected = run_eager(recording, fn, args, kwargs)
    env = solve_dims(program, inputs)
    got = evaluate_graph(program.graph, program.params, env, inputs)
    if len(expected) != len(got):
        raise DivergenceError(f"eager gives {len(expected)} tensors, the program {len(got)}")
    exact: list[np.ndarray] | None = None
    drawn = random_outputs(program.graph)
    for i, (value, e, g) in enumerate(zip(program.graph.outputs, expected, got)):
        want, have = decode(to_numpy(e), value.dtype), decode(g, value.dtype)
        if _agree(have, want, bound(want, None, value.dtype)):
            continue
        if i in drawn and have.shape == want.shape:
            continue
        exact = exact or _in_float64(recording, fn, args, kwargs)
        allowed = bound(want, exact[i] if exact else None, value.dtype)
        if _agree(have, want, allowed):
            continue
        why = f"output {i}" + (f" with {_show(env)}" if env else " with the example")
        if want.shape != have.shape:
            why += f": eager {list(want.shape)}, program {list(have.shape)}"
        else:
            error = float(np.nanmax(np.abs(have.astype(np.float64) - want)))
            why += f" differs from eager: max abs error {error:.3e}, expected at most {allowed:.3e}"
        where = first_difference(recording, fn, args, kwargs, env, inputs)
        raise DivergenceError(f"{why}; {where}")


def _agree(have: np.ndarray, want: np.ndarray, allowed: float) -> bool:
    return have.shape == want.shape and np.allclose(
        have, want, rtol=0, atol=allowed, equal_nan=True
    )


def _show(env: Mapping[str, int]) -> str:
    return ", ".join(f"{k}={v}" for k, v in env.items())


def _in_float64(
    recording: Recording, fn: Any, args: tuple, kwargs: dict[str, Any]
) -> list[np.ndarray] | None:
    """The model in float64, whose distance from eager measures eager's own rounding."""
    small = recording.program.weight_bytes <= MEASURED_BYTES
    if not isinstance(fn, torch.nn.Module) or recording.states or not small:
        return None
    try:
        wide = copy.deepcopy(fn).double()
        args, kwargs = map_tensors(
            (args, kwargs), lambda x: x.double() if x.is_floating_point() else x.clone()
        )
        with whole_composites():
            return [to_numpy(x.double()) for x in leaves_of(wide(*args, **kwargs))]
    except (RuntimeError, TypeError, NotImplementedError):
        return None  # a model that holds float32 of its own; the bound is then by size


_EPSILON = {"f64": 2.0**-52, "f32": 2.0**-23, "f16": 2.0**-10, "bf16": 2.0**-7}


def bound(want: np.ndarray, exact: np.ndarray | None, dtype: DType) -> float:
    """Absolute error allowed: exact for integers, else roundings of the largest value.

    Where eager's distance from float64 was measured, a multiple of it is allowed as well; a distance
    that is no rounding (a model that computes something else at every call) is none.
    """
    if not dtype.is_float or not want.size:
        return 0.0
    finite = want[np.isfinite(want)]
    scale = float(np.abs(finite).max(initial=0.0))
    allowed = UNMEASURED * _EPSILON[dtype.name] * max(scale, 2.0**-20)
    if exact is not None and exact.shape == want.shape:
        distance = np.abs(np.where(np.isfinite(exact), exact - want, 0.0))
        measured = ROUNDINGS * float(np.nanmax(distance, initial=0.0))
        allowed += measured if measured <= ROUNDINGS**2 * _EPSILON[dtype.name] ** 0.5 * scale else 0
    return allowed
