"""Functions left out with not_to_static that read data: called at run time as they are."""

from __future__ import annotations

import io
import logging

import pytest
import torch

import oarlock
from oarlock.capture.convert.convert import converted_or_same
from oarlock.capture.to_static import to_static
from oarlock.errors import UnsupportedError

INPUTS = [
    torch.tensor([1.0, 2.0, 3.0]),
    torch.tensor([-1.0, -2.0, -3.0]),
    torch.tensor([0.5, 0, -1]),
]
SEEN: list[float] = []


@oarlock.not_to_static
def doubled(x):
    return x * 2 if float(x.sum()) > 0 else x


@oarlock.not_to_static
def numbers(x, scale=2):
    total = float(x.sum())
    return total * scale, int(total) + 1, {"is_up": total > 0, "none": None}


@oarlock.not_to_static
def positive(x):
    return [x[x > 0].clone(), torch.from_numpy(x.detach().numpy() * 2)]


@oarlock.not_to_static
def remembered(x):
    SEEN.append(float(x.sum()))
    return x + len(SEEN)


class Owner:
    @oarlock.not_to_static
    def shifted(self, x):
        return x + (1 if bool(x.sum() > 0) else 2)

    def run(self, x):
        return self.shifted(x) * 3 if x.sum() > 0 else self.shifted(x)


def decides(x):
    y = doubled(x)
    return y + 1 if y.sum() > 0 else y


def uses_numbers(x):
    total, n, flags = numbers(x, scale=3)
    return x * total + n if flags["is_up"] else x - total


def uses_lengths(x):
    kept, twice = positive(x)
    return kept.sum() * kept.shape[0] + twice, len(kept)


def in_a_loop(x):
    for _ in range(3):
        x = doubled(x) - 1
    n = x.sum()
    while n > 0:
        x, n = doubled(x), n - 5
    return x


FUNCTIONS = [decides, uses_numbers, uses_lengths, in_a_loop, Owner().run]


def plain(x):
    if isinstance(x, torch.Tensor):
        return x.tolist()
    return [plain(v) for v in x] if isinstance(x, (list, tuple)) else x


@pytest.mark.parametrize("fn", FUNCTIONS, ids=lambda f: f.__qualname__)
def test_what_eager_does(fn):
    static = to_static(fn, backend="replay")
    for x in INPUTS:
        assert plain(static(x)) == plain(fn(x))
    assert len(static.tapes) == 1


def test_gradients_go_through():
    static = to_static(decides, backend="replay")
    for x in INPUTS:
        mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
        static(mine).sum().backward()
        decides(theirs).sum().backward()
        assert torch.equal(mine.grad, theirs.grad)


def test_what_it_changes_is_changed_once_a_call():
    static = to_static(lambda x: remembered(x) * 2, backend="replay")
    SEEN.clear()
    for i, x in enumerate(INPUTS):
        assert torch.equal(static(x), (x + i + 1) * 2)
    assert [float(x.sum()) for x in INPUTS] == SEEN


def test_sizes_may_differ_between_calls():
    static = to_static(decides, backend="replay")
    for n in (2, 3, 4, 5):
        x = torch.arange(n) - 1.0
        assert torch.equal(static(x), decides(x))
    assert len(static.tapes) == 1


@oarlock.not_to_static
def of_two_types(x):
    return x if float(x.sum()) > 0 else float(x.sum())


@oarlock.not_to_static
def of_another_type_for_large(x):
    return x.double() if float(x.sum()) > 100 else x


def test_another_type_is_refused():
    static = to_static(lambda x: of_two_types(x), backend="replay")
    with pytest.raises(
        UnsupportedError, match="of_two_types, which is left out, gives values of other"
    ):
        static(INPUTS[0])
    static = to_static(lambda x: of_another_type_for_large(x), backend="replay")
    static(INPUTS[0])
    with pytest.raises(
        UnsupportedError, match=r"gives \('tensor', 'torch.float64', \(3,\), False\), not"
    ):
        static(INPUTS[0] * 100)


class Noted(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.count, self.last, self.log = 0, None, {"texts": []}

    @oarlock.not_to_static
    def note(self, x):
        self.count += 1
        self.last = x * 2
        self.log["texts"].append(tuple(x.shape))
        print("mean", x.mean())
        return x + self.count

    def forward(self, x):
        return self.note(x) * self.count


def test_what_they_change_and_print_without_reading_data(capsys):
    eager, static = Noted(), to_static(Noted(), backend="replay")
    for x in INPUTS:
        want = eager(x)
        printed = capsys.readouterr().out
        assert torch.equal(static(x), want)
        assert capsys.readouterr().out == printed
        assert torch.equal(static.last, eager.last)
        assert (static.count, static.log) == (eager.count, eager.log)


def test_items_appended_to_a_list_around():
    seen = []

    @oarlock.not_to_static
    def look(x):
        seen.append(x.item())
        return x

    static = to_static(lambda x: look(x) * 2)
    for i in range(3):
        static(torch.tensor(float(i)))
    assert seen == [0.0, 1.0, 2.0]


COUNTS = {"calls": 0, "rows": [[0]]}
TOTAL = 0
FILE = io.StringIO()
LOG = logging.getLogger("tests.opaque")


@oarlock.not_to_static
def noted(word, n=1):
    if n > 5:
        return
    print("noted", word)
    COUNTS["calls"] += n
    COUNTS["rows"][0].append(word)


@oarlock.not_to_static
def totalled():
    global TOTAL
    TOTAL += 1


@oarlock.not_to_static
def told(x):
    LOG.warning("told")
    return x * 2


@oarlock.not_to_static
def written(word):
    FILE.write(word)


def does(x):
    noted("first")
    totalled()
    written("a")
    if x.sum() > 0:
        noted("up", 3)
        written("b")
    return told(x) * 2


def test_what_reads_no_data_is_done_at_each_call(capsys, caplog):
    def outcomes(fn):
        global TOTAL
        COUNTS.update(calls=0, rows=[[0]])
        TOTAL, found = 0, []
        capsys.readouterr()
        for x in INPUTS:
            FILE.truncate(0)
            caplog.clear()
            given = plain(fn(x))
            rows = [list(row) for row in COUNTS["rows"]]
            texts = capsys.readouterr().out, FILE.getvalue().strip("\0"), list(caplog.messages)
            found.append((given, TOTAL, COUNTS["calls"], rows, texts))
        return found

    static = to_static(does, backend="replay")
    for x in INPUTS:
        static(x)
    count = len(static.tapes)
    assert outcomes(static) == outcomes(does)
    assert len(static.tapes) == count


def test_left_out_after_it_was_converted():
    def look(x):
        return x * 2

    made = converted_or_same(look)
    assert made is not look
    oarlock.not_to_static(look)
    assert converted_or_same(look) is look
