"""Arrays in and out of the command line: ``name=file.npy``, ``file.npz``."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from oarlock.errors import InputError, UnknownName
from oarlock.evaluate import input_names
from oarlock.ir import Program, evaluate_size

input_option = click.option(
    "--input", "-i", "inputs", multiple=True, metavar="[NAME=]FILE",
    help="An .npy of one input, or an .npz whose keys are input names. Repeatable.",
)  # fmt: skip


def read_inputs(specs: Sequence[str], program: Program) -> dict[str, np.ndarray]:
    """Arrays by input name.  Raises: InputError."""
    arrays: dict[str, np.ndarray] = {}
    names = input_names(program)
    for spec in specs:
        name, _, path = spec.rpartition("=")
        loaded = _load(path)
        if isinstance(loaded, dict):
            arrays.update(loaded)
        else:
            free = [n for n in names if n not in arrays]
            if not name and not free:
                raise InputError(f"{path}: every input has an array already: {', '.join(names)}")
            arrays[name or free[0]] = loaded
    return arrays


def _load(path: str) -> np.ndarray | dict[str, np.ndarray]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        return {key: loaded[key] for key in loaded.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not an .npy or .npz file of plain arrays: {error}") from None


def random_inputs(
    program: Program, dims: Mapping[str, int] | None = None, seed: int = 0
) -> dict[str, np.ndarray]:
    """Random arrays that fit the signature; unnamed dims take the smallest size up to 1.

    Integers are 0 or 1, which any table of an embedding has.
    """
    rng = np.random.default_rng(seed)
    unknown = sorted(set(dims or {}) - set(program.dims))
    if unknown:
        known = ", ".join(program.dims) or "none: every size is fixed"
        raise UnknownName(f"no dim {', '.join(unknown)}; the dims are {known}")
    env = {name: max(dim.bounds()[0], 1) for name, dim in program.dims.items()} | dict(dims or {})
    arrays = {}
    for name, value in zip(input_names(program), program.graph.inputs):
        shape = tuple(evaluate_size(size, env) for size in value.shape)
        if value.dtype.is_float:
            from oarlock.ir import encode

            arrays[name] = encode(rng.standard_normal(shape, np.float32), value.dtype)
        else:
            arrays[name] = rng.integers(0, 2, shape).astype(value.dtype.numpy)
    return arrays


def write_outputs(path: Path, outputs: Mapping[str, np.ndarray]) -> None:
    """One ``.npy`` for a single output when the name says so, else an ``.npz``."""
    if path.suffix == ".npy" and len(outputs) == 1:
        np.save(path, next(iter(outputs.values())))
    else:
        np.savez(path, **dict(outputs))


def flatten(result: Any, prefix: str = "") -> dict[str, np.ndarray]:
    """Arrays of a result by path: ``logits``, ``past.0.k``; ``output`` for a bare array."""
    if isinstance(result, np.ndarray):
        return {prefix or "output": result}
    if isinstance(result, Mapping):
        items = [(str(key), value) for key, value in result.items()]
    elif isinstance(result, (tuple, list)):
        items = [(str(i), value) for i, value in enumerate(result)]
    else:
        return {} if result is None else {prefix or "output": np.asarray(result)}
    found: dict[str, np.ndarray] = {}
    for key, value in items:
        name = f"{prefix}.{key}" if prefix else (f"output{key}" if key.isdigit() else key)
        found.update(flatten(value, name))
    return found


def parse_dims(texts: Sequence[str]) -> dict[str, int]:
    """``N=4`` to ``{"N": 4}``."""
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not value.isdigit():
            raise click.BadParameter(
                f"{text!r}: expected NAME=SIZE such as N=4", param_hint="--dim"
            )
        found[name] = int(value)
    return found


dim_option = click.option(
    "--dim", "dims", multiple=True, metavar="NAME=SIZE", help="Size of a dim for random inputs."
)
