"""Arithmetic of plain numbers that may be an error in Python, where a compiled step would go on."""

from __future__ import annotations

import operator
from typing import Any

from oarlock.capture.joint.surroundings import Surroundings
from oarlock.capture.tape.capturing import Tape
from oarlock.capture.tape.nodes import Block, Call, Val, leaves
from oarlock.capture.tape.queries import name_of
from oarlock.capture.to_static import Declined, StaticFunction

_DIVISIONS = (operator.truediv, operator.floordiv, operator.mod)


def refuse_failing(static: StaticFunction, tape: Tape, core: Block) -> None:
    """Raises: Declined where a number that tensors or the caller decide divides another one in ``core``.

    What is computed of the state and options of optimizers, and of constants, is sound.
    """
    optimizers = [o for _, o in Surroundings.of(static.fn).optimizers]
    tables = {id(t) for o in optimizers for t in (*o.param_groups, *o.state.values())}
    sound = {val.id for val, source in tape.inputs if id(source.base) in tables}
    inside = {id(node) for node in core.walk()}
    for node in tape.root.walk():
        if not isinstance(node, Call):
            continue
        given = [x.id for x in leaves((node.args, node.kwargs)) if isinstance(x, Val)]
        if sound.issuperset(given):
            sound |= {x.id for x in leaves(node.outs) if isinstance(x, Val)}
        elif name_of(node.func).endswith("_"):  # changed in place
            sound -= set(given)
        elif id(node) in inside and _may_fail(node):
            raise Declined(f"{node.where}: a division of numbers that is an error for some data")


def _may_fail(call: Call) -> bool:
    if len(call.args) != 2 or not all(map(_is_number, call.args)):
        return False
    left, right = call.args
    if call.func in _DIVISIONS:
        return isinstance(right, Val)
    if call.func in (operator.pow, pow):
        return isinstance(left, Val) and (
            isinstance(right, Val) or right < 0 or right != int(right)
        )
    return False


def _is_number(x: Any) -> bool:
    return isinstance(x.sample if isinstance(x, Val) else x, (bool, int, float))
