"""``oarlock knobs``: every environment variable that is read."""

from __future__ import annotations

import click

from oarlock.cli.output import json_option, show_rows
from oarlock.knobs import KNOBS


@click.command(epilog="Example: OARLOCK_THREADS=2 oarlock knobs")
@json_option
def command(as_json: bool) -> None:
    """List environment variables, their values and defaults."""
    rows = [
        {"name": k.name, "value": k.value, "default": k.default, "meaning": k.doc}
        for k in KNOBS.values()
    ]
    show_rows("", rows, as_json)
