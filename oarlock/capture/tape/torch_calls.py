"""The torch calls of the code: each runs on fakes, and is put on the tape."""

from __future__ import annotations

from typing import Any

import torch

from oarlock.capture.convert.handlers import seen_by
from oarlock.capture.tape import runtime
from oarlock.capture.tape.ambience import ambient
from oarlock.capture.tape.caught import Caught
from oarlock.capture.tape.code import Code
from oarlock.capture.tape.control import Control
from oarlock.capture.tape.effort import Effort
from oarlock.capture.tape.graded import Graded
from oarlock.capture.tape.leaving import Progress
from oarlock.capture.tape.lines import user_line
from oarlock.capture.tape.nodes import Call, Val, leaves
from oarlock.capture.tape.numbers import Bool, Number
from oarlock.capture.tape.opaque import Opaque
from oarlock.capture.tape.queries import (
    LAYOUT,
    PYTHONS,
    READS,
    TOLD,
    access_of,
    is_query,
    is_update,
    name_of,
)
from oarlock.capture.tape.raising import failed
from oarlock.capture.tape.reads import Data, Sizes
from oarlock.capture.tape.run_list import RunList
from oarlock.capture.tape.sources import Source
from oarlock.capture.tape.values import Values
from oarlock.capture.tape.worlds import Worlds, inherited
from oarlock.capture.torch_private import FAKE_ERRORS, under_mode
from oarlock.errors import OarlockError, UnsupportedError

_TEXTS = ("__repr__", "__str__", "__format__")
_OF_DTYPE = ("dtype", "is_floating_point", "is_complex", "element_size", "itemsize", "nbytes")


class TorchCalls(Values):
    """Records the outermost torch calls of code that runs under it."""

    reader: Data
    sizes: Sizes
    worlds: Worlds
    graded: Graded
    opaque: Opaque
    control: Control
    code: Code
    effort: Effort
    progress: Progress
    caught: Caught
    grads_set: set[int]
    grad_guards: dict[int, tuple[Source, bool]]
    has_backward: bool

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for x in (*args, *kwargs.values()):
            if type(x) is list:
                self.merged.used(x)
        name = name_of(func)
        if name in READS:
            return self.reader.read(func, args, kwargs)
        if name in _OF_DTYPE and args and isinstance(args[0], torch.Tensor):
            self.sizes.certain(self.val(args[0]), "dtype", None)
        if name == "__deepcopy__":
            return self.copied(args[0], args[1])
        if name == "register_hook":
            return self.higher.hook(args[0], args[1], name)
        if name in _TEXTS and self.opaque.is_inside:
            return self.reader.read(func, args, kwargs)
        if _is_silent(name, func):
            return func(*args, **kwargs)
        if is_query(func) or (access_of(func) == "__get__" and name in TOLD):
            self.layout_asked |= {name} & LAYOUT
            out = func(*self.worlds.samples(args), **self.worlds.samples(kwargs))
            return self.sizes.read(func, args, kwargs, out) if name in TOLD else out
        self.effort.step()
        before = _kind(args) if is_update(func) else None
        grads = self.graded.starts(name, access_of(func), args, kwargs)
        try:
            given = {k: v for k, v in kwargs.items() if not isinstance(v, torch.Generator)}
            out, other, dynamic, found = self.worlds.run(func, args, given)  # fakes draw nothing
        except OarlockError:
            raise
        except FAKE_ERRORS as error:
            raise UnsupportedError(
                f"{self.where()}: {name}: torch can't tell what it gives before it runs ({error}); "
                f"call it before the function, and pass what it gives as an argument"
            ) from error
        except Exception as error:
            args, kwargs = self.noted(args), self.noted(kwargs)
            failed(error, Call(func, args, kwargs, None, user_line(), ambient()))
            raise
        if name == "grad" or (before is not None and before != _kind(args)):
            self.merged.are_tensors_told = True
        self.watch_grads(func, name, args, out)
        self.graded.ends(grads)
        if access_of(func) == "__get__" and not _has_tensor(out):
            return out
        if before is None and self.may_be_made(out):
            with torch._C.DisableTorchFunction():
                out = out.view_as(out)
        if dynamic and other and isinstance(out, torch.Tensor) and id(out) in self.vals:
            out = self.apart(out, other[0], args, kwargs, name == "contiguous")
        if dynamic and _is_many(out) and _may_be_of_other_length(out, other or (), found):
            return self.many(func, args, kwargs, out, other, found)
        call = self.record(func, args, kwargs, out)
        if name == "backward" or (name == "grad" and access_of(func) is None):
            self.higher.fired()
        if dynamic:
            self.differs(call, out, other, found)
        if dynamic or _has_open_number(call):
            self.open_type(func, args, kwargs, out)
        self.caught.look_at(call)
        return out

    def differs(self, call: Call, out: Any, other: Any, is_data: bool) -> None:
        """What a call gives that sizes or numbers decide differs between the worlds, and may do so
        between others."""
        givers = list(leaves((call.args, call.kwargs)))
        call.is_counted = _is_many(out)
        self.worlds.mark_fitted(call.outs)
        self.worlds.mark(call.outs, out, other, is_data, inherited(givers))
        self.control.derive(leaves(call.outs), givers)
        if name_of(call.func) in ("squeeze", "squeeze_"):
            self.sizes.squeezed(self.val(out), is_data)

    def open_type(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        """The type or dtype of what a call gives is not certain where that of a number decides it."""
        if not isinstance(out, torch.Tensor) or is_update(func):
            return
        numbers = [x for x in leaves((args, kwargs)) if isinstance(x, (Number, torch.Tensor))]
        kinds = [(x, self.types_of(x)) for x in numbers]
        with torch._C.DisableTorchFunction():
            dtype = out.dtype
        for kind in [k for k in (bool, int, float) if any(k in some for _, some in kinds)]:
            values = {id(x): kind(getattr(x, "hint", 1)) for x, some in kinds if kind in some}
            plain = PYTHONS.get(func, func) if args and id(args[0]) in values else func
            found = self.worlds.attempt(plain, args, kwargs, 0, values=values)
            if found and isinstance(found[0], torch.Tensor) and found[0].dtype != dtype:
                self.val(out).loose |= {"dtype"}
            elif found and isinstance(found[0], (bool, int, float)) and not out.dim():
                self.val(out).loose |= {"number"}

    def may_be_made(self, out: Any) -> bool:
        """A call gives back its argument, but makes a tensor of it where it is a number then."""
        known = self.vals.get(id(out)) if isinstance(out, torch.Tensor) else None
        return known is not None and bool(self.val(out).loose & {"number", "type"})

    def many(
        self, func: Any, args: Any, kwargs: Any, out: Any, others: list[Any], is_data: bool
    ) -> RunList:
        """The results of a call that gives a number of tensors that sizes decide."""
        other, *tried = others
        found = self.lists.run([len(out), len(other)], is_data)
        call = self.emit(func, args, kwargs, found.val)
        givers = [v for v in leaves((call.args, call.kwargs)) if isinstance(v, Val)]
        loose = inherited(givers)
        whole = next((v for v in givers if isinstance(v.sample, torch.Tensor)), None)
        out = out or next(filter(None, tried), other)  # what it gives where it gives any
        other = other or out
        for i, x in enumerate(out):
            val = Val(self.block, x)
            self.name(x, val)
            self.worlds.mark_one(val, x, other[min(i, len(other) - 1)], is_data, loose)
            if whole is not None and whole.sample.dim() == x.dim():  # pieces, of which one is short
                val.dims |= whole.dims
            self.lists.learn(found, x)
        return found

    def parsed(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a function of torch written in C, whose parser of arguments refuses some numbers."""
        if not any(isinstance(x, Bool) for x in leaves((args, kwargs))):
            found = function(*args, **kwargs)
            self.code.asks(function, args, kwargs, found)
            return found
        if name_of(function) == "requires_grad_":
            return function(*(self.concrete(x, "requires_grad") for x in args))
        with under_mode(self) as is_mine:
            if not is_mine:
                return function(*args, **kwargs)
            owner = getattr(function, "__self__", None)
            if isinstance(owner, torch.Tensor):
                function, args = getattr(torch.Tensor, function.__name__), (owner, *args)
            return self.__torch_function__(function, (), args, kwargs)

    def indexed(self, x: torch.Tensor, key: Any, *value: Any) -> Any:
        """``x[key]``, or ``x[key] = value``, where lists of run-time length are in ``key``."""
        function = torch.Tensor.__setitem__ if value else torch.Tensor.__getitem__
        with under_mode(self):
            return self.__torch_function__(function, (), (x, key, *value), {})

    def copied(self, x: torch.Tensor, memo: dict[int, Any]) -> torch.Tensor:
        """``copy.deepcopy(x)``; it keeps ``memo`` so that what is met twice is copied once."""
        if id(x) not in memo:
            memo[id(x)] = self.__torch_function__(runtime.deep_copy, (), (x,))
        return memo[id(x)]

    def watch_grads(self, func: Any, name: str, args: tuple, out: Any) -> None:
        """Whether a leaf from outside has a gradient is a condition, where the code asks and no
        backward pass of its own has given it one."""
        access = access_of(func)
        if name == "backward" or (name == "grad" and access is None):
            self.has_backward = True
        elif name == "grad" and access == "__set__":
            self.grads_set.add(self.val(args[0]).id)
        elif name == "grad" and access == "__get__":
            val = self.val(args[0])
            with torch._C.DisableTorchFunction():
                source = self.inputs.source_of_grad(val, out)
            if source is not None and val.id not in self.grads_set:
                self.grad_guards[val.id] = (source, out is None)

    def apart(
        self, out: torch.Tensor, other: Any, args: Any, kwargs: Any, is_by_strides: bool
    ) -> torch.Tensor:
        """``out``, or an alias of it where the call may give back an argument, and may not: it does
        in one world only, or the strides decide, which sizes of 0 and 1 leave open."""
        given = leaves(self.worlds.samples((args, kwargs), 1))
        if any(other is x for x in given) and not is_by_strides:
            return out
        with torch._C.DisableTorchFunction():
            return out.view_as(out)

    def record(self, func: Any, args: tuple, kwargs: dict[str, Any], out: Any) -> Call:
        """Append a call; tensors of ``out`` that are new become its results."""
        noted = self.note(args), self.note(kwargs)
        outs, left = self.bind(out), self.progress.before()
        call = Call(func, *noted, outs, user_line(3), ambient(), left=left, seen_by=seen_by())
        self.block.nodes.append(call)
        return call

    def emit(self, func: Any, args: tuple, kwargs: dict[str, Any], outs: Any) -> Call:
        """Append a call with given results."""
        noted, left = (self.note(args), self.note(kwargs)), self.progress.before()
        call = Call(func, *noted, outs, user_line(3), ambient(), left=left, seen_by=seen_by())
        self.block.nodes.append(call)
        return call


def _is_silent(name: str, func: Any) -> bool:
    return name == "_set_grad_enabled" or "_record_function" in str(func)


def _is_many(out: Any) -> bool:
    """Tensors in a list or plain tuple."""
    return type(out) in (list, tuple) and all(isinstance(x, torch.Tensor) for x in out)


def _may_be_of_other_length(out: Any, others: Any, is_data: bool) -> bool:
    """World B gives another number of results; where data decide, one of those tried does."""
    counts = [len(x) for x in others if x is not None]
    return any(n != len(out) for n in counts[: None if is_data else 1])


def _has_open_number(call: Call) -> bool:
    """An argument is a number or a tensor, as data decide."""
    return any(isinstance(v, Val) and "number" in v.loose for v in leaves(call.args))


def _kind(args: tuple) -> Any:
    """What an update may change of a tensor beside its data."""
    if not args or not isinstance(args[0], torch.Tensor):
        return None
    with torch._C.DisableTorchFunction():
        return args[0].shape, args[0].stride(), args[0].dtype, args[0].requires_grad


def _has_tensor(out: Any) -> bool:
    if isinstance(out, (tuple, list)):
        return any(map(_has_tensor, out))
    return isinstance(out, torch.Tensor)
