"""Two worlds of sizes: which axes of a result may differ at run time is seen by running a call in both.

In world A every run-time size and number has one value that could be, in world B another one, both
consistent over the whole program.  An axis that is equal in both is taken as constant; where the
user's code reads it, the replay checks that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import torch

from oarlock.capture.convert.handlers import open_handlers
from oarlock.capture.tape import probes, stretched
from oarlock.capture.tape.join import stand_in
from oarlock.capture.tape.nodes import Val, leaves, map_tree
from oarlock.capture.tape.numbers import Number
from oarlock.capture.tape.packed import kernel_of
from oarlock.capture.tape.queries import is_update
from oarlock.capture.tape.run_list import LENGTHS, RunList
from oarlock.capture.torch_private import is_fake
from oarlock.errors import OarlockError, UnsupportedError

if TYPE_CHECKING:
    from oarlock.capture.tape.tracer import Tracer

_OTHERS = (0, 1, 2, 3)
STEPS = 4000  # of a call that is tried with a number out of every range
_BACKWARD = (torch.Tensor.backward, torch.autograd.backward, torch.autograd.grad)


class Worlds:
    """Runs torch calls on fakes."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.fitted: Any = ()  # what the world that can't make the last call would have

    def samples(
        self, tree: Any, world: int = 0, number: int | None = None,
        values: dict[int, Any] | None = None,
    ) -> Any:  # fmt: skip
        """``tree`` with fakes and plain numbers of a world; ``number``: for every int from data;
        ``values``: of some numbers, by id."""

        def sample(x: Any) -> Any:
            if values is not None and id(x) in values and isinstance(x, torch.Tensor):
                return values[id(x)]
            if isinstance(x, torch.Tensor):
                fake = x if is_fake(x) else self.tracer.inputs.fake_of(x)
                if world:
                    twin = self.tracer.val(fake).twin
                    return fake if twin is None else twin
                return fake
            if isinstance(x, Number):
                if number is not None and x.is_data and type(x.hint) is int:
                    return number
                if values is not None:
                    return probes.value(x, values)
                return x.other if world else x.hint
            if isinstance(x, RunList):
                return self.items(x, world, sample)
            return x

        return map_tree(tree, sample)

    def given(self, func: Any, args: tuple, world: int = 0, number: int | None = None) -> Any:
        """Samples of the arguments of a call; a slice between two numbers from data is not empty."""
        given = self.samples(args, world, number)
        if getattr(func, "__name__", "") not in ("__getitem__", "__setitem__"):
            return given
        if not isinstance(given[0], torch.Tensor):
            return given
        return (given[0], opened(given[0].shape, args[1], given[1], world), *given[2:])

    def items(self, x: RunList, world: int, sample: Callable[[Any], Any]) -> list[Any]:
        if x.val is None:
            return [map_tree(item, sample) for item in list.__iter__(x)]
        one = map_tree(self.tracer.sample_of(x.item), sample)
        return [one] * (x.lengths or LENGTHS)[world]

    def is_dynamic(self, tree: Any) -> bool:
        """Some argument's size or value differs at run time."""
        for x in leaves(tree):
            if isinstance(x, Number) or (isinstance(x, RunList) and x.val is not None):
                return True
            if isinstance(x, RunList) and self.is_dynamic(list(list.__iter__(x))):
                return True
            if isinstance(x, torch.Tensor) and is_fake(x):
                val = self.tracer.val(x)
                if val.dims or val.twin is not None or val.loose:
                    return True
        return False

    def run(self, func: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
        """``(result in A, result in B or None, is dynamic, depends on data)``."""
        if func in _BACKWARD:
            kwargs = {**kwargs, "retain_graph": True}  # stand-ins of two ways share their graphs
        func = kernel_of(func, args, self.tracer.data) or func
        self.fitted = ()
        data, dynamic = self.tracer.data, self.is_dynamic((args, kwargs))
        uses = data.uses
        out, is_first = self.first(func, args, kwargs, dynamic)
        found = data.uses > uses
        if not (dynamic or found):
            return out, None, False, False
        found = found or any(map(self.is_data, leaves((args, kwargs))))
        other = self.others(func, args, kwargs) if is_first else None
        if other is None and func not in _BACKWARD and not is_update(func):
            moved = stretched.moved(self, func, args, kwargs, out, 0 if is_first else 1)
            out, self.fitted = (out, moved) if is_first else (moved, out)
        return out, other, True, found

    def others(self, func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """The result in world B, and those with numbers of other distances."""
        second = self.second(func, args, kwargs) or self.refitted(func, args, kwargs, 1)
        if second is None:
            self.refuse_caught(RuntimeError("at the sizes of another call"), func, args, kwargs)
            return None
        for values in probes.assignments((args, kwargs)):
            found = self.attempt(func, args, kwargs, 0, values=values) if values else None
            second.append(found[0] if found else None)
        return second

    def is_data(self, x: Any) -> bool:
        if isinstance(x, Number):
            return x.is_data
        if isinstance(x, torch.Tensor) and is_fake(x):
            return "data" in self.tracer.val(x).loose
        return isinstance(x, RunList) and x.lengths is None

    def first(self, func: Any, args: tuple, kwargs: dict[str, Any], dynamic: bool) -> Any:
        """``(result, it is one of world A)``"""
        data = self.tracer.data
        uses = data.uses
        try:
            return func(*self.given(func, args), **self.samples(kwargs)), True
        except OarlockError:
            raise
        except Exception as error:
            if not dynamic and data.uses == uses:
                raise
            self.refuse_caught(error, func, args, kwargs)
            for number in _OTHERS:
                found = self.attempt(func, args, kwargs, 0, number)
                if found is not None:
                    return found[0], True
            found = self.attempt(func, args, kwargs, 1)
            if found is not None:
                return found[0], False
            found = self.refitted(func, args, kwargs, 0)
            if found is not None:
                return found[0], True
            raise UnsupportedError(
                f"{self.tracer.where()}: {getattr(func, '__name__', func)} with a size or number "
                f"that is known at run time only ({error}); decide with `if` on it before, or "
                f"pass what depends on it as an argument"
            ) from error

    def refuse_caught(self, error: Exception, func: Any, args: tuple, kwargs: dict) -> None:
        """Raises: UnsupportedError where code goes on after an error that sizes decide."""
        if open_handlers(error) and not any(map(self.is_data, leaves((args, kwargs)))):
            raise UnsupportedError(
                f"{self.tracer.where()}: {getattr(func, '__name__', func)} fails for some sizes, and "
                f"the error is caught ({error}); decide with `if` on them"
            ) from error

    def second(self, func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """The result in world B, in a list; None when it can't be had."""
        data = self.tracer.data
        data.count, data.number = data.count + 2, data.number + 1
        try:
            return self.attempt(func, args, kwargs, 1)
        finally:
            data.count, data.number = data.count - 2, data.number - 1

    def attempt(
        self, func: Any, args: tuple, kwargs: dict[str, Any], world: int,
        number: int | None = None, values: dict[int, Any] | None = None,
    ) -> Any:  # fmt: skip
        data = self.tracer.data
        before, data.number = data.number, data.number if number is None else number
        try:
            if values is None:
                given = self.given(func, args, world, number)
            else:
                given = self.samples(args, world, number, values)
            with self.tracer.fake.tried(None if values is None else STEPS):
                return [func(*given, **self.samples(kwargs, world, number, values))]
        except Exception:
            return None
        finally:
            data.number = before

    def refitted(self, func: Any, args: tuple, kwargs: dict[str, Any], world: int) -> Any:
        """The result where sizes that data decide are those that the other tensors have: torch holds
        them against each other when it runs."""
        given = self.samples((args, kwargs), world)
        loose = [
            x for x in leaves((args, kwargs)) if isinstance(x, torch.Tensor) and self.is_data(x)
        ]
        if not loose or is_update(func):
            return None
        known = {id(x) for x in self.samples(loose, world)}
        axes = {id(x): self.tracer.val(y).dims for x, y in zip(self.samples(loose, world), loose)}
        others = (x for x in leaves(given) if isinstance(x, torch.Tensor) and id(x) not in known)
        for size in dict.fromkeys(n for x in others for n in x.shape):
            fitted = map_tree(given, lambda x: _with_size(x, axes.get(id(x), ()), size))  # noqa: B023
            try:
                return [func(*fitted[0], **fitted[1])]
            except Exception:
                continue
        return None

    def mark(self, outs: Any, out: Any, other: Any, found: bool, loose: frozenset[str]) -> None:
        """Which axes of the results differ between the worlds."""
        vals = list(leaves(outs))
        mine = list(leaves(out))
        theirs = _like(mine, other[0] if other is not None else None)
        probed = [_like(mine, x) for x in other[1:]] if other is not None else []
        for i, (val, a, b) in enumerate(zip(vals, mine, theirs)):
            if isinstance(val, Val) and isinstance(a, torch.Tensor):
                self.mark_one(val, a, b, found, loose, [x[i] for x in probed])

    def mark_fitted(self, outs: Any) -> None:
        """The other world's results of a call that one world can't make."""
        for val, x in zip(leaves(outs), leaves(self.fitted)):
            if isinstance(val, Val) and isinstance(x, torch.Tensor):
                val.twin = x

    def mark_one(
        self, val: Val, a: torch.Tensor, b: Any, found: bool, loose: frozenset[str],
        probed: Sequence[Any] = (),
    ) -> None:  # fmt: skip
        if not isinstance(b, torch.Tensor) or b.dim() != a.dim():
            dims = frozenset(range(a.dim()))
            rank = isinstance(b, torch.Tensor)
            loose |= {"rank"} if rank else frozenset()
        else:
            dims = _differing(a, b)
            val.twin = b
            more = frozenset().union(*(_differing(a, x) for x in probed)) - dims
            if more:
                dims |= more
                val.twin = next((x for x in probed[:-1] if _differing(a, x) >= dims), None)
            if more and val.twin is None:
                sizes = [n + 1 if i in more else n for i, n in enumerate(b.shape)]
                val.twin = stand_in(sizes, b.dtype, b.device, b.requires_grad, [])
        val.dims = dims
        if dims and found:
            loose |= {"data"}
        val.loose |= loose


def _with_size(x: Any, axes: Collection[int], size: int) -> Any:
    """A stand-in of a fake that has ``size`` on some axes."""
    if not axes:
        return x
    shape = [size if i in axes else n for i, n in enumerate(x.shape)]
    return stand_in(shape, x.dtype, x.device, x.requires_grad, [x])


def opened(shape: torch.Size, index: Any, sample: Any, world: int) -> Any:
    """``sample``, a sample of ``index``, with some items in place of slices that data end and that
    hold none there: what the data give need not be empty because the samples of the ends are."""
    if not isinstance(index, tuple):
        return opened(shape, (index,), (sample,), world)[0]
    used = [_axes(x) for x in sample]
    found, axis = list(sample), 0
    for i, (given, x) in enumerate(zip(index, sample)):
        if x is Ellipsis:
            axis = len(shape) - sum(used[i + 1 :])
        elif isinstance(given, slice) and axis < len(shape):
            ends = (given.start, given.stop)
            if any(isinstance(e, Number) and e.is_data for e in ends):
                n = shape[axis]
                if n and not range(*x.indices(n)):
                    found[i] = slice(0, min(2, n - 1) + world if n > 1 else 1 - world)
        axis += used[i]
    return tuple(found)


def _axes(x: Any) -> int:
    """How many axes an item of an index takes."""
    if isinstance(x, torch.Tensor) and x.dtype in (torch.bool, torch.uint8):
        return x.dim()
    return 0 if x is None or x is Ellipsis or isinstance(x, bool) else 1


def inherited(vals: list[Any]) -> frozenset[str]:
    """What is not certain of results since it is not of arguments."""
    found: frozenset[str] = frozenset()
    for val in vals:
        if isinstance(val, Val):
            found |= val.loose & {"rank", "dtype"}
    return found


def _like(mine: list[Any], other: Any) -> list[Any]:
    """The results of another world for each of this one."""
    found = list(leaves(other))
    return found if len(found) == len(mine) else [None] * len(mine)


def _differing(a: torch.Tensor, b: Any) -> frozenset[int]:
    """Axes of different sizes, of tensors of one rank."""
    if not isinstance(b, torch.Tensor) or b.dim() != a.dim():
        return frozenset()
    return frozenset(i for i, (m, n) in enumerate(zip(a.shape, b.shape)) if m != n)
