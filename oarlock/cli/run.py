"""``oarlock run``: arrays in, arrays out."""

from __future__ import annotations

from pathlib import Path

import click

from oarlock.cli.arrays import (
    dim_option,
    flatten,
    input_option,
    parse_dims,
    random_inputs,
    read_inputs,
    write_outputs,
)
from oarlock.cli.output import json_option, show_rows


@click.command(epilog="Example: oarlock run net.oar --input x=batch.npy -o logits.npz")
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@input_option
@click.option("--random", is_flag=True, help="Random inputs instead of files; see --dim.")
@dim_option
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path),
              help="An .npz, or an .npy for a single output.")  # fmt: skip
@click.option("--executor", type=click.Choice(["engine", "reference"]), default="engine",
              show_default=True, help="The compiled engine, or the numpy reference.")  # fmt: skip
@json_option
def command(
    model: Path, inputs: tuple[str, ...], random: bool, dims: tuple[str, ...],
    output: Path | None, executor: str, as_json: bool,
) -> None:  # fmt: skip
    """Run a model on arrays from files."""
    import oarlock

    program = oarlock.load(model)
    arrays = random_inputs(program, parse_dims(dims)) if random else read_inputs(inputs, program)
    if executor == "engine":
        result = oarlock.Predictor(model)(**arrays)
    else:
        result = oarlock.evaluate(program, **arrays)
    outputs = flatten(result)
    if output is not None:
        write_outputs(output, outputs)
    rows = [
        {"output": name, "type": f"{x.dtype}{list(x.shape)}", "min": _stat(x, "min"),
         "max": _stat(x, "max"), "mean": _stat(x, "mean")}
        for name, x in outputs.items()
    ]  # fmt: skip
    show_rows(str(output or ""), rows, as_json)


def _stat(x, name: str) -> float | None:
    return float(getattr(x, name)()) if x.size else None
