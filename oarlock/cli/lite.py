"""``oarlock lite``: a dependency-free C package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from oarlock.cli.arrays import parse_dims
from oarlock.cli.output import json_option, show_document, show_rows

if TYPE_CHECKING:
    from oarlock.lite import Package


@click.command(epilog="Example: oarlock lite net.oar --target native --dim N=1 -o net_c/")
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--target", default="native", show_default=True,
              help="native, c99 (no vector extensions) or aarch64-linux.")  # fmt: skip
@click.option("--dim", "dims", multiple=True, metavar="NAME=SIZE",
              help="Fix a dynamic dim; those not named take the smallest size above 0.")  # fmt: skip
@click.option("--prefix", help="Of files and names in C; default: the folder's name.")
@click.option("--output", "-o", required=True, type=click.Path(file_okay=False, path_type=Path))
@json_option
def command(
    model: Path, target: str, dims: tuple[str, ...], prefix: str | None, output: Path, as_json: bool
) -> None:
    """Write C99 source, header, weights and an example main, with no malloc, stdio or globals."""
    import oarlock
    from oarlock.lite import build

    package = build(oarlock.load(model), target, output, dims=parse_dims(dims), prefix=prefix)
    if as_json:
        show_document(package.to_dict(), True)
    else:
        show(package)


def show(package: Package) -> None:
    """The package for people: its interface, its sizes, how to build it."""
    document = package.to_dict()
    functions, line = document.pop("functions"), document.pop("build")
    ports = {k: "\n".join(document.pop(k)) for k in ("inputs", "outputs")}
    needs = ", ".join(document.pop("needs")) or "nothing"
    show_document({**document, **ports, "links with": needs}, False)
    rows = [
        {"function": name, "ops": " ".join(package.ops.get(name, ())), "bytes": size}
        for name, size in functions.items()
    ]
    show_rows("code by function", rows, False)
    print(f"build: cd {package.folder} && {line}")
