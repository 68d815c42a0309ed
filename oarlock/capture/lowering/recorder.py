"""The recorder of blocks: ATen calls into the innermost graph, and those whose results depend on data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from oarlock.capture.aliases import Memory, View
from oarlock.capture.indices import require_ranges
from oarlock.capture.lowering import data, draws, fits
from oarlock.capture.lowering.frames import FrameLifter
from oarlock.capture.lowering.generators import Generators
from oarlock.capture.lowering.lists import Layouts, ListValue
from oarlock.capture.lowering.run_time import RunTimeShapes
from oarlock.capture.lowering.scalars import Scalars
from oarlock.capture.recorder import Recorder, Spoiled
from oarlock.capture.symbols import exceptions, holds, readable
from oarlock.capture.torch_private import FEW, is_fake
from oarlock.errors import OarlockError
from oarlock.ir import Dim, Origin, TensorType, Value, f64, i64

PLAIN_REASONS = (NotImplementedError, OarlockError, TypeError, ValueError, RuntimeError, IndexError)


class Refused(Exception):
    """A node of the tape has no form in the IR; the reason is noted."""


@dataclass
class Snapshot:
    """What views showed when a block began."""

    views: dict[int, View]
    shown: dict[View, tuple[Value, int, Value | None]]
    versions: dict[Memory, int]
    lists: dict[ListValue, tuple[list[Value] | None, int]]


class BlockRecorder(Recorder):
    """Records into frames; ``where`` is the user's line of the call that is replayed."""

    def __init__(self, names: dict[int, str], layouts: Layouts | None = None) -> None:
        super().__init__(RunTimeShapes(None), names)  # type: ignore[arg-type]
        self.b = FrameLifter(self.graph)
        self.shapes.b = self.b
        self.b.is_of_run = self.is_decided_by_run
        self.scalars = Scalars(self.b, self.shapes)
        self.known_views: dict[View, None] = {}
        self.binding = False
        self.where, self.module = "", ""
        self.lists: dict[ListValue, None] = {}
        self.layouts = layouts or Layouts()
        self.lowering: Any = None
        self.first: dict[View, Value] = {}  # what weights hold when the program starts
        self.places: dict[Value, torch.Tensor] = {}
        self.generators = Generators(self)
        self.own: torch.Generator | None = None  # that the call which is recorded draws from
        self.is_strict = False  # a run ends where torch refuses what it is given
        self.ranges: set[Any] = set()

    # ---- where and what

    def origin(self) -> Origin:
        return Origin(self.module, self.where)

    def bind_view(self, tensor: torch.Tensor, view: View) -> View:
        at: View | None = view
        while at is not None:
            self.known_views[at] = None
            at = at.parent
        return super().bind_view(tensor, view)

    def new(self, value: Value, source: str = "") -> torch.Tensor:
        """A fake tensor that is ``value``, in memory of its own."""
        fake = self.shapes.fake(value.type)
        self.bind(fake, value, source)
        return fake

    def scalar_of(self, tensor: torch.Tensor) -> Value:
        """The element of a tensor of one."""
        value = self.value(tensor)
        return self.b.reshape(value, shape=()) if value.rank else value

    def operand(self, x: Any) -> Any:
        symbolic = isinstance(x, (torch.SymInt, torch.SymFloat))
        if symbolic and not self.binding and self.shapes.is_number(x.node.expr):
            return self.scalars.value(x)
        if isinstance(x, torch.SymFloat):
            return self.scalars.value(x, f64)
        if isinstance(x, torch.SymBool):
            return self.scalars.value(x)
        return super().operand(x)

    # ---- calls

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = str(func)
        rule = data.RULES.get(name) or draws.RULES.get(name)
        if rule is not None:
            self.b.origin = self.origin()
            try:
                found = self.by_data(rule, func, args, kwargs or {})
            except (NotImplementedError, OarlockError) as error:
                self.problem(func, str(error))
                found = NotImplemented
            if found is not NotImplemented:
                return found
        try:
            return super().__torch_dispatch__(func, types, args, kwargs)
        except (RuntimeError, ValueError) as error:
            is_final = isinstance(error, NotImplementedError) or not self.b.may_fit
            fitted = None if is_final else fits.fitted(self, func, args, kwargs or {})
            if fitted is None:
                raise
        return super().__torch_dispatch__(func, types, *fitted)

    def record(self, func: Any, args: tuple, kwargs: dict[str, Any], out: Any) -> list[View]:
        if self.is_strict:
            self.ranges.clear()  # what a branch has checked is not checked behind it
            require_ranges(self, str(func), args)
        return super().record(func, args, kwargs, out)

    def by_data(self, rule: Callable[..., Any], func: Any, args: tuple, kwargs: dict) -> Any:
        """The results of a rule, which calls torch functions that are recorded in their turn."""
        before = len(self.problems)
        found = draws.drawn(self, self, rule, args, kwargs)
        if len(self.problems) > before:
            raise NotImplementedError(self.problems.pop())
        return found

    def draw(self, record: type, like: torch.Tensor) -> torch.Tensor:
        """Random numbers in the shape and dtype of a tensor."""
        return self.generators.draw(record, like, self.own)

    def require(self, condition: torch.Tensor, message: str) -> None:
        """An assertion of the program."""
        self.b.assert_(self.scalar_of(condition), message=message, kind="RuntimeError")

    def lifted(
        self, name: str, args: tuple, kwargs: dict[str, Any], leaves: list[torch.Tensor]
    ) -> list[View]:
        """As the lift builds them: from numbers as values, else as sizes."""
        if self.binding:
            return super().lifted(name, args, kwargs, leaves)
        try:
            return super().lifted(name, args, kwargs, leaves)
        except Spoiled:
            raise
        except (NotImplementedError, OarlockError, TypeError, AttributeError):
            if not self._has_numbers(args) and not self._has_numbers(kwargs):
                raise
        self.binding = True
        try:
            return super().lifted(name, args, kwargs, leaves)
        finally:
            self.binding = False

    def _has_numbers(self, tree: Any) -> bool:
        if isinstance(tree, dict):
            return any(map(self._has_numbers, tree.values()))
        if isinstance(tree, (list, tuple)):
            return any(map(self._has_numbers, tree))
        return isinstance(tree, (torch.SymInt, torch.SymFloat))

    def same_sizes(self, value: Value, type: TensorType) -> Value:
        """``value`` with the sizes of ``type``: checked when the program runs, where a run decides."""
        value = super().same_sizes(value, type)
        if value.dtype is not type.dtype or value.rank != type.rank:
            return value
        differing = [(a, b) for a, b in zip(value.shape, type.shape) if a != b]
        if differing and all(
            self.is_decided_by_run(a) or self.is_decided_by_run(b) for a, b in differing
        ):
            return self.b.refine(value, shape=type.shape)
        return value

    def seen(self, tensor: torch.Tensor, value: Value) -> Value:
        """Torch may have taken a size for 1, where it has told many elements from one: checked."""
        is_open = any(map(self.is_decided_by_run, value.shape))
        return self.same_sizes(value, self.type_of(self.fake(tensor))) if is_open else value

    def is_decided_by_run(self, size: Any) -> bool:
        return isinstance(size, Dim) and bool(size.symbols() - self.shapes.given)

    def to_python(self, func: Any, args: tuple) -> Any:
        """``item`` inside of a composite: a number known at run time."""
        if "equal" in str(func):
            raise NotImplementedError("a decision of torch on the elements of a tensor")
        scalar = self.scalar_of(args[0])
        if scalar.dtype.is_bool:
            return self.shapes.number_of(self.b.cast(scalar, dtype=i64)) != 0
        return self.scalars.number(scalar)

    # ---- blocks

    def mark(self) -> tuple[int, int]:
        """Where problems and decisions stand."""
        return len(self.problems), len(self.shapes.env.decisions)

    def back_to(self, mark: tuple[int, int]) -> None:
        """Forget problems and decisions since."""
        del self.problems[mark[0] :], self.shapes.env.decisions[mark[1] :]

    def assert_decisions(self, since: int) -> None:
        """What torch has decided on sizes that do not prove it holds in each run, or is an error.

        Decisions on sizes of the inputs that are other for more than a few sizes stay: they are
        refused.
        """
        made = self.shapes.env.decisions[since:]
        kept = []
        for decision in made:
            if holds(decision.condition, self.shapes.symbols):
                continue
            if self._is_refused(decision):
                kept.append(decision)
                continue
            self.b.assert_(
                self.scalars.expression(decision.condition),
                message=f"{self.where}: another size than the program was made for: "
                f"{readable(decision.condition, self.shapes.symbols)} does not hold",
                kind="Respecialise",
            )
        self.shapes.env.decisions[since:] = kept

    def _is_refused(self, decision: Any) -> bool:
        shapes = self.shapes
        if decision.number:
            return True
        if shapes.is_number(decision.condition):
            return False
        dims = [shapes.symbols[s] for s in decision.condition.free_symbols if s in shapes.symbols]
        names = set().union(*(dim.symbols() for dim in dims))
        return names <= shapes.given and exceptions(decision.condition, shapes.symbols, FEW) is None

    def snapshot(self) -> Snapshot:
        shown = {v: (v.value, v.seen, v.origin_value) for v in self.known_views}
        versions = {v.memory: v.memory.version for v in self.known_views}
        lists = {x: (x.stacks, x.version) for x in self.lists}
        return Snapshot(dict(self.views), shown, versions, lists)

    def restore(self, before: Snapshot) -> None:
        """Let the views show again what they showed at ``before``."""
        for view in list(self.known_views):
            if view in before.shown:
                view.value, view.seen, view.origin_value = before.shown[view]
                view.memory.version = before.versions[view.memory]
            elif view in self.first:
                view.value, view.seen, view.memory.version = self.first[view], 0, 0
            else:
                del self.known_views[view]
        self.lists = dict.fromkeys(before.lists)
        for x, (stacks, version) in before.lists.items():
            x.stacks, x.version = stacks, version

    def written(self, before: Snapshot) -> list[View | ListValue]:
        """Bases of memory, and lists, from outside of a block that the block has changed.

        Raises: NotImplementedError when the block has made a tensor show other memory.
        """
        moved = [t for t, view in before.views.items() if self.views.get(t) is not view]
        if moved:
            raise NotImplementedError(
                "a branch or loop gives a tensor from outside other memory; use the returned tensor"
            )
        lists = [x for x, (_, version) in before.lists.items() if x.version != version]
        views = [
            view
            for view in self.known_views
            if view.parent is None and view.memory.version != before.versions.get(view.memory, 0)
            and (view in before.shown or view in self.first)
        ]  # fmt: skip
        return [*views, *lists]

    def view(self, tensor: torch.Tensor) -> View:
        found = super().view(tensor)
        if not is_fake(tensor) and found.parent is None:
            self.first.setdefault(found, found.value)
        return found
