"""ATen overloads that no lift knows, taken apart by PyTorch's own decompositions."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from oarlock.capture.unfused import UNFUSED


def overload_of(name: str) -> Any:
    """The overload ``aten.name.overload``, or None."""
    namespace, packet, overload = name.split(".")
    found = getattr(getattr(torch.ops, namespace), packet, None)
    return getattr(found, overload, None) if found is not None else None


@cache
def expansion(func: Any) -> Callable[..., Any] | None:
    """The same computation in smaller overloads, or None.

    Composites of PyTorch's dispatcher, then its table of decompositions, then what a primitive of
    ``torch._prims`` calls.
    """
    if func.name() in UNFUSED:
        return UNFUSED[func.name()]
    composite = "CompositeImplicitAutograd"
    if func.namespace == "prims":
        return getattr(func, "impl_aten", None)
    if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), composite):
        return func.decompose
    from torch._decomp import decomposition_table

    return decomposition_table.get(func)


def expand_by_torch(func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Run the expansion; a recorder that is active sees the smaller overloads."""
    call = expansion(func)
    if call is None:
        raise NotImplementedError("no op captures it; see `oarlock ops --aten`")
    return call(*args, **kwargs)
