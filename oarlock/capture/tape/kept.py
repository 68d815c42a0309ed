"""Results that hold values of one call where no other call can put its own: they are refused."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterable, Iterator
from types import CellType, FunctionType, GeneratorType, ModuleType
from typing import Any

import torch

from oarlock.capture.convert.cursors import Stream
from oarlock.capture.convert.state import Text
from oarlock.capture.tape.choice import Choice
from oarlock.capture.tape.numbers import Number
from oarlock.capture.tape.run_list import RunList
from oarlock.capture.tape.tables import RunTable
from oarlock.capture.torch_private import is_fake
from oarlock.errors import UnsupportedError

_MOST = 2000  # objects that are looked at
_LIBRARIES = ("torch", "oarlock", "numpy")
ITERATORS = (
    GeneratorType, Stream, map, filter, zip, enumerate, reversed, type(iter([])), type(iter(())),
    type(iter({})), type(iter({}.values())), type(iter({}.items())), type(iter(set())),
    type(iter(range(0))), type(reversed([])), type(iter("")),
    *(x for x in vars(itertools).values() if isinstance(x, type)),
)  # fmt: skip


def refuse_kept(x: Any, where: Any) -> None:
    """Raises: UnsupportedError where ``x``, which is made anew as it is, belongs to one call only."""
    if isinstance(x, ITERATORS):
        raise UnsupportedError(
            f"{where}: the function gives or keeps an iterator, of class {type(x).__name__}: the next "
            f"call would go on where this one stops; make a list of it"
        )
    if holds_fake(x):
        raise UnsupportedError(
            f"{where}: the function gives or keeps {_named(x)} that holds tensors or numbers of the "
            f"call; give a list, a tuple, a dict or an object with attributes"
        )


def _named(x: Any) -> str:
    if isinstance(x, FunctionType):
        return "a lambda" if x.__name__ == "<lambda>" else f"a function {x.__name__}"
    return f"an object of class {type(x).__name__}"


def holds_fake(x: Any) -> bool:
    """A value of the run is reachable from ``x``."""
    seen, waiting = {id(x)}, [x]
    while waiting and len(seen) < _MOST:
        one = waiting.pop()
        if _is_of_run(one):
            return True
        for inner in _inside(one):
            if id(inner) not in seen:
                seen.add(id(inner))
                waiting.append(inner)
    return False


def _is_of_run(x: Any) -> bool:
    if isinstance(x, torch.Tensor):
        return is_fake(x)
    return isinstance(x, (Number, Choice, Text, RunTable)) or (
        isinstance(x, RunList) and x.val is not None
    )


def _inside(x: Any) -> Iterable[Any]:
    """What an object holds, but for code and libraries."""
    if isinstance(x, RunList):
        return list.__iter__(x)
    if isinstance(x, FunctionType):
        return [*(x.__closure__ or ()), *(x.__defaults__ or ()), *(x.__kwdefaults__ or {}).values()]
    if isinstance(x, CellType):
        return _content(x)
    if isinstance(x, GeneratorType):
        return list(x.gi_frame.f_locals.values()) if x.gi_frame is not None else ()
    if isinstance(x, (type, ModuleType, str, bytes, int, float, torch.Tensor)):
        return ()
    is_library = type(x).__module__.partition(".")[0] in _LIBRARIES
    return () if is_library else gc.get_referents(x)


def _content(cell: CellType) -> Iterator[Any]:
    try:
        yield cell.cell_contents
    except ValueError:
        return
