"""Operations that may fail on data where a handler catches the error: both ways are in the tape."""

from __future__ import annotations

import contextlib
import io
import sys
from contextlib import suppress

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import oarlock
from oarlock import to_static

T = torch.tensor
table = torch.arange(5.0)
w = torch.nn.Parameter(torch.ones(5))


class Owner:
    pass


o = Owner()


def text_of_the_error(i):
    try:
        return table[i]
    except IndexError as e:
        return str(e)


def the_error_itself(i):
    try:
        return table[i]
    except IndexError as e:
        return e


def kept_in_an_object(i):
    try:
        return table[i]
    except IndexError as e:
        o.err = e
        o.msg = f"bad: {e}"
        o.args = e.args
        return table[0]


def another_error_from_it(i):
    try:
        return table[i]
    except IndexError as e:
        raise ValueError(f"no {e}") from e


def raised_again(i):
    try:
        return table[i]
    except IndexError:
        raise


def class_and_repr(i):
    try:
        return table[i]
    except Exception as e:
        return (type(e).__name__, isinstance(e, LookupError), repr(e))


def suppressed(i):
    y = table
    with suppress(IndexError):
        y = table[i]
    return y + 1


def in_an_unrolled_loop(i):
    r = []
    for j in range(3):
        try:
            r.append(table[i + j])
        except IndexError:
            r.append(table[0])
            break
    else:
        r.append(table[1])
    return torch.stack(r)


def in_functions(i):

    def get(j):
        return table[j]

    def safe(j, d):
        try:
            return get(j)
        except (IndexError, KeyError):
            return d

    return safe(i, table[0]) + safe(i + 2, table[1])


def nested_with_finally(i):
    try:
        try:
            return table[i]
        except RuntimeError:
            return table[1] * 100
        finally:
            o.fin = True
    except IndexError as e:
        if "out of bounds" in str(e):
            return table[2]
        return table[3]


def below_a_decision(i):
    if i > 3:
        try:
            y = table[i]
        except IndexError:
            y = table[0] * 7
    else:
        y = table[i] * 2
    return y


def in_a_loop_on_data(i):
    k = i * 0
    tot = table[0]
    while k < i:
        try:
            tot = tot + table[k]
        except IndexError:
            tot = tot + 100
        k = k + 1
    return tot


def kept_in_a_variable(i):
    e2 = None
    try:
        y = table[i]
    except IndexError as e:
        e2 = e
        y = table[0]
    if e2 is not None:
        return y * 2
    return y


def printed_and_none(i):
    try:
        return F.embedding(i, table[:, None])
    except Exception:
        print("bad index", i)
        return None


def raised_by_name(i):
    try:
        x = F.one_hot(i, 4)
    except RuntimeError as e:
        raise e
    return x


def division_by_zero(i):
    try:
        return torch.arange(6) // (i - 9)
    except (RuntimeError, ZeroDivisionError):
        return torch.zeros(6)


def gradients(i):
    try:
        y = w[i] * 2
    except IndexError:
        y = (w * w).sum()
    return y


def under_no_grad(i):
    with torch.no_grad():
        try:
            y = w[i] * 2
        except IndexError:
            y = (w * w).sum()
    return y + w.sum()


TRIED = [0]


def until_it_goes_well(i):
    while True:
        try:
            return table[i - TRIED[0]]
        except IndexError:
            TRIED[0] += 1


CASES = [
    text_of_the_error,
    the_error_itself,
    kept_in_an_object,
    another_error_from_it,
    raised_again,
    class_and_repr,
    suppressed,
    in_an_unrolled_loop,
    in_functions,
    nested_with_finally,
    below_a_decision,
    in_a_loop_on_data,
    kept_in_a_variable,
    printed_and_none,
    raised_by_name,
    division_by_zero,
    gradients,
    under_no_grad,
    until_it_goes_well,
]
TAKEN_BACK = (in_a_loop_on_data,)


def followed(call):
    """What calls give, and leave behind; the second and fourth fail."""
    vars(o).clear()
    found = []
    for i in (1, 9, 2, 9, 4):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            try:
                result = call(T(i))
            except Exception as error:
                result = type(error), str(error), repr(error.__cause__)
        grad = None
        if isinstance(result, torch.Tensor) and result.requires_grad:
            grad = torch.autograd.grad(result.sum(), w)[0].tolist()
        held = {k: repr(v) for k, v in vars(o).items()}
        found.append((repr(result), grad, held, printed.getvalue()))
    return found


@pytest.mark.parametrize("function", CASES, ids=lambda f: f.__name__)
def test_both_ways(function):
    TRIED[0] = 0
    want = followed(function)
    TRIED[0] = 0
    static = to_static(function, backend="replay")
    assert followed(static) == want
    if function not in TAKEN_BACK:
        assert len(static.tapes) == 1
        assert not frames_of(static, T(9))


def frames_of(static, *args):
    """The functions of this file that a call runs."""
    found = []

    def note(frame, event, _):
        if event == "call" and frame.f_code.co_filename == __file__:
            found.append(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        with contextlib.suppress(Exception):
            static(*args)
    finally:
        sys.setprofile(None)
    return found


def jitter(k):
    size = 0.0
    for _ in range(5):
        try:
            return torch.linalg.cholesky(k + size * torch.eye(2))
        except torch.linalg.LinAlgError:
            size = size * 10 or 1.0
    raise ValueError("no factor")


def test_matrices_without_a_factor():
    static = to_static(jitter)
    for k in (torch.eye(2), -torch.eye(2), 7 * torch.tensor([[1.0, 2.0], [2.0, 1.0]])):
        assert torch.equal(static(k), jitter(k))
    with pytest.raises(ValueError, match="no factor"):
        static(-1e6 * torch.eye(2))
    assert len(static.tapes) == 1


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words = torch.nn.Embedding(6, 8)
        self.last = torch.nn.Linear(8, 6)

    def forward(self, i):
        try:
            h = self.words(i)
        except IndexError:
            h = self.words(i * 0) + 1
        return self.last(h)


INDICES = (T([1, 2]), T([9, 1]), T([0, 5]))


@pytest.mark.parametrize("grad", [False, True])
def test_compiled(grad):
    eager, static = Model(), to_static(Model(), backend="compiled")
    for i in INDICES:
        with torch.set_grad_enabled(grad):
            want, got = eager(i), static(i)
        torch.testing.assert_close(got, want)
        if grad:
            ours, theirs = (
                torch.autograd.grad(x.sum(), m.parameters())
                for x, m in ((got, static), (want, eager))
            )
            torch.testing.assert_close(ours, theirs)
    assert static.forward.tapes[0].executor is not None


def classes(x, i):
    try:
        return F.cross_entropy(x, i)
    except IndexError:
        return x.sum()


def picked(x, i):
    try:
        return x.gather(1, i[:, None])[:, 0] + x[:, i[:2]].sum(1)
    except (RuntimeError, IndexError):
        return x.sum(1)


@pytest.mark.parametrize("function", [classes, picked], ids=lambda f: f.__name__)
def test_saved(function, tmp_path):
    x = torch.randn(3, 4)
    static = to_static(function, backend="replay")
    static(x, T([0, 1, 2]))
    static.save(tmp_path / "f.oar")
    predictor = oarlock.Predictor(tmp_path / "f.oar")
    for i in (T([0, 3, 2]), T([0, 4, 2]), T([1, 1, -1]), T([-100, 0, 1])):
        want = function(x, i)
        assert torch.equal(static(x, i), want)
        np.testing.assert_allclose(predictor(x.numpy(), i.numpy()), want, rtol=1e-5)


def test_a_step_that_skips_bad_batches_is_compiled():
    def made():
        model, skipped = Model(), []
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

        def step(i, target):
            optimizer.zero_grad()
            try:
                loss = F.cross_entropy(model(i), target)
                loss.backward()
            except IndexError as error:
                skipped.append(str(error))
                return None
            optimizer.step()
            return loss.detach()

        return model, skipped, step

    (eager, skipped, step), (ours, noted, other) = made(), made()
    static = to_static(other)
    good, bad = T([1, 2]), T([1, 9])
    for args in ((good, good), (good, good), (bad, good), (good, bad), (good, good)):
        want, got = step(*args), static(*args)
        assert (want is None) == (got is None)
        assert noted == skipped
        for p, q in zip(ours.parameters(), eager.parameters()):
            torch.testing.assert_close(p, q)
    assert static.tapes[0].executor is not None
