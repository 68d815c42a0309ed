"""What errors leave behind: ``finally``, context managers and handlers on the way of a failing call."""

import contextlib

from torch import nn

from tests.constructs.case import case, t

SMALL, BIG, ZERO = t(1.0, -2.0), t(4.0, 2.0), t(0.0, 0.0)
LOG: list = []
DEPTH = 0


def checked(x):
    if x.sum() > 3:
        raise ValueError("big")
    return x + 1


def note(x):
    LOG.append(x.detach().sum())


class Scope:
    def __init__(self, x, swallows=False):
        self.x, self.swallows = x, swallows

    def __enter__(self):
        return self.x + 1

    def __exit__(self, kind, error, trace):
        LOG.append(kind is None)
        return self.swallows


@contextlib.contextmanager
def noted(x):
    try:
        yield x + 1
    finally:
        note(x)


@contextlib.contextmanager
def swallowing(x):
    try:
        yield x
    except:  # noqa: E722
        LOG.append("caught")


@case(SMALL, BIG, ZERO, shared=("LOG",))
def finally_after_raise(x):
    try:
        if x.sum() > 3:
            raise ValueError("big")
        x = x + 1
    finally:
        note(x)
    return x


@case(SMALL, BIG, ZERO, shared=("LOG",))
def finally_after_a_call(x):
    try:
        return checked(x)
    finally:
        LOG.append("left")


@case(SMALL, BIG, t(4.0, 0.0), shared=("LOG",))
def finally_after_a_handler(x):
    try:
        x = checked(x)
    except ValueError:
        if x.sum() > 5:
            raise
        x = x * 2
    finally:
        note(x)
    return x


@case(SMALL, BIG, t(2.0, 9.0))
def finally_of_variables_in_loop(x):
    n = 0
    while x.sum() < 9:
        try:
            if x.sum() == 5:
                raise ValueError("five")
            x = x + 1
        finally:
            n += 1
    return x, n


@case(SMALL, BIG, ZERO, shared=("DEPTH",))
def finally_of_a_counter(x):
    global DEPTH
    DEPTH += 1
    try:
        x = checked(x) * DEPTH
    finally:
        DEPTH -= 1
    return x


@case(SMALL, BIG, ZERO, shared=("LOG",))
def manager_after_raise(x):
    with Scope(x) as y:
        if y.sum() > 3:
            raise ValueError("big")
    return y


@case(SMALL, BIG, ZERO, shared=("LOG",))
def manager_that_swallows_all(x):
    y = x
    with Scope(x, swallows=True):
        y = y * 2
        y = checked(y)
    return y


@case(SMALL, BIG, ZERO, shared=("LOG",))
def generator_manager_that_notes(x):
    with noted(x) as y:
        if y.sum() > 3:
            raise ValueError("big")
        y = y * 2
    return y


@case(SMALL, BIG, ZERO, shared=("LOG",))
def generator_manager_that_swallows(x):
    y = x
    with swallowing(x) as z:
        y = checked(z * 2)
    return y


@case(SMALL, BIG, ZERO, shared=("LOG",))
def exit_stack(x):
    with contextlib.ExitStack() as stack:
        y = stack.enter_context(Scope(x))
        stack.callback(LOG.append, "done")
        return checked(y)


@case(SMALL, BIG, ZERO, shared=("LOG",))
@noted(t(1.0))
def decorated_by_a_manager(x):
    return checked(x)


@case(SMALL, BIG, ZERO)
def bare_except(x):
    try:
        return checked(x)
    except:  # noqa: E722
        return x * 5


@case(SMALL, BIG, ZERO)
def except_base_exception(x):
    try:
        y = checked(x)
    except BaseException as error:
        y = x * len(error.args) * 7
    return y


class Timer:
    def __init__(self):
        self.runs, self.is_on = 0, False

    def __enter__(self):
        self.is_on = True

    def __exit__(self, *error):
        self.is_on = False
        self.runs += 1


@case(SMALL, BIG, ZERO, SMALL)
class ManagerOfAModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.timer = Timer()

    def forward(self, x):
        with self.timer:
            return checked(x) * self.timer.runs
