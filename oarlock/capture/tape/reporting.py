"""What a static function says of itself: its specialisations, and how each runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import torch

from oarlock.capture.arrays import dtype_of
from oarlock.capture.tape.capturing import Tape
from oarlock.capture.tape.nodes import Assert, Call, Fork, If, Raise, Val, While
from oarlock.capture.tape.sources import Source, key_of

_NOUNS = {Call: "call", If: "if", Fork: "fork", While: "while", Assert: "assertion", Raise: "raise"}
_SHOWN = 4  # names of state


def report(name: str, tapes: list[Tape], captures: int) -> str:
    """The text: arguments, what was recorded, and the executor or why there is none."""
    head = f"{name}: {_count(len(tapes), 'specialisation')}, {_count(captures, 'capture')}"
    return "\n".join([head, *(line for i, tape in enumerate(tapes) for line in _lines(i, tape))])


def _lines(i: int, tape: Tape) -> Iterator[str]:
    yield f"specialisation {i}: {tape.executor or 'replayed: ' + tape.reason}"
    given = [_argument(tape, val, source) for val, source in tape.inputs if source.base is None]
    if given:
        yield f"    arguments: {', '.join(given)}"
    state = [str(s) for v, s in tape.inputs if s.base is not None and _is_tensor(v)]
    if state:
        more = f" and {len(state) - _SHOWN} more" if len(state) > _SHOWN else ""
        yield f"    reads: {', '.join(state[:_SHOWN])}{more}"
    counts = Counter(type(node) for node in tape.root.walk())
    yield "    " + ", ".join(_count(counts[k], noun) for k, noun in _NOUNS.items() if counts[k])


def _argument(tape: Tape, val: Val, source: Source) -> str:
    if not _is_tensor(val):
        return f"{source} {type(val.sample).__name__.lower()}"
    sizes = [_size(tape, val, source, axis) for axis in range(val.sample.dim())]
    return f"{source} {dtype_of(val.sample.dtype)}[{', '.join(sizes)}]"


def _size(tape: Tape, val: Val, source: Source, axis: int) -> str:
    """A number; the symbol of input_spec, or ``?``, where calls may differ."""
    if axis not in val.dims:
        return str(val.sample.shape[axis])
    return str(tape.dims.get(key_of(source, axis), "?"))


def _is_tensor(val: Val) -> bool:
    return isinstance(val.sample, torch.Tensor)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)}"
