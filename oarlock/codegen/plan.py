"""Place the buffers of a program in one arena.

Greedy (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020): in
order of size, each at the lowest offset free over its lifetime.  When that takes more than is alive
at once, size times lifetime is tried, then size again with the buffer first that ended highest, and
so on; the best is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from oarlock.ir.dim import Dim, evaluate_size
from oarlock.ir.parser import parse_size

ALIGNMENT = 64
MAX_RETRIES = 60
MAX_PAIRS = 60_000  # of buffers alive together, looked at in all retries: some 10 ms


@dataclass(frozen=True)
class Plan:
    """offsets: by buffer, bytes, None for the caller's; live_bytes: no plan can take less."""

    offsets: tuple[int | None, ...]
    arena_bytes: int
    live_bytes: int


@dataclass(slots=True)
class _Request:
    """``buffers`` in one memory, one after the other: ``bytes`` from step ``first`` to ``last``;
    ``near`` are alive at the same time."""

    buffers: list[int]
    bytes: int
    first: int
    last: int
    near: list[int]


ORDERS: tuple[Callable[[_Request], Any], ...] = (
    lambda r: (-r.bytes, r.first),
    lambda r: (-r.bytes * (1 + r.last - r.first), r.first),
)
"""By size; by size and time, which serves the values that a training step saves."""


def plan(metadata: Mapping[str, Any], env: Mapping[str, int], alignment: int = ALIGNMENT) -> Plan:
    """Offsets of the buffers of ``metadata`` at these sizes."""
    requests = _requests(metadata, env, alignment)
    live = _live_bytes(requests)
    best, top = [0] * len(requests), -1
    for found in _attempts(requests):
        ends = _top(requests, found)
        if top < 0 or ends < top:
            best, top = found, ends
        if top <= live:
            break
    offsets: list[int | None] = [None] * len(metadata["buffers"])
    for request, at in zip(requests, best):
        for buffer in request.buffers:
            offsets[buffer] = at
    return Plan(tuple(offsets), _top(requests, best), live)


def _attempts(requests: Sequence[_Request]) -> Iterator[list[int]]:
    """Placements, the quickest first."""
    orders = [_sorted(requests, key) for key in ORDERS]
    pairs = sum(len(r.near) for r in requests)
    for order in orders:
        yield _place(requests, order)
    yield from _retries(requests, orders[0], min(MAX_RETRIES, MAX_PAIRS // max(1, pairs)))


def _sorted(requests: Sequence[_Request], key: Callable[[_Request], Any]) -> list[int]:
    return sorted(range(len(requests)), key=lambda i: key(requests[i]))


def _retries(requests: Sequence[_Request], order: list[int], count: int) -> Iterator[list[int]]:
    """What ended highest goes first next."""
    offsets = _place(requests, order)
    for _ in range(count):
        top = _top(requests, offsets)
        highest = next(i for i in order if offsets[i] + requests[i].bytes == top)
        order.remove(highest)
        order.insert(0, highest)
        offsets = _place(requests, order)
        yield offsets


def _requests(
    metadata: Mapping[str, Any], env: Mapping[str, int], alignment: int
) -> list[_Request]:
    dims = {name: Dim(name, low, high) for name, low, high in metadata["dims"]}
    known: dict[int | str, int] = {}
    requests: dict[int, _Request] = {}
    for buffer, entry in enumerate(metadata["buffers"]):
        if entry is None:
            continue
        if "over" in entry:
            host = requests[entry["over"]]
            host.buffers.append(buffer)
            host.last = max(host.last, entry["last"])
            continue
        size = entry["bytes"]
        if size not in known:
            exact = evaluate_size(parse_size(size, dims), env) if isinstance(size, str) else size
            known[size] = -(-exact // alignment) * alignment
        requests[buffer] = _Request([buffer], known[size], entry["first"], entry["last"], [])
    found = list(requests.values())
    _connect(found)
    return found


def _connect(requests: Sequence[_Request]) -> None:
    """Find who is alive at the same time as whom."""
    alive: list[int] = []
    for i in sorted(range(len(requests)), key=lambda i: requests[i].first):
        here = requests[i]
        alive = [j for j in alive if requests[j].last >= here.first]
        for j in alive:
            requests[j].near.append(i)
        here.near += alive
        alive.append(i)


def _place(requests: Sequence[_Request], order: Sequence[int]) -> list[int]:
    """The offset of every request, placed in ``order``."""
    offsets = [0] * len(requests)
    taken: list[list[tuple[int, int]]] = [[] for _ in requests]  # by those placed already
    for i in order:
        here, at = requests[i], 0
        for start, end in sorted(taken[i]):
            if at + here.bytes <= start:
                break
            if end > at:
                at = end
        offsets[i] = at
        span = (at, at + here.bytes)
        for j in here.near:
            taken[j].append(span)
    return offsets


def _top(requests: Sequence[_Request], offsets: Sequence[int]) -> int:
    return max((at + r.bytes for r, at in zip(requests, offsets)), default=0)


def _live_bytes(requests: Sequence[_Request]) -> int:
    """The most bytes alive at one step."""
    change = [0] * (max((r.last for r in requests), default=0) + 2)
    for r in requests:
        change[r.first] += r.bytes
        change[r.last + 1] -= r.bytes
    return max(accumulate(change))
