"""Which objects of a call are one: a tape that was captured for others serves it only if that is equal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from oarlock.capture.to_static import to_static


def positive() -> torch.Tensor:
    return torch.tensor([1.0, 2.0, 3.0])


def negative() -> torch.Tensor:
    return torch.tensor([-1.0, -2.0, -3.0])


def twice(x: Any) -> tuple[Any, Any]:
    return x, x


def observed(x: Any, seen: dict[int, Any], name: str = "result") -> Any:
    """Values, and which objects are ones that were seen before."""
    if isinstance(x, (torch.Tensor, list, dict, Box)):
        first, _ = seen.setdefault(id(x), (name, x))
        if first != name:
            return first
    if isinstance(x, torch.Tensor):
        return x.tolist(), str(x.dtype), x.requires_grad
    if isinstance(x, Box):
        return observed(vars(x), {}, name)
    if isinstance(x, dict):
        return {k: observed(v, seen, f"{name}.{k}") for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return type(x).__name__, [observed(v, seen, f"{name}.{i}") for i, v in enumerate(x)]
    return x


class Box:
    def __init__(self, x: Any) -> None:
        self.x = x


class Owner(Box):
    def merge(self, other):
        other.x = other.x * 3
        return self.x + 1


CASES: dict[str, Callable[[], Any]] = {}


def case(*calls: Callable[..., tuple[Any, ...]]) -> Callable[[Any], Any]:
    def register(make: Callable[[], Any]) -> Any:
        CASES[make.__name__] = lambda: (make(), list(calls))
        return make

    return register


def outcomes(static: bool, name: str) -> list[Any]:
    (fn, *held), calls = CASES[name]()
    call = to_static(fn, backend="replay") if static else fn
    found = []
    for given in calls:
        args = given(*held)
        seen: dict[int, Any] = {}
        before = observed(held, seen, "held"), observed(args, seen, "args")
        found.append((before, observed(call(*args), seen), observed(args, {}), observed(held, {})))
    return found


@case(
    lambda: twice(positive()), lambda: (negative(), positive()), lambda: twice(positive())
)  # fmt: skip
def one_tensor_or_two():
    def f(x, y):
        if x is y:
            return x * 2
        return x if y.sum() > 0 else y

    return (f,)


@case(lambda: (positive(), negative()), lambda: twice(positive()))
def a_set_of_tensors():
    def f(x, y):
        return x * len({x, y}) if x.sum() > 0 else y

    return (f,)


@case(lambda: (positive(), negative()), lambda: twice(positive()))
def gradients_asked_for_one():
    def f(x, y):
        x.requires_grad_()
        if y.requires_grad:
            return (y * 2).sum()
        return y if x.sum() > 0 else x

    return (f,)


@case(
    lambda: (positive(), negative()), lambda: twice(positive()),
    lambda: (lambda x: (x, x[1:]))(positive()), lambda: (lambda x: (x, x[:]))(positive()),
)  # fmt: skip
def views_of_one_memory():
    def f(x, y):
        x.add_(1)
        return y * 2 if y.sum() > 0 else y

    return (f,)


@case(lambda: ([positive(), negative()],), lambda: (list(twice(positive())),))
def a_list_with_one_tensor_twice():
    def f(items):
        if items[0] is items[1]:
            return items[0]
        return items[0] * 2 if items[1].sum() > 0 else items[1]

    return (f,)


def grows(a, b):
    a.append(a[0] * 2)
    return b[-1] * len(b)


@case(lambda: ([positive()], [positive()]), lambda: twice([positive()]))
def two_lists_then_one():
    return (grows,)


@case(lambda: twice([positive()]), lambda: ([positive()], [positive()]))
def one_list_then_two():
    return (grows,)


@case(lambda: ([[positive()], [negative()]],), lambda: (list(twice([positive()])),))
def a_list_with_one_list_twice():
    return (lambda lists: grows(*lists),)


@case(lambda: ({"x": positive()}, {"x": negative()}), lambda: twice({"x": positive()}))
def two_dicts_then_one():
    def f(a, b):
        a["x"] = a["x"] * 2
        return b["x"] + 1

    return (f,)


@case(lambda: (Box(positive()), Box(negative())), lambda: twice(Box(positive())))
def two_objects_then_one():
    def f(a, b):
        a.x = a.x * 2
        return b.x + 1

    return (f,)


@case(lambda w: (positive(),), lambda w: (w,), lambda w: (positive(),))
def an_argument_that_is_a_variable():
    w = positive() + 3

    def f(x):
        if x is w:
            return x * 2
        return x + w if x.sum() > 0 else x

    return f, w


@case(lambda a: ([positive()],), lambda a: (a,), lambda a: ([positive()],), lambda a: (a,))
def an_argument_that_is_the_list_of_a_closure():
    items = [positive()]

    def f(a):
        a.append(a[0] * 2)
        return items[-1] * len(items)

    return f, items


@case(lambda d: ({"x": negative()},), lambda d: (d,), lambda d: ({"x": negative()},))
def an_argument_that_is_the_dict_of_a_closure():
    table = {"x": positive()}

    def f(a):
        a["x"] = a["x"] * 2
        return table["x"] + 1

    return f, table


@case(lambda o: (Owner(negative()),), lambda o: (o,), lambda o: (Owner(negative()),))
def an_argument_that_is_the_owner():
    owner = Owner(positive())
    return owner.merge, owner


@case(lambda: (positive(),), lambda: (negative(),))
def what_a_branch_leaves_is_an_argument():
    def f(x):
        y = x if x.sum() > 0 else x * 1
        return (x * 2, 1) if y is x else (y * 3, 2)

    return (f,)


@pytest.mark.parametrize("name", sorted(CASES))
def test_what_is_one_object_is_so_in_the_tape(name: str):
    assert outcomes(True, name) == outcomes(False, name)


def test_tied_parameters_are_another_specialisation():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            return self.b(x) if self.a.weight is self.b.weight else self.a(x)

    torch.manual_seed(0)
    module = Tied()
    static = to_static(module.forward, backend="replay")
    x = positive()
    assert torch.equal(static(x), module.a(x))
    module.b.weight = module.a.weight
    assert torch.equal(static(x), module.b(x))
