"""``oarlock ops``: the op records."""

from __future__ import annotations

import click

from oarlock.cli.output import json_option, show_rows
from oarlock.errors import UnknownName


@click.command(epilog="Example: oarlock ops conv")
@click.argument("pattern", default="")
@click.option("--aten", is_flag=True, help="List ATen overloads and what captures them.")
@json_option
def command(pattern: str, aten: bool, as_json: bool) -> None:
    """List ops whose name contains PATTERN, with attributes and sources."""
    if aten:
        from oarlock.capture.lift import overloads

        rows = [{"overload": name} for name in sorted(overloads()) if pattern in name]
        _refuse_none(rows, pattern)
        show_rows(f"{len(rows)} ATen overloads", rows, as_json)
        return
    import oarlock.ops  # noqa: F401  fills the registry
    from oarlock.ops.table import rows as table_rows

    rows = [row for row in table_rows() if pattern in row["op"]]
    _refuse_none(rows, pattern)
    show_rows(f"{len(rows)} ops", rows, as_json)


def _refuse_none(rows: list[dict[str, str]], pattern: str) -> None:
    if not rows:
        raise UnknownName(f"nothing contains {pattern!r}; `oarlock ops` and `--aten` list all")
