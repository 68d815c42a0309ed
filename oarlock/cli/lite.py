"""``oarlock lite``: a dependency-free C package."""

from __future__ import annotations

from pathlib import Path

import click

from oarlock.cli.arrays import parse_dims
from oarlock.cli.output import json_option, show_document


@click.command(epilog="Example: oarlock lite net.oar --target native --dim N=1 -o net_c/")
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--target", default="native", show_default=True, help="native or aarch64-linux.")
@click.option("--dim", "dims", multiple=True, metavar="NAME=SIZE",
              help="Fix a dynamic dim; those not named take the smallest size above 0.")  # fmt: skip
@click.option("--output", "-o", required=True, type=click.Path(file_okay=False, path_type=Path))
@json_option
def command(model: Path, target: str, dims: tuple[str, ...], output: Path, as_json: bool) -> None:
    """Write C99 source, header, weights and an example main, with no malloc, stdio or globals."""
    import oarlock
    from oarlock.lite import build

    package = build(oarlock.load(model), target, output, dims=parse_dims(dims))
    show_document(package.to_dict(), as_json)
