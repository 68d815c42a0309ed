"""What an engine is told about itself: inputs, outputs, dims, buffers, steps; plain JSON data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from oarlock.errors import InputError
from oarlock.ir.dim import Dim, Size, evaluate_size, solve_linear
from oarlock.ir.parser import parse_size
from oarlock.ir.signature import Signature
from oarlock.ir.types import DType, TensorType

Env = dict[str, int]


@dataclass(frozen=True)
class Port:
    """An input or output: its name, type and the buffer that it is."""

    name: str
    type: TensorType
    buffer: int


@dataclass(frozen=True)
class StatePort:
    """A tensor carried from one call to the next: input ``input`` becomes output ``output``."""

    name: str
    input: int
    output: int


class Layout:
    """A view of ``engine.json``.

    Ports are in the order of the graph; the inputs and outputs of the state are among them.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self.metadata: Mapping[str, Any] = document["metadata"]
        self.dims = {name: Dim(name, low, high) for name, low, high in self.metadata["dims"]}
        self.run_time = frozenset(document.get("run_time", ()))
        """Dims that a run gives their value."""
        self.signature = Signature.from_json(document["signature"])
        self.state = [StatePort(**s) for s in document["state"]]
        self.inputs = self._ports("input", self.signature.names)
        self.outputs = self._ports("output", ())

    def _ports(self, kind: str, names: Sequence[str]) -> list[Port]:
        ports = []
        for i, entry in enumerate(self.metadata[f"{kind}s"]):
            shape = tuple(self.size(s) for s in entry["shape"])
            type = TensorType(DType.parse(entry["dtype"]), shape)
            name = names[i] if i < len(names) else entry.get("name") or f"{kind}{i}"
            ports.append(Port(name, type, entry["buffer"]))
        return ports

    def size(self, size: int | str) -> Size:
        """A size of the metadata: an int, or text over the dims."""
        return size if isinstance(size, int) else parse_size(size, self.dims)

    @cached_property
    def limits(self) -> list[tuple[Size, str]]:
        """Sizes that must not be negative, with the reason."""
        return [(self.size(size), why) for size, why in self.metadata["limits"]]

    def check_limits(self, env: Env) -> None:
        """Raises: InputError when the program does not take these sizes."""
        for size, why in self.limits:
            if evaluate_size(size, env) < 0:
                values = ", ".join(f"{k}={v}" for k, v in env.items())
                raise InputError(f"{why}, with {values}")

    @cached_property
    def is_static(self) -> bool:
        return not self.dims

    def smallest(self) -> Env:
        """The least size of every dim, at least 1 where the range allows."""
        env = {}
        for name, dim in self.dims.items():
            low, high = dim.bounds()
            env[name] = low if high == 0 else max(low, 1)
        return env

    def solve(self, shapes: Sequence[tuple[int, ...]]) -> Env:
        """Values of the dims from the shapes of the visible inputs.

        Raises: InputError naming the input whose rank, size or range is wrong.
        """
        ports = self.visible_inputs
        for port, shape in zip(ports, shapes):
            if len(shape) != port.type.rank:
                raise _wrong(port, f"rank {port.type.rank}", shape)
        known: list[tuple[Port, int, Size, int]] = [
            (port, axis, size, got)
            for port, shape in zip(ports, shapes)
            for axis, (size, got) in enumerate(zip(port.type.shape, shape))
        ]
        env = self._assign(known)
        for port, axis, size, got in known:
            _check(port, axis, size, got, env)
        return env

    @cached_property
    def visible_inputs(self) -> list[Port]:
        """The inputs that a caller gives: all but the state."""
        hidden = {s.input for s in self.state}
        return [p for i, p in enumerate(self.inputs) if i not in hidden]

    def _assign(self, known: Sequence[tuple[Port, int, Size, int]]) -> Env:
        """Bare symbols first, then sizes with one unknown that are linear in it."""
        env: Env = {}
        for port, axis, size, got in known:
            if isinstance(size, Dim) and size.is_symbol and size.name not in env:
                env[size.name] = self._in_range(size.name, got, port, axis)
        for port, axis, size, got in known:
            unknown = size.symbols() - env.keys() if isinstance(size, Dim) else set()
            if len(unknown) == 1:
                (name,) = unknown
                value = solve_linear(size, name, env, got)
                if value is None:
                    raise _wrong(port, f"axis {axis} of a size {size}", (got,))
                env[name] = self._in_range(name, value, port, axis)
        for name, dim in self.dims.items():
            low, high = dim.bounds()
            if name not in env and name not in self.run_time:
                if low != high:
                    raise InputError(f"dim {name} follows from no input; capture with a fixed size")
                env[name] = low
        return env

    def _in_range(self, name: str, got: int, port: Port, axis: int) -> int:
        low, high = self.dims[name].bounds() if name in self.dims else (0, None)
        if got < low or (high is not None and got > high):
            allowed = f"[{low}, {'inf' if high is None else high}]"
            raise InputError(
                f"input {port.name!r}: expected {port.type} with {name} in {allowed}, "
                f"got {name}={got} on axis {axis}; capture with a wider range of {name}",
                port.name,
            )
        return got


def _check(port: Port, axis: int, size: Size, got: int, env: Mapping[str, int]) -> None:
    expected = evaluate_size(size, env)
    if expected != got:
        values = ", ".join(f"{k}={v}" for k, v in env.items())
        why = f" ({size} with {values})" if isinstance(size, Dim) else ""
        raise InputError(
            f"input {port.name!r}: expected {port.type}, axis {axis} of size {expected}{why}; "
            f"got {got}",
            port.name,
        )


def _wrong(port: Port, expected: str, shape: tuple[int, ...]) -> InputError:
    return InputError(
        f"input {port.name!r}: expected {port.type}, {expected}; got shape {list(shape)}", port.name
    )
