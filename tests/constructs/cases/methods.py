"""Special methods of users' classes that decide on data: by syntax, by builtin, by module operator."""

import copy
import functools
import math
import operator

from tests.constructs.case import case, t

BOTH = (t(1.5, 2.0), t(-1.5, -4.0))


class Signed:
    """Each method does one thing for a positive sum, another for a negative one."""

    def __init__(self, d):
        self.d = d

    def is_up(self):
        return self.d.sum() > 0

    def __abs__(self):
        return Signed(self.d if self.is_up() else -self.d)

    def __neg__(self):
        return Signed(-self.d if self.is_up() else self.d * 2)

    def __round__(self, digits=0):
        return Signed(self.d.round(decimals=digits) if self.is_up() else self.d)

    def __floor__(self):
        return Signed(self.d.floor() if self.is_up() else self.d)

    def __divmod__(self, other):
        return (Signed(self.d // 2), other) if self.is_up() else (Signed(self.d), other)

    def __pow__(self, k, mod=None):
        return Signed(self.d**k) if self.is_up() else Signed(self.d * k)

    def __add__(self, other):
        return Signed(self.d + other.d) if self.is_up() else Signed(self.d - other.d)

    def __mul__(self, k):
        return Signed(self.d * k) if self.is_up() else Signed(self.d / 2)

    def __lt__(self, other):
        return bool(self.d.sum() < other.d.sum())

    def __eq__(self, other):
        return bool(self.d.sum() == other.d.sum())

    def __hash__(self):
        return 1

    def __bool__(self):
        return bool(self.is_up())

    def __int__(self):
        return 3 if self.is_up() else 2

    def __float__(self):
        return 3.5 if self.is_up() else 2.5

    def __index__(self):
        return 1 if self.is_up() else 0

    def __format__(self, spec):
        return f"{spec}up" if self.is_up() else f"{spec}down"

    def __str__(self):
        return "up" if self.is_up() else "down"

    def __repr__(self):
        return "S+" if self.is_up() else "S-"

    def __getitem__(self, k):
        return self.d[k] if self.is_up() else -self.d[k]

    def __reversed__(self):
        return [Signed(-self.d)] if self.is_up() else [Signed(self.d)]

    def __iter__(self):
        for v in self.d:
            yield v if v > 0 else -v

    def times(self, k):
        return self.d * k if self.is_up() else self.d


@case(*BOTH)
def builtins_of_numbers(x):
    v = Signed(x)
    half, two = divmod(v, 2)
    return abs(v).d, round(v, 1).d, round(v).d, half.d * two, pow(v, 3).d, math.floor(v).d


@case(*BOTH)
def conversions_to_numbers(x):
    v = Signed(x)
    return int(v), float(v), bool(v), not v, x * operator.index(v)


@case(*BOTH)
def functions_of_operator(x):
    v = Signed(x)
    total = operator.add(v, v).d + operator.mul(v, 3).d + operator.neg(v).d
    return total, operator.lt(v, Signed(x * 2)), operator.getitem(v, 1)


@case(*BOTH)
def callers_of_operator(x):
    v = Signed(x)
    rows = [Signed(x), Signed(x + 1)]
    read = operator.attrgetter("d")
    return operator.methodcaller("times", 2)(v), sum(map(read, rows)), operator.itemgetter(1)(v)


@case(*BOTH)
def reduce_and_sum(x):
    rows = [Signed(x), Signed(x + 1)]
    return functools.reduce(operator.add, rows).d, sum(rows, Signed(x)).d


@case(*BOTH)
def comparisons(x):
    v, w = Signed(x), Signed(x * 2)
    return v > w, v != Signed(x.abs()), v < w < Signed(x * 3), (1, v) < (1, w)


@case(*BOTH)
def membership(x):
    v = Signed(x)
    return v in [Signed(x.abs()), Signed(x + 1)], [v] == [Signed(x.abs())], 4.0 in Steps(x)


@case(*BOTH)
def order(x):
    rows = [Signed(x * 2), Signed(x), Signed(x * 3)]
    return [v.d for v in sorted(rows)], max(rows).d, min(x, 2 * x, key=Signed)


@case(*BOTH)
def truth_of_many(x):
    rows = [Signed(x), Signed(x - 100)]
    return any(rows), all(rows), sum(v.d for v in filter(None, rows + [Signed(-x)]))


@case(*BOTH)
def texts(x):
    v = Signed(x)
    return f"{v} {v!r} {v:>}", format(v, "z"), f"{v:q}", "%s" % v, str(v)


@case(*BOTH)
def iteration(x):
    v = Signed(x)
    a, b = v
    return a + b, sum(v), tuple(v), [*v], max(*v), list(zip(v, v)), sum(w.d for w in reversed(v))


class Steps:
    """An iterator with a state of its own."""

    def __init__(self, d):
        self.d, self.k = d, 0

    def __iter__(self):
        return self

    def __next__(self):
        if self.k >= 3:
            raise StopIteration
        self.k += 1
        return self.d[0] * self.k if self.d.sum() > 0 else -self.d[1]


@case(*BOTH)
def own_iterator(x):
    steps = Steps(x)
    first = next(steps)
    total = first
    for v in steps:
        total = total + v
    return total, list(Steps(x)), next(steps, None)


class Places:
    """A sequence by ``__getitem__`` alone."""

    def __init__(self, d):
        self.d = d

    def __getitem__(self, k):
        if k >= 2:
            raise IndexError
        return self.d[k] if self.d.sum() > 0 else -self.d[k]


@case(*BOTH)
def iteration_by_place(x):
    return [v for v in Places(x)], sum(Places(x)), 2.0 in Places(x)


class Hooked:
    def __init__(self, d):
        self.d = d

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return self.d * 2 if self.d.sum() > 0 else self.d

    def __setattr__(self, name, value):
        object.__setattr__(self, name, value if value.sum() > 0 else -value)

    def __delattr__(self, name):
        self.__dict__[name] = self.d * 5 if self.d.sum() > 1 else self.d


@case(*BOTH)
def attribute_hooks(x):
    h = Hooked(x)
    h.a = x - 1
    setattr(h, "b", x)
    del h.a
    return h.other, h.a, h.b, getattr(h, "c", 3), hasattr(h, "_d"), getattr(h, "_d", 3)


class Guarded:
    def __init__(self, d):
        self.d = d

    def __getattribute__(self, name):
        value = object.__getattribute__(self, name)
        return value if value.sum() > 0 else -value


@case(*BOTH)
def own_reading(x):
    return Guarded(x).d


@case(*BOTH)
def plain_writing(x):
    v = Signed(x)
    if x.sum() > 0:
        object.__setattr__(v, "d", x * 2)
    return v.d


class Made:
    def __new__(cls, d):
        made = super().__new__(cls)
        made.kind = 1 if d.sum() > 0 else 2
        return made

    def __init__(self, d):
        self.d = d * self.kind


class Meta(type):
    def __call__(cls, d):
        return super().__call__(d if d.sum() > 0 else -d)


class WithMeta(metaclass=Meta):
    def __init__(self, d):
        self.d = d if d.max() > 3 else d * 2


@case(*BOTH)
def makers(x):
    return Made(x).d, WithMeta(x).d


class Property:
    def __init__(self, d):
        self.held = d

    @property
    def d(self):
        return self.held

    @d.deleter
    def d(self):
        self.held = self.held * 7 if self.held.sum() > 0 else -self.held


@case(*BOTH)
def deleted_property(x):
    p = Property(x)
    del p.d
    return p.d


class Copied(Signed):
    def __copy__(self):
        return Signed(self.d * 10 if self.is_up() else self.d)


@case(*BOTH)
def own_copy(x):
    return copy.copy(Copied(x)).d


@case(t(1.5, 2.0), t(-1.5, -4.0), t(2.0, 1.0))
def operators_of_one_of_two(x):
    a, b = Signed(x), Signed(x.flip(0) * 2)
    one = a if x[0] > x[1] else b
    larger = a if one < b else one
    total = one + larger
    return total.d, (one * 2).d, (-one).d, one == a, one != b, a + one == total


class Slotted:
    __slots__ = ("d", "e")

    def __init__(self, d, e):
        self.d, self.e = d, e

    def __abs__(self):
        return self.d.abs().sum() + self.e

    def __add__(self, k):
        return Slotted(self.d + k, self.e * k)

    def __lt__(self, other):
        return abs(self) < abs(other)

    def __neg__(self):
        return Slotted(-self.d, self.e)


@case(*BOTH, t(-1.5, 2.0))
def largest_by_its_size(x):
    a, b = Slotted(x, x[0]), Slotted(x.flip(0) * 2, x[1])
    one = a if x[0] > 0 else b
    if x.sum() > 0:
        one = -one
    found = max([a, b, one], key=abs)
    return abs(found), one.d, one < b


@case(*BOTH)
def object_made_on_one_way(x):
    found = Slotted(x, x[1])
    if x[0] > 0:
        found = found + 1
    return found.d, found.e


class Affine:
    """An object that is called, and that holds tensors."""

    def __init__(self, w):
        self.w, self.b, self.calls = w, 0.0, 0

    def __call__(self, x):
        self.calls += 1
        return x * self.w + self.b

    def __lt__(self, other):
        return bool(self.w.sum() < other.w.sum())

    def grow(self):
        if self.w.sum() > 0:
            self.w = self.w * 2
        else:
            self.b = self.b + 1


@case((Affine(t(1.0)), t(2.0)), (Affine(t(-1.0)), t(2.0)), (Affine(t(1.0)), t(-2.0)))
def callable_argument_that_changes(f, x):
    f.grow()
    return f(x)


@case((t(1.0, -1.0),), (t(-1.0, -1.0),), (t(2.0, 3.0),))
def list_of_callable_objects_by_data(x):
    return [Affine(v) for v in x if v > 0]


@case((t(8.0),), (t(-1.0),), (t(3.0),))
def callable_object_that_a_loop_changes(x):
    f = Affine(x * 0 + 0.5)
    while x.sum() > 1:
        x = f(x)
        f.w = f.w * 0.9
    return x, f


@case((t(1.0, 2.0, 3.0),), (t(9.0, -2.0, 3.0),), (t(1.0, 1.0, 1.0),))
def largest_of_sorted_callable_objects(x):
    ranked = sorted([Affine(v) for v in x.unbind()])
    return ranked[0].w, max(ranked).w, min(ranked[1:]).w
