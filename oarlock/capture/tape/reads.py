"""What the user's code reads of tensors and Python objects while it is traced."""

from __future__ import annotations

import contextlib
from array import array
from collections import deque
from collections.abc import Iterable
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from oarlock.capture.convert.build import OPERATORS
from oarlock.capture.tape.containers import KINDS, Containers
from oarlock.capture.tape.journal import MISSING, TABLES, content, is_globals, put
from oarlock.capture.tape.nodes import Block, Call, Check, Val, leaves
from oarlock.capture.tape.numbers import Number, number_of
from oarlock.capture.tape.queries import LEFT_ALIGNED, RANKS, SIZES, access_of, name_of
from oarlock.capture.tape.sources import Source, item_path, key_of
from oarlock.capture.torch_private import is_fake
from oarlock.errors import UnsupportedError

if TYPE_CHECKING:
    from oarlock.capture.tape.tracer import Tracer

_SCALARS = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
_CODE = (type, CodeType, FunctionType, BuiltinFunctionType, ModuleType)
_SOME = {"__bool__": True, "__int__": 1, "__float__": 0.5, "__index__": 1}  # values to go on with
APART = 4  # samples of numbers that are to be apart


class Sizes:
    """Sizes of tensors: plain where they are constant, symbolic numbers elsewhere."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.known: dict[tuple[int, int], Any] = {}
        self.checked: dict[tuple[int, Any], Block] = {}
        self.ranks: set[int] = set()  # values whose number of axes is not certain

    def read(self, func: Any, args: tuple, kwargs: dict[str, Any], out: Any) -> Any:
        x = args[0]
        val = self.tracer.val(x)
        if not val.dims and not val.loose and not self.is_unsure(val):
            return out
        self.certain(val, "rank", out)
        sample, name = val.sample, name_of(func)
        if val.id in self.ranks:
            self.rank(val)
        if name in RANKS:
            return out
        if name not in SIZES:
            return self.assumed(func, args, kwargs, out, val)
        if name == "__len__":
            return self.size(val, 0)
        if name in ("numel", "nelement"):
            total: Any = 1
            for i in range(sample.dim()):
                total = total * self.size(val, i)
            return total
        axis = args[1] if len(args) > 1 else kwargs.get("dim")
        if name == "stride":
            axes = range(sample.dim()) if axis is None else [axis % sample.dim()]
            found = [self.stride(val, i) for i in axes]
            return tuple(found) if axis is None else found[0]
        if axis is not None:
            return self.size(val, axis % sample.dim())
        return torch.Size([self.size(val, i) for i in range(sample.dim())])

    def certain(self, val: Val, what: str, found: Any) -> None:
        if what in val.loose:
            raise UnsupportedError(
                f"{self.tracer.where()}: the {what} of a tensor differs between paths of a decision "
                f"on data, and is read here; give both paths the same {what}"
            )

    def size(self, val: Val, axis: int) -> Any:
        """The size of an axis of a value."""
        n = val.sample.shape[axis]
        key = (val.id, axis)
        tracer = self.tracer
        if axis not in val.dims:
            if self.is_unsure(val):
                self.check(key, n, f"axis {axis} has size {n}", torch.Tensor.size, (val, axis))
            return n
        found = self.known.get(key)
        if found is not None and tracer.block.is_within(found.val.block):
            return found
        other = val.twin.shape[axis] if val.twin is not None else n + 1
        got = Val(tracer.block, n)
        number = number_of(got, n, "data" in val.loose)
        number.other = other if other != n else n + 1
        tracer.control.derive([got], [val])
        tracer.emit(torch.Tensor.size, (val, axis), {}, got)
        self.known[key] = number
        return number

    def is_unsure(self, val: Val) -> bool:
        """What does not differ between the worlds may do so between others: 3 // 2 and 2 // 2."""
        if val.twin is None and not val.dims and not val.loose:
            return False
        return bool(val.loose) or val not in self.tracer.inputs

    def check(
        self, key: tuple[int, Any], expected: Any, what: str, func: Any, args: tuple,
        kwargs: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Assume that what a tensor tells of itself is what it was in the capture."""
        tracer, known = self.tracer, self.checked.get(key)
        if known is not None and tracer.block.is_within(known):
            return
        self.checked[key] = tracer.block
        got = Val(tracer.block, expected)
        tracer.emit(func, args, kwargs or {}, got)
        tracer.block.nodes.append(Check(got, expected, what, tracer.where()))

    def certify(self, val: Val, axes: Iterable[int]) -> None:
        """Check the sizes that the capture goes by, of axes that do not differ between the worlds."""
        for axis in axes:
            if axis not in val.dims:
                self.size(val, axis)

    def squeezed(self, val: Val, is_data: bool) -> None:
        """Sizes decide how many axes ``val`` has; where data do, that is checked once it is read."""
        if "rank" in val.loose:
            return
        self.ranks.add(val.id)
        if not is_data:
            self.rank(val)

    def rank(self, val: Val) -> None:
        n = val.sample.dim()
        self.check((val.id, "rank"), n, f"a tensor of {n} axes", torch.Tensor.dim, (val,))

    def assumed(
        self, func: Any, args: tuple, kwargs: dict[str, Any], out: Any, val: Val
    ) -> Any:  # fmt: skip
        """How a tensor lies in memory."""
        if not isinstance(out, (bool, int)):
            return out
        name = name_of(func)
        self.check((val.id, (name, args[1:])), out, f"{name} is {out}", func, args, kwargs)
        return out

    def stride(self, val: Val, axis: int) -> Any:
        """The stride of an axis of a value, which sizes of other axes decide."""
        n = val.sample.stride(axis)
        other = n + 1 if val.twin is None else val.twin.stride(axis)
        if other == n:
            if self.is_unsure(val):
                what = f"stride {n} along axis {axis}"
                self.check((val.id, ("stride", axis)), n, what, torch.Tensor.stride, (val, axis))
            return n
        number = self.tracer.number(torch.Tensor.stride, (val, axis), n, "data" in val.loose)
        number.other = other
        return number


class Data:
    """Numbers that are read from the data of tensors."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.numbers = 0  # that were read

    def read(self, func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        name = name_of(func)
        if name == "item":
            return self.item(args[0])
        if name == "tolist":
            return self.tolist(func, args[0])
        if name in ("equal", "allclose", "is_nonzero", "__contains__", LEFT_ALIGNED):
            return self.truth(func, args, kwargs)
        what = {"__bool__": "a decision", "__int__": "a plain int", "__float__": "a plain float",
                "__index__": "a plain int", "numpy": "a numpy array", "__repr__": "a text",
                "__str__": "a text", "__format__": "a text"}  # fmt: skip
        refusal = (
            f"{self.tracer.where()}: {what.get(name, name)} from the data of a tensor, "
            f"{self.tracer.unread}"
        )
        if refusal in self.tracer.reported and name in _SOME:
            return _SOME[name]
        raise UnsupportedError(refusal)

    def scalar(self, val: Val, dtype: torch.dtype) -> Any:
        if dtype == torch.bool:
            hint: Any = True
        else:
            hint = 0.5 if dtype.is_floating_point else 1
        self.numbers += hint is not True
        if self.tracer.are_apart and hint == 1 and hint is not True:
            hint += (self.numbers - 1) % APART
        val.sample = hint
        number = number_of(val, hint, True)
        number.other = (not hint) if hint is True else hint + (hint if self.tracer.are_apart else 1)
        number.is_free = True
        return number

    def item(self, x: torch.Tensor) -> Any:
        val = Val(self.tracer.block, None)
        sample = self.tracer.val(x).sample
        if sample.dtype.is_complex:
            raise UnsupportedError(
                f"{self.tracer.where()}: a complex number from data; leave out item() and keep "
                f"the tensor"
            )
        self.tracer.emit(torch.Tensor.item, (x,), {}, val)
        return self.scalar(val, sample.dtype)

    def tolist(self, func: Any, x: torch.Tensor) -> Any:
        tracer = self.tracer
        val = tracer.val(x)
        sample = val.sample
        if "rank" in val.loose or val.dims - {0} or (val.dims and not sample.dim()):
            raise UnsupportedError(
                f"{tracer.where()}: tolist of axes known at run time; loop over the rows, "
                f"`for row in x`, and take the items of each"
            )
        tracer.sizes.certify(val, range(sample.dim()))
        if val.dims:
            return self.run_list(func, x, sample)

        def build(shape: Any) -> Any:
            if not shape:
                return Val(tracer.block, None)
            return [build(shape[1:]) for _ in range(shape[0])]

        def known(outs: Any) -> Any:
            if isinstance(outs, Val):
                return self.scalar(outs, sample.dtype)
            return tracer.lists.new([known(x) for x in outs])

        outs = build(tuple(sample.shape))
        tracer.emit(func, (x,), {}, outs)
        return known(outs)  # lists are born after the call that gives what is in them

    def run_list(self, func: Any, x: torch.Tensor, sample: torch.Tensor) -> Any:
        tracer = self.tracer

        def item(shape: Any) -> Any:
            if not shape:
                return self.scalar(Val(tracer.block, None), sample.dtype)
            return tracer.lists.new([item(shape[1:]) for _ in range(shape[0])])

        val = tracer.val(x)
        twin = sample if val.twin is None else val.twin
        is_data = "data" in val.loose or sample.shape == twin.shape
        found = tracer.lists.run((sample.shape[0], twin.shape[0]), is_data)
        tracer.journal.create(found)
        tracer.emit(func, (x,), {}, found.val)
        tracer.lists.learn(found, item(tuple(sample.shape[1:])))
        return found

    def truth(self, func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        val = Val(self.tracer.block, True)
        self.tracer.emit(func, args, kwargs, val)
        number = number_of(val, True, True)
        number.other = False
        return number


class Objects:
    """Attributes, globals and closure variables of objects that exist before the call."""

    def __init__(self, tracer: Tracer, symbolic: dict[Any, tuple[Any, Any]]) -> None:
        self.tracer, self.symbolic = tracer, symbolic
        self.settings: dict[int, tuple] = {}  # of optimizers, whose items are read at each call
        self.places: dict[int, tuple[Any, Source]] = {}
        self.guarded: list[tuple[Source, Any]] = []
        self.lists: list[tuple[list[Any], Source, Any]] = []
        self.structures: list[tuple[Source, Any]] = []
        self.seen: dict[tuple[int, Any], Any] = {}
        self.given: dict[int, tuple[Any, Any, Source]] = {}  # arguments, with their stand-ins
        self.shared: list[Any] = []  # arguments that the code also meets elsewhere
        self.containers = Containers(tracer)
        self.stand_ins: dict[tuple[int, Any], Any] = {}  # for items of containers from outside
        self.presences: dict[tuple[int, str], tuple[Source, str, bool]] = {}
        self.written: set[tuple[int, Any]] = set()
        self.atoms: list[tuple[Any, Source]] = []  # arguments that hold no tensors

    def is_outer(self, x: Any) -> bool:
        """An argument, or an object that the code has read, which guards compare by identity."""
        return any(x is y for y, _ in self.atoms) or any(x is y for _, y in self.guarded)

    def know(self, obj: Any, source: Source | None = None) -> None:
        """``obj`` exists before the call."""
        self.places.setdefault(id(obj), (obj, source or Source(obj, "")))

    def source(self, owner: Any) -> Source | None:
        if id(owner) in self.places:
            return self.places[id(owner)][1]
        if id(owner) in self.tracer.journal.frames[0].born:
            return None
        if isinstance(owner, (CellType, ModuleType, type)) or is_globals(owner):
            return Source(owner, "")
        if isinstance(owner, torch.Tensor) and id(owner) in self.tracer.inputs.state:
            return self.tracer.inputs.state[id(owner)][1]
        if isinstance(owner, FunctionType) and OPERATORS not in owner.__code__.co_freevars:
            return Source(owner, "")
        return None

    def read(self, owner: Any, name: Any, value: Any) -> Any:
        """What code gets that reads ``name`` of ``owner``."""
        self.tracer.noticing.reads(owner, name)
        source = self.source(owner)
        if source is None:
            owner = _giver(owner, name, value)
            source = None if owner is None else self.source(owner)
        self.tracer.machinery.reads(owner, name)
        if source is None or isinstance(value, ModuleType) or _is_property(owner, name):
            return value
        if self.is_changed(owner, name, value):
            return value
        key = (id(owner), "" if isinstance(owner, CellType) else name)
        if key not in self.seen:
            at = source.step(path_of(owner, name))
            if isinstance(owner, CellType) or is_globals(owner):
                at = Source(at.base, at.path, name)
            self.seen[key] = (value, self.first(at, value))
        first, found = self.seen[key]
        is_other = value is not first and (isinstance(value, Number) or _is_other(value, first))
        return value if is_other else found

    def substitute(self, obj: Any) -> None:
        """The numbers in ``obj`` that later calls may find other are symbolic in it from now on, so
        that one that code puts there is not taken for one that was there."""
        source = self.source(obj)
        held = content(obj) if source is not None else None
        if source is None or not isinstance(held, dict):
            return
        for key, value in held.items():
            if type(value) not in (int, float):
                continue
            if key_of(source.step(path_of(obj, key)), -1) not in self.symbolic:
                continue
            found = self.read(obj, key, value)
            if isinstance(found, Number):
                self.stand_ins[(id(obj), key)] = found
                put(obj, {**content(obj), key: found})

    def wrote(self, owner: Any, name: Any, value: Any) -> None:
        """Code writes ``value``, maybe where that is already: another one may be there in later calls."""
        old = _item(owner, name)
        if old is not MISSING and type(old) is type(value) and old is value:
            self.read(owner, name, value)
        else:
            self.written.add((id(owner), name))

    def has(self, owner: Any, name: str) -> None:
        """Code asks whether ``owner`` has an attribute: whether it had one before the call counts."""
        source = self.source(owner)
        if source is None or (hasattr(torch.Tensor, name) and isinstance(owner, torch.Tensor)):
            return
        entry = self.tracer.journal.frames[0].before.get(id(owner))
        found = hasattr(owner, name) if entry is None else self.had(owner, name, entry[1])
        self.presences[(id(owner), name)] = (source, name, found)

    def had(self, owner: Any, name: str, old: Any) -> bool:
        if isinstance(owner, (list, *KINDS)):
            return hasattr(owner, name)
        tables = [old, *(old[t] for t in TABLES if isinstance(old.get(t), dict))]
        return any(name in table for table in tables) or hasattr(type(owner), name)

    def now(self, owner: Any, key: Any, value: Any) -> Any:
        """What ``value``, found in an object that code changes, is at run time."""
        return self.read(owner, key, value)

    def first(self, at: Source, value: Any) -> Any:
        tracer = self.tracer
        if isinstance(value, torch.Tensor):
            if not is_fake(value):
                tracer.inputs.state.setdefault(id(value), (value, at))
                tracer.inputs.met(value, at)
            return value
        if type(value) in (int, float):
            return tracer.inputs.plain(value, at, self.guarded)
        if isinstance(value, Number) or id(value) in self.settings:
            return value
        if id(value) in self.given:
            tracer.inputs.aliases.append((self.given[id(value)][2], at))
            self.shared.append(value)
            return self.given[id(value)][1]
        if type(value) is list:
            return self.list_read(at, value)
        if isinstance(value, tuple) and (
            any(isinstance(x, torch.Tensor) for x in leaves(value)) or _is_plain(value)
        ):
            return self.tuple_read(at, value)
        known = self.places.get(id(value))
        if known is not None and (known[1].base, known[1].path) == (at.base, at.path):
            return value
        if _is_made_anew(at, value):
            return value
        self.guarded.append((at, value))
        if isinstance(value, _CODE):
            return value
        if isinstance(value, np.ndarray):
            tracer.code.array(at, value)
        if type(value) is tuple:
            self.inside(at, value)
        elif not isinstance(value, _SCALARS):
            self.know(value, at if isinstance(value, KINDS) else None)
            if isinstance(value, (set, deque, bytearray, array)):
                self.containers.observe(value)
        return value

    def inside(self, at: Source, value: tuple) -> None:
        """Objects in a tuple, which may change though the tuple is the same."""
        for i, x in enumerate(value):
            if not isinstance(x, (*_SCALARS, list)):
                self.first(at.step(f"[{i}]"), x)

    def tuple_read(self, at: Source, value: tuple) -> tuple:
        """A tuple of tensors or of plain values: another of this structure may be there at the next
        call."""
        self.structures.append((at, value))
        items = [self.first(at.step(f"[{i}]"), x) for i, x in enumerate(value)]
        if all(a is b for a, b in zip(items, value)):
            return value
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)

    def list_read(self, at: Source, value: list[Any]) -> Any:
        """The stand-in of a list from outside; its content is guarded once it is used."""
        tracer = self.tracer
        for known, source, stand_in in self.lists:
            if known is value:
                tracer.inputs.aliases.append((source, at))
                return stand_in

        def observed() -> None:
            self.structures.append((at, list(value)))
            items = [self.first(at.step(f"[{i}]"), x) for i, x in enumerate(value)]
            list.__setitem__(found, slice(None), items)

        found = tracer.lists.outer(list(value), at, observed)
        self.lists.append((value, at, found))
        self.places[id(found)] = (found, at)
        return found

    def is_changed(self, owner: Any, name: Any, value: Any) -> bool:
        """The traced code itself has put ``value`` there."""
        entry = self.tracer.journal.frames[0].before.get(id(owner))
        if entry is None:
            return self.is_below_changed(owner, name, value)
        old = entry[1]
        name = "cell_contents" if isinstance(owner, CellType) else name
        if (id(owner), name) in self.stand_ins:
            return True
        if isinstance(old, dict):
            if name not in old and _giver(owner, name, value) is not None:
                return self.is_below_changed(owner, name, value)
            return old.get(name) is not value
        return content(owner) != old if not isinstance(old, list) else True

    def is_below_changed(self, owner: Any, name: Any, value: Any) -> bool:
        """The traced code has put ``value`` in the class of ``owner``."""
        before = self.tracer.journal.frames[0].before
        if not isinstance(name, str) or name in getattr(owner, "__dict__", ()):
            return False
        for cls in type(owner).__mro__:
            if id(cls) in before:
                is_new = before[id(cls)][1].get(name, MISSING) is not value
                if is_new:
                    self.tracer.code.unshadowed(owner, name)
                return is_new
            if name in vars(cls):
                return False
        return False


def _giver(owner: Any, name: Any, value: Any) -> Any:
    """The class that gives ``value`` for an attribute that ``owner`` has not itself."""
    if not isinstance(name, str) or name in getattr(owner, "__dict__", ()):
        return None
    classes = (cls for cls in type(owner).__mro__ if name in vars(cls))
    found = next(classes, None)
    return found if found is not None and vars(found)[name] is value else None


def _is_other(value: Any, first: Any) -> bool:
    """Plain values that differ: the code has changed what is there."""
    plain = (bool, int, float, str, bytes, type(None))
    return type(value) in plain and (type(value) is not type(first) or value != first)


def _is_made_anew(at: Source, value: Any) -> bool:
    """Each time that it is read another object is made, of what is in the owner."""
    if isinstance(value, (*_SCALARS, tuple)) or at.base is None:
        return False
    with contextlib.suppress(AttributeError, LookupError, TypeError, ValueError):
        return at.value() is not value
    return False


def path_of(owner: Any, name: Any) -> str:
    if isinstance(owner, CellType):
        return ".cell_contents"
    if isinstance(owner, (dict, list)) or (isinstance(owner, tuple) and not isinstance(name, str)):
        return item_path(name)
    return f".{name}"


def _item(owner: Any, name: Any) -> Any:
    """What ``owner`` holds under ``name``."""
    if isinstance(owner, dict):
        return dict.get(owner, name, MISSING)
    return getattr(owner, "__dict__", {}).get(name, MISSING)


def _is_plain(x: tuple) -> bool:
    """A tuple of scalars, and of such tuples."""
    return type(x) is tuple and all(
        isinstance(i, _SCALARS) or (isinstance(i, tuple) and _is_plain(i)) for i in x
    )


def _is_property(owner: Any, name: Any) -> bool:
    if isinstance(owner, (dict, list, tuple, CellType)) or not isinstance(name, str):
        return False
    return isinstance(getattr(type(owner), name, None), property)


__all__ = ["Call", "Data", "Objects", "Sizes", "access_of"]
