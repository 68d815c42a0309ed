"""A fake tensor mode for concrete sizes that remembers what plain operators give.

torch remembers it too; to describe a call as a key takes most of the time of a capture there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from oarlock.capture.torch_private import (
    FakeTensor,
    FakeTensorMode,
    has_composite_kernel,
    key_bits,
    storage_of,
)

_PLAIN = frozenset(
    (int, float, bool, complex, str, type(None), torch.dtype, torch.device, torch.layout,
     torch.memory_format)
)  # fmt: skip
_OTHERWISE = frozenset(
    (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape, torch.Tag.inplace_view)
)
_STRIDED = torch.strided
_DEVICE = torch.ops.prim.device.default
_OTHER = frozenset(  # constants, other memory, bits
    f"aten::{name}"
    for name in ("lift", "lift_fresh", "lift_fresh_copy", "set_", "_conj", "_neg_view")
)
_MANY = 50_000  # results that are kept
_plain_ops: dict[Any, str] = {}
_known: dict[tuple, Made | None] = {}  # None: not to be made so


class Made(NamedTuple):
    """What a new result looks like."""

    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    def made(self, mode: FakeTensorMode, given: list[torch.Tensor]) -> FakeTensor:
        meta = torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device="meta")
        return FakeTensor(mode, meta, self.device)


class First(NamedTuple):
    """The result is the first argument, whose data change."""

    def made(self, mode: FakeTensorMode, given: list[torch.Tensor]) -> torch.Tensor:
        return given[0]


class QuickFakeMode(FakeTensorMode):
    """Args: answer: gives an operator's result, or NotImplemented where torch is to give it."""

    def __init__(self, answer: Callable[..., Any] | None = None) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self.answer = answer
        self.left: int | None = None  # steps of the call that is tried
        self.draws = 0  # operators that draw random numbers

    @contextmanager
    def tried(self, most: int | None) -> Iterator[None]:
        """Around one call of torch.  Raises: RuntimeError in it after ``most`` steps of it."""
        self.left = most
        try:
            yield
        finally:
            self.left = None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # it would be asked at each operator

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise RuntimeError("the call takes too many steps")
        if func is _DEVICE:
            return args[0].fake_device
        if self.answer is not None:
            found = self.answer(self, func, args, kwargs)
            if found is not NotImplemented:
                return found
        is_plain = _plain_ops.get(func)
        if is_plain is None:
            is_plain = _plain_ops[func] = _kind(func)
        if is_plain == "drawing":
            self.draws += 1
        if is_plain == "view" and self.may_view(args):
            return self.viewed(func, args, kwargs)
        given: list[Any] = []
        key = self.key(func, args, kwargs, given) if is_plain == "plain" else None
        if key is None:
            return self.dispatch(func, types, args, kwargs)
        known = _known.get(key)
        if known is not None:
            return known.made(self, given)
        before = _places(given)
        out = self._dispatch_impl(func, types, args, kwargs)
        if key not in _known:
            if len(_known) >= _MANY:
                _known.clear()
            _known[key] = self.remembered(out, given) if _places(given) == before else None
        return out

    def key(self, func: Any, args: Any, kwargs: dict[str, Any], given: list[Any]) -> tuple | None:
        """What the result of a plain operator depends on, or None; ``given`` gets the tensors."""
        parts = [func, torch.get_default_dtype(), torch.is_inference_mode_enabled()]
        if not self.describe(parts, args, given):
            return None
        if kwargs:
            parts += kwargs
            if not self.describe(parts, kwargs.values(), given):
                return None
        return tuple(parts) if given or kwargs.get("device") is not None else None

    def describe(self, parts: list[Any], args: Any, given: list[Any]) -> bool:
        for x in args:
            kind = type(x)
            if kind is FakeTensor:
                if x.fake_mode is not self or x.constant is not None or x.layout is not _STRIDED:
                    return False
                given.append(x)
                parts += (x.shape, x.stride(), x.dtype, x.fake_device,
                          key_bits(x))  # fmt: skip
            elif kind in _PLAIN:
                parts += (kind, x)
            elif kind is list or kind is tuple:
                parts += (kind, len(x))
                if not self.describe(parts, x, given):
                    return False
            else:
                return False
        return True

    def remembered(self, out: Any, given: list[Any]) -> Made | First | None:
        """``out`` as it can be made again, where that gives the same."""
        if given and out is given[0]:
            return First()
        if type(out) is not FakeTensor or out.constant is not None or out.requires_grad:
            return None
        if out.fake_device.type == "meta" or out.layout is not torch.strided:
            return None
        if any(storage_of(x) == storage_of(out) for x in given):
            return None
        found = Made(out.shape, out.stride(), out.dtype, out.fake_device)
        again = found.made(self, given)
        is_same = again.stride() == out.stride() and key_bits(again) == key_bits(out)
        return found if is_same and out.storage_offset() == 0 else None

    def may_view(self, args: Any) -> bool:
        x = args[0]
        return (
            type(x) is FakeTensor and x.fake_mode is self and x.constant is None
            and x.layout is _STRIDED and x.fake_device.type != "meta"
            and not x.is_conj() and not x.is_neg()
            and not any(isinstance(y, torch.Tensor) for y in args[1:])
        )  # fmt: skip

    def viewed(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """One view, or several, by the operator itself on a tensor without data; of inference mode
        where ``x`` is, whatever is set now."""
        x = args[0]
        if torch.is_inference_mode_enabled() != x.is_inference():
            with torch.inference_mode(x.is_inference()):
                return self.viewed(func, args, kwargs)
        meta = torch.empty((), dtype=x.dtype, device="meta")
        meta.set_(x.untyped_storage(), x.storage_offset(), x.shape, x.stride())
        found = func(meta, *args[1:], **kwargs)
        if isinstance(found, torch.Tensor):
            return FakeTensor(self, found, x.fake_device)
        return [FakeTensor(self, one, x.fake_device) for one in found]


def _places(given: list[Any]) -> list[Any]:
    return [(x.shape, x.stride(), x.storage_offset(), storage_of(x)) for x in given]


def _kind(func: Any) -> str:
    """ "plain": its one result is known from what its arguments look like, of which only the first
    changes; "view": it gives views of the first; else neither."""
    if not isinstance(func, torch._ops.OpOverload) or func.namespace != "aten":
        return ""
    schema = func._schema
    if torch.Tag.nondeterministic_seeded in func.tags:
        return "drawing"
    if set(func.tags) & _OTHERWISE or has_composite_kernel(func) or schema.name in _OTHER:
        return ""
    written = [i for i, a in enumerate(schema.arguments) if a.alias_info and a.alias_info.is_write]
    results = [str(r.type) for r in schema.returns]
    if func.is_view and not written and results in (["Tensor"], ["List[Tensor]"]):
        return "view"
    return "plain" if results == ["Tensor"] and written in ([], [0]) else ""
