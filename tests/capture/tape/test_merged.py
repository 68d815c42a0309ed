"""Containers that are one of several at run time: changed under one name, read under another."""

from __future__ import annotations

import pytest
import torch

from oarlock.capture.to_static import to_static
from oarlock.errors import UnsupportedError
from tests.capture.tape.test_identity import observed

UP, DOWN = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([-1.0, -2.0, -3.0])


class Box:
    def __init__(self, x):
        self.x = x


def one_list_by_two_names(x):
    if x.sum() > 0:
        a = [x]
        b = a
    else:
        a = [x * 2]
        b = a
    a.append(x * 5)
    return b, len(b), a is b


def chosen_list_grows(x):
    a, b = [x], [x * 2]
    c = a if x.sum() > 0 else b
    c.append(x * 5)
    return a, b


def chosen_dict_changes(x):
    a, b = {"v": x}, {"v": x * 2}
    c = a if x.sum() > 0 else b
    a["v"] = x * 7
    return c


def chosen_object_changes(x):
    a, b = Box(x), Box(x * 2)
    c = a if x.sum() > 0 else b
    c.x = c.x + 10
    return a.x, b.x


def chosen_list_is_returned_twice(x):
    a, b = [x], [x * 2]
    c = a if x.sum() > 0 else b
    return a, c


def chosen_list_is_compared(x):
    a, b = [x], [x * 2]
    c = a if x.sum() > 0 else b
    return x * 2 if c is a else x * 3


def item_at_a_run_time_index(x):
    rows = [[x], [x * 2], [x * 3]]
    rows[x.argmax()].append(x * 5)
    return rows


def item_is_replaced_on_one_way(x):
    row = [x]
    rows = [row]
    if x.sum() > 0:
        rows[0] = [x * 2]
    rows[0].append(x * 3)
    return rows, row


def attribute_is_replaced_on_one_way(x):
    box = Box([x])
    kept = box.x
    if x.sum() > 0:
        box.x = [x * 2]
    box.x.append(x)
    return box.x, kept


def item_changes_and_list_grows(x):
    rows = [{"w": x}, {"w": x * 2}]
    first = rows[1]
    if x.sum() > 0:
        first["w"] = x - 5
        rows.append({"w": x})
    return rows, first


def item_changes_before_list_grows(x):
    row = {"w": x}
    rows = [row]
    row["w"] = x * 7
    if x.sum() > 0:
        rows.append({"w": x})
    return rows, row


def nodes_of_a_list(x):
    head = node = {"v": x, "next": None}
    if x.sum() > 0:
        new = {"v": x * 2, "next": None}
        node["next"] = new
        node = new
    node["v"] = node["v"] + 1
    return head, node


def lists_swap_in_a_loop(x):
    a, b, n = [x], [x * 2], x.sum()
    while n > 0:
        a, b = b, a
        n = n - 1
    a[0] = a[0] * 100
    return a, b


def rows_are_made_in_a_loop(x):
    rows, n = [], x.sum()
    while n > 0:
        row = []
        row.append(n)
        named = {}
        named["n"] = n * 2
        rows.append((row, named))
        n = n - 1
    return rows


def rows_are_popped_and_pushed(x):
    rows, n = [[x]], x.sum()
    while n > 0:
        row = rows.pop()
        rows.append([row[0] + 1])
        rows.append([x])
        n = n - 1
    return rows


def a_row_changes_after_it_was_put(x):
    rows, n = [], x.sum()
    while n > 0:
        row = []
        rows.append(row)
        row.append(n)
        n = n - 1
    return rows


def an_item_of_the_run_changes(x):
    rows = [[x]]
    while x.sum() > 0:
        rows.append([x])
        x = x - 1
    rows[0].append(x)
    return rows


def one_row_many_times(x):
    row = [x]
    rows = [row]
    while x.sum() > 0:
        rows.append(row)
        x = x - 1
    row.append(x)
    return rows


def a_row_is_in_a_dict_and_in_a_list(x):
    row = [x]
    rows = [row]
    found = {int(x.sum()): row}
    row.append(x + 1)
    return rows, found


def chosen_in_a_loop_and_changed_by_its_name(x):
    a, b, n = {"k": x}, {"k": x * 2}, 0
    c = b
    while n < x.sum():
        c = c if n > 1 else a
        n = n + 1
    c["k"] = c["k"] * 5
    return c


RIGHT = [
    f
    for name, f in list(globals().items())
    if getattr(f, "__module__", "") == __name__ and callable(f) and not isinstance(f, type)
]


@pytest.mark.parametrize("fn", RIGHT, ids=lambda f: f.__name__)
def test_what_eager_does(fn):
    static = to_static(fn, backend="replay")
    for x in (UP, DOWN, UP):
        mine, theirs = x.clone(), x.clone()
        assert observed((static(mine), mine), {}) == observed((fn(theirs), theirs), {})


def one_list_by_two_names_in_a_loop(x):
    a = b = [x]
    n = x.sum()
    while n > 0:
        a = [a[0] + 1]
        b = a
        n = n - 1
    a.append(x)
    return b


def the_other_list_changes_in_a_loop(x):
    a, b, n = [x], [x * 2], x.sum()
    chosen = a
    while n > 0:
        chosen[0] = chosen[0] + 1
        chosen = b
        n = n - 1
    return a, b


def chosen_in_a_loop_and_changed_later(x):
    a, b, n = {"k": x}, {"k": x * 2}, 0
    c = b
    while n < x.sum():
        c = a if n > 1 else b
        n = n + 1
    a["k"] = x * 5
    return c["k"]


def chosen_in_a_loop_and_read_by_another_name(x):
    a, b, n = [x], [x * 2], 0
    c = b
    while n < x.sum():
        c = a if n > 1 else b
        n = n + 1
    c[0] = x * 5
    return a[0]


REFUSED = [
    one_list_by_two_names_in_a_loop,
    the_other_list_changes_in_a_loop,
    chosen_in_a_loop_and_changed_later,
    chosen_in_a_loop_and_read_by_another_name,
]


@pytest.mark.parametrize("fn", REFUSED, ids=lambda f: f.__name__)
def test_what_would_be_wrong_is_refused(fn):
    with pytest.raises(UnsupportedError, match=r"one of several, as data decide|do not settle"):
        to_static(fn, backend="replay")(UP)


class Held:
    def __init__(self, v, n):
        self.v, self.n, self.items = v, n, []


def test_one_of_two_objects_of_which_one_is_from_outside():
    """What the one from outside holds is read at each call, and changed as in Python."""

    def run(static):
        held = Held(torch.tensor(0.5), 1)
        table = {"v": torch.tensor(1.0), "n": 1}

        def f(x):
            made, pair = Held(x.tanh().sum(), 2), {"v": x.sum(), "n": 3}
            one = made if x.sum() > 0 else held
            two = pair if x.sum() > 0 else table
            one.items.append(x[0])
            return x * one.n + one.v, two["v"] + two["n"], len(made.items)

        g, found = static(f), []
        for change in (
            lambda: None,
            lambda: setattr(held, "n", 7),
            lambda: setattr(held, "v", torch.tensor(10.0)),
            lambda: table.update(n=7),
            lambda: table.update(v=torch.tensor(10.0)),
        ):
            change()
            for x in (torch.ones(2), -torch.ones(2)):
                y, z, n = g(x)
                found.append((y.tolist(), float(z), int(n), [v.item() for v in held.items]))
        return found

    assert run(to_static) == run(lambda f: f)
