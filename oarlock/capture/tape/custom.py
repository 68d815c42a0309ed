"""``torch.autograd.Function`` classes: forward and backward are blocks, and a Function of ours runs them.

The backward is traced where the forward is: once for each set of outputs that may come without a
gradient, with the grad mode off, and on for second derivatives.
"""

from __future__ import annotations

import dis
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from oarlock.capture.tape.active import active
from oarlock.capture.tape.ambience import ambient
from oarlock.capture.tape.choice import Choice
from oarlock.capture.tape.join import stand_in
from oarlock.capture.tape.nodes import Block, SubTape, Val, alike, map_tree
from oarlock.capture.tape.numbers import Number, number_of
from oarlock.capture.tape.raising import raised_in
from oarlock.capture.tape.run_list import RunList
from oarlock.errors import OarlockError, UnsupportedError

if TYPE_CHECKING:
    from oarlock.capture.tape.higher import Higher

PATTERNS = 8  # sets of outputs without a gradient that are traced
Pattern = tuple[bool, ...]  # of each output: it has a gradient


class Context:
    """The ``ctx`` of a forward and backward that are traced."""

    def __init__(self, needs: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs
        self._oarlock_saved: Any = ()
        self._oarlock_marks: Any = ((), ())  # dirty, not differentiable
        self._oarlock_materialize = True

    def _set(self, name: str, value: Any) -> None:
        active().journal.touch(self)  # pyright: ignore[reportOptionalMemberAccess]
        setattr(self, f"_oarlock_{name}", value)

    def save_for_backward(self, *tensors: Any) -> None:
        self._set("saved", tensors)

    save_for_forward = save_for_backward

    @property
    def saved_tensors(self) -> Any:
        return self._oarlock_saved

    saved_variables = saved_tensors

    def mark_dirty(self, *tensors: Any) -> None:
        self._set("marks", (tensors, self._oarlock_marks[1]))

    def mark_non_differentiable(self, *tensors: Any) -> None:
        self._set("marks", (self._oarlock_marks[0], tensors))

    def set_materialize_grads(self, value: bool) -> None:
        self._set("materialize", value)

    def held(self) -> dict[str, Any]:
        """The attributes that the user has set."""
        own = ("needs_input_grad", "_oarlock_saved", "_oarlock_marks", "_oarlock_materialize")
        return {k: v for k, v in vars(self).items() if k not in own}


@dataclass(eq=False)
class Site:
    """One call of a Function: what its replay needs beside the blocks."""

    name: str
    dirty: tuple[int, ...] = ()  # arguments
    constant: tuple[int, ...] = ()  # outputs without derivative
    materialize: bool = True
    once: bool = False
    kind: Any = field(init=False)

    def __post_init__(self) -> None:
        self.kind = type(self.name, (Replayed,), {})


class Replayed(torch.autograd.Function):
    """Runs the code of blocks."""

    @staticmethod
    def forward(ctx: Any, site: Site, run: Any, backwards: Any, *args: Any) -> Any:
        out, saved, held = run(*args)
        outs = out if isinstance(out, tuple) else (out,)
        ctx.save_for_backward(*saved)
        ctx.site, ctx.held, ctx.backwards = site, held, backwards
        if site.dirty:
            ctx.mark_dirty(*(args[i] for i in site.dirty))
        if site.constant:
            ctx.mark_non_differentiable(*(outs[i] for i in site.constant))
        ctx.set_materialize_grads(site.materialize)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        if ctx.site.once:
            return _once(ctx, *grads)
        return _backward(ctx, *grads)


def _backward(ctx: Any, *grads: Any) -> Any:
    is_on = torch.is_grad_enabled() and not ctx.site.once
    run = ctx.backwards[is_on, tuple(g is not None for g in grads)]
    found = run(ctx.saved_tensors, ctx.held, grads)
    return (None, None, None, *(found if isinstance(found, tuple) else (found,)))


_once = once_differentiable(_backward)


def applied(site: Site, run: Any, backwards: Any, args: tuple) -> Any:
    """``Function.apply(*args)``"""
    return site.kind.apply(site, run, backwards, *args)


def applied_(site: Site, run: Any, backwards: Any, args: tuple) -> Any:
    """``applied`` that changes arguments in place."""
    return applied(site, run, backwards, args)


class Shadow(torch.autograd.Function):
    """Gives fakes the graph that an application has; ``gives``: inputs that get gradients."""

    @staticmethod
    def forward(
        ctx: Any, outs: Sequence[Any], gives: Sequence[bool], site: Site, *args: Any
    ) -> Any:
        ctx.gives, ctx.inputs = gives, args
        ctx.mark_dirty(*(args[i] for i in site.dirty))
        found = [args[x] if type(x) is int else x.clone() for x in outs]
        ctx.mark_non_differentiable(*(found[i] for i in site.constant if i < len(found)))
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        sources = [x for x in (*grads, *ctx.inputs) if isinstance(x, torch.Tensor)]
        is_on = torch.is_grad_enabled()
        found = [
            stand_in(x.shape, x.dtype, x.device, is_on, sources) if give else None
            for x, give in zip(ctx.inputs, ctx.gives)
        ]
        return (None, None, None, *found)


class Application:
    """Traces ``cls.apply(*args)``."""

    def __init__(self, higher: Higher, cls: Any, args: tuple) -> None:
        self.higher, self.tracer, self.cls, self.args = higher, higher.tracer, cls, args
        with torch._C.DisableTorchFunction():
            self.needs = tuple(isinstance(x, torch.Tensor) and x.requires_grad for x in args)
        self.site = Site(cls.__name__)
        self.given: list[list[bool]] = []

    def record(self) -> Any:
        """The outputs, as the user's code gets them."""
        tracer = self.tracer
        with torch.no_grad():
            forward = self.higher.subtape(self.forward, self.args, {})
        backwards = self.backwards() if any(self.needs) and torch.is_grad_enabled() else {}
        inner = forward.result[0]
        outs = self.shadow(inner, self.gives)
        func = applied_ if self.site.dirty else applied
        call = tracer.record(func, (self.site, forward, backwards, self.args), {}, outs)
        alike(call.outs, inner)
        return outs

    def forward(self, *args: Any) -> Any:
        """Returns: the outputs, what is saved, what the context holds."""
        from oarlock.capture.convert.calls import call

        cls, ctx = self.cls, Context(self.needs)
        self.tracer.journal.create(ctx)
        if not has_setup(cls):
            out = call(cls.forward)(ctx, *args)
        else:
            out = call(cls.forward)(*args)
            call(cls.setup_context)(ctx, args, out)
        self.ctx, self.saved, self.held = ctx, ctx._oarlock_saved, ctx.held()
        self.outs = out if isinstance(out, tuple) else (out,)
        dirty, constant = ctx._oarlock_marks
        site = self.site
        site.dirty = tuple(i for i, x in enumerate(args) if _among(x, dirty))
        site.constant = tuple(i for i, x in enumerate(self.outs) if _among(x, constant))
        site.materialize = ctx._oarlock_materialize
        self.params = args
        return out, self.saved, tuple(_run_time(self.held))

    def shadow(self, inner: Any, gives: Sequence[bool]) -> Any:
        """Outputs with the graph of the application."""
        outs: list[Any] = []
        with torch._C.DisableTorchFunction():
            for x in self.outs:
                if isinstance(x, torch.Tensor):
                    place = next((i for i, p in enumerate(self.params) if p is x), None)
                    outs.append(self.tracer.val(x).sample.detach() if place is None else place)
            given = self.tracer.worlds.samples(self.args)
            found = iter(Shadow.apply(outs, gives, self.shadow_site(), *given))  # type: ignore[arg-type]
        made = [
            next(found)
            if isinstance(x, torch.Tensor)
            else self.parameter(self.tracer.block, x)
            if isinstance(x, Number)
            else x
            for x in self.outs
        ]
        return tuple(made) if isinstance(inner, tuple) else made[0]

    def shadow_site(self) -> Site:
        """Outputs that are no tensors are left out."""
        tensors = [i for i, x in enumerate(self.outs) if isinstance(x, torch.Tensor)]
        constant = tuple(tensors.index(i) for i in self.site.constant)
        return Site(self.site.name, self.site.dirty, constant)

    # ---- the backward

    @property
    def gives(self) -> list[bool]:
        found = [any(row) for row in zip(*self.given)]
        return [*found, *[False] * (len(self.args) - len(found))]

    def backwards(self) -> dict[tuple[bool, Pattern], SubTape]:
        """A block for each grad mode and each set of gradients that may come."""
        plain = getattr(self.cls.backward, "__wrapped__", None)
        self.site.once = plain is not None and _is_once(self.cls.backward)
        made = {}
        for is_on in (False,) if self.site.once else (False, True):
            for pattern in self.patterns():
                with torch.set_grad_enabled(is_on):
                    run = plain if self.site.once else self.cls.backward
                    made[is_on, pattern] = self.backward(run, pattern)
        return made

    def patterns(self) -> list[Pattern]:
        choices = [
            (False,)
            if not isinstance(x, torch.Tensor)
            else (True,)
            if self.site.materialize
            else (True, False)
            for x in self.outs
        ]
        found = [p for p in itertools.product(*choices) if any(p)]
        if len(found) > PATTERNS:
            raise UnsupportedError(
                f"{self.tracer.where()}: {self.site.name} has {len(self.outs)} outputs whose "
                f"gradients may be None; leave out set_materialize_grads(False)"
            )
        return found

    def backward(self, run: Any, pattern: Pattern) -> SubTape:
        """``run`` as a block with three parameters: saved tensors, what ctx holds, gradients."""
        from oarlock.capture.convert.calls import call

        tracer = self.tracer
        frame = tracer.journal.open()
        with tracer.into(Block(tracer.block)) as block:
            saved = map_tree(self.saved, lambda x: self.parameter(block, x))
            table: dict[int, Any] = {}
            held = [table.setdefault(id(x), self.parameter(block, x)) for x in _run_time(self.held)]
            grads = tuple(
                self.gradient(block, x) if g else None for x, g in zip(self.outs, pattern)
            )
            params = tracer.noted((tuple(saved), tuple(held), grads))
            ctx = Context(self.needs)
            tracer.journal.create(ctx)
            ctx._oarlock_saved = saved
            vars(ctx).update(_replaced(self.held, table))
            result: Any = ()
            try:
                out = call(run)(ctx, *grads)
                result = tracer.note(out)
                outs = out if isinstance(out, tuple) else (out,)
                self.given.append([x is not None for x in outs])
            except OarlockError:
                raise
            except Exception as error:
                if isinstance(error, RuntimeError) and not _is_raised(error):
                    raise UnsupportedError(f"{tracer.where()}: {error}") from error
                raised_in(tracer, error, tracer.where(), block)
        after = frame.contents()
        frame.restore()
        tracer.journal.close(frame)
        self.higher.changed(after)
        return SubTape(block, params, result, ambient=ambient())

    def parameter(self, block: Block, x: Any) -> Any:
        """A stand-in for a value of the forward in the backward."""
        if isinstance(x, Number):
            val = Val(block, x.hint)
            found = number_of(val, x.hint, x.is_data)
            found.other, found.loops = x.other, x.loops
            return found
        if isinstance(x, Choice) or (isinstance(x, RunList) and x.val is not None):
            raise UnsupportedError(
                f"{self.tracer.where()}: the context of {self.site.name} holds a value that is one "
                f"of several objects at run time; save a tensor"
            )
        if _among(x, self.outs) and not _among(x, self.params):
            return self.gradient(block, x, True)
        return self.higher.parameter(block, x)

    def gradient(self, block: Block, x: torch.Tensor, needs: bool | None = None) -> Any:
        """The gradient of an output; with ``needs``, the output itself, saved."""
        needs = torch.is_grad_enabled() if needs is None else needs
        tracer, like = self.tracer, self.tracer.val(x)
        with torch._C.DisableTorchFunction():
            fake = torch.empty_like(like.sample).detach()
            if needs and (fake.is_floating_point() or fake.is_complex()):
                with torch.enable_grad():
                    fake = fake.requires_grad_().view_as(fake)
        alike(tracer.name(fake, Val(block, fake)), like)
        return fake


def has_setup(cls: Any) -> bool:
    """``forward`` has no ``ctx``: ``setup_context`` fills it."""
    return cls.setup_context is not torch.autograd.Function.setup_context


def _is_raised(error: Exception) -> bool:
    """A ``raise`` or ``assert`` of the user's code, and not a torch call, raises it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    code, at = trace.tb_frame.f_code, trace.tb_lasti
    return dis.opname[code.co_code[at]] == "RAISE_VARARGS"


def _among(x: Any, items: Any) -> bool:
    return any(x is item for item in items)


def _is_once(function: Callable[..., Any]) -> bool:
    return function.__code__ is once_differentiable(lambda ctx: None).__code__


def _run_time(tree: Any) -> list[Any]:
    """The run-time values in what a context holds."""
    if isinstance(tree, RunList) and tree.val is None:
        return _run_time(list(list.__iter__(tree)))
    if isinstance(tree, dict):
        return [x for v in tree.values() for x in _run_time(v)]
    if isinstance(tree, (list, tuple)) and not isinstance(tree, RunList):
        return [x for v in tree for x in _run_time(v)]
    return [tree] if isinstance(tree, (torch.Tensor, Number, Choice, RunList)) else []


def _replaced(tree: Any, table: dict[int, Any]) -> Any:
    def one(x: Any) -> Any:
        if isinstance(x, RunList) and x.val is None:
            return [_replaced(item, table) for item in list.__iter__(x)]
        return table.get(id(x), x)

    return map_tree(tree, one)
