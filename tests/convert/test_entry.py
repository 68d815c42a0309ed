"""What can be converted, what is refused and how, and what errors show."""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import time
import traceback
from pathlib import Path

import pytest
import torch
from torch import nn

from oarlock.capture.convert import NotConvertible, convert, not_to_static, source_of
from tests.convert.both_ways import both_ways

HERE = __file__


def line_of(text):
    """The number of the first line of this file that ends so."""
    lines = Path(HERE).read_text().splitlines()
    return next(i for i, line in enumerate(lines, 1) if line.endswith(text))


def positive(x):
    if x.sum() > 0:
        return "yes"
    return "no"


class Gate(nn.Module):
    def __init__(self, inner=None):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        if x.sum() > 0:
            x = x * 2
        else:
            x = x - 1
        return x if self.inner is None else self.inner(x)


def decisions(fn, *args):
    with both_ways() as tracer:
        result = fn(*args)
    return tracer.decisions, result


def test_modules_in_modules_and_hooks():
    seen = []
    inner = Gate()
    inner.register_forward_hook(lambda m, args, out: seen.append(tuple(out.shape)))
    model = nn.Sequential(nn.Linear(2, 2), Gate(inner), nn.ModuleList([Gate()])[0])
    x = torch.ones(1, 2)
    count, result = decisions(convert(model), x)
    assert count == 3 and torch.equal(result, model(x))
    assert seen == [(1, 2)] * 2
    assert (
        "forward" not in vars(inner) and nn.Module.__call__.__module__ == "torch.nn.modules.module"
    )


@pytest.mark.parametrize(
    "fn",
    [
        positive,
        lambda x: positive(x) if True else None,
        functools.partial(positive),
        torch.no_grad()(positive),
        functools.wraps(positive)(lambda *args: positive(*args)),
        Gate().forward,
    ],
    ids=["function", "lambda", "partial", "no_grad", "wrapper", "method"],
)
def test_kinds_of_callables(fn):
    x = torch.ones(2)
    count, result = decisions(convert(fn), x)
    assert count == 1 and repr(result) == repr(fn(x))


def test_excluded_functions_run_as_they_are():
    @not_to_static
    def inner(x):
        return 1 if x.sum() > 0 else 2

    def outer(x):
        return inner(x)

    assert decisions(convert(outer), torch.ones(2)) == (0, 1)
    assert decisions(convert(lambda x: positive(x)), torch.ones(2)) == (1, "yes")


def test_every_problem_at_once():
    def outer(x):
        exec("x = 1")
        for i in range(3):
            try:
                x = x / i
            finally:
                if i:
                    continue  # noqa: B012
        return eval("x")

    with pytest.raises(NotConvertible) as caught:
        convert(outer)
    lines = {int(str(p).split(":")[1]) for p in caught.value.found}
    assert lines == {line_of('exec("x = 1")'), line_of('return eval("x")'), line_of("if i:")}
    assert all(p.rewrite for p in caught.value.found)


def test_refusals():
    async def later(x):
        return x

    scope = {}
    exec("def made(x):\n    return x", scope)
    for fn in (later, scope["made"]):
        with pytest.raises(NotConvertible, match="cannot be converted"):
            convert(fn)


def test_edited_source_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "edited_module.py"
    file.write_text("def f(x):\n    return x * 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    from edited_module import f  # type: ignore[import-not-found]

    file.write_text("def f(x):\n    return x + other_name\n")
    with pytest.raises(NotConvertible, match="not what runs"):
        convert(f)
    file.write_text("def f(x):\n    return x * 3\n")
    with pytest.raises(NotConvertible, match="not what runs"):
        convert(f)
    del sys.modules["edited_module"]


def test_lambdas_of_one_line():
    first, second = (lambda x: x + 1), (lambda x: x + 2)
    assert convert(first)(1) == 2 and convert(second)(1) == 3


def fails(x):
    with contextlib.nullcontext():
        for i in range(3):
            if i == 2:
                x = helper(x, i)
    return x


def helper(x, i):
    while i:
        i -= 1
        if i == 0:
            raise ValueError("deep")
    return x


def test_tracebacks_show_the_users_lines():
    frames = {}
    for name, fn in (("plain", fails), ("converted", convert(fails))):
        with pytest.raises(ValueError) as caught:
            fn(1)
        found = traceback.extract_tb(caught.value.__traceback__)
        ours = [(f.filename, f.lineno, f.name) for f in found]
        frames[name] = [f for f in ours if "/capture/convert/" not in f[0]][1:]
        assert len(ours) - len(frames[name]) <= 2  # the test's own and one of the entry
    assert frames["plain"] == frames["converted"]


def test_defaults_and_signature():
    box = []

    def f(a, b=box, *, c=3):
        b.append(a)
        return b, c

    made = convert(f)
    assert made(1)[0] is box and made(2) == ([1, 2], 3)
    assert made.__name__ == "f" and str(inspect.signature(made)) == str(inspect.signature(f))


def test_source_names_lines():
    text = source_of(positive)
    assert f"test_entry.py:{line_of('if x.sum() > 0:')}" in text and "_ol.if_(" in text


def test_conversion_is_fast():
    """A function of about 100 lines within 30 ms, at the best of many."""
    import textwrap

    entry = sys.modules["oarlock.capture.convert.convert"]
    function = textwrap.TextWrapper._wrap_chunks
    best = 1.0
    for _ in range(20):
        entry._templates.pop(id(function.__code__), None)
        start = time.process_time()
        convert(function)
        best = min(best, time.process_time() - start)
    assert best < 0.03, best
