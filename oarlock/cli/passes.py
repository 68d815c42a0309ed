"""``oarlock passes``: the pipelines, and what they do to a model."""

from __future__ import annotations

from pathlib import Path

import click

from oarlock.cli.output import json_option, show_rows


@click.command(epilog="Example: oarlock passes net.oar")
@click.argument(
    "model", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@json_option
def command(model: Path | None, as_json: bool) -> None:
    """List the passes in order; with MODEL, run them and show time and node counts."""
    from oarlock.passes.pipeline import PORTABLE, TARGET, describe, run_pipeline

    if model is None:
        rows = [{"pipeline": p, **describe(s)} for p, stages in
                (("portable", PORTABLE), ("target", TARGET)) for s in stages]  # fmt: skip
        show_rows("", rows, as_json)
        return
    import oarlock

    records = []
    run_pipeline(oarlock.load(model), [*PORTABLE, *TARGET], on_stage=records.append)
    show_rows(str(model), [record.to_dict() for record in records], as_json)
