"""What can't be captured: each refusal names the user's line and a rewrite, and the rewrite converts."""

from __future__ import annotations

import inspect
import os

import pytest
import torch

from oarlock.capture.to_static import to_static
from oarlock.errors import UnsupportedError
from tests.capture.tape.refused import pairs
from tests.capture.tape.refused.containers import Point
from tests.capture.tape.refused.state import Hooked

X = torch.tensor([1.0, 2.0, 0.0])


CASES = pairs()


def marked(fn) -> list[int]:
    """The line of a function with a mark; the lines around where it is near."""
    for code in (fn, Hooked.forward):
        lines, start = inspect.getsourcelines(code)
        for i, text in enumerate(lines):
            if "# here" in text:
                return [start + i]
            if "# near" in text:
                return list(range(start + i - 1, start + i + 3))
    raise AssertionError("no mark")


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@pytest.mark.parametrize(("fn", "rewritten"), CASES, ids=[f.__name__ for f, _ in CASES])
def test_a_refusal_names_the_line_and_a_rewrite(fn, rewritten):
    before = torch.is_grad_enabled(), torch.nn.functional.gelu, dict(os.environ)
    with pytest.raises(UnsupportedError) as found:
        to_static(fn)(X)
    text, file = str(found.value), inspect.getsourcefile(fn).rsplit("/", 1)[1]
    assert any(f"{file}:{n}: " in text for n in marked(fn)), text
    assert "; " in text
    assert (torch.is_grad_enabled(), torch.nn.functional.gelu, dict(os.environ)) == before
    static = to_static(rewritten)
    for x in (X, X + 1):
        assert same(static(x.clone()), rewritten(x.clone()))


def many(x):
    points = []
    while x.sum() > 0:
        points.append(Point(x))
        x = x - 1
    x = x * complex(x.sum(), 1.0)
    return x, points


def test_all_refusals_at_once():
    with pytest.raises(UnsupportedError) as found:
        to_static(many)(X)
    text = str(found.value)
    first = inspect.getsourcelines(many)[1]
    assert "many: 2 things cannot be converted" in text
    for line in (first + 3, first + 5):
        assert f"test_refusals.py:{line}: " in text


def below(x):
    return eval("x")


def static_problems(x):
    return below(x) + len(dir())


def test_problems_of_the_source_are_listed_with_those_of_functions_below():
    with pytest.raises(UnsupportedError, match="2 things cannot be converted") as found:
        to_static(static_problems)(X)
    for fn in (static_problems, below):
        assert f"test_refusals.py:{inspect.getsourcelines(fn)[1] + 1}: " in str(found.value)
