"""Texts of errors that hold values of the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from oarlock.capture.lowering.caught import SAID
from oarlock.capture.lowering.kinds import Either, Maybe, is_symbolic
from oarlock.capture.tape.nodes import Assert, Block, Raise, Val, leaves
from oarlock.capture.tape.runtime import text as text_of
from oarlock.ir import Value
from oarlock.ops.messages import escaped, field


@dataclass(frozen=True, eq=False)
class Message:
    """Literal texts and ``(value, conversion, spec)``, as an f-string has them."""

    parts: tuple[Any, ...]


def needs_values(block: Block) -> bool:
    """What a block says when it fails depends on the run."""
    nodes = list(block.walk())
    raised = [n for n in nodes if isinstance(n, Raise)]
    said = [*(n.args for n in raised), *(() if block.raises else block.results)]
    has_values = any(isinstance(x, Val) for x in leaves(said))
    return has_values or len(raised) + sum(isinstance(n, Assert) for n in nodes) > 1


def said(error: Raise) -> str:
    """The text of an error, without its values of the run."""
    if error.thrown[0] is not None:
        return SAID
    if error.error is not None and not any(isinstance(x, Val) for x in leaves(error.args)):
        return str(error.error)
    return ", ".join(map(plain, error.args))


def plain(x: Any) -> str:
    return "..." if isinstance(x, Val) else str(x)


def of_error(error: Raise, args: Sequence[Any]) -> list[Any]:
    """The parts of what ``str`` gives of an error with ``args``."""
    if not any(isinstance(x, Val) for x in leaves(error.args)):
        return [said(error)]
    if len(args) == 1:
        return text(args[0], "r" if error.kind is KeyError else "s")
    parts: list[Any] = ["("]
    for i, x in enumerate(args):
        parts += [", "] * (i > 0) + text(x, "r")
    return [*parts, ")"]


def text(x: Any, conversion: str = "s") -> list[Any]:
    """The parts of ``str(x)`` or ``repr(x)``."""
    if isinstance(x, Message) and conversion == "s":
        return list(x.parts)
    if isinstance(x, Message):
        raise NotImplementedError("the repr of a text that is known at run time")
    return [(x, conversion, "")]


def template(r: Any, parts: Sequence[Any]) -> tuple[str, list[Value]]:
    """The message of an assertion, and the values in it."""
    values: list[Value] = []
    found = [_part(r, x, values) for x in _flat(parts)]
    if not values:
        return "".join(x for x, _ in found), []
    return "".join(x if is_field else escaped(x) for x, is_field in found), values


def _flat(parts: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    for part in parts:
        inner = part[0] if isinstance(part, tuple) else None
        if isinstance(inner, Message) and part[1] in ("", "s", None) and not part[2]:
            found += _flat(inner.parts)
        elif type(inner) in _BRACKETS and not part[2]:
            found += _flat(_items(inner))
        else:
            found.append(part)
    return found


_BRACKETS = {tuple: ("(", ")"), list: ("[", "]"), torch.Size: ("torch.Size([", "])")}


def _items(x: Sequence[Any]) -> list[Any]:
    """The parts of ``repr`` of a sequence."""
    first, last = _BRACKETS[type(x)]
    parts: list[Any] = [first]
    for i, item in enumerate(x):
        parts += [", "] * (i > 0) + [(item, "r", "")]
    return [*parts, "," * (type(x) is tuple and len(x) == 1) + last]


def _part(r: Any, part: Any, values: list[Value]) -> tuple[str, bool]:
    """The text of one part, and whether it is a field."""
    if isinstance(part, str):
        return part, False
    x, conversion, spec = part[0], part[1] or "", part[2] or ""
    if isinstance(x, Either):
        x = r.lowering.expect_wide(x)
    if isinstance(x, torch.Tensor):
        values.append(r.value(x))
        return field(len(values) - 1, "t" if conversion or x.dim() else "", spec), True
    if is_symbolic(x):
        values.append(r.scalars.value(x))
        return field(len(values) - 1, conversion, spec), True
    if isinstance(x, (Maybe, Message)) or not isinstance(x, (bool, int, float, str, type(None))):
        raise NotImplementedError("a message with a value of the run that is no number or tensor")
    return text_of(part), False
