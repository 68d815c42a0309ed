"""``oarlock compile``: build the engine into the cache, or a shared object into a folder."""

from __future__ import annotations

import time
from pathlib import Path

import click

from oarlock.cli.output import json_option, show_document


@click.command(epilog="Example: oarlock compile net.oar --threads 2")
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--threads", type=click.IntRange(1), help="Default: the cores granted to the process."
)
@click.option("--target", default="cpu", show_default=True)
@json_option
def command(model: Path, threads: int | None, target: str, as_json: bool) -> None:
    """Compile a model for this machine; later loads take it from the cache."""
    import oarlock

    start = time.perf_counter()
    predictor = oarlock.Predictor(model, threads=threads, target=target)
    seconds = time.perf_counter() - start
    document = {"model": str(model), "seconds": seconds, **predictor.report().to_dict()}
    if as_json:
        show_document(document, True)
    else:
        print(f"{model}: ready in {seconds:.2f} s")
        print(predictor.report())
