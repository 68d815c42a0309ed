"""Early returns, nested functions, closures, recursion, arguments, lambdas, generators, decorators."""

import functools
import operator
from functools import partial, reduce

import torch

from tests.constructs.case import case, kw, r, t

POS, NEG = t(1.0, 2.0, 3.0), t(-1.0, -2.0, -3.0)


@case(POS, NEG)
def early_return(x):
    if x.sum() > 0:
        return x * 2
    y = x - 1
    return y * y


@case(POS, NEG, POS * 10)
def three_returns(x):
    if x.sum() > 20:
        return x
    y = x + 1
    if y.sum() > 0:
        return y
    y = y * 2
    return y.abs()


@case(POS, NEG)
def return_tuples(x):
    if x.sum() > 0:
        return x, x + 1
    return x - 1, x * 2


@case(POS, NEG)
def return_other_structure(x):
    if x.sum() > 0:
        return {"x": x, "n": 1}
    return [x, x * 2]


@case(POS, NEG)
def return_tensor_or_tuple(x):
    if x.sum() > 0:
        return x
    return x, x.sum()


@case(POS, NEG)
def return_number_or_tensor(x):
    if x.sum() > 0:
        return 1
    return x


@case(POS, NEG)
def return_dict(x):
    out = {"a": x}
    if x.sum() > 0:
        out["b"] = x * 2
        return out
    out["b"] = x - 1
    return out


@case(POS, NEG)
def return_bool(x):
    return bool(x.sum() > 0)


@case(POS, NEG)
def return_nested_structure(x):
    y = x + 1 if x.sum() > 0 else x - 1
    return {"list": [y, (x, None)], "text": "abc", "number": 3, "flag": True}


def double_or_half(x):
    if x.sum() > 0:
        return x * 2
    return x / 2


def apply_twice(f, x):
    return f(f(x))


@case(POS, NEG)
def calls_user_function(x):
    return double_or_half(x) + 1


@case(POS, NEG)
def calls_in_condition(x):
    if double_or_half(x).sum() > 5:
        return double_or_half(-x)
    return x


@case(POS, NEG)
def function_argument(x):
    return apply_twice(double_or_half, x)


@case(POS, NEG)
def nested_function(x):
    def scale(v):
        if v.sum() > 0:
            return v * 3
        return v - 3

    return scale(x) + scale(-x)


@case(POS, NEG)
def nested_reads_outer(x):
    k = x.sum()

    def shift(v):
        if k > 0:
            return v + k
        return v - k

    return shift(x) * k


@case(POS, NEG)
def nested_nonlocal(x):
    count = 0

    def step(v):
        nonlocal count
        count += 1
        if v.sum() > 3:
            count += 10
            return v - 1
        return v + 1

    y = step(step(x))
    return y, count


@case((POS, t(3)), (NEG, t(0)))
def nonlocal_in_tensor_loop(x, n):
    total = torch.zeros(())

    def add(v):
        nonlocal total
        total = total + v.sum()

    for i in range(n):
        add(x * i)
    return total


@case(POS, NEG)
def closure_defined_in_branch(x):
    if x.sum() > 0:

        def f(v):
            return v * 2

    else:

        def f(v):
            return v - 2

    return f(x)


@case(POS, NEG)
def lambda_with_condition(x):
    f = lambda v: v * 2 if v.sum() > 0 else v - 1
    return f(x) + f(-x)


@case(POS, NEG)
def lambda_in_branch(x):
    if x.sum() > 0:
        f = lambda v: v + 1
    else:
        f = lambda v: v - 1
    return f(x)


@case(POS, NEG)
def immediate_lambda(x):
    return (lambda a, b=2: a * b if a.sum() > 0 else a)(x)


def python_factorial(n):
    return 1 if n <= 1 else n * python_factorial(n - 1)


@case(POS, NEG)
def recursion_on_python(x):
    if x.sum() > 0:
        return x * python_factorial(4)
    return x


def power(x, n):
    if n == 0:
        return torch.ones_like(x)
    half = power(x, n // 2)
    if n % 2 == 0:
        return half * half
    return half * half * x


@case((POS, 5), (POS, 8))
def recursion_power(x, n):
    return power(x, n)


def tree_sum(node):
    if isinstance(node, torch.Tensor):
        return node.sum()
    total = torch.zeros(())
    for child in node:
        total = total + tree_sum(child)
    return total


@case(([POS, [NEG, [POS, POS]]],), ([POS, [NEG, [NEG, POS]]],), captures=2)
def recursion_on_structure(tree):
    return tree_sum(tree)


def shrink(x):
    if x.sum() < 1:
        return x
    return shrink(x / 2)


@case(POS, NEG, POS * 100)
def recursion_on_tensor(x):
    return shrink(x)


@case(t(5), t(1), t(10), grad=False)
def recursion_fibonacci(n):
    def fib(a, b, left):
        if left == 0:
            return a
        return fib(b, a + b, left - 1)

    return fib(torch.tensor(0), torch.tensor(1), n)


def is_even(n):
    if n == 0:
        return torch.tensor(True)
    return is_odd(n - 1)


def is_odd(n):
    if n == 0:
        return torch.tensor(False)
    return is_even(n - 1)


@case(t(4), t(7), t(0), grad=False)
def mutual_recursion(n):
    return is_even(n)


@case((POS, POS, NEG), (NEG, POS))
def star_args(*xs):
    total = torch.zeros(3)
    for x in xs:
        if x.sum() > 0:
            total = total + x
        else:
            total = total - 2 * x
    return total


@case(kw(a=POS, b=NEG), kw(a=NEG, b=NEG))
def star_kwargs(**named):
    out = {}
    for name, x in named.items():
        out[name + "_"] = x * 2 if x.sum() > 0 else x
    return out


def all_kinds(a, /, b, *rest, c=1.0, **more):
    out = a * c + b
    for x in rest:
        out = out + x
    for k in sorted(more):
        out = out - more[k]
    return out


@case((POS, NEG), (NEG, NEG))
def all_argument_kinds(x, y):
    if x.sum() > 0:
        return all_kinds(x, y, x, y, c=2.0, z=x)
    return all_kinds(x, *[y, y], **{"c": 3.0, "w": y})


@case((POS, kw(scale=2.0)), (NEG, kw(scale=2.0)), (POS, kw(scale=3.0)))
def keyword_only(x, *, scale, bias=1.0):
    if x.sum() > 0:
        return x * scale + bias
    return x - scale


@case((POS,), (NEG,), (POS, POS), captures=2)
def default_none(x, y=None):
    if y is None:
        y = x * 2
    if x.sum() > 0:
        return x + y
    return x - y


@case(POS, NEG)
def default_from_tensor(x, y=torch.tensor([1.0, 1.0, 1.0])):
    if x.sum() > 0:
        return x + y
    return x


@case(POS, NEG, POS, factory=True)
def mutable_default():
    def f(x, seen=[]):
        seen.append(x.sum())
        if x.sum() > 0:
            return x * len(seen)
        return x

    return f


@case(POS, NEG, POS, factory=True)
def closure_counter():
    count = 0

    def f(x):
        nonlocal count
        count += 1
        if x.sum() > 0:
            return x * count
        return x

    return f


@case(POS, NEG, POS, factory=True)
def closure_tensor_state():
    state = torch.zeros(3)

    def f(x):
        nonlocal state
        if x.sum() > 0:
            state = state + x.detach()
        return x * state

    return f


@case(POS, NEG, POS, factory=True)
def closure_list():
    history = []

    def f(x):
        history.append(x.detach() * 2)
        if x.sum() > 0:
            return history[-1] + x
        return x

    return f


@case(POS, NEG)
def partial_function(x):
    f = partial(torch.clamp, min=-1.5)
    if x.sum() > 0:
        f = partial(f, max=1.5)
    return f(x)


def mixed(x, k, b):
    if x.sum() > 0:
        return x * k + b
    return x - b


@case(POS, NEG, POS, factory=True)
def partial_of_method():
    class Scaler:
        def __init__(self):
            self.calls, self.scale = 0, torch.tensor(2.0)

        def run(self, x, mode, gain=1.0):
            self.calls += 1
            y = x * self.scale if mode == "mul" else -x
            while y.norm() > 4:
                y = y * 0.5
                self.calls += 1
            return y * gain

    return partial(Scaler().run, mode="mul", gain=2.0)


@case(POS, NEG)
def partial_of_user_function(x):
    return partial(mixed, b=1.0)(x, 3)


@case(POS, NEG)
def reduce_user(x):
    return reduce(lambda a, b: a + b if b > 0 else a - b, list(x))


@case(t(1.0, -2.0, 3.0), t(5.0, -1.0, -1.0), t(1.0, 2.0, 3.0))
def reduce_of_filtered(x):
    kept = list(filter(lambda v: v > 0, x))
    total = reduce(lambda a, b: a * 2 + b, kept)
    return total, reduce(lambda a, b: a - b, map(lambda v: v * v, kept), x.sum())


@case(t(1.0, -2.0), t(-5.0, -1.0))
def reduce_of_nothing(x):
    return reduce(lambda a, b: a * b, [v for v in x if v > 0])


@case(POS, NEG)
def map_user(x):
    return torch.stack(list(map(double_or_half, [x, -x, x * 2])))


@case(POS, NEG)
def filter_user(x):
    kept = list(filter(lambda v: v > -2.5, x))
    return torch.stack(kept)


@case(t(3.0, 1.0, 2.0), t(1.0, 2.0, 3.0))
def sorted_builtin(x):
    return torch.stack(sorted(x))


@case(t(3.0, 1.0, 2.0), t(1.0, 2.0, -3.0))
def sorted_by_key(x):
    ordered = sorted([x, -x, x * 0], key=lambda v: v.sum())
    return ordered[0]


@case(t(3.0, 1.0, 2.0), t(1.0, 5.0, -3.0))
def max_by_key(x):
    return max([x[0], x[1], x[2]], key=lambda v: v * v)


@case(POS, NEG)
def sum_builtin(x):
    if sum(x) > 0:
        return sum([x, x * 2], torch.zeros(3))
    return sum(v * v for v in x)


@case(POS, NEG)
def abs_round_pow(x):
    y = abs(x) + pow(x, 2)
    return y if y.sum() > 0 else -y


@case(POS, NEG)
def operator_module(x):
    f = operator.add if x.sum() > 0 else operator.mul
    return f(x, x)


def gen_positive(x):
    for v in x:
        if v > 0:
            yield v * 2
        else:
            yield v


@case(POS, NEG)
def generator_function(x):
    return torch.stack(list(gen_positive(x)))


@case(POS, NEG)
def generator_in_for(x):
    total = torch.zeros(())
    for v in gen_positive(x):
        total = total + v
    return total


@case(POS, NEG)
def generator_expression(x):
    return torch.stack(tuple(v * 2 if v > 1 else v for v in x))


@case(POS, NEG)
def next_of_iterator(x):
    it = iter([x, x + 1])
    a = next(it)
    if a.sum() > 0:
        return a * next(it)
    return next(it) - a


def doubled(f):
    @functools.wraps(f)
    def wrapper(*args, **kwargs):
        return f(*args, **kwargs) * 2

    return wrapper


@doubled
def decorated_inner(x):
    if x.sum() > 0:
        return x + 1
    return x - 1


@case(POS, NEG)
def calls_decorated(x):
    return decorated_inner(x)


@case(POS, NEG, factory=True)
def decorated_itself():
    @doubled
    def f(x):
        if x.sum() > 0:
            return x + 1
        return x - 1

    return f


def repeat(n):
    def wrap(f):
        def run(x):
            for _ in range(n):
                x = f(x)
            return x

        return run

    return wrap


@case(POS, NEG, factory=True)
def decorator_with_arguments():
    @repeat(3)
    def f(x):
        return x * 1.5 if x.sum() > 0 else x + 1

    return f


@case(POS, NEG)
def docstring_and_annotations(x: torch.Tensor, k: float = 2.0) -> torch.Tensor:
    """Has a docstring."""
    y: torch.Tensor = x * k
    if y.sum() > 0:
        z: torch.Tensor = y + 1
        return z
    return y


@case(POS, NEG)
def function_attributes(x):
    def f(v):
        return v * f.scale

    f.scale = 2 if x.sum() > 0 else 5
    return f(x)


@case((POS, lambda v: v * 2), (NEG, lambda v: v * 2), captures=2)
def callable_argument(x, f):
    if x.sum() > 0:
        return f(x)
    return x


@case(POS, NEG)
def compose_functions(x):
    def compose(*fs):
        def run(v):
            for f in fs:
                v = f(v)
            return v

        return run

    return compose(torch.sin, double_or_half, torch.exp)(x)


@functools.lru_cache(maxsize=None)
def cached_table(n):
    return n * n


@case(POS, NEG)
def calls_cached(x):
    if x.sum() > 0:
        return x * cached_table(3)
    return x


@case(POS, NEG)
def nested_three_deep(x):
    def a(v):
        def b(w):
            def c(u):
                return u + x if u.sum() > 0 else u - x

            return c(w) * 2

        return b(v) + 1

    return a(x)


@case(POS, NEG)
def returned_closure_called(x):
    def make(k):
        return lambda v: v * k

    f = make(x.sum())
    if x.sum() > 0:
        f = make(3)
    return f(x)


@case((POS, t(4)), (NEG, t(0)))
def function_called_in_loop(x, n):
    def step(v, i):
        if i > 1:
            return v * 0.9
        return v + i

    i = 0
    while i < n:
        x = step(x, i)
        i += 1
    return x


@case(POS, NEG)
def default_argument_binds_early(x):
    fs = [lambda v, k=k: v * k if v.sum() > 0 else v - k for k in range(3)]
    return sum(f(x) for f in fs)


@case(POS, NEG)
def late_binding(x):
    fs = []
    for k in range(3):
        fs.append(lambda v: v * k)
    return fs[0](x) if x.sum() > 0 else x


@case(POS, NEG)
def generator_with_return_in_loop(x):
    def take():
        for i in range(10):
            if i == 3:
                return
            yield x * i

    out = torch.zeros(3)
    for v in take():
        if v.sum() > 4:
            out = out + v
        out = out + 1
    return out


@case(POS, NEG)
def local_generator(x):
    def take():
        for i in range(4):
            if x.sum() > i * 2:
                yield x * i

    total = torch.zeros(3)
    for v in take():
        total = total + v
    return total, len(list(take()))


@case((POS, t(3)), (NEG, t(0)))
def generator_over_tensor_range(x, n):
    def steps(k):
        for i in range(k):
            yield x + i

    return sum(steps(n), x)


@case(POS, NEG)
def generator_delegates(x):
    def inner(v):
        yield v
        if v.sum() > 0:
            yield v * 2

    def outer(v):
        yield from inner(v)
        yield v - 1

    return torch.stack([a for a in outer(x)])


@case(POS, NEG)
def generator_stays_lazy(x):
    log = []

    def numbers():
        k = 0
        while True:
            log.append(k)
            yield k
            k += 1

    g = numbers()
    a, b = next(g), next(g)
    return (x * (a + b) if x.sum() > 0 else x), log


@case(POS, NEG, POS)
def locals_of_a_function(x, k=2):
    a = 1
    if x.sum() > 0:
        b = x * k
        y = b
    else:
        y = x
    names = {name for name in locals() if name != "b"}
    return y, sorted(names), a + len(names), locals()["y"] is y


@case(POS, NEG, POS)
def next_of_a_new_iterator_in_a_branch(x):
    rows = [x * 2, x * 3]
    if x.sum() > 0:
        y = next(row for row in rows) + next(iter(rows)) + next(iter({"a": x}.values()))
    else:
        y = next(reversed(rows))
    return y
