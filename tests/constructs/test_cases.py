"""The cases themselves: eager runs them, and their calls take every path."""

from __future__ import annotations

import dis
import sys
from typing import Any

import pytest

from tests.constructs.case import CASES
from tests.constructs.cases import load
from tests.constructs.known import KNOWN
from tests.constructs.observe import run_all

load()


@pytest.mark.parametrize("name", sorted(CASES))
def test_calls_take_every_line(name: str):
    case = CASES[name]
    seen: set[tuple[Any, int]] = set()

    def watch(frame: Any, event: str, arg: Any) -> Any:
        if frame.f_code.co_filename != case.file:
            return None
        if event == "line":
            seen.add((frame.f_code, frame.f_lineno))
        return watch

    def around(n: int, run: Any) -> Any:
        before = sys.gettrace()
        sys.settrace(watch)
        try:
            return run()
        finally:
            sys.settrace(before)

    calls = run_all(
        case, lambda s: getattr(s, case.method) if case.method else s, case.grad, around, 1
    )
    ran = {code for code, _ in seen}
    missed = sorted(
        line
        for code in case.codes
        if code in ran
        for _, line in dis.findlinestarts(code)
        if line is not None and (code, line) not in seen and line != code.co_firstlineno
    )
    if case.every_line:
        assert not missed
    assert any(s.error is None for s in calls) or len(calls) > 1


def test_cases_are_many():
    assert len(CASES) >= 260
    assert set(KNOWN) <= set(CASES)
