"""Small programs from the language's side: each construct in several positions, on plain numbers.

``PROGRAMS`` pairs a function with argument tuples.  No tracer runs: conversion must change nothing.
"""

# ruff: noqa
from __future__ import annotations

import contextlib
import functools
import math
from collections import defaultdict, deque
from dataclasses import dataclass

PROGRAMS: list[tuple] = []
INTS = [(n,) for n in range(-3, 9)]
PAIRS = [(a, b) for a in range(-2, 4) for b in range(-2, 4)]
LISTS = [([],), ([1],), ([3, 1, 2],), ([0, 5, -1, 5, 7],), ([-2, -4],)]


def program(*inputs):
    def add(fn):
        PROGRAMS.append((fn, inputs[0] if len(inputs) == 1 else list(inputs)))
        return fn

    return add


@program(INTS)
def early_return(x):
    if x > 5:
        return "big"
    if x > 2:
        x = x * 2
        if x > 7:
            return "middle"
    elif x == 0:
        return
    return x


@program(INTS)
def return_in_nested_loops(n):
    for i in range(n):
        for j in range(n):
            if i * j == 6:
                return i, j
            if j > i:
                break
        else:
            n = n - 1
    return n


@program(INTS)
def while_else(n):
    k = 0
    while k < n:
        k += 1
        if k == 5:
            break
        if k % 2:
            continue
        n -= 1
    else:
        return "finished", k
    return "broken", k


@program(INTS)
def for_else_return(n):
    for i in range(n):
        if i == 4:
            return "found"
    else:
        n = "else"
    return n


@program(INTS)
def for_else_in_loop(n):
    out = []
    for a in range(2, n + 2):
        for b in range(2, a):
            if a % b == 0:
                break
        else:
            out.append(a)
            continue
        out.append(-a)
    return out


@program(INTS)
def return_in_try(n):
    try:
        if n > 3:
            return "try"
        n = 10 // n
    except ZeroDivisionError as error:
        if n == 0:
            return str(error)
    else:
        if n > 8:
            return "else"
    finally:
        n = 100
    return n


@program(INTS)
def return_in_finally(n):
    try:
        return 1 // n
    finally:
        if n < 2:
            n = 7
        return_value = n


@program(INTS)
def finally_returns(n):
    try:
        1 // n
    finally:
        return n


@program(INTS)
def return_in_with(n):
    log = []

    @contextlib.contextmanager
    def noted(name):
        log.append("enter " + name)
        yield name
        log.append("leave " + name)

    for i in range(n):
        with noted(str(i)) as shown:
            if i == 2:
                return shown, log
            if i == 1:
                continue
            log.append(i)
    return log


@program(INTS)
def suppressed(n):
    with contextlib.suppress(ZeroDivisionError):
        n = n + 10 // n
        if n > 4:
            return "returned"
    return n


@program(INTS)
def loop_with_try(n):
    found = []
    for i in range(-1, n):
        try:
            if i == 3:
                break
            found.append(6 // i)
        except ZeroDivisionError:
            found.append("zero")
            continue
        finally:
            found.append("done")
        found.append("after")
    return found


@program(INTS)
def reraise(n):
    try:
        if n % 2:
            raise ValueError(n)
        raise KeyError(n)
    except ValueError as e:
        if n > 3:
            raise
        raise RuntimeError("wrapped") from e
    except KeyError:
        return "key"


@program(PAIRS)
def booleans(a, b):
    return a and b, a or b, not a, a and not b or b, (a > 0 and b) or "no", not (a and b)


@program(PAIRS)
def short_circuit(a, b):
    log = []

    def f(x):
        log.append(x)
        return x

    r = f(a) and f(b) or f(a + b)
    if f(1) or f(2):
        r = (r, 0 < f(a) < f(b) < f(3))
    return r, log


@program(PAIRS)
def chains(a, b):
    return a < b < 3, 0 <= a != b, a == b == 0, a in (b, 1) in [True], a is b is not None


@program(INTS)
def ternaries(n):
    x = 1 if n > 2 else 2 if n > 0 else 3
    y = (lambda: "a" if n else "b")()
    return x, y, [i if i % 2 else -i for i in range(n)]


@program(INTS)
def walrus(n):
    total = 0
    if (m := n * 2) > 6:
        total += m
    while (m := m - 3) > 0:
        total += m
    if n > 0 and (k := n + 1) > 3:
        total += k
    ys = [z for i in range(n) if (z := i * i) > 3]
    return total, m, ys, any((w := i) > 2 for i in range(n))


@program(INTS)
def walrus_unbound(n):
    if n > 3 or (k := n) > 1:
        return k
    return "k", k


@program(INTS)
def comprehensions(n):
    grid = [[i * j for j in range(i)] for i in range(n)]
    flat = [x for row in grid for x in row if x % 2 == 0 if x]
    table = {i: [j for j in range(i) if j % 2] for i in range(n) if i != 2}
    kinds = {x % 3 for x in flat}
    lazy = (x + n for x in flat)
    return grid, flat, table, kinds, list(lazy), sum(x for x in flat), sorted(-x for x in flat)


@program(LISTS)
def consumers(xs):
    return (
        any(x > 2 for x in xs), all(x for x in xs), next((x for x in xs if x > 1), None),
        max((x for x in xs), default=9), "".join(str(x) for x in xs), tuple(x for x in xs),
        dict((x, -x) for x in xs), len(set(x % 2 for x in xs)) > 0, sum((x for x in xs), 10),
    )  # fmt: skip


@program(LISTS)
def lambdas(xs):
    add = lambda a, b=10, *, c=1: a + b + c
    pick = lambda ys, k=len(xs): [y for y in ys if y > k]
    fs = [lambda: i for i in range(3)]
    gs = [lambda i=i: [i for _ in range(i)] for i in range(3)]
    return (
        add(1),
        add(1, 2, c=3),
        pick(xs),
        [f() for f in fs],
        [g() for g in gs],
        list(map(lambda x: x + 1, filter(lambda x: x > 0, xs))),
    )


@program(LISTS)
def mutation(xs):
    ys = xs
    ys += [1]
    ys[0] *= 2
    ys[-1:] = [7, 8]
    d = {"a": 1}
    d["a"] += 5
    d.setdefault("b", []).append(xs[0])
    del ys[0]
    return xs, d, xs is ys


@program(INTS)
def attributes(n):
    class Box:
        count = 0

        def bump(self, by):
            if by > 2:
                self.count += by
            else:
                self.last = by
            return self

    box = Box()
    for i in range(n):
        box.bump(i)
    return vars(box), Box.count, getattr(box, "last", None), hasattr(box, "x")


@program(INTS)
def unbound(n):
    if n > 2:
        x = 1
    for k in range(n):
        last = k
    if n > 1:
        return x, last
    del n
    return n


@program(INTS)
def deleted(n):
    x = n
    if n > 2:
        del x
    if n == 5:
        x = 5
    try:
        return x
    except NameError as error:
        return type(error).__name__


@program(INTS)
def nonlocal_counter(n):
    count = 0

    def bump(k):
        nonlocal count
        if k % 2:
            count += k
        return count

    out = []
    for i in range(n):
        if bump(i) > 3:
            out.append(count)
    return out, count


@program(INTS)
def closures_in_loops(n):
    fs = []
    for i in range(n):

        def f(k, i=i):
            if k > i:
                return k
            return -i

        fs.append(f)
    return [f(2) for f in fs]


@program(INTS)
def late_binding(n):
    fs = []
    for i in range(n):
        fs.append(lambda: i)
    return [f() for f in fs]


@program(INTS)
def recursion(n):
    def fib(k):
        if k < 2:
            return k
        return fib(k - 1) + fib(k - 2)

    return fib(n)


def _even(n):
    return True if n == 0 else _odd(n - 1)


def _odd(n):
    if n == 0:
        return False
    return _even(n - 1)


@program([(n,) for n in range(7)])
def mutual_recursion(n):
    return _even(n), _odd(n)


@program(INTS)
def generators(n):
    def count(k):
        i = 0
        while i < k:
            got = yield i
            if got:
                break
            i += 1
            for j in range(3):
                if j == 1:
                    continue
                i += 0
        return "end"

    def outer(k):
        done = yield from count(k)
        yield done

    return list(outer(n)), sum(x for x in count(n))


@program(INTS)
def unpacking(n):
    (a, *b), c = range(n + 5), n
    d = [None] * 3
    i = 0
    i, d[i] = 2, "x"
    d[i], i = i, 1
    x = y = d[1] = (n, [n])
    for k, (u, *v) in enumerate([(1, 2, 3), (4,)]):
        d.append((k, u, v))
    for d[0] in range(n):
        pass
    return (
        a,
        b,
        c,
        d,
        x is y,
        {**{"p": 1}, "q": n},
        [*b, *d],
        (lambda *s, **t: (s, t))(*b, **{"z": n}),
    )


@program(PAIRS)
def matched(a, b):
    match (a, b):
        case (0, 0):
            return "origin"
        case (0, y) | (y, 0) if y > 1:
            return "axis", y
        case (x, y) if x == y:
            kind = "diagonal"
        case (1 | 2, _):
            kind = "one or two"
        case _:
            kind = "other"
    match {"a": a, "b": b}:
        case {"a": 1, **rest}:
            kind += str(rest)
    match b:
        case 0:
            kind += "0"
        case -1 | 1:
            kind += "unit"
        case int(z):
            kind += f"{z=}"
    return kind


@program(INTS)
def texts(n):
    w = 4
    return f"{n}", f"{n!r:>{w}}|{n:+.2f}", "%d %s" % (n, [n]), "{:>3}{}".format(n, "x"), f"a{{{n}"


@program(LISTS)
def builtins_(xs):
    return (
        len(xs), max(xs, default=0), min([*xs, 0]), max(1, 2, *xs), sorted(xs, key=lambda x: -x),
        sorted(xs, reverse=True), list(enumerate(xs, 1)), list(zip(xs, range(3))), list(reversed(xs)),
        divmod(7, 2), pow(2, 5, 7), round(2.567, 1), abs(-3), sum(xs, 1), int("12"), float("2"), bool(xs),
        functools.reduce(lambda a, b: a * b, xs, 1), math.floor(2.5), math.hypot(3, 4), complex(1, 2),
        isinstance(xs, list), str(xs), repr(xs), list(map(str, xs)), list(filter(None, xs)), dict(a=1), len(set(xs)),
        any(xs), all(xs), range(3), math.prod(xs), max([(1, 2), (0, 5)], key=lambda p: p[1]),
    )  # fmt: skip


@program(INTS)
def asserted(n):
    assert n > -2, f"n is {n}"
    assert n != 4
    return n


@program(INTS)
def containers_(n):
    d = defaultdict(list)
    q = deque()
    for i in range(n):
        d[i % 2].append(i)
        q.appendleft(i)
        if len(q) > 3:
            q.pop()
    s = set()
    s |= {n}
    s.add(1)
    return dict(d), list(q), s, 3 in s, n not in d


class Base:
    rate = 2

    def __init__(self, k):
        self.k = k
        self.__hidden = k + 1

    def step(self, x):
        if x > self.k:
            return x * self.rate
        return self.__hidden

    @classmethod
    def make(cls, k):
        return cls(k if k > 0 else -k)

    @staticmethod
    def twice(x):
        return x + x if x else None

    @property
    def big(self):
        return "big" if self.k > 3 else "small"

    def __call__(self, x):
        return self.step(x) if x else self


class Derived(Base):
    def __init__(self, k):
        super().__init__(k)
        if k > 2:
            self.extra = True

    def step(self, x):
        if x == 1:
            return "one"
        return super().step(x), [super(Derived, self).step(x)]


@program(INTS)
def classes(n):
    one = Derived.make(n)
    return (
        one.step(n),
        one.step(1),
        Derived.twice(n),
        one.big,
        vars(one),
        one(2),
        type(one).__name__,
    )


@dataclass
class Point:
    x: int
    y: int = 0

    def norm(self):
        if self.x > self.y:
            return self.x - self.y
        return 0


@program(INTS)
def dataclasses_(n):
    p = Point(n, y=2)
    p.x += 1
    match p:
        case Point(x=3):
            return "three"
        case Point(a, b) if a > 5:
            return a, b
    return p.norm(), p


def deco(times):
    def wrap(fn):
        @functools.wraps(fn)
        def inner(*args, **kwargs):
            out = []
            for _ in range(times):
                out.append(fn(*args, **kwargs))
            return out

        return inner

    return wrap


@deco(2)
def decorated_one(x, k=3):
    if x > k:
        return x
    return k


@program(INTS)
def decorated(n):
    @deco(1)
    def local(y):
        while y > 3:
            y -= 2
        return y

    return decorated_one(n), local(n), functools.partial(decorated_one, k=1)(n)


COUNT = 0


@program(INTS)
def global_counter(n):
    global COUNT
    COUNT = 0
    for i in range(n):
        if i % 2:
            COUNT += i
        else:
            COUNT = COUNT - 1
    return COUNT


@program(INTS)
def shadowed(n):
    len = lambda x: x + 1
    if n > 2:
        range = [n]
        return len(n), range
    return len(n)


@program(INTS)
def nested_while(n):
    total = 0
    i = 0
    while i < n:
        j = 0
        while True:
            j += 1
            if j > i:
                break
            if (i + j) % 4 == 3:
                i += 1
                continue
            total += j
        i += 1
        if total > 20:
            return total, i, j
    return total


@program(INTS)
def partial_jumps(n):
    out = []
    for i in range(n):
        if i % 2:
            if i % 3 == 0:
                continue
            out.append(i)
            if i > 4:
                break
            out.append("low")
        else:
            if i == 4:
                return out
        out.append("end")
        out.append("of")
        out.append(
            "a long enough rest",
        ) if n > 100 else out.append("round")
    return out, n


@program(INTS)
def exceptions_escape(n):
    table = {1: "a"}
    if n > 3:
        return table[n]
    if n == 2:
        raise StopIteration(n)
    return [10 // k for k in range(n, 4)]


@program(INTS)
def imports(n):
    import math as m
    from os import path

    if n > 2:
        import string

        return string.digits[:n]
    return m.pi, path.basename("a/b")


@program(INTS)
def star_defaults(n):
    def f(a, b=n, /, c=3, *args, d=4, **kw):
        if args:
            return a, b, c, args, d, kw
        return a, d

    return f(1), f(1, 2, 3, 4, d=5, e=6), f(n, c=1)


@program(INTS)
def try_in_branches(n):
    if n > 2:
        try:
            x = [1][n]
        except IndexError as e:
            x = e.args
        else:
            x = "fine"
        finally:
            y = 1
    else:
        x = y = 0
    return x, y
