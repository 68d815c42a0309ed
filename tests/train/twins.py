"""A step in eager mode beside the same step as a static function: everything that they change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

import oarlock

EPS = {torch.float32: 2.0**-23, torch.float64: 2.0**-52}


class Step:
    """``model`` and ``optimizer`` with ``step``; ``left``: what else the step changes."""

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer

    def step(self, *batch: Any) -> Any:
        raise NotImplementedError

    def left(self) -> list[Any]:
        return []

    def between(self, i: int) -> None:
        """What the code does after call ``i``, in eager mode."""


def state_of(one: Step) -> Iterator[tuple[str, Any]]:
    """Names and values of all that a step changes."""
    yield from one.model.state_dict().items()
    for name, p in one.model.named_parameters():
        yield f"{name}.grad", p.grad
        yield f"{name}.requires_grad", p.requires_grad
    found = one.optimizer.state_dict()
    for i, row in found["state"].items():
        yield from ((f"optimizer {i} {name}", x) for name, x in row.items())
    for group in found["param_groups"]:
        yield from ((f"group {name}", x) for name, x in group.items())
    yield from ((f"left {i}", x) for i, x in enumerate(one.left()))
    yield "generator", torch.get_rng_state()


def outcome(call: Callable[..., Any], one: Step, seed: int, batch: tuple) -> list[tuple[str, Any]]:
    """What a call gives or raises, and the state after it."""
    torch.manual_seed(seed)
    try:
        found = call(*batch)
    except (ValueError, ArithmeticError, RuntimeError, IndexError, AssertionError) as error:
        found = f"{type(error).__name__}: {error}".partition("\n")[0]
    return [("result", found), *state_of(one)]


def check(
    make: Callable[[], Step], batch: Callable[[int], tuple], steps: int = 20, tolerance: float = 0.0,
    is_mixed: bool = False,
) -> Any:  # fmt: skip
    """Steps of twins, compared after each; the static function.

    Args: tolerance: relative to the largest number of a tensor, or 1; is_mixed: every third step of
    the static twin is an eager one.
    """
    torch.manual_seed(0)
    plain = make()
    torch.manual_seed(0)
    ours = make()
    static = oarlock.to_static(ours.step)
    for i in range(steps):
        call = ours.step if is_mixed and i % 3 == 2 else static
        want = outcome(plain.step, plain, i, batch(i))
        got = outcome(call, ours, i, batch(i))
        assert [name for name, _ in got] == [name for name, _ in want], f"step {i}"
        for (name, a), (_, b) in zip(got, want):
            assert_same(a, b, tolerance, f"step {i}: {name}")
        plain.between(i), ours.between(i)
    return static


def assert_same(a: Any, b: Any, tolerance: float, name: str) -> None:
    if isinstance(b, dict):
        a, b = list(a.items()), list(b.items())
    if isinstance(b, (list, tuple)):
        assert len(a) == len(b), name
        for x, y in zip(a, b):
            assert_same(x, y, tolerance, name)
        return
    if isinstance(a, float) and isinstance(b, float):
        a, b = torch.tensor(a).double(), torch.tensor(b).double()
    if not isinstance(b, torch.Tensor):
        assert a == b, f"{name}: {a}, eager {b}"
        return
    assert a.dtype is b.dtype and a.requires_grad is b.requires_grad, name
    finite = b.detach()[torch.isfinite(b)].abs().double()
    scale = max(1.0, float(finite.max())) if finite.numel() else 1.0
    torch.testing.assert_close(
        a, b, rtol=0, atol=tolerance * scale, equal_nan=True, msg=lambda text: f"{name}: {text}"
    )
