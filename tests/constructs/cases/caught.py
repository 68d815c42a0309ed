"""Errors that functions raise as data decide, caught by callers: in loops, nested, with values."""

from __future__ import annotations

import torch
from torch import nn

from tests.constructs.case import case, t

P, N, Z, F = t(1.0, 2.0, 3.0), t(-1.0, -2.0, -3.0), t(0.5, -0.25, 0.0), t(10.0, 20.0, 30.0)
FAR = t(200.0, 300.0, 400.0)


class Bad(Exception):
    def __init__(self, v, code=0):
        super().__init__(f"bad {code}")
        self.v = v
        self.code = code


class Worse(Bad):
    pass


def check(v):
    if v.sum() > 4:
        raise ValueError("big")
    return v * 2


def check2(v):
    if v.sum() > 4:
        raise ValueError("big")
    if v.sum() < -4:
        raise KeyError("small")
    return v * 2


def checkv(v):
    if v.sum() > 4:
        raise Bad(v * 3, 1)
    if v.sum() < -4:
        raise Worse(v * 5, 2)
    return v * 2


def nested(v):
    w = check(v + 1)
    return w + 1


def nested_loop(v):
    for i in range(3):
        v = check(v)
    return v


def nested_while(v):
    while v.abs().sum() < 20:
        v = check(v) + 0.125
    return v


@case(P, N, Z, F)
def outside_of_loops(x):
    try:
        y = check(x)
    except ValueError:
        y = x - 1
    return y


@case(P, N, Z, F)
def in_while(x):
    n = 0
    while n < 3 + x.sum().abs():
        n += 1
        try:
            x = check(x)
        except ValueError:
            x = x - 2
        if n > 4:
            break
    return x


@case(P, N, Z, F)
def in_for(x):
    for i in range(6):
        try:
            x = check(x)
        except ValueError:
            x = x - 2
    return x


@case(P, N, Z, F)
def in_for_continue(x):
    out = x
    for i in range(5):
        try:
            x = check(x)
        except ValueError:
            x = x - 2
            continue
        out = out + x
    return out


@case(P, N, Z, F)
def in_for_break(x):
    out = x
    for i in range(5):
        try:
            x = check(x) + 1
        except ValueError:
            break
        out = out + x
    else:
        out = out * 2
    return out, x


@case(P, N, Z, F)
def in_for_return(x):
    for i in range(5):
        try:
            x = check(x) + 1
        except ValueError:
            return x - i
    return x


@case(P, N, Z, F)
def two_types(x):
    for i in range(4):
        try:
            x = check2(x) + 1
        except ValueError:
            x = x - 4
        except KeyError:
            x = x + 3
    return x


@case(P, N, Z, F)
def tuple_types(x):
    for i in range(4):
        try:
            x = check2(x) + 1
        except (ValueError, KeyError):
            x = x * -0.25
    return x


@case(P, N, Z, F, P * 0.5, N * 0.5)
def attributes_by_class(x):
    for i in range(4):
        try:
            x = checkv(x) + 1
        except Worse as e:
            x = e.v * 0.1 + e.code
        except Bad as e:
            x = e.v * -0.1 - e.code
    return x


@case(P, N, Z, F, P * 0.5, N * 0.5)
def attributes_base(x):
    for i in range(2):
        try:
            x = checkv(x) + 1
        except Bad as e:
            x = e.v * 0.1 + e.code
    return x


@case(P, N, Z, F, N * 0.5, N * 3)
def attributes_while(x):
    n = 0
    while n < x.sum().abs():
        n += 2
        try:
            x = checkv(x) + 1
        except Worse as e:
            x = e.v * 0.1 + e.code
        except Bad as e:
            x = e.v * -0.1 - e.code
    return x


@case(P, N, Z, F)
def through_a_function(x):
    for i in range(3):
        try:
            x = nested(x)
        except ValueError:
            x = x - 5
    return x


@case(P, N, Z, F)
def through_a_loop_of_a_function(x):
    for i in range(3):
        try:
            x = nested_loop(x)
        except ValueError:
            x = x * 0.125
    return x


@case(P, N, Z, F)
def through_a_while_of_a_function(x):
    for i in range(2):
        try:
            x = nested_while(x)
        except ValueError:
            x = x * 0.125
    return x


@case(P, N, Z, F)
def else_finally(x):
    n = 0
    for i in range(3):
        try:
            y = check(x)
        except ValueError:
            x = x - 2
        else:
            x = y + 0.5
        finally:
            n += 1
            x = x + 0.1
    return x, n


@case(P, N, Z, F)
def loop_in_try(x):
    out = x * 0
    try:
        for v in (x, x - 1, x + 2):
            out = out + check(v)
    except ValueError:
        out = out * 3
    return out


@case(P, N, Z, F)
def while_in_try(x):
    n = 0
    try:
        while n < 5:
            x = check(x) + 0.5
            n += 1
    except ValueError:
        n = n + 100
    return x, n


@case(P, N, Z, F, N * 0.25)
def uncaught(x):
    for i in range(3):
        try:
            x = check2(x) + 1
        except KeyError:
            x = x + 3
    return x


@case(P, N, Z, F)
def outer_try(x):
    try:
        for i in range(3):
            try:
                x = check2(x) + 1
            except KeyError:
                x = x + 3
    except ValueError:
        x = x - 7
    return x


@case(P, N, Z, F)
def reraise(x):
    try:
        for i in range(3):
            try:
                x = check2(x) + 1
            except KeyError as e:
                raise Bad(x, i) from e
    except Bad as e:
        x = e.v - 7 + e.code
    except ValueError:
        x = x * 2
    return x


@case(P, N, Z, F)
def reraise_bare(x):
    try:
        for i in range(3):
            try:
                x = check2(x) + 1
            except KeyError:
                x = x + 1
                raise
    except KeyError:
        x = x - 7
    except ValueError:
        x = x * 2
    return x


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = nn.Linear(3, 3)
        self.fails = 0
        with torch.no_grad():
            self.l.weight.copy_(torch.eye(3) * 1.5)
            self.l.bias.fill_(0.5)

    def checked(self, v):
        y = self.l(v)
        if y.sum() > 10:
            raise Bad(y, 3)
        return y

    def forward(self, x):
        for i in range(4):
            try:
                x = self.checked(x)
            except Bad as e:
                self.fails += 1
                x = e.v * 0.1
        return x


@case(P, N, Z, F)
class net_method(Net):
    pass


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = nn.Linear(3, 3)
        with torch.no_grad():
            self.l.weight.copy_(torch.eye(3) * 1.5)
            self.l.bias.fill_(0.5)

    def forward(self, v):
        y = self.l(v)
        if y.sum() > 10:
            raise Bad(y, 3)
        return y


class OuterNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Inner()

    def forward(self, x):
        n = 0
        while n < x.sum().abs():
            try:
                x = self.inner(x)
            except Bad as e:
                x = e.v * 0.1
            n += 3
        return x


@case(P, N, Z, F)
class net_inner(OuterNet):
    pass


class Stack:
    def __init__(self):
        self.items = []

    def push(self, v):
        self.items.append(v)

    def pop(self, lim):
        if lim.sum() > 3:
            raise IndexError("empty")
        return self.items[-1]


@case(P, N, Z, F, Z * 9)
def stack_method(x):
    s = Stack()
    s.push(x)
    for i in range(3):
        s.push(x * i)
        try:
            x = s.pop(x) + 1
        except IndexError:
            x = x - 3
    return x


@case(P, N, Z, F)
def raising_with_side_effect(x):
    log = []

    def f(v):
        log.append(v)
        if v.sum() > 4:
            raise ValueError("x")
        log.append(v * 2)
        return v

    n = 0
    for i in range(3):
        try:
            x = f(x) * 2
        except ValueError:
            n = n + 1
            x = x - 4
    return x, n, len(log)


@case(P, N, Z, F)
def callee_finally(x):
    c = [0]

    def f(v):
        try:
            if v.sum() > 4:
                raise ValueError("x")
            return v * 2
        finally:
            c[0] += 1

    for i in range(3):
        try:
            x = f(x)
        except ValueError:
            x = x - 4
    return x, c[0]


@case(P, N, Z, F)
def callee_catches_some(x):
    def f(v):
        try:
            v = check2(v)
        except KeyError:
            v = v + 10
        return v

    for i in range(3):
        try:
            x = f(x)
        except ValueError:
            x = x - 4
    return x


@case(P, N, Z, F)
def callee_converts(x):
    def f(v):
        try:
            v = check2(v)
        except KeyError as e:
            raise RuntimeError("conv") from e
        return v

    for i in range(3):
        try:
            x = f(x)
        except ValueError:
            x = x - 4
        except RuntimeError:
            x = x + 5
    return x


@case(P, N, Z, F)
def in_expression(x):
    for i in range(3):
        try:
            x = x + check(x - 1) * check(x * 0.5)
        except ValueError:
            x = x - 4
    return x


@case(P, N, Z, F)
def in_branch(x):
    if x.sum() > -4:
        for i in range(3):
            try:
                x = x + check(x)
            except ValueError:
                x = x - 4
    else:
        try:
            x = check2(x)
        except KeyError:
            x = x * 9
    return x


@case(P, N, Z, F)
def message_of_whatriesis_caught(x):
    def f(v):
        if v.sum() > 4:
            raise ValueError(f"big {v.sum().item()}")
        return v

    out = ""
    try:
        f(x)
    except ValueError as e:
        out = str(e)
    return out


@case(P, N, Z, F, FAR)
def retry(x):
    tries = 0
    while True:
        try:
            y = check(x)
            break
        except ValueError:
            x = x * 0.5
            tries += 1
            if tries == 5:
                raise
    return y, tries


@case(P, N, Z, F, FAR)
def retry_for(x):
    for tries in range(4):
        try:
            return check(x), tries
        except ValueError:
            x = x * 0.5
    raise RuntimeError("gave up")


@case(P, N, Z, F)
def assertriesin_callee(x):
    def f(v):
        assert v.sum() < 4, "too big"
        return v + 1

    for i in range(3):
        try:
            x = f(x)
        except AssertionError:
            x = x - 4
    return x


@case(P, N, Z, F)
def exceptriesexception(x):
    for i in range(3):
        try:
            x = check2(x)
        except Exception:
            x = x * 0.3
    return x


@case(P, N, Z, F)
def suppressed(x):
    import contextlib

    for i in range(3):
        with contextlib.suppress(ValueError):
            x = check(x) + 1
    return x


@case(P, N, Z, F)
def tried_in_the_handler(x):
    try:
        found = check(x)
    except ValueError:
        for k in (0.5, 0.25):
            try:
                found = check(x * k)
                break
            except ValueError:
                continue
        else:
            found = x * 0
    y = found + 1
    return y
