"""Memory of a program's values: inputs, outputs, arena, weights."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from oarlock.codegen.kernel import Constant
from oarlock.ir import Program, Size, Value, bounds, dim_max

ALIGNMENT = 64
VECTOR_BYTES = 128  # the most that one load reads; what may be empty has as many
Entry = dict[str, Any]
"""bytes: an int or text over the dims; first, last: the steps it lives; over, where it is stored in
place: the buffer whose memory it takes over"""


@dataclass(frozen=True)
class Place:
    """The start of a value: a buffer, or ``offset`` bytes into the weights.  Prints as C."""

    buffer: int | None
    offset: int = 0

    def __str__(self) -> str:
        return (
            f"c->buf[{self.buffer}]" if self.buffer is not None else f"(c->weights + {self.offset})"
        )


@dataclass
class Buffers:
    """Numbers buffers: inputs, outputs, then the arena.  ``clock`` counts steps, nested ones too."""

    program: Program
    clock: int = 0
    arena: dict[int, Entry] = field(default_factory=dict)
    constants: list[Constant] = field(default_factory=list)
    _of: dict[Value, int] = field(default_factory=dict)  # below 0: -1 - offset into the weights
    _offsets: dict[object, int] = field(default_factory=dict)
    _over: list[tuple[int, int, int]] = field(default_factory=list)  # see store_over
    _top: int = 0
    _count: int = 0
    _read_at: dict[int, int] = field(default_factory=dict)  # of ports: when last
    _written_at: dict[int, int] = field(default_factory=dict)  # of ports: when first
    _stopped_at: int = -1  # when a run may end last

    def port(self, value: Value) -> None:
        """A buffer that the caller gives."""
        self._of[value] = self._count
        self._count += 1

    def knows(self, value: Value) -> bool:
        """The value has memory."""
        return value in self._of

    def define(self, values: Iterable[Value]) -> None:
        """Give arena buffers to values written now, unless they have memory."""
        for value in values:
            if value in self._of:
                self._touch(self._of[value])
                self._written_at.setdefault(self._of[value], self.clock)
                continue
            self._of[value] = self._count
            size = value.type.bytes
            if not isinstance(size, int) and bounds(size)[0] < 1:
                size = dim_max(size, VECTOR_BYTES)
            self.arena[self._count] = {
                "bytes": size if isinstance(size, int) else str(size),
                "first": self.clock,
                "last": self.clock,
            }
            self._count += 1

    def stop(self) -> None:
        """A run may end now."""
        self._stopped_at = self.clock

    def use(self, values: Iterable[Value]) -> None:
        """Values read now are alive until now."""
        for value in values:
            if not _is_param(value):
                self._touch(self._of[value])
                self._read_at[self._of[value]] = self.clock

    def store_over(self, pairs: Iterable[tuple[Value, Value]], reads: Iterable[Value]) -> None:
        """A kernel of now may store the first of a pair over the second, see ``inplace``; ``reads``
        is all that it reads."""
        read = Counter(self._of.get(v) for v in reads)
        for written, operand in pairs:
            here, below = self._of[written], self._of.get(operand)
            if below is not None and read[below] == 1:
                self._over.append((here, below, self.clock))

    def _hosts(self) -> dict[int, int]:
        """The buffers stored in place, with the first that had their memory."""
        hosts: dict[int, int] = {}
        taken: set[int] = set()
        for here, below, clock in self._over:
            if here not in self.arena or below not in self.arena:
                continue
            new, old = self.arena[here], self.arena[below]
            is_born, dies = new["first"] == clock, old["last"] == clock
            is_free = here not in hosts and below not in taken
            if is_free and is_born and dies and new["bytes"] == old["bytes"]:
                hosts[here] = hosts.get(below, below)
                taken.add(below)
        return hosts

    def shareable(self, pairs: Iterable[tuple[Value, Value]]) -> list[bool]:
        """Whether the caller may give an output and an input of its pair the same memory: every read
        of the input comes before the first store to the output, or is stored over in place, and no
        run ends after that store."""
        found = []
        for output, input in pairs:
            here, below = self._of[output], self._of[input]
            written, read = self._written_at.get(here, -1), self._read_at.get(below, -1)
            is_over = (here, below, written) in self._over
            is_last = self._stopped_at < written
            found.append(is_last and (read < written or (read == written and is_over)))
        return found

    def _touch(self, buffer: int) -> None:
        if buffer in self.arena:
            self.arena[buffer]["last"] = self.clock

    def alias(self, value: Value, of: Value) -> None:
        """``value`` is the memory of ``of``."""
        self._of[value] = -1 - self.param(of) if _is_param(of) else self._of[of]

    def param(self, value: Value) -> int:
        """The offset of a param's storage in the weights, bytes."""
        key = value.producer.op.key  # type: ignore[union-attr]
        return self._place(("param", key), Constant(key, self.program.params[key]))

    def packed(self, constant: Constant) -> int:
        """The offset of a kernel's constant, shared with equal ones."""
        array = np.ascontiguousarray(constant.array)
        digest = hashlib.sha256(array.reshape(-1).view(np.uint8)).digest()
        return self._place((array.dtype.str, array.shape, digest), constant)

    def _place(self, key: object, constant: Constant) -> int:
        if key not in self._offsets:
            self._offsets[key] = self._top
            self.constants.append(constant)
            self._top += -(-constant.array.nbytes // ALIGNMENT) * ALIGNMENT
        return self._offsets[key]

    def place(self, value: Value) -> Place:
        """Where a value starts."""
        if _is_param(value):
            return Place(None, self.param(value))
        buffer = self._of[value]
        return Place(buffer) if buffer >= 0 else Place(None, -1 - buffer)

    def document(self, value: Value) -> dict[str, Any]:
        """A value for the metadata."""
        shape = [size_text(s) for s in value.shape]
        return {"dtype": value.dtype.name, "shape": shape, "buffer": self._of[value]}

    def entries(self) -> list[Entry | None]:
        """By buffer; None is the caller's."""
        over = {i: {"over": host} for i, host in self._hosts().items()}
        return [
            {**self.arena[i], **over.get(i, {})} if i in self.arena else None
            for i in range(self._count)
        ]


def size_text(size: Size) -> int | str:
    """A size for the metadata."""
    return size if isinstance(size, int) else str(size)


def _is_param(value: Value) -> bool:
    return value.producer is not None and value.producer.name == "param"
