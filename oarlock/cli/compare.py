"""``oarlock compare``: where two executions part."""

from __future__ import annotations

import json
from pathlib import Path

import click

from oarlock.cli.arrays import dim_option, input_option, parse_dims, random_inputs, read_inputs
from oarlock.cli.output import json_option


@click.command(epilog="Example: oarlock compare net.oar --dim N=3")
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@input_option
@dim_option
@click.option("--reference", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Another .oar to compare with; default: the numpy reference.")  # fmt: skip
@json_option
def command(
    model: Path,
    inputs: tuple[str, ...],
    dims: tuple[str, ...],
    reference: Path | None,
    as_json: bool,
) -> None:
    """Run stage by stage against the reference; name the first node that differs."""
    import oarlock

    program = oarlock.load(model)
    arrays = read_inputs(inputs, program) or random_inputs(program, parse_dims(dims))
    other = oarlock.load(reference) if reference else "evaluate"
    comparison = oarlock.compare(program, arrays, reference=other)
    print(json.dumps(comparison.to_dict(), default=str) if as_json else comparison)
    if not comparison.agrees:
        raise click.exceptions.Exit(1)
