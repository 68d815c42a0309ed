"""What the items of a run-time list may be: the joint of all of them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import torch

from oarlock.capture.convert.state import Text
from oarlock.capture.tape.join import (
    Joiner,
    JoinRefused,
    Leaf,
    Many,
    Same,
    holds_run_time,
    item_of,
    keys_of,
)
from oarlock.capture.tape.loops import wider
from oarlock.capture.tape.numbers import Number
from oarlock.capture.tape.run_list import RunList, RunTuple, is_run

if TYPE_CHECKING:
    from oarlock.capture.tape.tracer import Tracer


def item_of_all(joiner: Joiner, parts: tuple[Any, ...]) -> Any:
    """The joint of the items of several lists."""
    found = None
    for part in parts:
        if is_run(part):
            items = [] if part.item is None else [part.tracer.sample_of(part.item)]
        else:
            items = list.__iter__(part) if isinstance(part, list) else part
        for x in items:
            found = of_one(joiner, x, "") if found is None else merged(joiner, found, x, "")
    return found


def loosely(tracer: Tracer, x: Any) -> Any:
    """The joint of ``x`` with itself."""
    return of_one(Joiner(tracer.val, outside=tracer.objects), x, tracer.where())


def outs_of(joint: Any) -> Any:
    if isinstance(joint, Leaf):
        return joint.out  # type: ignore[attr-defined]
    if isinstance(joint, Many):
        items = [outs_of(x) for x in joint.items]
        return dict(zip(joint.keys, items)) if isinstance(joint.like, dict) else items
    return None


def of_one(joiner: Joiner, x: Any, where: Any) -> Any:
    """The joint of ``x`` with itself, as a run-time value."""
    if isinstance(x, torch.Tensor):
        return joiner.tensors(x, x)
    if isinstance(x, (bool, int, float, Number)):
        return joiner.numbers(x, x)
    if hasattr(type(x), "is_run_table"):
        return Leaf("table", (x, x), x.kind, x.kind)
    if is_run(x):
        kind = tuple if isinstance(x, RunTuple) else list
        kind = deque if hasattr(type(x), "run_time_deque") else kind
        return Leaf("list", (x, x), kind, kind, item=x.item, cell=x.items)
    if isinstance(x, (tuple, list)) or type(x) is dict:
        keys = keys_of(x) or []
        return Many(x, keys, [of_one(joiner, item_of(x, k), where) for k in keys])
    if isinstance(x, Text) or hasattr(type(x), "parts_of_choice"):
        return Leaf("any", (x, x), x)
    if holds_run_time(x):
        raise JoinRefused(
            f"{where}: an object of class {type(x).__name__} that holds tensors is in a list of run-time "
            f"length, or one of two; keep its tensors in a tuple or in lists of their own"
        )
    return Same(x)


def _is_row(x: Any) -> bool:
    return isinstance(x, RunList) or type(x) is tuple


def _grows(old: Any, x: Any) -> bool:
    """A list or tuple ``x`` may have another length than those before it."""
    if isinstance(old, Leaf):
        return old.kind == "list" and old.cell is None
    if not isinstance(old, Many) or not _is_row(old.like):
        return False
    is_other = type(x) is tuple if isinstance(old.like, list) else isinstance(x, list)
    return not is_other and (is_run(x) or len(old.keys) != len(x))


def _row(joiner: Joiner, old: Leaf | Many, x: Any, where: Any) -> Leaf:
    """A list, or tuple, of a length that is known at run time."""
    first = old.parts[0] if isinstance(old, Leaf) else old.like
    is_tuple = type(first) is tuple or isinstance(first, RunTuple)
    item = old.item if isinstance(old, Leaf) else item_of_all(joiner, (first,))
    sample = [] if not is_run(x) or x.item is None else [x.tracer.sample_of(x.item)]
    for one in sample if is_run(x) else (list.__iter__(x) if isinstance(x, list) else x):
        item = of_one(joiner, one, where) if item is None else merged(joiner, item, one, where)
    kind = tuple if is_tuple else list
    return Leaf("list", (first, x), kind, kind, item=item)


def merged(joiner: Joiner, old: Any, x: Any, where: Any) -> Any:
    """The joint of items so far and one more."""
    if joiner.may_grow and _is_row(x) and _grows(old, x):
        return _row(joiner, old, x, where)
    if isinstance(old, Many) and type(old.like) is type(x) and len(old.keys) == len(x):
        items = [merged(joiner, p, x[k], where) for k, p in zip(old.keys, old.items)]
        return Many(old.like, old.keys, items)
    if isinstance(old, Leaf) and old.kind == "table" and hasattr(type(x), "is_run_table"):
        x.tracer.tables.unify(old.parts[0], x)
        return old
    if isinstance(old, Leaf) and old.kind == "list" and old.cell is not None and is_run(x):
        x.tracer.lists.unify(old.cell, x.items)
        return old
    if isinstance(old, Leaf):
        first = old.parts[0]
        new = joiner.join(first, x)
        new = of_one(joiner, x, where) if isinstance(new, Same) else new
        if isinstance(new, Same):  # one of those that it may be already
            return old
        return wider(old, new, 0) if isinstance(new, Leaf) else new
    if isinstance(old, Same):
        return joiner.join(old.value, x)
    return Leaf("any", (old, x))
