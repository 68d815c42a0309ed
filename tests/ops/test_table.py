"""The op table is complete and keeps to its columns."""

from __future__ import annotations

from oarlock.ir.op import REGISTRY
from oarlock.ops import table


def test_every_op_has_a_row():
    assert [row["op"] for row in table.rows()] == sorted(REGISTRY)


def test_markdown_rows_have_every_column():
    lines = [line for line in table.markdown().splitlines() if line.startswith("|")]
    assert len(lines) == len(REGISTRY) + 2
    bars = {line.replace("\\|", "").count("|") for line in lines}
    assert bars == {len(table.COLUMNS) + 1}


def test_kinds():
    kinds = {row["op"]: row["kind"] for row in table.rows()}
    assert kinds["add"] == "primitive, pointwise"
    assert kinds["gelu"] == "composite, pointwise"
    assert kinds["while_"] == "primitive, control"
