"""Gradients of what a call gives, for its comparison with eager."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from oarlock.capture.tape.capturing import Tape
from oarlock.capture.tape.nodes import Call
from oarlock.capture.tape.queries import name_of
from oarlock.capture.tape.sources import modules_below

ROUNDINGS = 4096  # of the largest gradient: cancelled sums, as before a norm, keep roundings of it
_ONCE = ("backward", "grad", "register_hook", "register_post_accumulate_grad_hook")
_HOOKS = ("_backward_hooks", "_backward_pre_hooks", "_post_accumulate_grad_hooks")


def is_differentiable(tape: Tape, fn: Any, tensors: Iterable[torch.Tensor]) -> bool:
    """Asking for gradients once more does nothing that the user sees.

    Not so for functions that ask themselves, with hooks, and where an argument has a graph of its own.
    """
    calls = (node for node in tape.root.walk() if isinstance(node, Call))
    if any(name_of(call.func) in _ONCE for call in calls):
        return False
    owners = [*tensors, *modules_below([fn])]
    if any(getattr(x, name, None) for x in owners for name in _HOOKS):
        return False
    return all(x.is_leaf or not x.requires_grad for x in owners if isinstance(x, torch.Tensor))


def gradients(
    results: Iterable[torch.Tensor], tensors: Iterable[torch.Tensor]
) -> list[torch.Tensor | None] | RuntimeError:
    """Of a random sum of the results, the same at each call; ``.grad`` and draws stay."""
    leaves = list({id(x): x for x in tensors if x.requires_grad}.values())
    outs = [x for x in results if x.requires_grad and not x.is_sparse]
    if not outs or not leaves:
        return []
    draws = torch.Generator().manual_seed(0)
    weights = [torch.randn(x.shape, generator=draws, dtype=x.dtype) for x in outs]
    with torch.random.fork_rng(devices=[]):
        try:
            return list(
                torch.autograd.grad(outs, leaves, weights, retain_graph=True, allow_unused=True)
            )
        except RuntimeError as error:
            return error


def difference(want: Any, got: Any) -> str:
    """How gradients differ; empty where they don't, or where eager has none."""
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
        bound = ROUNDINGS * torch.finfo(a.dtype).eps * scale
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
