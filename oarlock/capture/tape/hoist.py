"""Assumptions of a tape that its inputs settle: conditions of the call, before anything is done."""

from __future__ import annotations

import builtins
import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch

from oarlock.capture.convert.sequences import range_length, value_at
from oarlock.capture.convert.truth import holds
from oarlock.capture.tape.emit import Emitter, uses
from oarlock.capture.tape.guards import Guards
from oarlock.capture.tape.nodes import (
    PLAIN,
    Ambient,
    Block,
    Call,
    Check,
    If,
    Raise,
    Val,
    blocks_of,
    leaves,
)
from oarlock.capture.tape.sources import Source

_MODULES = ("_operator", "math", "_bisect")
_PURE = (range_length, holds, value_at, *(getattr(builtins, n) for n in ("int", "float", "bool", "max", "min", "abs", "round", "pow")))  # fmt: skip
_SIZE = torch.Tensor.size


def hoist(root: Block, inputs: list[tuple[Val, Source]], guards: Guards) -> None:
    """Add the checks of ``root`` that only numbers and sizes of the inputs decide."""
    tensors = {val.id for val, _ in inputs if isinstance(val.sample, torch.Tensor)}
    known = {val.id for val, _ in inputs} - tensors
    pure: list[Any] = []
    for node in root.nodes:
        if isinstance(node, Check):
            if isinstance(node.value, Val) and node.value.id in known:
                text = f"{guards.emitter.constant(condition(node, pure, inputs))}(args, kwargs)"
                guards.add(text, f"{node.where}: {node.what}")
        elif is_pure(node, known, tensors):
            pure.append(node)
            known |= {val.id for val in made(node)}


def is_pure(node: Any, known: set[int], tensors: set[int]) -> bool:
    """It computes numbers from known ones, and from sizes of arguments."""
    if isinstance(node, If):
        test = {x.id for x in leaves(node.test) if isinstance(x, Val)}
        return known >= test and all(is_pure_block(b, known, tensors) for b in blocks_of(node))
    if not isinstance(node, Call):
        return False
    if node.func is _SIZE:
        return isinstance(node.outs, Val) and tensors.issuperset(uses(node))
    is_plain = getattr(node.func, "__module__", None) in _MODULES or node.func in _PURE
    return is_plain and node.func is not operator.setitem and known.issuperset(uses(node))


def is_pure_block(block: Block, known: set[int], tensors: set[int]) -> bool:
    """All that it computes is pure; it may end in an error."""
    inner = set(known)
    for node in block.nodes:
        if not isinstance(node, Raise) and not is_pure(node, inner, tensors):
            return False
        inner |= {val.id for val in made(node)}
    return inner.issuperset(x.id for x in leaves(block.results) if isinstance(x, Val))


def made(node: Any) -> Iterator[Val]:
    return (val for val in leaves(getattr(node, "outs", None)) if isinstance(val, Val))


class Conditions(Emitter):
    """Numbers need no modes; an error means that the condition does not hold."""

    def switch(self, wanted: Ambient) -> None:
        pass

    def _raise(self, node: Raise) -> None:
        self.line("raise LookupError")


def condition(
    check: Check, nodes: list[Any], inputs: list[tuple[Val, Source]]
) -> Callable[[tuple, dict[str, Any]], bool]:
    """Whether ``check`` holds for a call."""
    needed, wanted = [], {check.value.id}
    for node in reversed(nodes):
        if wanted & {val.id for val in made(node)}:
            needed.insert(0, node)
            wanted |= set(uses(node))
    emitter = Conditions(PLAIN)
    place = Guards(emitter).place
    for val, source in inputs:
        if val.id in wanted:
            emitter.line(f"v{val.id} = {place(source)}")
            emitter.bind([val.id])
    emitter.block(Block(None, needed, [check.value]))
    expected = emitter.expr(check.expected)
    sign = "is" if check.expected is None else "=="
    emitter.line(f"return v{check.value.id} {sign} {expected}")
    found = emitter.compile("def holds(args, kwargs):", "holds", "<oarlock condition>")

    def holds(args: tuple, kwargs: dict[str, Any]) -> bool:
        try:
            return bool(found(args, kwargs))
        except ArithmeticError:
            return False

    return holds
