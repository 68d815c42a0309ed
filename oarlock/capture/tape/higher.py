"""Functions that call other functions: autograd functions, transforms, checkpoints, hooks.

The inner function is a block of the tape, where it is traced with arguments like those it will get;
at replay the transform calls that block's code.  An ``autograd.Function`` whose inside can't be
traced is called as it is.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd import functional
from torch.utils import checkpoint as checkpoints
from torch.utils.hooks import BackwardHook

from oarlock.capture.convert.state import Undefined
from oarlock.capture.tape import runtime
from oarlock.capture.tape.ambience import ambient
from oarlock.capture.tape.custom import Application, has_setup
from oarlock.capture.tape.journal import MISSING, content, put
from oarlock.capture.tape.nodes import Block, SubTape, Val, alike, map_tree
from oarlock.capture.tape.numbers import Number, number_of, sampled
from oarlock.capture.tape.optimizers import is_step_as_a_whole, step_
from oarlock.capture.tape.run_list import RunList
from oarlock.capture.torch_private import is_dispatching, is_fake
from oarlock.errors import UnsupportedError

if TYPE_CHECKING:
    from oarlock.capture.tape.tracer import Tracer

_LIKE = {
    torch.func.grad, torch.func.grad_and_value, torch.func.jacrev, torch.func.jacfwd,
    torch.func.hessian,
}  # fmt: skip
_ZERO_GRAD = (torch.optim.Optimizer.zero_grad, torch.nn.Module.zero_grad)
_LEFT = (torch.Tensor, Number, int, float)  # what hooks may leave in objects
_VMAP = {torch.func.vmap, torch.vmap}
_AT_POINTS = {
    torch.func.jvp, functional.jacobian, functional.hessian, functional.vjp, functional.jvp,
    functional.hvp, functional.vhp,
}  # fmt: skip


def transformed(
    transform: Any, options: dict[str, Any], fn: Any, args: tuple, kwargs: dict[str, Any]
) -> Any:
    """``transform(fn, **options)(*args, **kwargs)``."""
    return transform(fn, **options)(*args, **kwargs)


def at_points(
    api: Any, options: dict[str, Any], fn: Any, points: Any, rest: tuple, kwargs: dict[str, Any]
) -> Any:
    """``api(fn, points, *rest, **options)``."""
    return api(fn, points, *rest, **options)


def in_world(world: int, how: Any, *args: Any) -> Any:
    """``how(*args)``; numbers that it finds are what they are there."""
    with sampled(world):
        return how(*args)


def has_torch_function(args: Any) -> bool:
    """As eager code is told, around which is no mode of a capture."""
    plain = (torch.Tensor.__torch_function__, torch._C._disabled_torch_function_impl)
    return any(getattr(type(x), "__torch_function__", plain[0]) not in plain for x in args)


def seeded(seed: int) -> None:
    """Raises: NotImplementedError in a recording that draws from the caller's generator."""
    if is_dispatching():
        raise NotImplementedError("torch.manual_seed in a program")
    torch.manual_seed(seed)


_RESUMED = (torch.get_rng_state, torch.set_rng_state, torch.random.fork_rng)


class Higher:
    """What the tracer puts in place of functions that take functions."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.transforms = 0  # around what is traced
        self.is_sampling = False  # transforms run, to see what they give
        self.later: list[tuple[Any, Any, Val, Any, Any]] = []  # what hooks leave in objects
        self.generators: dict[int, tuple[torch.Generator, Val]] = {}  # made by the code

    def override(self, function: Any) -> Callable[..., Any] | None:
        """In place of ``function``, or None."""
        try:
            known = function in _LIKE or function in _VMAP
            if function in _AT_POINTS:
                return functools.partial(self.at_points, function)
        except TypeError:
            return None
        if known:
            return lambda fn, *rest, **options: self.transform(function, fn, rest, options)
        if function is torch.overrides.has_torch_function:
            return has_torch_function
        if function is torch.manual_seed:
            self.tracer.machinery.is_seed_set = True
            return self.seed
        owner = getattr(function, "__self__", None)
        if isinstance(owner, torch.Tensor) and getattr(function, "__name__", "") == "tolist":
            return functools.partial(torch.Tensor.tolist, owner)  # fakes have one of their own
        if function in _RESUMED:
            raise UnsupportedError(
                f"{self.tracer.where()}: {function.__name__}: the state of the generator inside of a "
                f"static function; draw from a torch.Generator that the function makes and seeds"
            )
        if function is torch.Generator:
            return self.generator
        if isinstance(getattr(function, "__self__", None), torch.Generator):
            return lambda *args: self.of_generator(function, args)
        if function is checkpoints.checkpoint:
            return self.checkpoint
        if getattr(function, "__func__", None) is torch.nn.Module.requires_grad_:
            return functools.partial(self.switch, function.__self__)
        if is_step_as_a_whole(function):
            return functools.partial(self.stepped, function)
        if getattr(function, "__func__", None) in _ZERO_GRAD:
            return lambda set_to_none=True: self.zero_grad(function, set_to_none)
        owner = getattr(function, "__self__", None)
        is_apply = getattr(function, "__name__", "") == "apply" and isinstance(owner, type)
        if is_apply and issubclass(owner, torch.autograd.Function):  # type: ignore[arg-type]
            return lambda *args, **kwargs: self.apply(function, args, kwargs)
        return None

    def apply(self, function: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """``cls.apply(*args)`` of an autograd function; as it is inside of a transform."""
        cls = function.__self__
        if has_setup(cls):
            bound = inspect.signature(cls.forward).bind(*args, **kwargs)
            bound.apply_defaults()
            args, kwargs = bound.args, bound.kwargs
        if self.transforms or kwargs:
            return self.opaque(function, args)
        try:
            return Application(self, cls, args).record()
        except UnsupportedError:
            return self.opaque(function, args)

    def opaque(self, function: Any, args: tuple) -> Any:
        """A call whose inside is not looked at."""
        with torch._C.DisableTorchFunction():
            out = function(*self.tracer.worlds.samples(args))
        self.tracer.record(function, args, {}, out)
        return out

    def zero_grad(self, method: Any, set_to_none: Any) -> None:
        """Takes gradients away whether there are any or not: nothing is asked."""
        owner = method.__self__
        if set_to_none is not True:
            method(set_to_none=set_to_none)
        elif isinstance(owner, torch.nn.Module):
            for p in owner.parameters():
                p.grad = None
        else:
            for p in [p for group in owner.param_groups for p in group["params"]]:
                p.grad = None

    def generator(self, *args: Any, **kwargs: Any) -> torch.Generator:
        """A generator that each run makes."""
        made = torch.Generator(*args, **kwargs)
        val = Val(self.tracer.block, made)
        self.tracer.emit(torch.Generator, args, kwargs, val)
        self.generators[id(made)] = (made, val)
        return made

    def of_generator(self, method: Any, args: tuple) -> Any:
        """A call of a generator's method, made by each run."""
        owner = method.__self__
        made = getattr(torch.Generator, method.__name__)
        if method.__name__ == "manual_seed":
            self.tracer.emit(made, (owner, *args), {}, None)
            return owner
        if method.__name__ in ("get_state", "set_state", "clone_state", "graphsafe_get_state"):
            raise UnsupportedError(
                f"{self.tracer.where()}: the state of a generator inside a static function; set a seed"
            )
        if method.__name__ in ("seed", "initial_seed"):
            return self.tracer.number(made, (owner,), 1, True)
        return method(*args)

    def seed(self, seed: Any) -> torch.Generator:
        """Sets the generator at every call, and not in the capture."""
        self.tracer.record(seeded, (seed,), {}, None)
        return torch.default_generator

    def transform(self, api: Any, fn: Any, rest: tuple, options: dict[str, Any]) -> Any:
        if rest:
            names = ("in_dims", "out_dims") if api in _VMAP else ("argnums", "has_aux")
            options = {**dict(zip(names, rest)), **options}

        def call(*args: Any, **kwargs: Any) -> Any:
            inner = args
            if self.is_sampling:
                return api(fn, **options)(*args, **kwargs)
            if api in _VMAP:
                dims = options.get("in_dims", 0)
                spread = dims if isinstance(dims, tuple) else (dims,) * len(args)
                inner = tuple(_slice(x, d) for x, d in zip(args, spread))
            return self.applied(transformed, api, options, fn, inner, (args, kwargs))

        return call

    def at_points(self, api: Any, fn: Any, points: Any, *rest: Any, **options: Any) -> Any:
        """``api(fn, points, ...)`` of a function that applies the transform itself."""
        if self.is_sampling:
            return api(fn, points, *rest, **options)
        inner = points if isinstance(points, tuple) else (points,)
        return self.applied(at_points, api, options, fn, inner, (points, rest, {}))

    def world(self) -> Number:
        """0 or 1, as the world is in which it is asked for."""
        found = number_of(Val(self.tracer.block, 0), 0, False)
        found.other = 1
        return found

    def applied(
        self, how: Any, api: Any, options: dict[str, Any], fn: Any, inner: tuple, given: tuple
    ) -> Any:
        """``how(api, options, fn, *given)``, with ``fn`` traced on ``inner``."""
        tracer = self.tracer
        self.transforms += 1
        try:
            tape = self.subtape(fn, inner, given[-1])
        finally:
            self.transforms -= 1
        self.is_sampling = True
        try:
            with torch._C.DisableTorchFunction():
                world = self.world() if tracer.inputs.symbolic else 0
                run = tracer.worlds.run(in_world, (world, how, api, options, fn, *given), {})
        finally:
            self.is_sampling = False
        out, other, dynamic, found = run
        call = tracer.record(how, (api, options, tape, *given), {}, out)
        if dynamic:
            tracer.worlds.mark(call.outs, out, other, found, frozenset())
        return out

    def checkpoint(self, fn: Any, *args: Any, **options: Any) -> Any:
        """Recomputed in the backward pass at replay."""
        ours = {"use_reentrant", "preserve_rng_state", "determinism_check", "debug", "context_fn"}
        kwargs = {k: v for k, v in options.items() if k not in ours}
        settings = {k: v for k, v in options.items() if k in ours}
        results: list[Any] = []
        tape = self.subtape(fn, args, kwargs, results)
        outs = self.views(results[0])
        call = self.tracer.record(checkpointed, (settings, tape, args, kwargs), {}, outs)
        alike(call.outs, tape.result)
        return outs

    def hooked(self, module: torch.nn.Module, fn: Any, args: tuple) -> Any:
        """``fn(*args)``, the call of a module, with the module's hooks of the backward pass."""
        results: list[Any] = []
        later, self.later = self.later, []
        tape = self.subtape(fn, args, {}, results, is_hook=True)
        outs = self.views(results[0])
        call = self.tracer.record(with_backward_hooks, (module, tape, args), {}, outs)
        alike(call.outs, tape.result)
        self.fired()
        self.later = later
        return outs

    def views(self, tree: Any) -> Any:
        """New fakes like those of the results of an inner function."""
        with torch._C.DisableTorchFunction():
            return map_tree(
                self.tracer.worlds.samples(tree),
                lambda x: x.view_as(x) if isinstance(x, torch.Tensor) else x,
            )

    def switch(self, module: torch.nn.Module, requires_grad: Any = True) -> torch.nn.Module:
        """``module.requires_grad_(...)``."""
        for p in module.parameters():
            p.requires_grad_(self.tracer.concrete(requires_grad, "requires_grad"))
        return module

    def stepped(self, method: Any, closure: Any = None) -> Any:
        """A step that the optimizer itself makes at each run."""
        tracer, optimizer = self.tracer, method.__self__
        if closure is None:
            tracer.record(step_, (optimizer,), {}, None)
            return None
        params = [p for group in optimizer.param_groups for p in group["params"]]
        before = [(p, p.grad) for p in params]
        results: list[Any] = []
        tape = self.subtape(closure, (), {}, results)
        outs = self.views(results[0])
        call = tracer.record(step_, (optimizer, tape), {}, outs)
        alike(call.outs, tape.result)
        for p, old in before:
            if p.grad is not old and p.grad is not None:
                self.left_in(p)
        return outs

    def left_in(self, p: torch.Tensor) -> None:
        """The gradient of ``p`` is what the call before has left there."""
        tracer = self.tracer
        fake = p if is_fake(p) else tracer.inputs.fake_of(p)
        with torch._C.DisableTorchFunction():
            given = torch.empty_like(fake).detach()
            fake.grad = given
        val = tracer.name(given, Val(tracer.block, given))
        tracer.emit(torch.Tensor.grad.__get__, (fake,), {}, val)  # type: ignore[attr-defined]

    def subtape(
        self, fn: Any, args: tuple, kwargs: dict[str, Any], results: list[Any] | None = None,
        is_hook: bool = False,
    ) -> SubTape:  # fmt: skip
        """``fn`` as a block; ``args`` are like those that it will get."""
        tracer = self.tracer
        if kwargs:
            raise UnsupportedError(
                f"{tracer.where()}: keyword arguments through a transform; pass them by position"
            )
        from oarlock.capture.convert.calls import call

        frame = tracer.journal.open()
        with tracer.into(Block(tracer.block)) as block:
            given = map_tree(tuple(args), lambda x: self.parameter(block, x))
            params = tracer.noted(given)
            out = call(fn)(*given)
            result = tracer.note(out)
        after = frame.contents()
        frame.restore()
        tracer.journal.close(frame)
        self.changed(after, block if is_hook else None)
        if results is not None:
            results.append(out)
        return SubTape(block, params, result, ambient=ambient())

    def changed(self, after: dict[int, tuple[Any, Any]], hook: Block | None = None) -> None:
        """Lists that the inner function changes are lists of the run; what a hook leaves elsewhere is
        there once torch has called it; other changes are refused."""
        tracer = self.tracer
        for obj, now in after.values():
            before = content(obj)
            if isinstance(obj, RunList):
                if obj.val is None:
                    tracer.lists.materialise(obj, list(now))
            elif isinstance(before, dict):
                for key in [k for k, v in now.items() if before.get(k, MISSING) is not v]:
                    if hook is None or not isinstance(now[key], _LEFT):
                        raise UnsupportedError(
                            f"{tracer.where()}: a function that torch calls changes a "
                            f"{type(obj).__name__}; return the value, or append it to a list"
                        )
                    self.leave(hook, obj, key, before.get(key, MISSING), now[key])

    def leave(self, hook: Block, obj: Any, key: Any, old: Any, new: Any) -> None:
        """The code of a hook keeps ``new``, which ``obj`` gets after the backward pass."""
        tracer = self.tracer
        cell = Val(tracer.block, None)
        tracer.emit(runtime.new_cell, (), {}, cell)
        with tracer.into(hook):
            tracer.emit(runtime.put_cell, (cell, new), {}, None)
        self.later.append((obj, key, cell, old, new))

    def fired(self) -> None:
        """A backward pass has run, and hooks in it."""
        tracer = self.tracer
        for obj, key, cell, old, new in self.later:
            adds = isinstance(old, (int, float, Number, torch.Tensor))
            is_new = old is MISSING
            got = Val(tracer.block, None, f"{type(obj).__name__}.{key}")
            tracer.emit(
                runtime.taken, (cell, Undefined(str(key)) if is_new else old, adds), {}, got
            )
            tracer.journal.touch(obj)
            value = self.stand_in(new, got)
            got.loose |= {"unbound"} if is_new else set()
            put(obj, {**content(obj), key: value})

    def stand_in(self, new: Any, got: Val) -> Any:
        """What the user's code holds for ``got``, which is like ``new``."""
        tracer = self.tracer
        if not isinstance(new, torch.Tensor):
            got.sample = new.hint if isinstance(new, Number) else new
            found = number_of(got, got.sample, True)
            found.other = new.other if isinstance(new, Number) else new + 1
            return found
        with torch._C.DisableTorchFunction():
            fake = torch.empty_like(new).detach()
        alike(tracer.name(fake, got), tracer.val(new))
        return fake

    def parameter(self, block: Block, x: Any) -> Any:
        """A new fake like ``x``."""
        if not isinstance(x, torch.Tensor):
            return x
        tracer = self.tracer
        with torch._C.DisableTorchFunction(), torch.enable_grad():
            like = x if is_fake(x) else tracer.inputs.fake_of(x)
            fake = like.view_as(like) if like.requires_grad else like.detach()
        alike(tracer.name(fake, Val(block, fake)), tracer.val(like))
        return fake

    def hook(self, x: torch.Tensor, fn: Any, name: str) -> Any:
        """``x.register_hook(fn)``: what the hook does is a block."""
        tracer = self.tracer
        with torch._C.DisableTorchFunction():
            sample = tracer.val(x).sample
            given = torch.empty_like(sample).detach()
            like = tracer.name(given, Val(tracer.block, given))
            alike(like, tracer.val(x))
        with torch.no_grad(), tracer:  # inside of a call the mode is off
            tape = self.subtape(fn, (given,), {}, is_hook=True)
        func, val = getattr(torch.Tensor, name), Val(tracer.block, None)
        tracer.emit(func, (x, tape), {}, val)
        return Handle(tracer, val)


class Handle:
    """Of a hook that is registered at each replay."""

    def __init__(self, tracer: Tracer, val: Val) -> None:
        self.tracer, self.val = tracer, val

    def remove(self) -> None:
        self.tracer.emit(removed, (self.val,), {}, None)


def removed(handle: Any) -> None:
    """Take a hook away."""
    handle.remove()


def checkpointed(settings: dict[str, Any], fn: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    return checkpoints.checkpoint(fn, *args, **settings, **kwargs)


def with_backward_hooks(module: torch.nn.Module, fn: Any, args: tuple) -> Any:
    """What ``Module.__call__`` does around a call for hooks of the backward pass."""
    hook = BackwardHook(
        module, list(module._backward_hooks.values()), list(module._backward_pre_hooks.values())
    )
    out = fn(*hook.setup_input_hook(args))
    if isinstance(out, torch.Tensor):
        return hook.setup_output_hook((out,))[0]
    return hook.setup_output_hook(out)


def _slice(x: Any, dim: Any) -> Any:
    if dim is None:
        return x
    if isinstance(dim, dict):
        return {k: _slice(v, dim[k]) for k, v in x.items()}
    if isinstance(dim, (list, tuple)):
        return type(x)(_slice(v, d) for v, d in zip(x, dim))
    return map_tree(x, lambda t: t.select(dim, 0) if isinstance(t, torch.Tensor) else t)
