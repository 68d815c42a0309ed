"""The table of ops, derived from the records."""

from __future__ import annotations

import dataclasses
from typing import Any

import oarlock.ops  # noqa: F401  fills the registry
from oarlock.ir.op import REGISTRY, Op
from oarlock.ir.printer import format_attribute

COLUMNS = ("op", "kind", "what it computes", "attributes", "aten", "onnx")
NOTE = "Derived from the records in `oarlock/ops/` by `make docs`."


def rows() -> list[dict[str, str]]:
    """One row per op, by name."""
    return [_row(record) for _, record in sorted(REGISTRY.items())]


def kind_of(record: type[Op]) -> str:
    """composite or primitive, and what it is good for: pointwise, view, reduction, control."""
    traits = {
        "pointwise": record.pointwise,
        "view": record.view,
        "reduction": record.reduction,
        "control": record.has_graphs,
    }
    base = "composite" if record.is_composite else "primitive"
    return ", ".join([base, *(name for name, holds in traits.items() if holds)])


def _row(record: type[Op]) -> dict[str, str]:
    attributes = (f"{f.name}={_default(f.default)}" for f in dataclasses.fields(record))
    onnx = f"{record.onnx[0]}-{record.onnx[1]}" if record.onnx else ""
    first_line = (record.__doc__ or "").strip().splitlines()[0]
    cells = (
        record.name,
        kind_of(record),
        first_line.replace("``", "`"),
        ", ".join(attributes),
        ", ".join(record.aten),
        onnx,
    )
    return dict(zip(COLUMNS, cells))


def _default(value: Any) -> str:
    return "" if value is dataclasses.MISSING else format_attribute(value)


def markdown() -> str:
    """The page ``docs/ops.md``."""
    table = rows()
    composites = sum(row["kind"].startswith("composite") for row in table)
    lines = [
        "# Ops",
        "",
        f"{NOTE} {len(table)} ops: {len(table) - composites} primitives, which a backend",
        f"implements, and {composites} composites, which decompose into them.",
        "`aten` lists the overloads that map one to one; `oarlock ops --aten` lists all captured.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|{'---|' * len(COLUMNS)}",
        *(f"| {' | '.join(_cell(row[c]) for c in COLUMNS)} |" for row in table),
        "",
    ]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
