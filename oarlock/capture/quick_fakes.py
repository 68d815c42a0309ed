"""A fake tensor mode for concrete sizes that remembers what plain operators give.

torch remembers it too; to describe a call as a key takes most of the time of a capture there.
"""

from __future__ import annotations

from collections.abc import Callable
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
_MANY = 50_000  # results that are kept
_plain_ops: dict[Any, bool] = {}
_known: dict[tuple, Made | None] = {}  # None: not to be made so


class Made(NamedTuple):
    """What a result looks like; ``of``: the place among the tensors given whose memory it shares."""

    shape: torch.Size
    stride: tuple[int, ...]
    offset: int
    dtype: torch.dtype
    device: torch.device
    of: int = -1

    def made(self, mode: FakeTensorMode, given: list[torch.Tensor]) -> FakeTensor:
        shape, stride = self.shape, self.stride
        if self.of < 0:
            meta = torch.empty_strided(shape, stride, dtype=self.dtype, device="meta")
        else:
            meta = torch.empty((), dtype=self.dtype, device="meta")
            meta.set_(given[self.of].untyped_storage(), self.offset, shape, stride)
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

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # it would be asked at each operator

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.answer is not None:
            found = self.answer(self, func, args, kwargs)
            if found is not NotImplemented:
                return found
        given: list[Any] = []
        key = self.key(func, args, kwargs, given)
        if key is None:
            return self.dispatch(func, types, args, kwargs)
        known = _known.get(key)
        if known is not None:
            return known.made(self, given)
        before = _places(given)
        out = self.dispatch(func, types, args, kwargs)
        if key not in _known:
            if len(_known) >= _MANY:
                _known.clear()
            _known[key] = self.remembered(out, given) if _places(given) == before else None
        return out

    def key(self, func: Any, args: Any, kwargs: dict[str, Any], given: list[Any]) -> tuple | None:
        """What the result of a plain operator depends on, or None; ``given`` gets the tensors."""
        is_plain = _plain_ops.get(func)
        if is_plain is None:
            is_plain = _plain_ops[func] = _is_plain(func)
        if not is_plain:
            return None
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
                parts += (x.shape, x.stride(), x.storage_offset(), x.dtype, x.fake_device,
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
        of = next((i for i, x in enumerate(given) if storage_of(x) == storage_of(out)), -1)
        place, dtype = (out.shape, out.stride(), out.storage_offset()), out.dtype
        found = Made(*place, dtype, out.fake_device, of)
        again = found.made(self, given)
        mine = again.shape, again.stride(), again.storage_offset(), key_bits(again)
        return found if mine == (*place, key_bits(out)) else None


def _places(given: list[Any]) -> list[Any]:
    return [(x.shape, x.stride(), x.storage_offset(), storage_of(x)) for x in given]


def _is_plain(func: Any) -> bool:
    """Its one result is known from what its arguments look like; of those only the first changes."""
    if not isinstance(func, torch._ops.OpOverload) or func.namespace != "aten":
        return False
    schema = func._schema
    is_one = len(schema.returns) == 1 and str(schema.returns[0].type) == "Tensor"
    written = [i for i, a in enumerate(schema.arguments) if a.alias_info and a.alias_info.is_write]
    return (
        is_one
        and written in ([], [0])
        and not _OTHERWISE & set(func.tags)
        and "lift" not in func.__name__
        and "set_" not in func.__name__
        and not has_composite_kernel(func)
    )
