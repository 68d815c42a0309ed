"""``oarlock size``: where the bytes are."""

from __future__ import annotations

from pathlib import Path

import click

from oarlock.cli.output import json_option, show_rows


@click.command(epilog="Example: oarlock size net.oar --depth 2")
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--depth", type=click.IntRange(1), default=2, show_default=True,
              help="Components of the parameter names to group by.")  # fmt: skip
@json_option
def command(model: Path, depth: int, as_json: bool) -> None:
    """Bytes of the weights by module, the largest first."""
    import oarlock

    program = oarlock.load(model)
    groups: dict[str, list[int]] = {}
    for name, array in program.params.items():
        entry = groups.setdefault(".".join(name.split(".")[:depth]), [0, 0])
        entry[0] += array.size
        entry[1] += array.nbytes
    total = max(program.weight_bytes, 1)
    rows = [
        {"module": name, "elements": count, "bytes": size, "percent": 100 * size / total}
        for name, (count, size) in sorted(groups.items(), key=lambda item: -item[1][1])
    ]
    show_rows(f"{model}: {model.stat().st_size:,} bytes on disk", rows, as_json)
