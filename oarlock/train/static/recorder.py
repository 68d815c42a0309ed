"""Records what depends on placeholders; everything else is ordinary torch and runs at once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from oarlock.capture.quick_fakes import QuickFakeMode
from oarlock.capture.tape.active import activated, active
from oarlock.capture.tape.inputs import Inputs
from oarlock.capture.tape.nodes import Call, Val, leaves
from oarlock.capture.tape.numbers import Number
from oarlock.capture.tape.queries import access_of, name_of
from oarlock.capture.tape.sources import Source
from oarlock.capture.tape.tracer import Tracer, user_line
from oarlock.capture.torch_private import is_fake, mode_of, storage_of
from oarlock.errors import UnsupportedError, UserError

STATISTICS = ("batch_norm", "instance_norm")  # their schema hides that running values change


class Named(Inputs):
    """Tensors from outside go by the names that their modules have for them."""

    tracer: Recorder

    def fake_of(self, real: Tensor) -> Tensor:
        """See ``Inputs``."""
        if id(real) not in self.fakes:
            name = self.tracer.name_of_tensor(real)
            self.state.setdefault(id(real), (real, Source(real, "", name)))
        return super().fake_of(real)


class Recorder(Tracer):
    """A tracer that grows one tape over several guards.

    ``writes``: by id of a call, the memory that it changes; ``made``: memory of tensors that calls
    under the guard have made, such as parameters in the constructor of a module.
    """

    unread = (
        "which a static program has only when it runs; decide with static.cond or "
        "static.while_loop, or fetch it with Executor().run"
    )

    def __init__(self, symbolic: dict[Any, tuple[Any, Any]]) -> None:
        super().__init__(None, symbolic)
        self.inputs = Named(self, {}, symbolic, False)
        self.objects.symbolic = symbolic
        self.fake = QuickFakeMode(self.answer)
        self.writes: dict[int, set[int]] = {}
        self.counters: set[int] = set()
        self.made: dict[int, Any] = {}
        self.tensor_names: dict[int, tuple[Tensor, str]] = {}
        self.roots: dict[int, tuple[torch.nn.Module, str]] = {}
        self.is_open = False

    def answer(self, mode: Any, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """See ``DataHints``."""
        self.check_active()
        return self.data.answer(mode, func, args, kwargs)

    def check_active(self) -> None:
        """Raises: UserError when a recorded value is used outside of its guard."""
        if not self.is_open:
            raise UserError(
                f"{user_line(3)}: a value of a static program is used outside of its program_guard; "
                "there it has no data: go on inside of the guard, or fetch it with Executor().run"
            )

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record torch calls in here.  Modules tell the names of their parameters."""
        hook = torch.nn.modules.module.register_module_forward_pre_hook(self.meet)
        was_open, self.is_open = self.is_open, True
        try:
            with activated(self), self:
                yield
        finally:
            self.is_open = was_open
            hook.remove()

    def meet(self, module: torch.nn.Module, args: Any) -> None:
        """Name the tensors of the outermost modules that are called."""
        if active() is not self:
            return
        tensors = [*module.named_parameters(), *module.named_buffers()]
        if all(id(x) in self.tensor_names for _, x in tensors):
            return
        stem = type(module).__name__.lower()
        count = sum(name.rsplit("_", 1)[0] == stem for _, name in self.roots.values())
        self.roots[id(module)] = (module, f"{stem}_{count}")
        for name, x in tensors:
            self.tensor_names.setdefault(id(x), (x, f"{stem}_{count}.{name}"))

    def name_of_tensor(self, real: Tensor) -> str:
        """Its name in its module; within the only module, as that module says."""
        from oarlock.train.static.scope import CREATED

        found = self.tensor_names.get(id(real))
        if found is None:
            return CREATED.get(real, "")
        return found[1].split(".", 1)[1] if len(self.roots) == 1 else found[1]

    def stand_for(self, leaf: Any, val: Val) -> Any:
        with self.fake:
            return super().stand_for(leaf, val)

    # ---- calls

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if active() is not self:
            return func(*args, **kwargs)
        found = list(leaves((args, kwargs)))
        self.refuse_strangers(found)
        if not self.is_recorded(func, found, kwargs):
            return self.run_now(func, args, kwargs)
        self.refuse(func)
        with self.fake, self.data:
            return self.watch(
                lambda: super(Recorder, self).__torch_function__(func, types, args, kwargs),
                found,
                func,
            )

    def is_recorded(self, func: Callable[..., Any], found: list[Any], kwargs: dict) -> bool:
        """The call has to do with a placeholder, or changes a tensor from outside of the guard."""
        if any(isinstance(x, Number) or (isinstance(x, Tensor) and is_fake(x)) for x in found):
            return True
        if self.is_unrecorded_proxy(found):
            return True
        if not _is_in_place(func, kwargs):
            return False
        target = next((x for x in found if isinstance(x, Tensor)), None)
        if "out" in kwargs:
            target = next(iter(leaves(kwargs["out"])), None)
        return isinstance(target, Tensor) and (
            id(target) in self.inputs.fakes
            or id(target) in self.tensor_names
            or storage_of(target) not in self.made
        )

    def is_unrecorded_proxy(self, found: list[Any]) -> bool:
        return any(self.is_symbolic(x) and not isinstance(x, Tensor) for x in found)

    def run_now(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        out = func(*args, **kwargs)
        for x in leaves(out):
            if isinstance(x, Tensor) and x.layout is torch.strided:
                self.made[storage_of(x)] = x
        return out

    def refuse_strangers(self, found: list[Any]) -> None:
        """Values of another program."""
        for x in found:
            if isinstance(x, Tensor) and is_fake(x) and mode_of(x) is not self.fake:
                raise UserError(
                    f"{user_line(3)}: a value of another static program; each program_guard sees "
                    "the values of its own program only"
                )

    def refuse(self, func: Callable[..., Any]) -> None:
        if func is Tensor.backward or func is torch.autograd.backward:
            raise UnsupportedError(
                f"{user_line(3)}: backward() fills .grad when it runs, and here nothing runs; use "
                "static.minimize(optimizer, loss), static.append_backward(loss) or static.gradients"
            )

    def watch(self, call: Callable[[], Any], found: list[Any], func: Any) -> Any:
        """Run a recorded call, and note the memory that it changes."""
        tensors = [
            x if is_fake(x) else self.inputs.fake_of(x) for x in found if isinstance(x, Tensor)
        ]
        before = [x._version for x in tensors]
        block, count = self.block, len(self.block.nodes)
        out = call()
        changed = {storage_of(x) for x, v in zip(tensors, before) if x._version != v}
        for node in block.nodes[count:]:
            if isinstance(node, Call) and changed:
                self.writes[id(node)] = changed
                if _is_in_batch_norm():
                    self.counters.add(id(node))
        return out


def _is_in_place(func: Callable[..., Any], kwargs: dict[str, Any]) -> bool:
    name = name_of(func)
    if access_of(func) == "__set__":
        return name == "data"
    is_dunder = name.startswith("__") and name.endswith("__")
    in_place = name in ("__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__")
    changes = (name.endswith("_") and not is_dunder) or in_place or "out" in kwargs
    return changes and name not in ("requires_grad_", "retain_grad_", "detach_")


def _is_in_batch_norm() -> bool:
    """The counter of batches, which a module in eval mode leaves alone."""
    frame: Any = sys._getframe(2)
    while frame is not None and frame.f_code.co_name != "_call_impl":
        if frame.f_globals.get("__name__") == "torch.nn.modules.batchnorm":
            return True
        frame = frame.f_back
    return False


__all__ = ["Recorder", "Val"]
