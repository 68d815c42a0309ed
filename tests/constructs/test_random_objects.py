"""Random programs of views, aliases, objects and containers: no call differs from eager silently."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from oarlock.capture.to_static import to_static
from oarlock.errors import DivergenceError, OarlockError
from tests.constructs.case import Case
from tests.constructs.random_objects import program

ALL, EACH = 100, 12
HELD = ("calls", "log", "memory", "last", "table", "seen", "box", "_buffers")


def sampled(seed: int) -> Any:
    return pytest.param(seed, marks=pytest.mark.slow if seed % EACH else ())


def plain(x: Any) -> Any:
    """What can be compared; numbers of the run may be tensors without axes."""
    if isinstance(x, torch.Tensor) and (x.dim() or x.requires_grad):
        return str(x.dtype), tuple(x.shape), x.requires_grad, repr(x.detach().tolist())
    if isinstance(x, (bool, int, float, torch.Tensor)):
        return repr(float(x))
    if isinstance(x, (list, tuple)):
        return [type(x).__name__, *map(plain, x)]
    if isinstance(x, dict):
        return [(plain(k), plain(v)) for k, v in x.items()]
    return plain(vars(x)) if hasattr(x, "__dict__") else repr(x)


def tensors(x: Any) -> Iterator[torch.Tensor]:
    for v in x if isinstance(x, (list, tuple)) else [x]:
        yield from tensors(v) if isinstance(v, (list, tuple)) else ()
        if isinstance(v, torch.Tensor):
            yield v


def outcomes(case: Case, static: Any) -> tuple[list[Any], Exception | None]:
    """What each call gives and leaves, and the refusal that ends them."""
    subject, found = case.make(), []
    f = static(subject.forward)
    for given in case.calls:
        x, k = (t.clone() for t in given)
        subject.weight.grad = None
        try:
            y = f(x, k)
            gives = [t for t in tensors(y) if t.requires_grad]
            if gives:
                torch.stack([t.double().sum() for t in gives]).sum().backward()
        except OarlockError as refusal:
            return found, refusal
        except Exception as error:
            y = f"{type(error).__name__}: {error}"[:40]
        first: dict[int, int] = {}
        same = [first.setdefault(id(t), len(first)) for t in tensors(y)]
        held = {name: vars(subject)[name] for name in HELD}
        found.append((plain(y), plain(x), plain(held), plain(subject.weight.grad), same))
    return found, None


@pytest.mark.parametrize("seed", map(sampled, range(ALL)))
def test_no_call_differs(seed: int):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want, _ = outcomes(program(seed), lambda f: f)
        got, refusal = outcomes(program(seed), to_static)
    assert got == want[: len(got)]
    assert not isinstance(refusal, DivergenceError)
    assert len(got) == len(want) or refusal is not None
