"""A program as it is evaluated: modules as in eval mode, no gradients, no updates."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from oarlock.capture.tape.nodes import Block, Call, If, While
from oarlock.capture.tape.queries import name_of
from oarlock.train.static.program import Program
from oarlock.train.static.prune import made, uses
from oarlock.train.static.recorder import Recorder
from oarlock.train.static.training import DIFFERENTIATES

FLAGS = ("training", "train", "use_input_stats")
CHANCES = ("dropout_p",)
BUILTIN = {  # positions of the flag in functions without a Python signature
    "dropout": 2, "dropout_": 2, "feature_dropout": 2, "feature_dropout_": 2, "alpha_dropout": 2,
    "alpha_dropout_": 2, "feature_alpha_dropout": 2, "feature_alpha_dropout_": 2, "rrelu": 3,
    "rrelu_": 3, "batch_norm": 5, "instance_norm": 5,
}  # fmt: skip
RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")


def for_testing(program: Program) -> Block:
    """The nodes of ``program`` without gradients and updates, and what depends on these."""
    return _block(program.block, set(), program.recorder)


def _block(block: Block, gone: set[int], recorder: Recorder) -> Block:
    kept = []
    for node in block.nodes:
        is_training = isinstance(node, Call) and node.func in DIFFERENTIATES
        is_counter = id(node) in recorder.counters
        if is_training or is_counter or any(v.id in gone for v in uses(node)):
            gone.update(v.id for v in made(node))
            continue
        kept.append(_node(node, gone, recorder))
    return Block(block.parent, kept, list(block.results), block.raises)


def _node(node: Any, gone: set[int], recorder: Recorder) -> Any:
    if isinstance(node, If):
        then, orelse = (_block(b, gone, recorder) for b in (node.then, node.orelse))
        return dataclasses.replace(node, then=then, orelse=orelse)
    if isinstance(node, While):
        test, body = (_block(b, gone, recorder) for b in (node.cond, node.body))
        return dataclasses.replace(node, cond=test, body=body)
    if not isinstance(node, Call):
        return node
    new = _in_eval_mode(node)
    if new is not node and id(node) in recorder.writes:
        recorder.writes[id(new)] = recorder.writes[id(node)]
    return new


def _in_eval_mode(call: Call) -> Call:
    """The call as a module in eval mode makes it."""
    name = name_of(call.func)
    args, kwargs = list(call.args), dict(call.kwargs)
    for at, flag in _flags(call.func, name, args):
        off: Any = 0.0 if flag in CHANCES else False
        if name in ("batch_norm", "instance_norm"):
            running = kwargs.get("running_mean", args[1] if len(args) > 1 else None)
            off = running is None
        if at is not None and at < len(args):
            args[at] = off
        elif flag in kwargs or _default(call.func, flag):
            kwargs[flag] = off
    if args == list(call.args) and kwargs == call.kwargs:
        return call
    return dataclasses.replace(call, args=tuple(args), kwargs=kwargs)


def _flags(func: Any, name: str, args: list[Any]) -> list[tuple[int | None, str]]:
    """Position and name of arguments that tell the mode."""
    if name in RECURRENT and len(args) > 6:
        return [(len(args) - 3, "train")] if len(args) == 9 else [(len(args) - 2, "train")]
    try:
        names = list(inspect.signature(func).parameters)
    except (TypeError, ValueError):
        return (
            [(BUILTIN[name], "train")]
            if name in BUILTIN
            else [(None, "dropout_p")] * (name == "scaled_dot_product_attention")
        )
    return [(names.index(x), x) for x in (*FLAGS, *CHANCES) if x in names]


def _default(func: Any, flag: str) -> Any:
    try:
        found = inspect.signature(func).parameters[flag].default
    except (TypeError, ValueError, KeyError):
        return None
    return None if found is inspect.Parameter.empty else found
