"""``report.html``: the table, two plots for each model and the drawn graphs, self-contained."""

from __future__ import annotations

import html
import platform
from collections.abc import Sequence

import torch

import oarlock
from examples.digits import plots
from examples.digits.models import StepTimes
from examples.digits.stages import Journey, Row
from oarlock.cli.draw import STYLE, draw

MORE = """
body{max-width:1180px;margin:2rem auto;padding:0 1.5rem}
h1{font-size:1.7rem}h2{margin-top:2.6rem;padding-top:1rem;border-top:2px solid #e3e6ea}
h3{font-size:1rem;margin:1.4rem 0 .4rem}p.note{color:#5a626d;margin:.2rem 0 1rem}
table{width:100%}th{font-weight:600;color:#5a626d;border-bottom:2px solid #c9ced6}
th.n{text-align:right}tr.first td{border-top:2px solid #c9ced6}td b{color:#2c8a5b}
.plots{display:flex;flex-wrap:wrap;gap:1.5rem}.plots svg{flex:1 1 480px;max-width:100%;height:auto}
.tiles{display:grid;grid-template-columns:repeat(3,1fr);gap:1rem;margin:1.2rem 0}
.tile{background:#f5f6f8;border-radius:8px;padding:.8rem 1rem}
.tile b{display:block;font-size:1.5rem;line-height:1.3}.tile span{color:#5a626d;font-size:.9rem}
.parts{display:grid;grid-template-columns:minmax(260px,max-content) minmax(0,1fr);gap:1.5rem}
.graph{max-height:900px;max-width:640px}.code td,.code th{font-size:.85rem;padding:.15rem .5rem}
pre{font-size:12px;border-radius:6px;white-space:pre-wrap;margin:.4rem 0;line-height:1.45}summary{cursor:pointer;margin:.6rem 0}
"""


def page(journeys: Sequence[Journey], timed: Sequence[StepTimes], images: int) -> str:
    """The whole page."""
    rows = [row for journey in journeys for row in journey.rows]
    machine = f"{platform.machine()}, PyTorch {torch.__version__}, oarlock {oarlock.__version__}"
    return f"""<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>Oarlock: digits</title>
<style>{STYLE}{MORE}</style>
<h1>Digits, from eager training to an embedded binary</h1>
<p class="note">scikit-learn's digits, {images} held-out images of 8x8; {html.escape(machine)},
one thread.</p>
<div class="tiles">{"".join(_tiles(j) for j in journeys)}</div>
{_table(rows)}
<p class="note">Distances are from eager PyTorch over all logits of the test set; logits near zero
make the largest ULP. Latency is of one image, the median over rounds in which the stages take turns;
that of embedded C is measured inside of its binary. The artefact of eager is its checkpoint, of the
reference the .oar file, of the engine and of embedded C their code and weights.</p>
<h3>A training step: forward, backward, clipping, Adam</h3>
{_steps(timed)}
{"".join(_journey(j) for j in journeys)}</html>
"""


def _tiles(journey: Journey) -> str:
    eager, *_, last = journey.rows
    faster = eager.latency_us / last.latency_us
    return (
        f'<div class="tile"><b>{journey.name} {last.accuracy:.1%}</b>'
        f"<span>accuracy as embedded C; eager {eager.accuracy:.1%}</span></div>"
        f'<div class="tile"><b>{last.latency_us:.1f} µs</b>'
        f"<span>an image, {faster:.0f} times as fast as eager</span></div>"
        f'<div class="tile"><b>{last.artefact_bytes / 1024:.0f} KiB</b>'
        f"<span>code and weights, {last.arena_bytes or 0:,} B of arena</span></div>"
    )


def _steps(timed: Sequence[StepTimes]) -> str:
    names = "".join(f"<th>{name}</th>" for name in ("model", "eager ms", "static ms", "x eager"))
    rows = "".join(
        f"<tr><td>{t.model}</td><td>{t.eager_ms:.2f}</td><td>{t.static_ms:.2f}</td>"
        f"<td>{t.eager_ms / t.static_ms:.2f}</td></tr>"
        for t in timed
    )
    return f"<table><tr>{names}</tr>{rows}</table>"


COLUMNS = (
    "model", "stage", "accuracy", "max abs", "ULP median", "ULP max", "latency µs", "x eager",
    "artefact B", "arena B",
)  # fmt: skip


def _table(rows: Sequence[Row]) -> str:
    head = "".join(
        f"<th{' class=n' if i > 1 else ''}>{name}</th>" for i, name in enumerate(COLUMNS)
    )
    body = "".join(_row(row, rows) for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _row(row: Row, rows: Sequence[Row]) -> str:
    eager = next(r for r in rows if r.model == row.model)
    cells = [
        f"{row.accuracy:.2%}", f"{row.max_abs:.1e}", f"{row.median_ulp:,}", f"{row.max_ulp:,}",
        f"{row.latency_us:,.1f}", f"{eager.latency_us / row.latency_us:.2f}",
        f"{row.artefact_bytes:,}", "" if row.arena_bytes is None else f"{row.arena_bytes:,}",
    ]  # fmt: skip
    numbers = "".join(f'<td class="n">{cell}</td>' for cell in cells)
    name = row.model if row is eager else ""
    return f"<tr{' class=first' if row is eager else ''}><td>{name}</td><td>{row.stage}</td>{numbers}</tr>"


def _journey(journey: Journey) -> str:
    return f"""<h2>{html.escape(journey.name)}</h2>
<div class="plots">{plots.latency(journey.rows)}{plots.size(journey.rows)}</div>
<div class="parts"><div><h3>The captured program</h3>
<div class="graph">{draw(journey.program.graph)}</div></div>
<div>{_package(journey)}</div></div>
<details><summary>the program as text</summary><pre>{html.escape(str(journey.program))}</pre></details>
<details><summary>the engine's report</summary><pre>{html.escape(journey.engine)}</pre></details>"""


def _package(journey: Journey) -> str:
    """The header, how to build it, the bytes of each function."""
    package = journey.package
    header = (package.folder / f"{package.name}.h").read_text()
    functions = "".join(
        f"<tr><td>{name}</td><td>{' '.join(package.ops.get(name, ()))}</td>"
        f'<td class="n">{size:,}</td></tr>'
        for name, size in package.sizes.functions.items()
    )
    return f"""<h3>The embedded package: {package.name}.h</h3><pre>{html.escape(header)}</pre>
<h3>built by</h3><pre>{html.escape(package.build_line)}</pre>
<h3>its code</h3><table class="code"><tr><th>function</th><th>ops</th><th class="n">bytes</th></tr>
{functions}</table>"""
