"""``oarlock show``: the program as text, or drawn."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from oarlock.cli.output import json_option, show_document


@click.command(epilog="Example: oarlock show net.oar --html net.html")
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path),
              help="Write a self-contained page with the graph drawn.")  # fmt: skip
@click.option("--stage", help="Show the program after this stage of the portable pipeline.")
@json_option
def command(model: Path, html: Path | None, stage: str | None, as_json: bool) -> None:
    """Print a program, or draw its graph."""
    import oarlock

    program = oarlock.load(model)
    if stage is not None:
        from oarlock.passes.pipeline import PORTABLE, run_pipeline

        program = run_pipeline(program, PORTABLE, stop_after=stage)
    if html is not None:
        from oarlock.cli.draw import page

        html.write_text(page(model.name, program), encoding="utf-8")
        print(html)
    elif as_json:
        ops = Counter(node.name for node in program.graph.walk())
        show_document(
            {"text": str(program), "ops": dict(ops), "weight_bytes": program.weight_bytes,
             "dims": {n: d.bounds() for n, d in program.dims.items()}}, True,
        )  # fmt: skip
    else:
        print(program, end="")
