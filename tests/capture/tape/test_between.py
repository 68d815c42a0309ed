"""Calls between which arguments, parameters, modules, optimizers or modes change: static is eager."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import oarlock
from oarlock.errors import OarlockError
from tests.capture.tape.between import CASES

BACKENDS = ["replay", "compiled"]
REFUSED = {
    "hook_that_drops_the_gradient": "a hook decides whether there is the gradient that the step reads",
    "subclass": "a class of tensors of the user's",
}
QUICK = (
    "gradient_is_kept_by_somebody",
    "strides",
    "needs_gradient",
    "default_dtype",
)  # compiled in `make test`
TERMS = 64  # no sum of a case has more


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def outcomes(name: str, static: Any) -> tuple[list[Any], Exception | None]:
    """What the case yields, and the error that ends it."""
    torch.manual_seed(0)
    found: list[Any] = []
    try:
        for value in CASES[name](static):
            found.append(frozen(value))
    except Exception as error:
        return found, error
    return found, None


def frozen(x: Any) -> Any:
    if isinstance(x, torch.Tensor):
        return x.detach().clone()
    if isinstance(x, (list, tuple)):
        return [frozen(v) for v in x]
    return x


def differs(a: Any, b: Any, is_exact: bool) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        if (a.dtype, a.shape, a.layout) != (b.dtype, b.shape, b.layout):
            return True
        if is_exact or not (a.is_floating_point() or a.is_complex()):
            return not torch.equal(a.resolve_neg().nan_to_num(), b.resolve_neg().nan_to_num())
        largest = float(a.abs().max().nan_to_num(0)) if a.numel() else 0.0
        bound = TERMS * torch.finfo(a.dtype).eps * max(1.0, largest)
        return not torch.allclose(a, b, rtol=0, atol=bound, equal_nan=True)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) != len(b) or any(differs(x, y, is_exact) for x, y in zip(a, b))
    return type(a) is not type(b) or a != b


def compared(name: str, backend: str) -> str:
    """Nothing, the refusal, or what is different."""
    want, failed = outcomes(name, lambda f: f)
    got, error = outcomes(name, functools.partial(oarlock.to_static, backend=backend))
    for i, (a, b) in enumerate(zip(want, got)):
        if differs(a, b, backend == "replay"):
            return f"yield {i}: {a} and {b}"
    if isinstance(error, OarlockError):
        return f"refused: {error}"
    return "" if len(want) == len(got) and type(failed) is type(error) else f"{failed!r}, {error!r}"


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        pytest.param(n, b, marks=[pytest.mark.slow] if b == "compiled" and n not in QUICK else [])
        for n in CASES
        for b in BACKENDS
    ],
)
def test_changes_between_calls(name: str, backend: str):
    found = compared(name, backend)
    if backend == "compiled" and "cannot be compiled" in found:
        return
    assert found.startswith("refused") if name in REFUSED else not found


@pytest.mark.parametrize(
    "transform", [torch.func.grad, torch.func.vmap, torch.func.jacfwd, torch.func.jacrev]
)
def test_a_function_that_is_called_first_under_a_transform(transform: Any):
    def f(x):
        return (x * x).sin().sum()

    static, x = oarlock.to_static(f), torch.arange(3.0)
    assert torch.equal(transform(static)(x), transform(f)(x)) and static.captures == 1
    assert torch.equal(static(x), f(x))


def test_a_grad_scaler_that_scales_is_captured_once():
    def run(static: Any) -> tuple[list[torch.Tensor], Any]:
        torch.manual_seed(0)
        net = torch.nn.Linear(3, 1)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=3)

        def step(x):
            optimizer.zero_grad()
            loss = net(x).pow(2).mean()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            return loss.detach()

        made = static(step)
        losses = [made(torch.randn(4, 3)) for _ in range(10)]
        return [*losses, *net.parameters(), torch.tensor(scaler.get_scale())], made

    want, _ = run(lambda f: f)
    got, made = run(functools.partial(oarlock.to_static, backend="replay"))
    assert all(map(torch.equal, want, got)) and made.captures <= 2


def test_containers_that_each_call_replaces():
    class Holder:
        a: Any = {"n": 1.0}
        b: Any = {"n": 2.0}

    def run(static: Any) -> list[Any]:
        held = Holder()

        def f(x):
            held.a = dict(held.a)
            held.a["n"] = held.a["n"] + 1
            y = x * held.a["n"] + held.b["n"]
            held.a = held.b = {"n": 5.0}
            return y

        made = static(f)
        return [made(torch.ones(2)).tolist() for _ in range(5)]

    assert run(functools.partial(oarlock.to_static, backend="replay")) == run(lambda f: f)
