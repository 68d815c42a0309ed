"""What the code asks tensors for in one call: a recording takes the ways that the answers lead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

ASKS = (
    "aten._local_scalar_dense.default", "aten.item.default", "aten.is_nonzero.default",
    "aten.equal.default",
)  # fmt: skip


class Outcomes(TorchDispatchMode):
    """Notes every number that a tensor is asked for, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if str(func) in ASKS:
            self.found.append(found)
        return found


class Told:
    """The numbers of a call, while its recording asks for them.

    ``way``: those that were decided on.
    """

    def __init__(self, found: list[Any]) -> None:
        self._next: Iterator[Any] = iter(found)
        self.way: list[Any] = []

    def next(self) -> Any:
        """Raises: LookupError where the recording asks more often than the call."""
        for found in self._next:
            return found
        raise LookupError("the recording asks for more numbers than the call")
