"""Numbers that are of one of several types, as data decide: ``type`` gives the one of the call."""

from __future__ import annotations

import pytest
import torch

from oarlock.capture.to_static import to_static

NUMBERS = [False, 2, True, 0.5]


def in_a_loop(x, n):
    for _ in range(int(x.sum() > 100)):
        n = round(n + 1)
    return n, type(n) is int, isinstance(n, bool), type(n) == bool, type(n).__name__  # noqa: E721


def in_a_branch(x, n):
    if x.sum() > 0:
        n = 3
    return n, type(n) is int, type(n) in (int, float), type(n)(2)


def of_data(x, n):
    m = x.sum().item() if x.sum() > 0 else 1
    return m, type(m) is int, type(m) is not float, n


def or_nothing(x, n):
    m = None
    if x.sum() > 0:
        m = n + 0.5
    return m, type(m) is float, type(m) is type(None)


def or_a_tensor(x, n):
    m = x if x.sum() > 0 else n
    return m, type(m) is torch.Tensor, type(m) is int


def decides(x, n):
    if x.sum() > 0:
        n = 0.25
    trips = 0
    while trips < 3 and type(n) is int:
        trips += 1
        n = n + 1 if x[0] < -1 else float(n)
    return n, trips


def computed(x, n):
    m = n if x.sum() > 0 else 2.5
    k = m * 2 if x[0] > -2 else m + 0
    return type(k) is int, float(m), f"{float(m)} {float(k)}", type(m > 0), type(m // 1)


def largest(x, n):
    m, k = max(n, x[0].item()), min(round(x[0].item()), 0.5)
    return type(m), type(k), float(m), int(k), f"{m} {float(k)}"


def powers(x, n):
    m = 2 ** round(x[0].item())
    return type(m), float(m), f"{m}", n


def or_an_item(x, n):
    m = x.sum() if x.sum() > 0 else n
    return float(m), type(float(m)), int(m), f"{float(m)}"


def plain(found):
    return [(type(v), v.tolist() if isinstance(v, torch.Tensor) else v) for v in found]


@pytest.mark.parametrize(
    "fn",
    [
        in_a_loop,
        in_a_branch,
        of_data,
        or_nothing,
        or_a_tensor,
        decides,
        computed,
        largest,
        powers,
        or_an_item,
    ],
    ids=lambda f: f.__name__,
)
def test_type_is_eagers(fn):
    static = to_static(fn, backend="replay")
    for n in NUMBERS:
        for scale in (1.0, -1.0, 200.0, -2.0):
            x = torch.ones(2) * scale
            assert plain(static(x, n)) == plain(fn(x, n))


def of_tensor(x):
    m = 1 if x.sum() > 0 else 2.5
    t = torch.tensor(m)
    return x * 2 if t.dtype is torch.int64 else x * 3


def of_product(x):
    m = True if x.sum() > 0 else 2.5
    t = torch.arange(3) * m
    return t.dtype, x * 2 if t.is_floating_point() else x * 3


@pytest.mark.parametrize("function", [of_tensor, of_product], ids=lambda f: f.__name__)
@pytest.mark.parametrize("first", [1.0, -1.0])
def test_dtypes_of_tensors_made_of_them(function, first):
    static = to_static(function, backend="replay")
    for value in (first, -first, first):
        x = torch.tensor([value, value])
        want, got = function(x), static(x)
        assert str(got) == str(want)
    assert len(static.tapes) == 1


OPERATIONS = {
    "reflected": lambda n: (1 / n, 7 - n, 7 // n, 7 % n, 2**n, (-2.0) ** n),
    "direct": lambda n: (n / 2, n - 2, n // 2, n % 2, n**2, n == 3),
    "signs": lambda n: (-n, +n, abs(n), abs(-n)),
    "bits": lambda n: (6 & n, n & 6, 6 | n, 6 ^ n, 1 << n, 9 >> n) if n == n // 1 else n,
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operators_of_a_number_or_a_tensor(name):
    def chosen(x):
        n = 3
        if x.sum() > 0:
            n = x.max()
        return OPERATIONS[name](n)

    static = to_static(chosen, backend="replay")
    for value in (2, -2, 4):
        x = torch.tensor([value, value])
        assert plain(static(x)) == plain(chosen(x))
    assert len(static.tapes) == 1


@pytest.mark.parametrize("exponents", [(2, 3), (3, 2)])
def test_powers_of_negative_floats(exponents):
    static = to_static(lambda x: (-2.0) ** int(x), backend="replay")
    for n in exponents:
        assert static(torch.tensor(n)) == (-2.0) ** n


def test_a_number_that_is_no_divisor():
    def inverse(x):
        n = 0
        while x.sum() < 20:
            n, x = n + x.max(), x * 2
        return 1 / n

    static = to_static(inverse, backend="replay")
    assert static(torch.ones(2)) == inverse(torch.ones(2))
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        static(torch.ones(2) * 50)


DERIVED = {
    "sum": lambda n, x: isinstance(n + 1, torch.Tensor),
    "negated": lambda n, x: isinstance(-n, int),
    "reflected": lambda n, x: type(2 * n) is int,
    "compared": lambda n, x: isinstance(n > 1, torch.Tensor),
    "twice": lambda n, x: torch.as_tensor((n + 1) * 2).dtype == torch.int64,
    "with a tensor": lambda n, x: (n * torch.tensor(3)).dtype == torch.int64,
    "dtype of what follows": lambda n, x: (torch.arange(3) * (n * 2)).dtype == torch.int64,
}


@pytest.mark.parametrize("name", DERIVED)
def test_types_of_what_is_computed_of_a_number_or_a_tensor(name):
    def fn(x):
        n = 2
        if x.sum() > 0:
            n = x.max()
        return x * 2 if DERIVED[name](n, x) is True else x * 3

    static = to_static(fn, backend="replay")
    for value in (2.0, -2.0, 3.0):
        x = torch.tensor([value, value])
        assert str(static(x)) == str(fn(x))
    assert len(static.tapes) == 1


def test_a_number_or_a_tensor_is_updated_twice():
    def fn(x):
        n = 3
        if x.sum() > 0:
            n = x.max()
        n += 1
        n *= 2
        return n, isinstance(n, int)

    static = to_static(fn, backend="replay")
    for value in (2.0, -2.0, 3.0):
        x = torch.tensor([value, value])
        assert plain(static(x)) == plain(fn(x))
