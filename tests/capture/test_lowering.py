"""Tapes to programs: blocks written by hand, so that every form of a tape is met."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from oarlock.capture.tape.lower import lower
from oarlock.capture.tape.nodes import Assert, Block, Call, If, Raise, Val, Where, While
from oarlock.capture.tape.sources import argument
from oarlock.errors import ModelError, UnsupportedError
from oarlock.evaluate import evaluate
from oarlock.ir import parser

HERE = Where("tape.py", 1)


class Tape:
    """Builds a tape: ``t(func, *args)`` records a call and gives its value."""

    def __init__(self, *args: Any) -> None:
        self.args = args
        self.block = self.root = Block()
        self.params = [Val(self.root, x) for x in args]

    def __call__(self, func: Callable[..., Any], *args: Any, many: int = 0, **kwargs: Any) -> Any:
        outs: Any = [Val(self.block, None) for _ in range(many)] if many else Val(self.block, None)
        self.block.nodes.append(Call(func, args, kwargs, outs, HERE))
        return outs

    def inside(self, make: Callable[..., Any], *args: Any) -> Block:
        outer, self.block = self.block, Block(self.block)
        found = make(*args)
        self.block.results = list(found) if isinstance(found, tuple) else [found]
        block, self.block = self.block, outer
        return block

    def if_(self, test: Any, then: Callable[[], Any], orelse: Callable[[], Any]) -> Any:
        blocks = [self.inside(then), self.inside(orelse)]
        outs = [Val(self.block, None) for _ in blocks[0].results]
        self.block.nodes.append(If(test, *blocks, outs, [], HERE))
        return outs[0] if len(outs) == 1 else outs

    def while_(
        self, init: Sequence[Any], cond: Callable[..., Any], body: Callable[..., Any]
    ) -> Any:
        params = [Val(self.block, None) for _ in init]
        blocks = [self.inside(make, *params) for make in (cond, body)]
        self.block.nodes.append(While(params, list(init), *blocks, [], HERE))
        return params[0] if len(params) == 1 else params

    def program(self, *results: Any):
        inputs = [(v, argument(f"args[{i}]")) for i, v in enumerate(self.params)]
        self.root.results = [list(results)]
        done = SimpleNamespace(inputs=inputs, dims={}, root=self.root, result=list(results))
        program = lower(done, self.args, {}, [f"x{i}" for i in range(len(self.args))])
        assert parser.parse(str(program)) == program
        return program


def run(program, *args):
    return evaluate(program, *[x.numpy() for x in args])


X = torch.tensor([1.0, -2.0, 3.0])


def test_branches_give_a_tensor_and_a_number():
    t = Tape(X)
    (x,) = t.params
    test = t(operator.gt, t(torch.Tensor.sum, x), 0)
    y, n = t.if_(test, lambda: (t(operator.mul, x, 2), 3), lambda: (t(operator.neg, x), 4))
    program = t.program(y, n)
    for sign in (1, -1):
        y, n = run(program, X * sign)
        np.testing.assert_array_equal(y, X.numpy() * sign * (2 if sign > 0 else -1))
        assert n == (3 if sign > 0 else 4)


def test_branches_of_two_sizes_and_what_follows():
    t = Tape(X)
    (x,) = t.params
    test = t(operator.gt, t(torch.Tensor.sum, x), 0)
    y = t.if_(test, lambda: t(torch.cat, [x, x]), lambda: t(operator.getitem, x, slice(0, 2)))
    z = t(torch.cat, [t(operator.mul, y, 2), x])
    program = t.program(z, t(torch.Tensor.size, z, 0))
    for sign, size in ((1, 9), (-1, 5)):
        z, n = run(program, X * sign)
        assert z.shape == (size,) and n == size


def test_a_branch_that_updates_a_tensor_from_outside():
    t = Tape(X)
    (x,) = t.params
    y = t(torch.Tensor.clone, x)
    row = t(operator.getitem, y, 0)
    t.if_(
        t(operator.gt, t(torch.Tensor.sum, x), 0),
        lambda: (t(torch.Tensor.add_, row, 5), ())[1],
        lambda: (t(torch.Tensor.mul_, y, 2), ())[1],
    )
    program = t.program(y, row)
    for sign in (1, -1):
        expected = (X * sign).clone()
        if sign > 0:
            expected[0] += 5
        else:
            expected *= 2
        got, first = run(program, X * sign)
        np.testing.assert_array_equal(got, expected.numpy())
        assert first == expected[0]


def test_a_loop_that_writes_rows_of_a_tensor_from_outside():
    t = Tape(torch.zeros(4), torch.tensor(2))
    x, n = t.params
    y = t(torch.Tensor.clone, x)
    count = t(torch.Tensor.item, n)
    view = t(operator.getitem, y, slice(1, None))

    def body(i):
        t(operator.setitem, y, i, t(operator.add, t(torch.Tensor.sum, view), t(operator.add, i, 1)))
        return t(operator.add, i, 1)

    t.while_([0], lambda i: t(operator.lt, i, count), body)
    program = t.program(y, view)
    for trips in (0, 2, 4):
        expected = torch.ones(4)
        for i in range(trips):
            expected[i] = expected[1:].sum() + i + 1
        got, shown = run(program, torch.ones(4), torch.tensor(trips))
        np.testing.assert_array_equal(got, expected.numpy())
        np.testing.assert_array_equal(shown, expected[1:].numpy())


def test_a_loop_that_updates_what_it_carries_in_place():
    t = Tape(X, torch.tensor(2))
    x, n = t.params
    count = t(torch.Tensor.item, n)
    y = t(torch.Tensor.clone, x)

    def body(i, h):
        t(torch.Tensor.add_, h, 1)
        return t(operator.add, i, 1), h

    _, h = t.while_([0, y], lambda i, h: t(operator.lt, i, count), body)
    program = t.program(y, h)
    for trips in (0, 3):
        for got in run(program, X, torch.tensor(trips)):
            np.testing.assert_array_equal(got, X.numpy() + trips)


def test_sizes_that_grow_together_stay_equal():
    t = Tape(torch.ones(1, 2), torch.tensor(2))
    x, n = t.params
    count = t(torch.Tensor.item, n)

    def body(i, a, b):
        joined = t(operator.add, a, b)
        row = t(operator.getitem, joined, slice(-1, None))
        a, b = t(torch.cat, [a, row]), t(torch.cat, [b, row])
        return t(operator.add, i, 1), a, b

    _, a, b = t.while_([0, x, x], lambda i, a, b: t(operator.lt, i, count), body)
    program = t.program(t(operator.mul, a, b))
    for trips in (0, 1, 4):
        a = b = torch.ones(1, 2)
        for _ in range(trips):
            row = (a + b)[-1:]
            a, b = torch.cat([a, row]), torch.cat([b, row])
        (got,) = run(program, torch.ones(1, 2), torch.tensor(trips))
        np.testing.assert_array_equal(got, (a * b).numpy())


def list_of(*items: Any) -> list[Any]:
    return list(items)


def test_a_list_that_grows():
    t = Tape(X, torch.tensor(2))
    x, n = t.params
    count = t(torch.Tensor.item, n)
    items = t(list_of)

    def body(i, h):
        h = t(operator.mul, h, 2)
        t(list.append, items, h)
        return t(operator.add, i, 1), h

    t.while_([0, x], lambda i, h: t(operator.lt, i, count), body)
    size = t(len, items)
    some = t.if_(
        t(operator.gt, size, 0), lambda: t(operator.getitem, items, -1), lambda: t(operator.neg, x)
    )
    program = t.program(items, size, some)
    for trips in (0, 3):
        rows, n, last = run(program, X, torch.tensor(trips))
        assert n == trips == len(rows)
        for i, row in enumerate(rows):
            np.testing.assert_array_equal(row, X.numpy() * 2 ** (i + 1))
        np.testing.assert_array_equal(last, X.numpy() * (2**trips if trips else -1))


@pytest.mark.parametrize("change", ["pop", "insert", "reverse", "put", "extend", "slice"])
def test_changes_of_a_list(change):
    values = [torch.tensor(float(i)) for i in range(4)]
    t = Tape(torch.arange(4.0), torch.tensor(1))
    x, n = t.params
    index = t(torch.Tensor.item, n)
    rows = t(torch.Tensor.unbind, x, many=4)
    items = t(list_of, *rows)
    calls = {
        "pop": lambda: t(list.pop, items, index),
        "insert": lambda: t(list.insert, items, index, rows[3]),
        "reverse": lambda: t(list.reverse, items),
        "put": lambda: t(operator.setitem, items, index, rows[3]),
        "extend": lambda: t(list.extend, items, [rows[0]]),
        "slice": lambda: t(operator.getitem, items, slice(index, None)),
    }
    found = calls[change]()
    program = t.program(found if change == "slice" else items)
    for at in (1, -1):
        expected = list(values)
        if change == "pop":
            expected.pop(at)
        elif change == "insert":
            expected.insert(at, values[3])
        elif change == "reverse":
            expected.reverse()
        elif change == "put":
            expected[at] = values[3]
        elif change == "extend":
            expected.extend([values[0]])
        else:
            expected = expected[at:]
        (got,) = run(program, torch.arange(4.0), torch.tensor(at))
        assert [float(v) for v in got] == [float(v) for v in expected]


def test_a_branch_that_raises_is_an_assertion():
    t = Tape(X)
    (x,) = t.params
    test = t(operator.gt, t(torch.Tensor.sum, x), 0)
    then = Block(t.root, [Raise(ValueError, ("positive",), HERE)], [], raises=True)
    other = t.inside(lambda: t(operator.neg, x))
    y = Val(t.root, None)
    t.root.nodes.append(If(test, then, other, [y], [], HERE))
    program = t.program(y)
    (got,) = run(program, -X)
    np.testing.assert_array_equal(got, X.numpy())
    with pytest.raises(ModelError, match="ValueError: positive"):
        run(program, X)


def test_an_assertion_keeps_its_message():
    t = Tape(X)
    (x,) = t.params
    message = Block(t.root, [], ["not positive"])
    t.root.nodes.append(Assert(t(operator.gt, t(torch.Tensor.sum, x), 0), message, HERE))
    program = t.program(x)
    run(program, X)
    with pytest.raises(ModelError, match="AssertionError: not positive"):
        run(program, -X)


def test_none_or_a_tensor():
    t = Tape(X)
    (x,) = t.params
    test = t(operator.gt, t(torch.Tensor.sum, x), 0)
    y = t.if_(test, lambda: t(operator.mul, x, 2), lambda: None)
    is_none = t(operator.is_, y, None)
    z = t.if_(is_none, lambda: t(operator.neg, x), lambda: t(operator.add, y, 1))
    program = t.program(z)
    for sign in (1, -1):
        (got,) = run(program, X * sign)
        np.testing.assert_array_equal(got, X.numpy() * 2 + 1 if sign > 0 else X.numpy())


DATA = {
    "nonzero": lambda t, x: t(torch.nonzero, t(operator.gt, x, 0)),
    "mask": lambda t, x: t(operator.getitem, x, t(operator.gt, x, 0)),
    "masked_select": lambda t, x: t(torch.masked_select, x, t(operator.gt, x, 0)),
    "where": lambda t, x: t(torch.where, t(operator.gt, x, 0), many=1)[0],
    "unique": lambda t, x: t(torch.unique, x),
    "bincount": lambda t, x: t(torch.bincount, t(torch.Tensor.long, t(torch.Tensor.abs, x))),
    "repeat": lambda t, x: t(
        torch.repeat_interleave, x, t(torch.Tensor.long, t(torch.Tensor.abs, x))
    ),
    "arange": lambda t, x: t(torch.arange, t(int, t(torch.Tensor.item, t(torch.Tensor.abs, t(torch.Tensor.sum, x))))),
    "zeros": lambda t, x: t(torch.zeros, t(operator.add, t(int, t(torch.Tensor.item, t(torch.Tensor.max, x))), 7)),
    "slice": lambda t, x: t(operator.getitem, x, slice(None, t(int, t(torch.Tensor.item, t(torch.Tensor.max, x))))),
}  # fmt: skip
EAGER = {
    "nonzero": lambda x: torch.nonzero(x > 0), "mask": lambda x: x[x > 0],
    "masked_select": lambda x: torch.masked_select(x, x > 0),
    "where": lambda x: torch.where(x > 0)[0], "unique": torch.unique,
    "bincount": lambda x: torch.bincount(x.abs().long()),
    "repeat": lambda x: torch.repeat_interleave(x, x.abs().long()),
    "arange": lambda x: torch.arange(int(x.sum().abs().item())),
    "zeros": lambda x: torch.zeros(int(x.max().item()) + 7),
    "slice": lambda x: x[: int(x.max().item())],
}  # fmt: skip


@pytest.mark.parametrize("name", DATA)
def test_sizes_that_data_decide(name):
    t = Tape(X)
    program = t.program(DATA[name](t, t.params[0]))
    for x in (X, -X, torch.tensor([2.0, 2.0, 0.0]), torch.tensor([-3.0, -1.0, -2.0])):
        (got,) = run(program, x)
        np.testing.assert_array_equal(got, EAGER[name](x).numpy())


def test_what_has_no_form_is_refused_with_its_line():
    t = Tape(X)
    (x,) = t.params
    test = t(operator.gt, t(torch.Tensor.sum, x), 0)
    y = t.if_(test, lambda: t(operator.mul, x, 2), lambda: x)
    t(torch.Tensor.add_, y, 1)
    with pytest.raises(UnsupportedError) as error:
        t.program(y)
    assert "tape.py:1" in str(error.value) and "may hand on, or not" in str(error.value)
