"""Code that was made for other compilers: operators for branches, compiled and scripted functions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import TYPE_CHECKING, Any

import torch

from oarlock.capture.convert.torch_control import cond, while_loop
from oarlock.capture.torch_private import under_mode
from oarlock.errors import UnsupportedError

if TYPE_CHECKING:
    from oarlock.capture.tape.tracer import Tracer

_CONTROL = {
    ("torch", "cond"): cond,
    ("torch._higher_order_ops.while_loop", "while_loop"): while_loop,
}
_SCRIPTED = (torch.jit.ScriptFunction, torch.jit.ScriptModule)


def is_scripted(x: Any) -> bool:
    return isinstance(x, _SCRIPTED)


def original(x: Any) -> Any:
    """What ``torch.compile`` has made ``x`` of, else ``x``."""
    if type(x) is FunctionType and not (x.__module__ or "").startswith("torch."):
        return vars(x).get("_torchdynamo_orig_callable", x)
    if type(x).__module__ == "torch._dynamo.eval_frame" and isinstance(x, torch.nn.Module):
        return getattr(x, "_orig_mod", x)
    return x


class Foreign:
    """What the tracer puts in place of them."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer

    def override(self, function: Any) -> Callable[..., Any] | None:
        """In place of ``function``, or None."""
        if is_scripted(function):
            return functools.partial(self.scripted, function)
        if type(function) is FunctionType:
            plain = _CONTROL.get((function.__module__, function.__name__))
            if plain is not None:
                return self.called(plain)
        made_of = original(function)
        return None if made_of is function else self.called(made_of)

    def called(self, function: Any) -> Callable[..., Any]:
        from oarlock.capture.convert.calls import call

        return call(function)

    def scripted(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """A call of TorchScript, whose inside is not looked at.  Raises: UnsupportedError."""
        tracer = self.tracer
        refusal = UnsupportedError(
            f"{tracer.where()}: TorchScript that decides, or holds tensors; call the Python function that "
            f"it was made of"
        )
        if any(kind in str(function.inlined_graph) for kind in ("prim::If", "prim::Loop")):
            raise refusal
        try:
            with under_mode(tracer):
                return tracer.__torch_function__(function, (), args, kwargs)
        except Exception as error:
            raise refusal from error
