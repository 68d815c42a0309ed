"""Gradients and updates as part of a program."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from oarlock.capture.tape.nodes import Block
from oarlock.capture.torch_private import is_fake
from oarlock.errors import ArgumentError, ArgumentTypeError, UnsupportedError, UserError
from oarlock.train.static.program import Program, guarded


def gradients(
    targets: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    target_gradients: Tensor | Sequence[Tensor] | None = None,
) -> list[Tensor | None]:
    """``d sum(targets * target_gradients) / d input`` for each input; None where there is no path.

    Args: inputs: parameters, or values of the program that need gradients.
    """
    guarded("gradients")
    outs, ins = _listed("gradients: targets", targets), _listed("gradients: inputs", inputs)
    weights = (
        None
        if target_gradients is None
        else _listed("gradients: target_gradients", target_gradients)
    )
    for x in ins:
        if not x.requires_grad:
            raise ArgumentError(
                "gradients: an input needs no gradient; make its placeholder with "
                "data(..., stop_gradient=False)"
            )
    return list(_differentiate(outs, ins, weights))


def append_backward(
    loss: Tensor,
    parameter_list: Sequence[Tensor | str] | None = None,
    no_grad_set: Collection[Tensor | str] | None = None,
) -> list[tuple[Tensor, Tensor]]:
    """``[(parameter, gradient)]`` of a scalar loss.

    Args: parameter_list: parameters or their names, default: all that the program has met and that
        need gradients. Those that the loss does not depend on are left out, and those of ``no_grad_set``.
    """
    program = guarded("append_backward")
    _check_loss(program, loss)
    params = _parameters(program)
    if parameter_list is not None:
        params = _named(program, "parameter_list", parameter_list)
    without = set(map(id, _named(program, "no_grad_set", no_grad_set or ())))
    params = [p for p in params if id(p) not in without]
    if not params:
        raise UserError("append_backward: the program has no parameter that needs a gradient")
    found = _differentiate([loss], params, None)
    return [(p, g) for p, g in zip(params, found) if g is not None]


def minimize(
    optimizer: Optimizer, loss: Tensor, parameter_list: Sequence[Tensor] | None = None
) -> list[tuple[Tensor, Tensor]]:
    """One step of ``optimizer`` down the gradient of ``loss``, at each run; a clip that is attached
    to the optimizer clips, hooks run, a changed learning rate counts.

    Args: parameter_list: default: the parameters of the optimizer.
    Returns: ``[(parameter, gradient)]``, the gradients as they are before clipping.
    """
    program = guarded("minimize")
    if not isinstance(optimizer, Optimizer):
        raise ArgumentTypeError(
            f"minimize: expected a torch.optim.Optimizer, got {type(optimizer).__name__}"
        )
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise UnsupportedError(
            f"minimize: {type(optimizer).__name__} evaluates the loss several times in a step, which "
            "a static program does not; use it in eager code"
        )
    mine = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    pairs = append_backward(loss, parameter_list if parameter_list is not None else mine)
    if not pairs:
        raise UserError("minimize: the loss depends on no parameter of the optimizer")
    recorder = program.recorder
    params = [recorder.val(p) for p, _ in pairs]
    grads = [recorder.val(g) for _, g in pairs]
    recorder.emit(update, (Kept(optimizer), params, grads), {}, None)
    return pairs


class Kept:
    """An optimizer among the arguments of a recorded call."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer

    def __repr__(self) -> str:
        return type(self.optimizer).__name__


def optimizers_of(block: Block) -> list[Optimizer]:
    """The optimizers whose steps a block holds."""
    found: dict[int, Optimizer] = {}
    for node in block.walk():
        for x in getattr(node, "args", ()):
            if isinstance(x, Kept):
                found.setdefault(id(x.optimizer), x.optimizer)
    return list(found.values())


def update(kept: Kept, params: list[Tensor], grads: list[Tensor]) -> None:
    """A step with these gradients, which stay as they are; so do those that eager code has collected."""
    optimizer = kept.optimizer
    everything = [p for group in optimizer.param_groups for p in group["params"]]
    before = [p.grad for p in everything]
    for p in everything:
        p.grad = None
    for p, g in zip(params, grads):
        p.grad = None if g is None else g.clone()  # torch may give two parameters one tensor
    try:
        with torch.enable_grad():
            optimizer.step()
    finally:
        for p, g in zip(everything, before):
            p.grad = g


def _differentiate(outs: list[Tensor], ins: list[Tensor], weights: list[Tensor] | None) -> Any:
    if weights is None and any(x.numel() > 1 for x in outs):
        weights = [torch.ones_like(x) for x in outs]
    given: dict[str, Any] = {"retain_graph": True, "allow_unused": True}
    if weights is not None:
        given["grad_outputs"] = weights
    recorder = guarded("gradients").recorder
    found = torch.autograd.grad(outs, ins, **given)
    next(x for x in reversed(recorder.block.nodes) if x.func is torch.autograd.grad).func = grad
    return found


def grad(outs: list[Tensor], ins: list[Tensor], grad_outputs: Any = None, **given: Any) -> Any:
    """``torch.autograd.grad``, also where this run's path leaves a target without parameters, as a
    loop of no trips does: then None."""
    live = [i for i, x in enumerate(outs) if x.requires_grad]
    if not live:
        return tuple(None for _ in ins)
    weights = None if grad_outputs is None else [grad_outputs[i] for i in live]
    return torch.autograd.grad([outs[i] for i in live], ins, weights, **given)


DIFFERENTIATES = (grad, update)


def _parameters(program: Program) -> list[Tensor]:
    reals = (real for _, source, real in program.recorder.inputs if source.base is not None)
    return [x for x in reals if isinstance(x, torch.nn.Parameter) and x.requires_grad]


def _named(program: Program, what: str, given: Collection[Any]) -> list[Tensor]:
    """Parameters, by name too.  Raises: ArgumentError, all unknown ones at once."""
    if not isinstance(given, Collection) or isinstance(given, str):
        raise ArgumentTypeError(
            f"{what}: expected parameters or their names in a list, got {type(given).__name__}"
        )
    known = program.parameters()
    unknown = [x for x in given if isinstance(x, str) and x not in known]
    if unknown:
        names = ", ".join(known) or "none"
        raise ArgumentError(
            f"{what}: no parameter {', '.join(map(repr, unknown))} in this program; names: {names}"
        )
    return [known[x] if isinstance(x, str) else x for x in given]


def _check_loss(program: Program, loss: Any) -> None:
    if not isinstance(loss, Tensor) or not is_fake(loss) or program.val_of(loss) is None:
        raise ArgumentTypeError("loss: expected a value of this program")
    if loss.numel() != 1:
        raise ArgumentError(
            f"loss: expected one number, got shape {list(loss.shape)}; take its mean"
        )
    if not loss.requires_grad:
        raise UserError("loss: depends on nothing that needs a gradient")


def _listed(what: str, x: Any) -> list[Tensor]:
    found = [x] if isinstance(x, Tensor) else x
    if not isinstance(found, (list, tuple)) or not all(isinstance(v, Tensor) for v in found):
        raise ArgumentTypeError(f"{what}: expected tensors, got {x!r}")
    return list(found)
