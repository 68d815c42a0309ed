"""Operations that fail on data where code around them sees the error: handlers, ``finally``, managers."""

from __future__ import annotations

import contextlib
import io
import logging
import random

import pytest
import torch
import torch.nn.functional as F

from oarlock import not_to_static, to_static
from oarlock.errors import UnsupportedError


class Lock:
    def __init__(s):
        s.held = 0
        s.log = []
        s.buf = torch.zeros(3)
        s.w = torch.nn.Parameter(torch.ones(5, 2))
        s.last = None

    def __enter__(s):
        s.held += 1
        return s

    def __exit__(s, *e):
        s.held -= 1
        s.log.append(None if e[0] is None else e[0].__name__)

    def close(s):
        s.log.append("closed")


class Swallow(Lock):
    def __exit__(s, *e):
        s.held -= 1
        s.log.append(str(e[1]))
        return True


table = torch.arange(5.0)


def p_exitstack(o, i):
    with contextlib.ExitStack() as st:
        st.callback(o.close)
        o.held += 1
        return table[i] * 2


def p_exitstack2(o, i):
    with contextlib.ExitStack() as st:
        st.enter_context(o)
        return table[i] * 2


def p_closing(o, i):
    with contextlib.closing(o):
        o.held += 1
        return table[i] * 2


def p_exitstack_raise(o, i):
    with contextlib.ExitStack() as st:
        st.callback(o.close)
        if i > 4:
            raise ValueError("no")
        return table[i] * 2


def p_exitstack_enter_raise(o, i):
    with contextlib.ExitStack() as st:
        st.enter_context(o)
        if i > 4:
            raise ValueError("no")
        return table[i] * 2


def p_closing_raise(o, i):
    with contextlib.closing(o):
        if i > 4:
            raise ValueError("no")
        return table[i] * 2


def p_assert_with(o, i):
    with o:
        assert i < 5, "big"
        return i * 2


def p_assert_finally(o, i):
    try:
        assert i < 5, "big"
        return i * 2
    finally:
        o.log.append("done")


def p_swallow(o, i):
    y = table * 0
    with o:
        y = table[i] * 2
    return y + 1


def p_update_before(o, i):
    with o:
        o.buf.add_(1)
        o.held += 5
        y = table[i]
        o.buf.add_(y)
    return y


def p_finally_update(o, i):
    try:
        o.buf.mul_(2).add_(1)
        return table[i]
    finally:
        o.buf.add_(10)
        o.log.append("f")


def p_print(o, i):
    with o:
        print("before", o.held)
        return table[i]


def p_random(o, i):
    noise = torch.rand(2)
    try:
        y = table[i] + noise
    except IndexError:
        y = torch.rand(2)
        o.held += 1
    return y


def p_pyrandom(o, i):
    r = random.random()
    try:
        y = table[i] + r
    except IndexError:
        y = table * random.random()
    return y


def p_loop(o, i):
    tot = 0.0
    k = i * 0
    while k < i:
        with o:
            tot = tot + table[k]
        k = k + 1
    return tot


def p_loop_try(o, i):
    tot = table[0]
    k = i * 0
    while k < i:
        try:
            tot = tot + table[k]
        except IndexError:
            o.log.append("bad")
            break
        k = k + 1
    return tot


def p_loop_swallow(o, i):
    tot = table[0]
    for j in range(3):
        with o:
            tot = tot + table[i + j]
    return tot


def p_inner(o, i):
    def get(j):
        return table[j]

    def go(j):
        with o:
            return get(j) + 1

    try:
        return go(i)
    except IndexError as e:
        o.last = str(e)
        raise RuntimeError("wrapped") from e


def p_backward(o, i):
    o.w.grad = None
    with o:
        loss = F.cross_entropy(o.w[:, :], (i + torch.arange(5)) % 7 * 0 + torch.where(i > 4, 9, 1))
        loss.backward()
    return loss.detach()


def p_backward_twice(o, i):
    with o:
        (o.w.sum() * 2).backward()
        y = o.w[i]
        y.sum().backward()
    return y.detach()


def p_no_grad(o, i):
    with torch.no_grad(), o:
        return o.w[i]


def p_autocast(o, i):
    with torch.autocast("cpu", torch.bfloat16), o:
        return o.w[i] @ o.w.t()


def p_autocast_plain(o, i):
    with torch.autocast("cpu", torch.bfloat16):
        return o.w[i] @ o.w.t()


def p_gen(o, i):
    @contextlib.contextmanager
    def cm():
        o.held += 1
        try:
            yield o
        except IndexError as e:
            o.log.append("caught " + str(e)[:8])
            raise
        finally:
            o.held -= 1

    with cm():
        return table[i]


def p_gen_swallow(o, i):
    @contextlib.contextmanager
    def cm():
        try:
            yield o
        except IndexError:
            o.log.append("caught")

    y = table
    with cm():
        y = table[i]
    return y  # noqa: RET504


def p_comp(o, i):
    try:
        return sum([table[i + j] for j in range(2)])
    except IndexError:
        o.log.append("c")
        return table.sum()


def p_while_test(o, i):
    n = 0
    try:
        while table[i + n] > -1:
            n += 1
            o.held += 1
            if n > 9:
                break
    except IndexError:
        o.log.append(n)
    return n


def p_args(o, i):
    x = torch.zeros(2)
    try:
        x.add_(1)
        o.log.append(x.sum())
        return table[i] + x
    finally:
        x.mul_(7)
        o.buf.copy_(x.sum().expand(3))


def p_item(o, i):
    with o:
        xs = [1, 2, 3]
        return xs[int(i)] * table


def p_div(o, i):
    with o:
        return torch.arange(3) // (i - 9)


def p_chol(o, i):
    k = torch.tensor([[1.0, 0.0], [0.0, 1.0]]) * (5 - i)
    with o:
        try:
            c = torch.linalg.cholesky(k)
        except torch.linalg.LinAlgError:
            o.log.append("bad")
            c = torch.linalg.cholesky(-k)
        finally:
            o.log.append("fin")
    return c


def p_else(o, i):
    try:
        y = table[i]
    except (IndexError, ValueError) as e:
        o.last = type(e).__name__
        y = table[0]
    else:
        o.held += 1
        y = y * 2
    finally:
        o.log.append("x")
    return y


def p_nested_finally(o, i):
    try:
        try:
            o.held += 1
            y = table[i]
        finally:
            o.held += 10
            z = table[i - 5 if False else 0]
    except IndexError:
        o.held += 100
        y = z
    return y


def p_return_in_finally(o, i):
    try:
        return table[i]
    finally:
        o.log.append("f")
        return table[1]  # noqa: B012, SIM107


def p_listmut(o, i):
    o.log.append(1)
    with o:
        o.log.append(i.item())
        return table[i]


CASES = [f for name, f in list(globals().items()) if name.startswith("p_")]


def followed(function, wrap):
    """What calls give, and leave behind; the second and fourth fail."""
    owner = Swallow() if "swallow" in function.__name__ else Lock()
    torch.manual_seed(0)
    random.seed(0)
    call, found = wrap(function), []
    for i in (1, 9, 2, 9, 3):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            try:
                result = call(owner, torch.tensor(i))
            except Exception as error:
                result = type(error), str(error).split("\n")[0]  # pytest adds to asserts
        if isinstance(result, torch.Tensor):
            result = result.tolist()
        grad = None if owner.w.grad is None else owner.w.grad.tolist()
        state = owner.held, str(owner.log), owner.last, owner.buf.tolist(), grad
        modes = torch.is_autocast_enabled("cpu"), torch.is_grad_enabled()
        found.append((result, state, modes, printed.getvalue(), torch.rand(1).item()))
    return found


@pytest.mark.parametrize("function", CASES, ids=lambda f: f.__name__)
def test_as_python_does(function):
    want = followed(function, lambda f: f)
    assert followed(function, lambda f: to_static(f, backend="replay")) == want


def test_what_cannot_be_taken_back_is_told():
    told = []

    @not_to_static
    def tell(x):
        told.append(float(x.numpy()))
        return x

    lock = Lock()

    @to_static
    def look_up(i):
        with lock:
            return table[tell(i)]

    look_up(torch.tensor(1))
    with pytest.raises(
        UnsupportedError, match=r"IndexError.*has logged or called functions before"
    ):
        look_up(torch.tensor(9))
    assert look_up(torch.tensor(2)) == 2


def test_logs_before_it_are_not_given_twice(caplog):
    lock = Lock()

    @to_static
    def look_up(i):
        logging.getLogger("lookup").warning("place %s", i.item())
        with lock:
            return table[i]

    look_up(torch.tensor(1))
    caplog.clear()
    with pytest.raises(UnsupportedError, match="IndexError"):
        look_up(torch.tensor(9))
    assert [x.getMessage() for x in caplog.records] == ["place 9"]
