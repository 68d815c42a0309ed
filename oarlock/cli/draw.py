"""A program's graph drawn as a self-contained page: SVG, no scripts from elsewhere."""

from __future__ import annotations

import html
from collections import Counter
from dataclasses import dataclass

from oarlock.ir import Graph, Node, Program, Value

ROW, COLUMN, BOX_WIDTH, BOX_HEIGHT = 56, 196, 176, 34
MAX_NODES = 1500
COLORS = {
    "contraction": "#2f6f9f", "move": "#7a7f87", "norm": "#6b5b95", "pointwise": "#3d8b5f",
    "control": "#b4532a", "other": "#8a6d3b",
}  # fmt: skip
_CONTRACTIONS = ("matmul", "linear", "conv", "conv_transpose", "attention", "lstm", "gru", "rnn")


@dataclass
class Box:
    """A drawn node: rank is its row, column its place in the row."""

    node: Node | None
    label: str
    detail: str
    kind: str
    rank: int = 0
    column: float = 0.0


def page(title: str, program: Program) -> str:
    """An HTML page: a summary, the drawing and the text of the program."""
    counts = Counter(n.name for n in program.graph.walk() if n.name not in ("param", "const"))
    summary = ", ".join(f"{count} {name}" for name, count in counts.most_common(8))
    return f"""<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title>
<style>{STYLE}</style><h1>{html.escape(title)}</h1>
<p>{sum(counts.values())} nodes: {html.escape(summary)}; {program.weight_bytes:,} bytes of weights</p>
<div class="graph">{draw(program.graph)}</div>
<details><summary>program text</summary><pre>{html.escape(str(program))}</pre></details></html>
"""


STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem;color:#1d2126;background:#fff}
h1{font-size:1.5rem;margin:0 0 .5rem}h2{font-size:1.15rem;margin:2rem 0 .5rem}
.graph{overflow:auto;max-height:80vh;border:1px solid #d6dae0;border-radius:6px;padding:8px}
pre{overflow:auto;background:#f5f6f8;padding:1rem;font-size:12px}
table{border-collapse:collapse}td,th{padding:.3rem .8rem;border-bottom:1px solid #e3e6ea}
th{text-align:left}td.n{text-align:right;font-variant-numeric:tabular-nums}
"""


def draw(graph: Graph) -> str:
    """The SVG of a graph, inputs at the top; weights and constants are left out."""
    boxes, edges = _boxes(graph)
    if len(boxes) > MAX_NODES:
        return f"<p>{len(boxes)} nodes are too many to draw; read the text below.</p>"
    _assign_ranks(boxes, edges)
    width, height = _assign_columns(boxes, edges)
    lines = [_edge(boxes[a], boxes[b]) for a, b in edges]
    shapes = [_shape(box) for box in boxes]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'font-family="system-ui,sans-serif">{"".join(lines)}{"".join(shapes)}</svg>'
    )


def _boxes(graph: Graph) -> tuple[list[Box], list[tuple[int, int]]]:
    boxes: list[Box] = []
    where: dict[Value, int] = {}
    edges: list[tuple[int, int]] = []
    for value in graph.inputs:
        where[value] = len(boxes)
        boxes.append(Box(None, value.name or "input", str(value.type), "other"))
    for node in graph.nodes:
        if node.name in ("param", "const"):
            continue
        edges += [(where[v], len(boxes)) for v in dict.fromkeys(node.inputs) if v in where]
        where.update((v, len(boxes)) for v in node.outputs)
        boxes.append(Box(node, node.name, str(node.outputs[0].type), _kind(node)))
    for i, value in enumerate(graph.outputs):
        if value in where:
            edges.append((where[value], len(boxes)))
            boxes.append(Box(None, f"output {i}", str(value.type), "other"))
    return boxes, edges


def _kind(node: Node) -> str:
    if node.graphs:
        return "control"
    if node.name in _CONTRACTIONS:
        return "contraction"
    if node.op.view:
        return "move"
    if node.op.pointwise:
        return "pointwise"
    return "norm" if node.op.is_composite or node.op.reduction else "other"


def _assign_ranks(boxes: list[Box], edges: list[tuple[int, int]]) -> None:
    """Longest path from the inputs; edges go from lower to higher indices."""
    for a, b in sorted(edges, key=lambda edge: edge[1]):
        boxes[b].rank = max(boxes[b].rank, boxes[a].rank + 1)


def _assign_columns(boxes: list[Box], edges: list[tuple[int, int]]) -> tuple[float, float]:
    """Each row in order of the mean column of the boxes above (barycentre)."""
    above: dict[int, list[int]] = {}
    for a, b in edges:
        above.setdefault(b, []).append(a)
    rows: dict[int, list[int]] = {}
    for i, box in enumerate(boxes):
        rows.setdefault(box.rank, []).append(i)
    widest = max((len(row) for row in rows.values()), default=1)
    middle = (widest - 1) / 2
    for rank in sorted(rows):
        row = rows[rank]
        wish = {
            i: sum(boxes[a].column for a in above[i]) / len(above[i]) if i in above else middle
            for i in row
        }
        row.sort(key=lambda i: wish[i])
        start = sum(wish.values()) / len(row) - (len(row) - 1) / 2
        start = min(max(start, 0.0), widest - len(row))
        for k, i in enumerate(row):
            boxes[i].column = start + k
    return widest * COLUMN + 20, (max(rows, default=0) + 1) * ROW + 20


def _place(box: Box) -> tuple[float, float]:
    return 10 + box.column * COLUMN, 10 + box.rank * ROW


def _edge(a: Box, b: Box) -> str:
    (x1, y1), (x2, y2) = _place(a), _place(b)
    x1, x2, y1 = x1 + BOX_WIDTH / 2, x2 + BOX_WIDTH / 2, y1 + BOX_HEIGHT
    bend = (y2 - y1) / 2
    curve = (
        f"M{x1:.0f} {y1:.0f}C{x1:.0f} {y1 + bend:.0f} {x2:.0f} {y2 - bend:.0f} {x2:.0f} {y2:.0f}"
    )
    return f'<path d="{curve}" fill="none" stroke="#aab1ba"/>'


def _shape(box: Box) -> str:
    x, y = _place(box)
    tip = box.detail if box.node is None else f"{box.node.op} : {box.detail}  {box.node.origin}"
    return (
        f"<g><title>{html.escape(tip)}</title>"
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="5" '
        f'fill="{COLORS[box.kind]}"/>'
        f'<text x="{x + 8:.0f}" y="{y + 14:.0f}" font-size="12" fill="#fff">'
        f"{html.escape(box.label[:24])}</text>"
        f'<text x="{x + 8:.0f}" y="{y + 27:.0f}" font-size="10" fill="#eef">'
        f"{html.escape(box.detail[:30])}</text></g>"
    )
