"""The bench's second table: its figures come from fresh processes."""

from __future__ import annotations

import numpy as np
from rich.console import Console

import oarlock.ops  # noqa: F401  records
from bench import footprint
from oarlock.ir import Builder, Program, TensorType, f32


def test_footprint_of_a_small_program(monkeypatch):
    monkeypatch.setattr(footprint, "LOADS", 1)
    b = Builder()
    x = b.input(TensorType(f32, (64, 64)), "x")
    b.graph.outputs = [b.cumsum(b.exp(b.cumsum(x, axis=0)), axis=0)]
    found = footprint.footprint(Program(b.graph), [np.ones((64, 64), np.float32)])
    assert found["load_s"]["best"] < found["compile_s"]["best"]
    assert found["arena_bytes"] == found["live_bytes"] == 64 * 64 * 4
    assert found["in_place"] == 1 and found["weight_bytes"] == 0
    console = Console(width=120, record=True)
    console.print(footprint.table([{"model": "small"} | found]))
    assert "small" in console.export_text()
