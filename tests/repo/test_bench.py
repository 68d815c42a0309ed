"""The benchmark: what a peer cannot run is a result like any other."""

from __future__ import annotations

from io import StringIO

import pytest
import torch
from rich.console import Console
from torch import nn

from bench import __main__ as bench
from bench import clip
from bench.models import Case


def failing(model, args, threads):
    raise RuntimeError("no such operator")


def failing_later(model, args, threads):
    def call():
        raise ValueError("bad shape")

    return call


def test_a_failing_peer_is_recorded(monkeypatch: pytest.MonkeyPatch):
    peers = {"early": failing, "late": failing_later, "oarlock": lambda *_: lambda: None}
    monkeypatch.setattr(bench, "PEERS", peers)
    case = Case("tiny", lambda: (nn.Linear(2, 2), (torch.zeros(1, 2),)))
    row = bench.measure(case, tuple(peers), 1, 3)
    assert row["early"] == {"error": "RuntimeError: no such operator"}
    assert row["late"] == {"error": "ValueError: bad shape"}
    assert row["oarlock"]["best_ms"] > 0 and list(row["setup_s"]) == ["oarlock"]
    text = StringIO()
    Console(file=text, width=bench.WIDTH).print(bench.table([row], tuple(peers)))
    assert text.getvalue().count("failed") == 2 and "(1.00)" in text.getvalue()


def test_clips_are_timed_beside_torch():
    rows = clip.measure([clip.parameter(3, 2) for _ in range(2)], rounds=2)
    assert [row[0] for row in rows] == ["global norm", "norm", "units", "value"]
    assert all(float(row[3]) > 0 for row in rows)
