"""Operations inside ``try`` that may fail on data, with an error that a handler catches: both ways are
captured, the call and what the handler does.

Inside loops and branches of the run, and where another error comes, the call is taken back; see
``unwinding``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from oarlock.capture.convert.handlers import Steering, catching
from oarlock.capture.convert.state import Text
from oarlock.capture.tape import runtime
from oarlock.capture.tape.forks import ForkNeeded
from oarlock.capture.tape.nodes import Block, Call, Fork, Val, blocks_of, leaves
from oarlock.capture.tape.queries import name_of
from oarlock.errors import UnsupportedError

if TYPE_CHECKING:
    from oarlock.capture.tape.tracer import Tracer

MOST, MOST_WELL = 8, 4  # calls on one way through the code, and those of them that go well
_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_OF_NAMES: dict[type[Exception], tuple[str, ...]] = {
    IndexError: (
        "__getitem__", "index_add", "index_copy", "index_fill", "index_put", "take", "embedding",
        "cross_entropy", "nll_loss",
    ),
    RuntimeError: (
        "gather", "scatter", "scatter_add", "scatter_reduce", "embedding_bag", "one_hot", "bincount",
        "__floordiv__", "floor_divide", "__mod__", "remainder",
    ),
    torch.linalg.LinAlgError: ("cholesky", "inv", "inverse", "solve"),
}  # fmt: skip
_OF_PROBABILITIES = ("multinomial", "bernoulli", "binary_cross_entropy")  # RuntimeError
_KINDS = {name: kind for kind, names in _OF_NAMES.items() for name in names}
FAILING = frozenset({*_KINDS, *_OF_PROBABILITIES})
_CHECKED = FAILING - {*_OF_NAMES[torch.linalg.LinAlgError], "bincount", "multinomial", "bernoulli"}
"""A compiled run of these ends before it changes anything where they fail; see ``indices``."""


def plain_name(func: Any) -> str:
    return name_of(func).removeprefix("linalg_")


def where_all_go_well(block: Block) -> Iterator[Any]:
    """The nodes of a block on the way where no call fails that a compiled run checks."""
    caught: Call | None = None
    for node in block.nodes:
        if isinstance(node, Fork) and caught is not None:
            yield from where_all_go_well(node.then)
            continue
        yield node
        yield from (inner for b in blocks_of(node) for inner in b.walk())
        if isinstance(node, Call) and node.func is not runtime.outcome:
            is_checked = node.catches is not None and plain_name(node.func) in _CHECKED
            caught = node if is_checked else None


class Unfollowed(Steering):
    """More calls in ``try`` than are followed both ways."""


class Caught:
    """Args: is_on: whether such calls are followed both ways."""

    def __init__(self, tracer: Tracer, is_on: bool) -> None:
        self.tracer, self.is_on = tracer, is_on
        self.count = self.well = 0  # calls, and those that go well

    def look_at(self, call: Call) -> None:
        """A call that has been recorded.  Raises: what its failure raises, on the way of that."""
        tracer, kind = self.tracer, _kind(call) if call.seen_by and self.is_on else None
        if kind is None or tracer.control.running or not _is_handled(kind):
            return
        is_outermost = tracer.block is tracer.root
        if not is_outermost and tracer.control.number is None:
            return
        self.count += 1
        if self.count > MOST or self.well > MOST_WELL:
            raise Unfollowed
        refusal = UnsupportedError(f"{call.where}: more calls in `try` may fail than are followed")
        if not is_outermost:  # then it is, on both ways of the decision around
            raise ForkNeeded(tracer.control.number, refusal)
        call.catches = kind
        is_well, error = Val(tracer.block, True), Val(tracer.block, None)
        outcome = Call(runtime.outcome, (), {}, (is_well, error), call.where, call.ambient)
        tracer.block.nodes.append(outcome)
        if not tracer.control.fork(is_well, call.where, refusal):
            raise placeholder(kind, error)
        self.well += 1


def placeholder(kind: type[Exception], val: Val) -> Exception:
    """What the code gets for an error of the run."""
    error = kind(Text.of(((val, "s", ""),)))
    error._oarlock_val = val  # type: ignore[attr-defined]
    return error


def val_of(error: Any) -> Val | None:
    """The error of the run that ``error`` stands for."""
    return getattr(error, "_oarlock_val", None) if isinstance(error, BaseException) else None


def _kind(call: Call) -> type[Exception] | None:
    """The class of the error by which a call may fail on data."""
    name = plain_name(call.func)
    if name in _OF_PROBABILITIES:
        return RuntimeError
    kind = _KINDS.get(name)
    if kind is None or kind is torch.linalg.LinAlgError:
        return kind
    given = [x.sample for x in leaves((call.args, call.kwargs)) if isinstance(x, Val)]
    whole = [x for x in given if isinstance(x, torch.Tensor) and x.dtype in _INTEGERS]
    key = call.args[1] if name == "__getitem__" else None
    if name == "__getitem__":
        keys = [x.sample for x in leaves(key) if isinstance(x, Val)]
        whole = [x for x in keys if isinstance(x, torch.Tensor) and x.dtype in _INTEGERS]
    if "div" in name or name in ("__mod__", "remainder"):
        is_whole = len(whole) == len([x for x in given if isinstance(x, torch.Tensor)])
        return kind if is_whole and isinstance(call.args[-1], Val) else None
    return kind if whole else None


def _is_handled(kind: type[Exception]) -> bool:
    """An ``except`` clause catches it."""
    return any(handler.ends for handler in catching(kind()))
