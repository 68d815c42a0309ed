"""Errors of operations that code around them sees: ``except``, ``finally`` and managers of the user.

A tape holds what follows an operation that does not fail.  A run that meets an error such code would
see is taken back, and the call is made as plain Python.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from collections import deque
from types import FunctionType
from typing import TYPE_CHECKING, Any

import torch

from oarlock.capture.tape.active import plainly
from oarlock.capture.tape.aliasing import Memories
from oarlock.capture.tape.caught import FAILING, plain_name
from oarlock.capture.tape.chance import drawn, shared
from oarlock.capture.tape.foresight import reader
from oarlock.capture.tape.higher import with_backward_hooks
from oarlock.capture.tape.nodes import Block, Call, Fork, If, Print, Val, blocks_of, leaves
from oarlock.capture.tape.opaque import checked
from oarlock.capture.tape.optimizers import step_
from oarlock.capture.tape.queries import changes_list, is_update, name_of
from oarlock.capture.tape.snapshots import Snapshot
from oarlock.errors import UnsupportedError

if TYPE_CHECKING:
    from oarlock.capture.tape.capturing import Tape

_PLAIN = (torch.Tensor, bool, int, float, str, torch.Generator)
_AS_A_WHOLE = (checked, with_backward_hooks, step_)
_LOG = logging.getLogger("oarlock")
_FAIL = FAILING | {
    "index_select", "take_along_dim", "repeat_interleave", "fmod", "div", "cholesky_inverse", "eigh",
    "eigvalsh", "eig", "eigvals", "svd", "svdvals", "qr", "lstsq", "pinv", "matrix_rank", "tensorinv",
    "tensorsolve", "ctc_loss", "item", "max", "min", "argmax", "argmin", "aminmax", "cdist",
    "multi_margin_loss", "unflatten", "view", "reshape", "kthvalue", "quantile",
}  # fmt: skip
"""Calls that may fail on data; any may on sizes."""


class Unwinding:
    """Of one tape: whether runs that fail can be taken back."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.acted: set[int] = set()  # calls behind what can't be taken back
        self.changed: set[int] = set()  # calls behind updates of what the tape is given
        self.keeps = False  # what updates change
        self.prints = any(isinstance(node, Print) for node in tape.root.walk())
        self.memories = Memories(tape.inputs, tape.root)
        self.lists = not all(isinstance(val.sample, _PLAIN) for val, _ in tape.inputs)
        self.block(tape.root, False, False)
        self.inputs = reader(tape.inputs) if self.keeps else None

    def block(self, block: Block, acts: bool, changes: bool) -> tuple[bool, bool]:
        """Args: acts, changes: whether something before it does."""
        for node in block.nodes:
            if isinstance(node, (If, Fork)):
                ways = [self.block(b, acts, changes) for b in blocks_of(node)]
                acts, changes = (any(x) for x in zip(*ways))
                continue
            group = [node, *(n for b in blocks_of(node) for n in b.walk())]
            now = any(map(_acts, group)), any(map(self.may_change, group))
            if len(group) > 1:  # inside a loop what stands behind a call has run before it
                acts, changes = acts or now[0], changes or now[1]
            for one in group:
                if isinstance(one, Call) and one.seen_by:
                    self.look_at(one, acts, changes)
            acts, changes = acts or now[0], changes or now[1]
        return acts, changes

    def look_at(self, call: Call, acts: bool, changes: bool) -> None:
        self.acted |= {id(call)} if acts else set()
        self.changed |= {id(call)} if changes else set()
        self.keeps |= changes and not acts and _may_fail(call)

    def may_change(self, node: Any) -> bool:
        """What the tape is given, or a generator."""
        if not isinstance(node, Call):
            return False
        given = [x.sample for x in leaves((node.args, node.kwargs)) if isinstance(x, Val)]
        if node.func is drawn or any(isinstance(x, torch.Generator) for x in given):
            return True
        if self.lists and changes_list(node):
            return True
        return is_update(node.func) and self.memories.may_change_given(node)

    def begin(self, args: tuple, kwargs: dict[str, Any]) -> Started:
        return Started(self, args, kwargs)


class Started:
    """One run that begins."""

    def __init__(self, owner: Unwinding, args: tuple, kwargs: dict[str, Any]) -> None:
        self.owner, self.args, self.kwargs = owner, args, kwargs
        given = list(owner.inputs(args, kwargs)) if owner.inputs is not None else []
        tensors = {id(x): x for x in given if isinstance(x, torch.Tensor)}.values()
        generators = [x for x in given if isinstance(x, torch.Generator)]
        chance = [*shared(), *owner.tape.objects] if owner.keeps else []
        self.before = Snapshot(tensors, _containers(given), generators, chance)
        self.told = _Counting(sys.stdout) if owner.prints else None

    def replay(self) -> Any:
        """Raises: what the calls raise."""
        if self.told is None:
            return self.owner.tape.replay(self.args, self.kwargs)
        with contextlib.redirect_stdout(self.told):
            return self.owner.tape.replay(self.args, self.kwargs)

    def is_seen(self, error: BaseException) -> Call | None:
        """The call that has raised ``error``, where code around it would see that."""
        code, trace = self.owner.tape.replay.__code__, error.__traceback__
        found = None
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == code.co_filename:
                found = self.owner.tape.seen.get(trace.tb_lineno - 1, found)
            trace = trace.tb_next
        return found if found is not None and isinstance(error, found.seen_by) else None

    def again(self, error: BaseException, call: Call) -> Any:
        """The call as plain Python.  Raises: UnsupportedError where the run can't be taken back."""
        owner, tape = self.owner, self.owner.tape
        changed = id(call) in owner.changed and (not owner.keeps or self.before.is_lost)
        if id(call) in owner.acted or changed:
            raise UnsupportedError(
                f"{call.where}: {name_of(call.func)} has raised {type(error).__name__}: {error}: code "
                f"around it (`except`, `finally` or a context manager) would see that, and the call has "
                f"{'updated tensors' if changed else 'logged or called functions'} before; test with "
                f"`if` whether it will fail"
            ) from error
        self.before.restore()
        _LOG.info("%s: a call that fails is plain Python: %s: %r", tape.name, call.where, error)
        assert tape.fn is not None
        told = self.told
        quiet = contextlib.nullcontext() if told is None else contextlib.redirect_stdout(told)
        if told is not None:
            told.again()
        with plainly(), quiet:
            return tape.fn(*self.args, **self.kwargs)


class _Counting(io.TextIOBase):
    """Standard output; after ``again``, without what has been written before."""

    def __init__(self, file: Any) -> None:
        self.file, self.count, self.skip = file, 0, 0

    def write(self, text: str) -> int:
        hidden = min(self.skip, len(text))
        self.skip -= hidden
        self.count += len(text)
        if hidden < len(text):
            self.file.write(text[hidden:])
        return len(text)

    def flush(self) -> None:
        self.file.flush()

    def again(self) -> None:
        self.skip, self.count = self.count, 0


def _containers(given: list[Any], depth: int = 8) -> list[Any]:
    """Lists and other containers, and those inside them."""
    found = [x for x in given if isinstance(x, (list, dict, set, deque))]
    inner = [y for x in found for y in (x.values() if isinstance(x, dict) else x)]
    return [*found, *(_containers(inner, depth - 1) if inner and depth else [])]


def _may_fail(call: Call) -> bool:
    given = [x for x in leaves((call.args, call.kwargs)) if isinstance(x, Val)]
    return plain_name(call.func) in _FAIL or any(x.dims for x in given)


def _acts(node: Any) -> bool:
    """It does something that can't be taken back."""
    if isinstance(node, Print):
        return node.function is not print
    if not isinstance(node, Call) or node.func is drawn:
        return False
    if node.func in _AS_A_WHOLE:
        return True
    module = getattr(node.func, "__module__", None) or ""
    return isinstance(node.func, FunctionType) and not module.startswith(("torch", "oarlock"))
