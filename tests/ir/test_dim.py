"""Sizes: canonical form, ranges, and agreement with integer arithmetic."""

from __future__ import annotations

import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oarlock.errors import UserError
from oarlock.ir import Dim, dim_max, dim_min
from oarlock.ir.dim import bounds, evaluate_size, in_multiples
from oarlock.ir.parser import parse_size

N, S, T = Dim("N", 1, 64), Dim("S"), Dim("T")
DIMS = {"N": N, "S": S}


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (N + 1 - N, "1"),
        ((4 * N + 3) // 4, "N"),
        ((N * S + N) // N, "S+1"),
        ((4 * N) % 4, "0"),
        ((N // 2) // 3, "(N//6)"),
        (dim_min(N, 100), "N"),
        (dim_max(N, 1), "N"),
        ((N + 1) * (N - 1), "N*N-1"),
        ((N * S * 6) // (3 * S), "2*N"),
        ((N * N + 2 * N + 1) // (N + 1), "N+1"),
        (N % 4, "(N % 4)"),
        (-N + 5, "-N+5"),
    ],
)
def test_canonical_form(size, expected):
    assert str(size) == expected


def test_equal_polynomials_are_equal_and_names_decide():
    assert (N + S) * 2 == 2 * S + 2 * N
    assert N != S
    assert Dim("N", 3, 5) == N


def test_bounds():
    assert ((N - 3) // 2).bounds() == (-1, 30)
    assert (N % 4).bounds() == (0, 3)
    assert (N * S).bounds() == (1, None)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Dim("2x"), "Dim('2x'): expected an identifier such as 'N'"),
        (lambda: Dim("N", 5, 2), "Dim('N', min=5, max=2): expected 0 <= min <= max"),
        (lambda: N // 0, "size N divided by zero"),
        (lambda: N.evaluate({}), "size N: no value for N; got {}"),
    ],
)
def test_messages(make, message):
    with pytest.raises(UserError) as error:
        make()
    assert str(error.value) == message


OPERATORS = [operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod]


@st.composite
def sizes(draw, depth=3):
    """A size and a function of the environment that computes it in plain integers."""
    kind = draw(st.integers(0, 7 if depth else 1))
    if kind == 0:
        n = draw(st.integers(0, 9))
        return n, lambda env: n
    if kind in (1, 2):
        name = draw(st.sampled_from(["N", "S"]))
        return DIMS[name], lambda env: env[name]
    (a, f), (b, g) = draw(sizes(depth - 1)), draw(sizes(depth - 1))
    if kind == 3:
        return dim_min(a, b), lambda env: min(f(env), g(env))
    if kind == 4:
        return dim_max(a, b), lambda env: max(f(env), g(env))
    apply = draw(st.sampled_from(OPERATORS))
    if apply in (operator.floordiv, operator.mod):
        b, g = dim_max(b, 1), (lambda h: lambda env: max(h(env), 1))(g)
    return apply(a, b), lambda env: apply(f(env), g(env))


@given(sizes(), st.integers(1, 64), st.integers(1, 200))
def test_sizes_agree_with_integers(pair, n, s):
    size, compute = pair
    env = {"N": n, "S": s}
    expected = compute(env)
    assert evaluate_size(size, env) == expected
    low, high = bounds(size)
    assert low <= expected and (high is None or expected <= high)


@given(sizes())
def test_print_then_parse(pair):
    assert parse_size(str(pair[0]), DIMS) == pair[0]


def test_nested_divisions_become_one():
    h = Dim("H")
    halved = (h + 1) // 2
    assert (halved + 1) // 2 == (h + 3) // 4
    assert ((h // 8) - 1) // 2 == (h - 8) // 16
    for value in range(1, 40):
        got = evaluate_size(((h + 5) // 3 - 2) // 4, {"H": value})
        assert got == ((value + 5) // 3 - 2) // 4


@pytest.mark.parametrize(
    ("size", "written"),
    [
        (T - T % 4, "4*(T//4)"),
        (T + -T % 4, "4*((T+3)//4)"),
        (T - T % 4 + 4, "4*(T//4)+4"),
        (T % 4, "(T % 4)"),
        ((T + -T % 4) // 4, "((T+3)//4)"),
        ((T - T % 4 + 4) // ((T - T % 4) // 4 + 1), "4"),
    ],
)
def test_padded_and_cut_sizes_are_multiples(size, written):
    assert str(in_multiples(size)) == written
    for n in range(1, 20):
        assert evaluate_size(in_multiples(size), {"T": n}) == evaluate_size(size, {"T": n})
