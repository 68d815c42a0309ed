"""Gradients of what a call gives, for its comparison with eager."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from oarlock.capture.tape.capturing import Tape
from oarlock.capture.tape.nodes import Call, Val, leaves
from oarlock.capture.tape.queries import name_of
from oarlock.capture.tape.roundings import MOVES
from oarlock.capture.tape.sources import modules_below

ROUNDINGS = 4096  # of the largest gradient: cancelled sums, as before a norm, keep roundings of it
COARSE = 16  # of a type with so few bits that 4096 of its roundings are more than the value
_FLOAT = torch.finfo(torch.float32).eps
_ONCE = ("backward", "grad", "register_hook", "register_post_accumulate_grad_hook")
_HOOKS = ("_backward_hooks", "_backward_pre_hooks", "_post_accumulate_grad_hooks")


def is_differentiable(tape: Tape, fn: Any, tensors: Iterable[torch.Tensor]) -> bool:
    """Asking for gradients once more does nothing that the user sees.

    Not so for functions that ask themselves, and with hooks.
    """
    calls = (node for node in tape.root.walk() if isinstance(node, Call))
    if any(name_of(call.func) in _ONCE for call in calls):
        return False
    inner = [x for x in tensors if not x.is_leaf and x.requires_grad]
    owners = [*inner, *modules_below([fn])]
    return not any(getattr(x, name, None) for x in owners for name in _HOOKS)


@contextmanager
def silenced(tensors: Iterable[torch.Tensor]) -> Iterator[None]:
    """Without the hooks of leaves, which run for every gradient that is asked for."""
    held = [(x, x._backward_hooks) for x in tensors if x.is_leaf and x._backward_hooks]
    for x, _ in held:
        x._backward_hooks = None
    try:
        yield
    finally:
        for x, hooks in held:
            x._backward_hooks = hooks


def gradients(
    results: Iterable[torch.Tensor], tensors: Iterable[torch.Tensor]
) -> list[torch.Tensor | None] | RuntimeError:
    """Of a random sum of the results, the same at each call; ``.grad`` and draws stay."""
    wrt = list({id(x): x for x in tensors if x.requires_grad}.values())
    outs = [x for x in results if x.requires_grad and not x.is_sparse]
    if not outs or not wrt:
        return []
    draws = torch.Generator().manual_seed(0)
    weights = [torch.randn(x.shape, generator=draws, dtype=x.dtype) for x in outs]
    with torch.random.fork_rng(devices=[]), silenced(wrt):
        try:
            return list(
                torch.autograd.grad(outs, wrt, weights, retain_graph=True, allow_unused=True)
            )
        except RuntimeError as error:
            return error


def coarsest(tape: Tape) -> float:
    """The rounding of the shortest floating type that the calls compute in."""
    calls = [node for node in tape.root.walk() if isinstance(node, Call)]
    samples = [v.sample for call in calls for v in leaves(call.outs) if isinstance(v, Val)]
    kinds = {x.dtype for x in samples if isinstance(x, torch.Tensor) and x.is_floating_point()}
    return max((torch.finfo(kind).eps for kind in kinds), default=0.0)


def bound_of(dtype: torch.dtype, scale: float, coarse: float, slack: float | None = None) -> float:
    """How much values as large as ``scale`` may differ; ``coarse``: of ``coarsest``; ``slack``: how
    much they do when their computation is rounded otherwise, where that is known."""
    if slack is not None:
        return slack + MOVES * torch.finfo(dtype).eps * scale
    eps = max(torch.finfo(dtype).eps, coarse if coarse > _FLOAT else 0.0)
    return (ROUNDINGS if eps <= _FLOAT else COARSE) * eps * scale


def change(want: Any, other: Any) -> float:
    """The largest difference of two lists of gradients."""
    if isinstance(want, RuntimeError) or isinstance(other, RuntimeError):
        return 0.0
    pairs = [(_dense(a), _dense(b)) for a, b in zip(want, other)]
    return max((_largest(a - b) for a, b in pairs if a is not None and b is not None), default=0.0)


def difference(want: Any, got: Any, coarse: float, slack: float | None = None) -> str:
    """How gradients differ by more than roundings and ``slack``; empty where they don't, or where
    eager has none."""
    if isinstance(want, RuntimeError):
        return ""
    if isinstance(got, RuntimeError):
        return f"eager has gradients, the static function raises {got}"
    pairs = [(_dense(a), _dense(b)) for a, b in zip(want, got)]
    scale = max((_largest(a) for a, _ in pairs if a is not None), default=0.0)
    for i, (a, b) in enumerate(pairs):
        if a is None or b is None:
            if a is not b:
                return f"input {i}: eager gives {_said(a)}, the static function {_said(b)}"
            continue
        bound = bound_of(a.dtype, scale, coarse, slack)
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"input {i}: eager gives {_said(a)}, the static function {_said(b)}"
        if not torch.allclose(a, b, rtol=0, atol=bound, equal_nan=True):
            return f"input {i}: max abs error {float((a - b).abs().nan_to_num().max()):.3e}"
    return (
        "" if len(want) == len(got) else f"{len(want)} of eager, {len(got)} of the static function"
    )


def _dense(x: torch.Tensor | None) -> torch.Tensor | None:
    return x.to_dense() if x is not None and x.is_sparse else x


def _largest(x: torch.Tensor) -> float:
    finite = x[torch.isfinite(x)].abs()
    return float(finite.max()) if finite.numel() else 0.0


def _said(x: torch.Tensor | None) -> str:
    return "no gradient" if x is None else f"{x.dtype} {list(x.shape)}"
