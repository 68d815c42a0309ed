"""What can't be captured: each refusal names the user's line and a rewrite, and the rewrite converts."""

from __future__ import annotations

import inspect

import pytest
import torch

from oarlock.capture.convert.convert import not_to_static
from oarlock.capture.to_static import to_static
from oarlock.errors import UnsupportedError

X = torch.tensor([1.0, 2.0, 0.0])


@not_to_static
def plain_float(x):
    return float(x)  # here


def complex_number(x):
    return x * complex(x.sum(), 1.0)  # here


def complex_number_rewritten(x):
    return x * torch.complex(x.sum(), torch.ones(()))


def complex_item(x):
    return x * (x.sum() * 1j).item()  # here


def complex_item_rewritten(x):
    return x * (x.sum() * 1j)


def list_of_lists(x):
    found = x[x > 0]
    return sum(map(sum, torch.outer(found, found).tolist()))  # here


def list_of_lists_rewritten(x):
    found, total = x[x > 0], 0
    for row in torch.outer(found, found):
        total = total + row.sum().item()
    return total


def tensor_as_key(x):
    found = {int(x.sum()): x}
    found[x] = x  # here
    return found


def tensor_as_key_rewritten(x):
    found = {int(x.sum()): x}
    found[x.max().item()] = x
    return found[3]


def generator_of_run_time_length(x):
    return x + (2 in (v for v in x.nonzero().squeeze(1)))  # here


def generator_of_run_time_length_rewritten(x):
    found = []
    for v in x.nonzero().squeeze(1):
        found.append(v)
    return x + (2 in found)


class Point:
    def __init__(self, at):
        self.at = at


def objects_in_a_list(x):
    points = []
    while x.sum() > 0:
        points.append(Point(x))  # here
        x = x - 1
    return [p.at for p in points]


def objects_in_a_list_rewritten(x):
    points = []
    while x.sum() > 0:
        points.append(x)
        x = x - 1
    return points


def keywords_through_vmap(x):
    return torch.func.vmap(lambda a, b=1: a * b)(x, b=x)  # here


def keywords_through_vmap_rewritten(x):
    return torch.func.vmap(lambda a, b=1: a * b)(x, x)


def generator_state(x):
    g = torch.Generator()
    g.manual_seed(3)
    g.get_state()  # here
    return x * torch.rand(3, generator=g)


def generator_state_rewritten(x):
    g = torch.Generator()
    g.manual_seed(3)
    return x * torch.rand(3, generator=g)


def numpy_of_data(x):
    return x + torch.from_numpy(x.numpy())  # here


def numpy_of_data_rewritten(x):
    return x + x.detach()


def other_ranks(x):
    y = x
    while y.sum() < 10:
        y = torch.stack([y, y])  # near
    return y.shape[0]


def other_ranks_rewritten(x):
    y = x
    while y.sum() < 10:
        y = torch.cat([y, y])
    return y.shape[0]


def reads_its_frame(x):
    return x * len(dir())  # here


def reads_its_frame_rewritten(x):
    return x * len(["x"])


CASES = [
    f
    for f in list(globals().values())
    if inspect.isfunction(f) and f.__module__ == __name__ and f"{f.__name__}_rewritten" in globals()
]


def line_of(fn) -> int:
    """The line of a function, or of what it calls, that has a mark."""
    for code in (fn, plain_float):
        lines, start = inspect.getsourcelines(code)
        for i, text in enumerate(lines):
            if "# here" in text or "# near" in text:
                return start + i
    raise AssertionError("no mark")


@pytest.mark.parametrize("fn", CASES, ids=lambda f: f.__name__)
def test_a_refusal_names_the_line_and_a_rewrite(fn):
    with pytest.raises(UnsupportedError) as found:
        to_static(fn)(X)
    text, line = str(found.value), line_of(fn)
    lines = range(line - 1, line + 3) if "# near" in inspect.getsource(fn) else [line]
    assert any(f"test_refusals.py:{n}: " in text for n in lines)
    assert "; " in text
    rewritten = globals()[f"{fn.__name__}_rewritten"]
    torch.testing.assert_close(to_static(rewritten)(X), rewritten(X), rtol=0, atol=0)


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
    assert "many: 3 things cannot be converted" in text
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
