"""Warnings and logs: those that eager code gives, at each call, from the same lines."""

from __future__ import annotations

import io
import json
import logging
import queue
import sys
import warnings

import pytest
import torch

import oarlock
from oarlock.capture.to_static import to_static
from oarlock.errors import UnsupportedError

LOG = logging.getLogger("tests.notices")
INPUTS = [torch.tensor([1.0, 2.0]), torch.tensor([-1.0, -2.0]), torch.tensor([3.0, 4.0])]


def warns(x):
    warnings.warn(f"of {x.numel()} items", stacklevel=1)
    if x.sum() > 0:
        warnings.warn(RuntimeWarning("positive"), stacklevel=1)
        deprecated()
    return x * 2


def deprecated():
    warnings.warn("old", DeprecationWarning, stacklevel=2)


def warns_the_caller(x):
    warnings.warn("for you", stacklevel=2)
    return x + 1


def is_quiet(x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.warn("not heard", stacklevel=1)
    warnings.warn("heard", stacklevel=1)
    return x + 1


def logs(x, n=3):
    LOG.debug("not enabled: %s", x)
    LOG.info("%d items, sum %.2f", x.numel(), x.sum().item())
    if x.sum() > 0:
        LOG.warning(f"sum {float(x.sum()):.1f}")
        inner(x)
    for i in range(n):
        if x[0] > i:
            LOG.log(logging.ERROR, "row %s", i, extra={"row": i})
    return x * 2


def inner(x):
    LOG.error("called from outside", stacklevel=2)


def warned(fn, x):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        result = fn(x)
    return result.tolist(), [(str(w.message), w.category, w.filename, w.lineno) for w in found]


class Kept(logging.Handler):
    def __init__(self):
        super().__init__()
        self.found = []

    def emit(self, record):
        row = getattr(record, "row", None)
        place = record.pathname, record.lineno, record.funcName
        self.found.append((record.levelname, record.getMessage(), row, *place))


@pytest.fixture
def kept():
    handler, level = Kept(), LOG.level
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    yield handler
    LOG.removeHandler(handler)
    LOG.setLevel(level)


def logged(fn, x, kept):
    kept.found.clear()
    return fn(x).tolist(), list(kept.found)


@pytest.mark.parametrize("fn", [warns, warns_the_caller, is_quiet], ids=lambda f: f.__name__)
def test_warnings_are_eagers(fn):
    static = to_static(fn, backend="replay")
    first = warned(static, INPUTS[0])[1]
    assert [text for text, *_ in first] == [text for text, *_ in warned(fn, INPUTS[0])[1]]
    for x in INPUTS:
        assert warned(static, x) == warned(fn, x)
    assert len(static.tapes) == 1


def test_a_warning_that_is_an_error_is_raised():
    static = to_static(warns, backend="replay")
    static(INPUTS[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="of 2 items"):
            static(INPUTS[0])


def test_logs_are_eagers(kept):
    static = to_static(logs, backend="replay")
    for x in INPUTS:
        assert logged(static, x, kept) == logged(logs, x, kept)
    assert len(static.tapes) == 1


def test_another_level_is_followed(kept):
    static = to_static(logs, backend="replay")
    for level in (logging.INFO, logging.DEBUG, logging.CRITICAL, logging.INFO):
        LOG.setLevel(level)
        for x in INPUTS:
            assert logged(static, x, kept) == logged(logs, x, kept)


def test_a_step_logs_once_a_call(kept):
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    @oarlock.to_static
    def step(x):
        loss = model(x).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        LOG.info("loss %.3f", loss.item())
        return loss.detach()

    losses = [float(step(x)) for x in INPUTS]
    assert [text for _, text, *_ in kept.found] == [f"loss {x:.3f}" for x in losses]


STREAM = io.StringIO()
QUEUE: queue.Queue[int] = queue.Queue()


def writes(x):
    print("row", x.sum().item(), file=STREAM)
    print("to errors", file=sys.stderr)
    sys.stdout.write("to output\n")
    if x.sum() > 0:
        STREAM.write("positive\n")
    own = io.StringIO()
    own.write("its own")
    return x * len(own.getvalue())


def dumps(x):
    json.dump([1], STREAM)
    return x


def puts(x):
    QUEUE.put(1)
    return x


def puts_into_its_own(x):
    own: queue.Queue[torch.Tensor] = queue.Queue()
    own.put(x)
    own.put(x + 1)
    return own.get() * own.get()


def opens(x):
    with open("/dev/null", "w") as stream:
        stream.write("gone")
    return x


@pytest.mark.parametrize("grad", [False, True])
def test_what_is_written_to_streams_is_eagers(capsys, grad):
    def outcomes(fn):
        STREAM.truncate(0)
        STREAM.seek(0)
        found = []
        for x in INPUTS:
            given = (x.clone().requires_grad_() * 1) if grad else x
            result = fn(given).tolist()
            out, err = capsys.readouterr()
            found.append((result, STREAM.getvalue(), out, err))
        return found

    static = to_static(writes, backend="replay")
    assert outcomes(static) == outcomes(writes)
    assert len(static.tapes) == 1


@pytest.mark.parametrize(
    ("fn", "why"),
    [
        (dumps, "dump is given a stream from outside"),
        (puts, "a deque inside of an object of a library is changed"),
        (opens, "a file is written"),
    ],
    ids=["dump", "put", "open"],
)
def test_what_each_call_would_have_to_do_is_refused(fn, why):
    with pytest.raises(UnsupportedError, match=why):
        to_static(fn, backend="replay")(INPUTS[0])


def test_what_the_call_makes_itself_may_be_changed():
    static = to_static(puts_into_its_own, backend="replay")
    for x in INPUTS:
        assert torch.equal(static(x), puts_into_its_own(x))
