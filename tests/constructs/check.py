"""A case through one static function against eager: all that can be observed, bit by bit."""

from __future__ import annotations

import dis
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import oarlock
from tests.constructs.case import Case, Keywords
from tests.constructs.observe import Seen, differences, run_all

CAPTURE_S = 0.5


def warm() -> None:
    """What the first capture of a process imports is not a case's."""
    oarlock.to_static(lambda x: x + 1 if x.sum() > 0 else x)(torch.ones(2))


def callable_of(case: Case, subject: Any) -> Callable[..., Any]:
    return getattr(subject, case.method) if case.method else subject


def plain(case: Case) -> Callable[[Any], Callable[..., Any]]:
    return lambda subject: callable_of(case, subject)


def eager(case: Case, grad: bool) -> list[Seen]:
    return run_all(case, plain(case), grad, lambda n, run: run())


def static(case: Case, grad: bool) -> tuple[list[Seen], list[str]]:
    """What the calls of the static function do, and what is wrong with how they run."""
    made: list[Any] = []
    problems: list[str] = []
    captures: list[int] = []

    def prepare(subject: Any) -> Callable[..., Any]:
        call = oarlock.to_static(callable_of(case, subject), backend="replay")
        made.append(call.forward if isinstance(call, nn.Module) else call)
        return call

    def around(n: int, run: Callable[[], Seen]) -> Seen:
        before, frames = made[0].captures, set()
        start = time.thread_time()
        if n < len(case.calls):
            seen = run()
        else:
            seen = profiled(case, run, frames)
        spent = time.thread_time() - start
        if made[0].captures != before:
            captures.append(n)
            if spent > CAPTURE_S:
                problems.append(f"call {n} took {spent:.2f} s to capture")
        elif frames:
            problems.append(f"call {n} ran Python: {', '.join(sorted(frames))}")
        return seen

    seen = run_all(case, prepare, grad, around)
    if len(captures) > allowed(case):
        problems.append(f"captured at calls {captures}, not at most {allowed(case)} times")
    if any(n >= len(case.calls) for n in captures):
        problems.append(f"captured again for data that it has seen: {captures}")
    return seen, problems


def profiled(case: Case, run: Callable[[], Seen], frames: set[str]) -> Seen:
    def watch(frame: Any, event: str, arg: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename == case.file and code.co_name not in case.frames:
            frames.add(code.co_name)

    sys.setprofile(watch)
    try:
        return run()
    finally:
        sys.setprofile(None)


def allowed(case: Case) -> int:
    """Captures that a case may need: by structure, and once for each size or number that changes."""
    if case.captures is not None:
        return case.captures
    groups: dict[str, list[list[Any]]] = {}
    for call in case.calls:
        sizes: list[Any] = []
        groups.setdefault(structure(call, sizes), []).append(sizes)
    varying = [sum(len(set(column)) > 1 for column in zip(*rows)) for rows in groups.values()]
    return len(groups) + sum(varying)


def structure(x: Any, sizes: list[Any]) -> str:
    if isinstance(x, torch.Tensor):
        sizes += x.shape
        return f"{x.dtype}:{x.ndim}"
    if type(x) in (int, float):
        sizes.append(x)
        return type(x).__name__
    if isinstance(x, (list, tuple)):
        return f"{type(x).__name__}({','.join(structure(v, sizes) for v in x)})"
    if isinstance(x, (dict, Keywords)):
        return f"dict({','.join(f'{k}:{structure(v, sizes)}' for k, v in x.items())})"
    if isinstance(x, set):
        return f"set{sorted(map(repr, x))}"
    if hasattr(x, "__dict__") and not callable(x):
        return f"{type(x).__name__}({structure(vars(x), sizes)})"
    return repr(x) if not callable(x) else f"{getattr(x, '__qualname__', type(x))}"


def failures(case: Case, grad: bool) -> list[str]:
    """What differs from eager; a capture that is slow must be so three times."""
    for _ in range(3):
        found = failures_once(case, grad)
        if not found or not all(f.endswith("s to capture") for f in found):
            break
    return found


def failures_once(case: Case, grad: bool) -> list[str]:
    want = eager(case, grad)
    got, problems = static(case, grad)
    found: list[str] = []
    for n, (a, b) in enumerate(zip(want, got)):
        for what in vars(a):
            found += differences(vars(a)[what], vars(b)[what], f"call {n}: {what}")
    return found + problems


def missed_lines(case: Case) -> list[int]:
    """Lines that no call of the case reaches; some call must return, or there are several."""
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

    calls = run_all(case, plain(case), case.grad, around, 1)
    ran = {code for code, _ in seen}
    assert any(s.error is None for s in calls) or len(calls) > 1
    return sorted(
        line
        for code in case.codes
        if code in ran
        for _, line in dis.findlinestarts(code)
        if line is not None and (code, line) not in seen and line != code.co_firstlineno
    )
