"""Draws of Python's and numpy's generators, and the clock: numbers of the run, not of the capture."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from oarlock.capture.tape.nodes import Val
from oarlock.capture.tape.numbers import Number, number_of
from oarlock.capture.torch_private import is_dispatching
from oarlock.errors import UnsupportedError

if TYPE_CHECKING:
    from oarlock.capture.tape.tracer import Tracer

_NUMPY = (np.random.RandomState, np.random.Generator)
_CLOCKS = [
    getattr(time, name + unit)
    for name in ("time", "perf_counter", "monotonic", "process_time", "thread_time")
    for unit in ("", "_ns")
]
_HINTS = {"random": 0.5, "getrandbits": 1}
Held = list[tuple[Callable[[Any], None], Any]]


def drawn(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Raises: NotImplementedError in a recording, which would keep the number."""
    if is_dispatching():
        raise NotImplementedError(f"{function.__name__} in a program")
    return function(*args, **kwargs)


class Chance:
    """What the tracer calls in place of functions that give another number each time."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer

    def override(self, function: Any) -> Callable[..., Any] | None:
        """In place of ``function``, or None."""
        if any(function is clock for clock in _CLOCKS):
            return lambda: self.number(function, (), {}, 1 if "_ns" in function.__name__ else 1.0)
        if function is np.random.seed:
            return lambda *args, **kwargs: self.call(function, args, kwargs, None)
        owner = getattr(function, "__self__", None) if callable(function) else None
        if isinstance(owner, random.Random):
            return self.of_python(function, function.__name__)
        if isinstance(owner, _NUMPY):
            return lambda *args, **kwargs: self.of_numpy(function, owner, args, kwargs)
        return None

    def of_python(self, function: Any, name: str) -> Callable[..., Any] | None:
        if name in _HINTS:
            return lambda *args: self.number(function, args, {}, _HINTS[name])
        if name == "seed":
            return lambda *args, **kwargs: self.call(function, args, kwargs, None)
        if name in ("getstate", "setstate", "shuffle", "sample"):
            return lambda *args, **kwargs: self.refuse(f"random.{name}", "torch.randperm")
        return None

    def of_numpy(self, function: Any, owner: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        if function.__name__ == "seed":
            return self.call(function, args, kwargs, None)
        if any(isinstance(x, Number) for x in (*args, *kwargs.values())):
            return self.refuse(f"numpy.random.{function.__name__}", "a function of torch")
        held = states([owner])
        found = function(*args, **kwargs)
        put_back(held)
        if type(found) not in (int, float):
            return self.refuse(f"numpy.random.{function.__name__}", "a function of torch")
        return self.number(function, args, kwargs, found)

    def number(self, function: Any, args: tuple, kwargs: dict[str, Any], hint: Any) -> Any:
        val = Val(self.tracer.block, hint)
        self.call(function, args, kwargs, val)
        found = number_of(val, hint, True)
        found.other = hint + 1
        return found

    def call(self, function: Any, args: tuple, kwargs: dict[str, Any], out: Any) -> None:
        self.tracer.emit(drawn, (function, *args), kwargs, out)

    def refuse(self, what: str, instead: str) -> Any:
        raise UnsupportedError(
            f"{self.tracer.where()}: {what} gives what is known at run time only; draw with {instead}, "
            f"or pass what it gives as an argument"
        )


def states(objects: Any) -> Held:
    """The states of generators, each with what sets it again."""
    found: Held = []
    for x in objects:
        if isinstance(x, random.Random):
            found.append((x.setstate, x.getstate()))
        elif isinstance(x, np.random.RandomState):
            found.append((x.set_state, x.get_state()))
        elif isinstance(x, np.random.Generator):
            bits = x.bit_generator
            found.append((lambda state, bits=bits: setattr(bits, "state", state), bits.state))
    return found


def fingerprint(state: Any) -> Any:
    """Texts that are equal where states are."""
    if isinstance(state, np.ndarray):
        return state.tobytes()
    if isinstance(state, dict):
        return [fingerprint(x) for x in state.values()]
    if isinstance(state, tuple) and len(state) < 10:
        return [fingerprint(x) for x in state]
    return repr(state)


def put_back(held: Held) -> None:
    for put, state in held:
        put(state)


def shared() -> list[Any]:
    """The generators of Python and numpy that everybody uses."""
    return [random._inst, np.random.mtrand._rand]  # type: ignore[attr-defined]
