"""Index maps: where an element of a node's output comes from, as sizes over loop symbols.

An index is a tuple of ``Size``, one per axis, polynomials over loop symbols (and program dims).
``Space`` knows the extent of every loop symbol, so that ``(i*N + j) // N`` is ``i`` when j < N.
When a reshape would leave a division, the space notes how a loop could be split to avoid it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from oarlock.codegen import loops as L
from oarlock.ir.dim import Call, Dim, Size, bounds, product, substitute_size
from oarlock.ir.graph import Node, Value

Index = tuple[Size, ...]
PICKED = "_pick"  # symbols of places that data decides, and no loop runs through


@dataclass
class Space:
    """Loop symbols with their extents; ``splits`` are (symbol, inner extent) that would help."""

    extents: dict[str, Size] = field(default_factory=dict)
    splits: list[tuple[str, Size]] = field(default_factory=list)
    divides: bool = False  # a division was left in some index

    def symbol(self, name: str, extent: Size) -> Dim:
        """A new loop symbol, 0 <= symbol < extent."""
        self.extents[name] = extent
        high = bounds(extent)[1]
        return Dim(name, 0, None if high is None else max(0, high - 1))

    def symbols(self, index: Index) -> set[str]:
        """Names of the loop symbols in an index, without the program's dims."""
        used = (i.symbols() for i in index if isinstance(i, Dim))
        return set().union(*used, set()) & self.extents.keys()

    def quotient_remainder(self, at: Size, n: Size) -> tuple[Size, Size]:
        """``at // n, at % n`` for at >= 0, without divisions where extents prove it."""
        if n == 0:
            return 0, 0
        whole = sum((t // n for t in terms(at) if t % n == 0), start=0)
        rest = at - whole * n
        if rest == 0 or self.is_below(rest, n):
            return whole, rest
        multiple = sum(t // n for t in terms(rest) if isinstance(t, int) and isinstance(n, int))
        if multiple and self.is_below(rest - multiple * n, n):
            return whole + multiple, rest - multiple * n
        if isinstance(rest, Dim):
            self._request_splits(rest, n)
            self.divides |= not any(name.startswith(PICKED) for name in rest.symbols())
        return whole + rest // n, rest % n

    def is_below(self, rest: Size, n: Size) -> bool:
        """``0 <= rest < n``, proven."""
        if bounds(rest)[0] < 0:
            return False
        if bounds(n - rest)[0] > 0:
            return True
        if not isinstance(rest, Dim) or any(self._in_call(a) for m, _ in rest.terms for a in m):
            return False
        highest = {name: extent - 1 for name, extent in self.extents.items()}
        return all(c > 0 for _, c in rest.terms) and bounds(n - rest.substitute(highest))[0] > 0

    def _in_call(self, atom: object) -> bool:
        return isinstance(atom, Call) and any(
            isinstance(x, Dim) and x.symbols() & self.extents.keys() for x in (atom.a, atom.b)
        )

    def _request_splits(self, rest: Dim, n: Size) -> None:
        for name in sorted(rest.symbols() & self.extents.keys()):
            stride, extent = L.stride_of(rest, name), self.extents[name]
            if stride is None or stride == 0 or n % stride != 0 or name.startswith(PICKED):
                continue
            inner = n // (-stride if isinstance(stride, int) and stride < 0 else stride)
            if bounds(inner)[0] < 1:
                continue
            if inner not in (1, extent) and extent % inner == 0:
                self.splits.append((name, inner))


def terms(size: Size) -> list[Size]:
    """The terms of a polynomial."""
    if isinstance(size, int):
        return [size] if size else []
    result: list[Size] = []
    for monomial, c in size.terms:
        term: Size = c
        for atom in monomial:
            term = term * L.size_of_atom(atom)
        result.append(term)
    return result


def strides_of(shape: Sequence[Size]) -> list[Size]:
    """Row-major strides, elements."""
    return [product(shape[k + 1 :]) for k in range(len(shape))]


def linear(index: Index, shape: Sequence[Size]) -> Size:
    """The row-major position, elements."""
    total: Size = 0
    for i, stride in zip(index, strides_of(shape)):
        total = total + i * stride
    return total


def reindex(index: Index, shape: Sequence[Size], target: Sequence[Size], space: Space) -> Index:
    """The index in ``target`` of the element at ``index`` in ``shape``, both row-major."""
    groups = aligned_groups(shape, target)
    result: list[Size] = []
    for (a, b), (c, d) in groups:
        part = linear(index[a:b], shape[a:b])
        result += _delinearise(part, target[c:d], space)
    return tuple(result)


def aligned_groups(
    shape: Sequence[Size], target: Sequence[Size]
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Runs of axes of both shapes with equal products, as short as possible."""
    groups, a, c, i, j = [], 0, 0, 0, 0
    x: Size = 1
    y: Size = 1
    while i < len(shape) or j < len(target):
        take_first = i < len(shape) and (j >= len(target) or not _ahead(x, y) or j == c)
        if take_first and (i == a or _ahead(y, x) or j > c or j >= len(target)):
            x, i = x * shape[i], i + 1
        else:
            y, j = y * target[j], j + 1
        if x == y and i > a and j > c:
            while i < len(shape) and shape[i] == 1 and not (j < len(target) and target[j] == 1):
                i += 1
            while j < len(target) and target[j] == 1 and not (i < len(shape) and shape[i] == 1):
                j += 1
            groups.append(((a, i), (c, j)))
            a, c, x, y = i, j, 1, 1
    if a < i or c < j:
        groups.append(((a, i), (c, j)))
    return groups


def _ahead(x: Size, y: Size) -> bool:
    """``x`` is a proper multiple of ``y``, or larger."""
    if isinstance(x, int) and isinstance(y, int):
        return x > y
    return x != y and y != 0 and x % y == 0


def _delinearise(at: Size, shape: Sequence[Size], space: Space) -> list[Size]:
    result: list[Size] = []
    for k in range(len(shape) - 1, 0, -1):
        if shape[k] == 1:
            result.append(0)
            continue
        if product(shape[:k]) == 1:
            result += [at, *([0] * k)]
            return result[::-1]
        at, inner = space.quotient_remainder(at, shape[k])
        result.append(inner)
    return [*([at] if shape else []), *result[::-1]]


def memory_below(value: Value, computed: Collection[Node]) -> Value | None:
    """The memory that ``value`` lies in, in the same order, unless one of ``computed`` makes it."""
    while value.producer is not None and value.producer in computed:
        if value.producer.name != "reshape":
            return None
        value = value.producer.inputs[0]
    return value


# ---- views: the index of the input from that of the output, and back for bijective ones ----------


def broadcast(index: Index, shape: Sequence[Size]) -> Index:
    """The index of an operand of ``shape`` that broadcasts to where ``index`` points."""
    tail = index[len(index) - len(shape) :]
    return tuple(0 if n == 1 else i for i, n in zip(tail, shape))


def _reshape(node: Node, index: Index, space: Space) -> Index:
    return reindex(index, node.output.shape, node.inputs[0].shape, space)


def _transpose(node: Node, index: Index, space: Space) -> Index:
    result: list[Size] = [0] * len(index)
    for k, axis in enumerate(node.op.perm):  # type: ignore[attr-defined]
        result[axis % len(index)] = index[k]
    return tuple(result)


def _broadcast_to(node: Node, index: Index, space: Space) -> Index:
    return broadcast(index, node.inputs[0].shape)


def _slice(node: Node, index: Index, space: Space) -> Index:
    starts, steps = node.op.starts, node.op.steps  # type: ignore[attr-defined]
    return tuple(i * step + start for i, start, step in zip(index, starts, steps))


def _flip(node: Node, index: Index, space: Space) -> Index:
    shape = node.output.shape
    axes = {k % len(shape) for k in node.op.axes}  # type: ignore[attr-defined]
    return tuple(shape[k] - 1 - i if k in axes else i for k, i in enumerate(index))


BACKWARD: dict[str, Callable[[Node, Index, Space], Index]] = {
    "reshape": _reshape,
    "transpose": _transpose,
    "broadcast_to": _broadcast_to,
    "slice": _slice,
    "flip": _flip,
}


def _reshape_forward(node: Node, index: Index, space: Space) -> Index:
    return reindex(index, node.inputs[0].shape, node.output.shape, space)


def _transpose_forward(node: Node, index: Index, space: Space) -> Index:
    return tuple(index[axis % len(index)] for axis in node.op.perm)  # type: ignore[attr-defined]


FORWARD: dict[str, Callable[[Node, Index, Space], Index]] = {
    "reshape": _reshape_forward,
    "transpose": _transpose_forward,
    "flip": _flip,
}


def substitute(index: Index, env: dict[str, Size]) -> Index:
    """Symbols of an index replaced."""
    return tuple(substitute_size(i, env) for i in index)
