"""``report.html``: the table, two plots and the drawn graphs, self-contained."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

from oarlock.cli.draw import STYLE, draw
from oarlock.ir import Program

if TYPE_CHECKING:
    from examples.digits.__main__ import Row


def page(rows: Sequence[Row], programs: Mapping[str, Program]) -> str:
    """The whole page."""
    graphs = "".join(
        f"<h2>{html.escape(name)}</h2><div class='graph'>{draw(program.graph)}</div>"
        f"<details><summary>program text</summary><pre>{html.escape(str(program))}</pre></details>"
        for name, program in programs.items()
    )
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Oarlock: digits</title>
<style>{STYLE}</style><h1>Digits, from eager training to an embedded binary</h1>
{_table(rows)}<h2>Latency and size per stage</h2>{_plot(rows)}{graphs}</html>
"""


def _table(rows: Sequence[Row]) -> str:
    names = [f.name for f in fields(rows[0])]
    head = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(_cell(getattr(row, name)) for name in names) + "</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f'<td class="n">{value:.4g}</td>'
    if isinstance(value, int):
        return f'<td class="n">{value:,}</td>'
    return f"<td>{'' if value is None else html.escape(str(value))}</td>"


def _plot(rows: Sequence[Row]) -> str:
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
    timed = [r for r in rows if r.latency_ms is not None]
    labels = [f"{r.model}\n{r.stage}" for r in timed]
    places = range(len(timed))
    left.bar([p - 0.2 for p in places], [r.latency_ms or 0 for r in timed], 0.4, label="this stage")
    left.bar(
        [p + 0.2 for p in places], [r.eager_ms or 0 for r in timed], 0.4, label="PyTorch eager"
    )
    left.set_xticks(list(places), labels, fontsize=8)
    left.set_ylabel("ms per image")
    left.set_yscale("log")
    left.legend()
    sized = [r for r in rows if r.artefact_bytes is not None]
    right.bar([f"{r.model}\n{r.stage}" for r in sized], [r.artefact_bytes or 0 for r in sized])
    right.tick_params(axis="x", labelsize=8)
    right.set_ylabel("artefact, bytes")
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]
