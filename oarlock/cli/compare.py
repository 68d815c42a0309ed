"""``oarlock compare``: where two executions part."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np

from oarlock.cli.arrays import dim_option, input_option, parse_dims, random_inputs, read_inputs
from oarlock.cli.output import json_option
from oarlock.errors import InputError
from oarlock.evaluate import input_names, solve_dims
from oarlock.ir.dim import evaluate_size
from oarlock.ir.graph import Program
from oarlock.ir.parser import parse_size
from oarlock.ir.signature import rebuild


@click.command(epilog="Example: oarlock compare net.oar --dim N=3")
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@input_option
@dim_option
@click.option("--reference", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Another .oar to compare with; default: the numpy reference.")  # fmt: skip
@click.option("--eager", metavar="FILE.py:NAME", help="Compare with this model in PyTorch.")
@click.option("--weights", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="State dict of the eager model.")  # fmt: skip
@json_option
def command(
    model: Path, inputs: tuple[str, ...], dims: tuple[str, ...], reference: Path | None,
    eager: str | None, weights: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Run stage by stage against the reference; name the first node that differs."""
    import oarlock

    program = oarlock.load(model)
    arrays = read_inputs(inputs, program) or random_inputs(program, parse_dims(dims))
    if reference and eager:
        raise click.UsageError("give --reference or --eager, not both")
    other = oarlock.load(reference) if reference else "evaluate"
    if eager:
        other = _run_eager(eager, weights, program, arrays)
    comparison = oarlock.compare(program, arrays, reference=other)
    print(json.dumps(comparison.to_dict(), default=str) if as_json else comparison)
    if not comparison.agrees:
        raise click.exceptions.Exit(1)


def _run_eager(
    source: str, weights: Path | None, program: Program, arrays: Mapping[str, np.ndarray]
) -> list[np.ndarray]:
    """What the PyTorch model computes on the same arrays."""
    import torch

    from oarlock.cli.capture import load_model, load_weights
    from oarlock.runtime.arrays import as_dense, to_torch
    from oarlock.runtime.compare import flatten

    model, _, _ = load_model(source)
    if weights is not None:
        load_weights(model, weights)
    names, values = input_names(program), program.graph.inputs
    missing = [name for name in names if name not in arrays]
    if missing:
        raise InputError(f"input {missing[0]!r} is missing; expected {', '.join(names)}")
    dense = [as_dense(arrays[n], v.type, n) for n, v in zip(names, values)]
    leaves = [to_torch(x, v.dtype) for x, v in zip(dense, values)]
    env = solve_dims(program, dense)
    size = lambda text: evaluate_size(parse_size(text, program.dims), env)  # noqa: E731
    signature = program.signature
    args = [rebuild(tree, leaves, size) for tree in signature.args]
    named = {name: rebuild(tree, leaves, size) for name, tree in signature.kwargs}
    with torch.no_grad():
        result = model(*args, **named) if args or named else model(*leaves)
    return list(flatten(result))
