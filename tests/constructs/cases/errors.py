"""raise, assert, try, except, finally, with."""

import contextlib
import warnings

import torch

from tests.constructs.case import case, r, t

POS, NEG = t(1.0, 2.0, 3.0), t(-1.0, -2.0, -3.0)


@case(POS, NEG)
def raise_in_branch(x):
    if x.sum() < 0:
        raise ValueError("negative")
    return x * 2


@case(POS, NEG)
def raise_with_value(x):
    if x.sum() < 0:
        raise ValueError(f"sum is {x.sum().item():.3f}, shape {tuple(x.shape)}")
    return x.sqrt()


@case(POS, NEG)
def raise_percent_message(x):
    if x.sum() < 0:
        raise RuntimeError("bad value %s" % x.sum().item())
    return x


class TooSmall(Exception):
    def __init__(self, what, least=0):
        super().__init__(f"{what} is below {least}")
        self.what = what


@case(POS, NEG)
def raise_own_class(x):
    if x.min() < 0:
        raise TooSmall("minimum", least=0)
    return x.log()


@case((POS, t(3)), (POS, t(9)))
def raise_in_loop(x, n):
    for i in range(n):
        if i > 4:
            raise IndexError("too far")
        x = x + i
    return x


@case(POS, NEG)
def raise_in_else(x):
    if x.sum() > 0:
        y = x
    elif x.sum() > -100:
        raise TypeError("wrong")
    return y


@case(POS, NEG, POS * 0)
def raise_two_kinds(x):
    if x.sum() < 0:
        raise ValueError("negative")
    if x.sum() == 0:
        raise ZeroDivisionError
    return 1 / x


def checked(x):
    if x.sum() < 0:
        raise ValueError("from inside")
    return x + 1


@case(POS, NEG)
def raise_in_callee(x):
    return checked(x) * 2


@case(POS, NEG)
def assert_plain(x):
    assert x.sum() > 0
    return x


@case(POS, NEG)
def assert_message(x):
    assert x.min() > 0, "must be positive"
    return x.log()


@case(POS, NEG)
def assert_formatted(x):
    assert (x > 0).all(), f"got {x.min().item()}"
    return x


@case((POS, t(3)), (POS, t(0)))
def assert_in_loop(x, n):
    for i in range(n):
        assert (x < 100).all(), f"step {i}"
        x = x * 10
    return x


@case((POS, t(1)), (POS, t(5)), grad=False)
def assert_number(x, n):
    n = int(n)
    assert 0 <= n < 3, f"n={n}"
    return x * n


@case(r(2, 3), r(3, 2))
def assert_shape(x):
    assert x.shape[1] == 3, f"expected 3 columns, got {x.shape[1]}"
    return x.sum(1)


@case(POS, NEG)
def try_catches_own_raise(x):
    try:
        if x.sum() < 0:
            raise ValueError("negative")
        y = x * 2
    except ValueError:
        y = x - 1
    return y


@case(POS, NEG)
def try_catches_callee(x):
    try:
        return checked(x)
    except ValueError as e:
        return -x, str(e)


@case(POS, NEG)
def try_python_error(x):
    d = {"a": x}
    try:
        y = d["b"]
    except KeyError:
        y = d["a"] * 2
    return y if x.sum() > 0 else x


@case(POS, NEG, every_line=False)
def try_else_finally(x):
    log = []
    try:
        y = x * 2
    except RuntimeError:
        y = x
    else:
        log.append("else")
        if y.sum() > 0:
            y = y + 1
    finally:
        log.append("finally")
    return y, log


@case(POS, NEG)
def finally_runs_on_return(x):
    log = []

    def f(v):
        try:
            if v.sum() > 0:
                return v * 2
            return v
        finally:
            log.append(1)

    return f(x), len(log)


@case(POS, NEG)
def try_shape_error(x):
    try:
        y = x @ torch.ones(4)
    except RuntimeError:
        y = x
    return y * 2 if x.sum() > 0 else y


@case(POS, NEG, 100 * NEG)
def bare_raise(x):
    try:
        if x.sum() < 0:
            raise ValueError("inner")
    except ValueError:
        if x.sum() < -100:
            return x
        raise
    return x * 2


@case(POS, NEG)
def raise_from(x):
    try:
        if x.sum() < 0:
            raise ValueError("inner")
    except ValueError as e:
        raise RuntimeError("outer") from e
    return x * 2


class Scope:
    def __init__(self, log):
        self.log = log

    def __enter__(self):
        self.log.append("in")
        return self

    def __exit__(self, *error):
        self.log.append("out")
        return False


@case(POS, NEG)
def with_own_manager(x):
    log = []
    with Scope(log) as s:
        if x.sum() > 0:
            x = x * 2
        s.log.append("body")
    return x, log


@case(POS, NEG)
def with_return_inside(x):
    log = []
    with Scope(log):
        if x.sum() > 0:
            return x * 2, log
    return x, log


@contextlib.contextmanager
def tagged(log, name):
    log.append(name)
    try:
        yield name
    finally:
        log.append("/" + name)


@case(POS, NEG)
def with_generator_manager(x):
    log = []
    with tagged(log, "a") as name, tagged(log, "b"):
        if x.sum() > 0:
            x = x + len(name)
    return x, log


@case(POS, NEG)
def with_suppress(x):
    y = x
    with contextlib.suppress(ValueError):
        y = checked(x)
    return y


@case(POS, NEG)
def with_nullcontext(x):
    with contextlib.nullcontext(x) as y:
        return y * 2 if y.sum() > 0 else y


@case(POS, NEG)
def with_no_grad_in_branch(x):
    if x.sum() > 0:
        with torch.no_grad():
            y = x * 2
        return y + x
    return x


@case(POS, NEG)
def with_catch_warnings(x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return x * 2 if x.sum() > 0 else x


@case((POS, t(3)), (POS, t(0)))
def break_inside_with(x, n):
    log = []
    for i in range(n):
        with torch.no_grad():
            if i > 1:
                break
            log.append(i)
        x = x + 1
    return x, len(log)


@case((POS, t(3)), (NEG, t(2)))
def continue_inside_try(x, n):
    for i in range(n):
        try:
            if i == 1:
                continue
            x = x + 1
        finally:
            x = x * 2
    return x


@case(POS, NEG)
def index_error_at_run_time(x):
    xs = [x, x + 1]
    k = int(x[0]) + 1
    return xs[k]


@case((t(6), t(2)), (t(6), t(0)), grad=False)
def division_by_zero_at_run_time(a, b):
    return a.item() // b.item()


@case(POS, NEG)
def not_implemented(x):
    if x.sum() > 0:
        return x
    raise NotImplementedError


@case(POS, NEG)
def warns_in_branch(x):
    if x.sum() < 0:
        warnings.warn("negative", stacklevel=1)
    return x


@case(POS, NEG)
def mutation_before_raise(x):
    box = []
    try:
        box.append(x)
        if x.sum() < 0:
            box.append(x * 2)
            raise ValueError("late")
    except ValueError:
        box.append(x * 3)
    return box


@case(([POS],), ([NEG],))
def argument_mutated_before_raise(xs):
    xs.append(xs[0] * 2)
    if xs[0].sum() < 0:
        raise ValueError("after append")
    return xs[1]
