"""Two plots as SVG: latency on a logarithmic axis, size as stacked bars."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from examples.digits.stages import Row

WIDTH, LABEL, RIGHT, ROW, TOP = 560, 104, 78, 30, 34
COLORS = {"eager": "#d9772b", "reference": "#8b93a0", "engine": "#2f6f9f", "embedded C": "#2c8a5b"}


def latency(rows: Sequence[Row]) -> str:
    """One dot for each stage."""
    low = 10 ** math.floor(math.log10(min(r.latency_us for r in rows)))
    high = 10 ** math.ceil(math.log10(max(r.latency_us for r in rows)))
    span = math.log10(high / low)

    def x(value: float) -> float:
        return LABEL + _inner() * math.log10(value / low) / span

    parts = [_title("latency of one image, microseconds (logarithmic)")]
    for k in range(round(span) + 1):
        tick = low * 10**k
        parts.append(_grid(x(tick), f"{tick:g}", len(rows)))
    for i, row in enumerate(rows):
        y = TOP + ROW * (i + 0.5)
        color = COLORS[row.stage]
        parts += [
            _text(LABEL - 12, y + 4, row.stage, "end"),
            f'<line x1="{LABEL}" x2="{x(row.latency_us):.1f}" y1="{y}" y2="{y}" '
            f'stroke="{color}" stroke-width="3" opacity=".35"/>',
            f'<circle cx="{x(row.latency_us):.1f}" cy="{y}" r="6" fill="{color}"/>',
            _text(x(row.latency_us) + 11, y + 4, f"{row.latency_us:,.1f}", "start", "700"),
        ]
    return _svg(parts, len(rows))


def size(rows: Sequence[Row]) -> str:
    """Bars of weights and, paler, what comes with them."""
    most = max(r.artefact_bytes for r in rows)
    step = _round_step(most / 4)
    scale = _inner() / most
    parts = [_title("artefact, KiB: weights, and paler the code or container around them")]
    for k in range(int(most // step) + 1):
        parts.append(_grid(LABEL + k * step * scale, f"{k * step / 1024:g}", len(rows)))
    for i, row in enumerate(rows):
        y, color = TOP + ROW * i + 6, COLORS[row.stage]
        first, second = row.weight_bytes * scale, row.code_bytes * scale
        parts += [
            _text(LABEL - 12, y + 13, row.stage, "end"),
            _bar(LABEL, y, first, color, 1.0),
            _bar(LABEL + first, y, second, color, 0.4),
            _text(
                LABEL + first + second + 8,
                y + 13,
                f"{row.artefact_bytes / 1024:.1f}",
                "start",
                "700",
            ),
        ]
    return _svg(parts, len(rows))


def _inner() -> float:
    return WIDTH - LABEL - RIGHT


def _round_step(value: float) -> float:
    """1, 2 or 5 times a power of two KiB, at least ``value``."""
    step = 1024.0
    while step < value:
        step *= 2
    return step


def _grid(x: float, label: str, rows: int) -> str:
    bottom = TOP + ROW * rows
    line = f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}" stroke="#e3e6ea"/>'
    return line + _text(x, bottom + 16, label, "middle", fill="#6a727d")


def _bar(x: float, y: float, width: float, color: str, opacity: float) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="18" fill="{color}" '
        f'opacity="{opacity}"/>'
    )


def _title(text: str) -> str:
    return _text(0, 14, text, "start", "600")


def _text(
    x: float, y: float, text: str, anchor: str, weight: str = "400", fill: str = "#1d2126"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" '
        f'fill="{fill}">{html.escape(text)}</text>'
    )


def _svg(parts: Sequence[str], rows: int) -> str:
    height = TOP + ROW * rows + 26
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" font-size="13" role="img">{"".join(parts)}</svg>'
    )
