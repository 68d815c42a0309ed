"""``Tracer``: runs Python code on fake tensors and records the torch calls that it makes."""

from __future__ import annotations

import itertools
import operator
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from oarlock.capture.convert import is_left_out
from oarlock.capture.convert.handlers import seen_by
from oarlock.capture.convert.state import State, Text, Undefined
from oarlock.capture.convert.truth import truth_of
from oarlock.capture.quick_fakes import QuickFakeMode
from oarlock.capture.slots import slots_of
from oarlock.capture.tape import runtime
from oarlock.capture.tape.active import activated
from oarlock.capture.tape.ambience import ambient
from oarlock.capture.tape.arguments import is_record
from oarlock.capture.tape.arithmetic import in_both_worlds
from oarlock.capture.tape.caught import Caught
from oarlock.capture.tape.chance import Chance
from oarlock.capture.tape.choice import Choice, each, options
from oarlock.capture.tape.choice import length as choice_length
from oarlock.capture.tape.code import Code
from oarlock.capture.tape.containers import KINDS
from oarlock.capture.tape.control import Control, NeedsConstant
from oarlock.capture.tape.data import DataHints
from oarlock.capture.tape.effort import Effort
from oarlock.capture.tape.failures import Failures
from oarlock.capture.tape.foreign import Foreign
from oarlock.capture.tape.graded import Graded
from oarlock.capture.tape.higher import Higher
from oarlock.capture.tape.inputs import Inputs
from oarlock.capture.tape.join import Same
from oarlock.capture.tape.journal import Journal
from oarlock.capture.tape.leaving import Left, Progress
from oarlock.capture.tape.lines import NOWHERE, user_line
from oarlock.capture.tape.lists import Lists
from oarlock.capture.tape.machinery import Machinery
from oarlock.capture.tape.merged import Merged
from oarlock.capture.tape.nodes import Assert, Block, Call, Check, Val, leaves
from oarlock.capture.tape.notices import Notices
from oarlock.capture.tape.noticing import Noticing
from oarlock.capture.tape.numbers import Bool, Number, number_of
from oarlock.capture.tape.opaque import Opaque
from oarlock.capture.tape.probes import depend
from oarlock.capture.tape.reads import Data, Objects, Sizes
from oarlock.capture.tape.recursion import Recursive
from oarlock.capture.tape.run_list import RunList
from oarlock.capture.tape.sources import Source
from oarlock.capture.tape.tables import RunTable, Tables
from oarlock.capture.tape.texts import Texts
from oarlock.capture.tape.torch_calls import TorchCalls
from oarlock.capture.tape.worlds import Worlds, inherited
from oarlock.capture.torch_private import is_fake, quiet_fakes
from oarlock.errors import UnsupportedError

_SCALARS = (bool, int, float, str, type(None))

_BY_VALUE = (max, min, pow, operator.pow)  # the type of what they give depends on numbers


class Tracer(TorchCalls):
    """Records the outermost torch calls of code that runs under it, autograd included.

    Real tensors that the code meets become inputs of the tape, with the source that holds them.

    Args: state, symbolic, is_exact: see ``Inputs``; reported: refusals to pass over; are_apart: each
        number that is read from data has another sample; sites: see ``Tables``; effort: of all captures
        of a call; failing: see ``Failures``; noticed: see ``Noticing``; catches: see ``Caught``.
    """

    unread = "in code that is not converted; use torch functions, or t.item() in converted code"

    def __init__(
        self, state: dict[int, tuple[torch.Tensor, Source]] | None = None,
        symbolic: dict[Any, tuple[Any, Any]] | None = None,
        recursive: frozenset[Any] = frozenset(), is_exact: bool = False,
        reported: frozenset[str] = frozenset(), are_apart: bool = False,
        sites: frozenset[Any] = frozenset(), effort: Effort | None = None,
        failing: frozenset[Any] = frozenset(), noticed: frozenset[Any] = frozenset(),
        catches: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.are_apart, self.effort = are_apart, effort or Effort()
        self.data = DataHints()
        self.fake = QuickFakeMode(self.data.answer)
        self.root = self.block = Block()
        self.vals: dict[int, tuple[torch.Tensor, Val]] = {}
        self.inputs = Inputs(self, state or {}, symbolic or {}, is_exact)
        self.journal, self.control, self.lists = Journal(), Control(self), Lists(self)
        self.tables = Tables(self, sites)
        self.opaque, self.texts = Opaque(self), Texts(self)
        self.code, self.chance, self.foreign = Code(self), Chance(self), Foreign(self)
        self.machinery, self.notices = Machinery(self), Notices(self)
        self.merged, self.graded = Merged(self), Graded(self)
        self.journal.merged = self.merged
        self.worlds, self.sizes, self.reader = Worlds(self), Sizes(self), Data(self)
        self.objects = Objects(self, self.inputs.symbolic)
        self.journal.first, self.progress = self.objects.substitute, Progress(self)
        self.journal.about, self.journal.moved = self.progress.about, self.progress.changed
        self.higher, self.recursive = Higher(self), Recursive(self, recursive)
        self.failing, self.noticing = Failures(failing), Noticing(self, noticed)
        self.caught = Caught(self, catches)
        self.reported = reported
        self.layout_asked: set[str] = set()  # what the code decides on of strides and the like
        self.is_narrow = False  # takes for constant what differs between the worlds
        self.unconverted: dict[str, None] = {}
        self.has_backward = False
        self.grads_set: set[int] = set()
        self.grad_guards: dict[int, tuple[Source, bool]] = {}
        self.cached: dict[Any, Any] = {}  # what functions with a cache gave, and in which block
        self.bound_checks: set[tuple[int, int]] = set()
        self.of_many: set[int] = set()  # ids of values that are one of several objects
        self.home = NOWHERE  # where the function is defined

    # ---- running

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Run the user's code in here."""
        with quiet_fakes(), activated(self), self.fake, self.data, self:
            yield

    def length(self, x: Any) -> Any:
        """``len`` of what is known at run time and no tensor."""
        return choice_length(x) if isinstance(x, Choice) else len(x)

    # ---- reads

    def read(self, owner: Any, name: Any, value: Any) -> Any:
        return self.objects.read(owner, name, value)

    def wrote(self, owner: Any, name: Any, value: Any) -> None:
        """Code is about to write ``value`` to an attribute, or under a key."""
        if type(value) in _SCALARS:
            self.objects.wrote(owner, name, value)

    def uses(self, x: Any, *key: Any) -> None:
        """Code reads a container, or asks for one key of it."""
        self.merged.used(x)
        if isinstance(x, KINDS):
            if key:
                self.objects.containers.ask(x, key[0])
            else:
                self.objects.containers.observe(x)
        elif isinstance(x, RunList):
            x.observe()
        else:
            self.code.whole(x)

    def read_has(self, owner: Any, name: str) -> None:
        self.objects.has(owner, name)

    def read_item(self, owner: Any, key: Any, value: Any) -> Any:
        return self.objects.read(owner, key, value)

    # ---- numbers

    def compute(self, op: Callable[..., Any], *args: Any) -> Any:
        """Record Python arithmetic on symbolic numbers."""
        numbers = [x for x in args if isinstance(x, Number)]
        is_data = any(x.is_data for x in numbers)
        if any(isinstance(x, Choice) for x in args):
            return self.number(op, args, True, True)
        hint, other = in_both_worlds(op, args, is_data)
        found = self.number(op, args, hint, is_data)
        found.other = other
        found.loops = frozenset().union(*(x.loops for x in numbers))
        is_open = op in _BY_VALUE or any(self.types_of(x) for x in numbers)
        if is_open and self.is_of_any_type(op, args, found):
            found.val.loose |= {"type"}
        depend(found, op, args)
        self.control.derive([found.val], [x.val for x in numbers])
        return found

    def is_of_any_type(self, op: Callable[..., Any], args: tuple, found: Number) -> bool:
        """``op`` of numbers of other types, or other numbers, gives another type than ``found``."""
        rows = [self.examples(x, op in _BY_VALUE) for x in args]
        for given in itertools.product(*rows):
            try:
                if type(op(*given)) is not type(found.hint):
                    return True
            except (ArithmeticError, TypeError, ValueError):
                return True
        return False

    def examples(self, x: Any, by_value: bool) -> list[Any]:
        """What ``x`` may be at run time, of each type."""
        if not isinstance(x, Number):
            return [x]
        hint = x.hint
        values = [hint, -hint - 1, hint + 9] if by_value else [hint]
        kinds = [k for k in self.types_of(x) if k in (bool, int, float)] or [type(hint)]
        return [kind(value) for kind in kinds for value in values]

    def number(self, op: Callable[..., Any], args: tuple, hint: Any, is_data: bool) -> Any:
        """A symbolic number that ``op(*args)`` gives at run time."""
        if isinstance(hint, (tuple, complex)):
            raise UnsupportedError(
                f"{user_line()}: {op.__name__} of numbers known at run time gives "
                f"no plain number; compute its parts with torch functions"
            )
        self.effort.step()
        val = Val(self.block, hint)
        found = number_of(val, hint, is_data)
        self.emit(op, args, {}, val)
        return found

    def concrete(self, x: Any, what: str) -> Any:
        """A symbolic number as a plain one, where the code can't go on otherwise."""
        if not isinstance(x, Number):
            return x
        refusal = (
            f"{user_line(3)}: {what} from a number that depends on data; keep it a tensor, or decide "
            f"on it with `if` in converted code"
        )
        if refusal in self.reported:
            return x.hint
        if x.loops & self.control.running:
            raise NeedsConstant(x.loops, refusal)
        if x.is_data or x.loops:
            self.control.fork_for(x, UnsupportedError(refusal))
        self.is_narrow |= x.hint != x.other
        self.block.nodes.append(Check(x.val, x.hint, f"{what} needs a plain number", user_line(3)))
        return x.hint

    def text_of(self, x: Number, spec: str) -> str:
        raise UnsupportedError(
            f"{user_line(3)}: a text from a number that is known at run time, in code that is not "
            f"converted; use an f-string in converted code"
        )

    # ---- what converted code calls

    def override(self, function: Any) -> Any:
        """What converted code calls in place of ``function``, or None."""
        found = self.foreign.override(function) or self.higher.override(function)
        found = found or self.chance.override(function) or self.notices.override(function)
        found = found or self.code.setting(function) or self.machinery.override(function)
        return self.opaque.left_out(function) if found is None and is_left_out(function) else found

    def is_symbolic(self, x: Any) -> bool:
        """``x`` is known at run time only: a tensor, a symbolic number, a list of run-time length."""
        return isinstance(x, (torch.Tensor, Number, Choice, RunTable)) or (
            isinstance(x, RunList) and x.val is not None
        )

    def is_choice(self, x: Any) -> bool:
        """``x`` is one of two Python objects at run time."""
        return isinstance(x, Choice)

    def is_one_of_objects(self, x: Any) -> bool:
        """``x`` is one of two at run time, an object of a class of the user among them."""
        return isinstance(x, Choice) and any(is_record(y) or slots_of(y) for y in options(x))

    def truth_of(self, x: Choice) -> Any:
        """``bool(x)``"""
        if self.is_one_of_objects(x):
            return each(x, truth_of)
        return self.number(bool, (x,), True, True)

    def options(self, x: Choice) -> list[Any]:
        """The objects that ``x`` may be at run time."""
        return options(x)

    def each(self, x: Choice, do: Callable[[Any], Any]) -> Any:
        """``do`` on the object that ``x`` is at run time."""
        return each(x, do)

    def is_missing(self, value: Any) -> Any:
        """Whether an attribute with this value is there: False, or a number that tells at run time."""
        val = self.maybe_missing(value)
        if val is None:
            return False
        found = Val(self.block, False)
        self.pass_on(runtime.is_missing, (val,), found)
        return number_of(found, False, True)

    def maybe_missing(self, value: Any) -> Val | None:
        """The value of an attribute that one path has left out."""
        if not self.is_symbolic(value) or (isinstance(value, torch.Tensor) and not is_fake(value)):
            return None
        val = self.noted(value)
        return val if isinstance(val, Val) and "unbound" in val.loose else None

    def pass_on(self, func: Any, args: tuple, outs: Any) -> None:
        """Append a call that takes values which may not be bound."""
        call = Call(func, args, {}, outs, user_line(), ambient(), seen_by=seen_by())
        self.block.nodes.append(call)

    def attribute(self, value: Any, kind: str, name: str) -> None:
        """Raise the error of a missing attribute where ``value`` is none at run time."""
        val = self.maybe_missing(value)
        if val is not None and (val.id, id(self.block)) not in self.bound_checks:
            self.bound_checks.add((val.id, id(self.block)))
            self.pass_on(runtime.attribute, (val, kind, name), None)

    def of_heap(self, function: Callable[..., Any], items: Any, *args: Any) -> Any:
        """A function of ``heapq`` or ``bisect`` on a list that is one of the run from now on."""
        name = function.__name__
        self.journal.touch(items)
        if not self.is_symbolic(items):
            self.lists.materialise(items, [])
        if name.startswith("bisect"):
            return self.number(function, (items, *args), 0, True)
        for x in args:
            self.lists.learn(items, x)
        is_item = name in ("heappop", "heapreplace", "heappushpop")
        return self.lists.call(items, function, args, items.item if is_item else Same(None))

    def no_hash(self, x: Any) -> int:
        raise UnsupportedError(
            f"{user_line()}: a text that is known at run time is a key; decide on it with `if`"
        )

    def truth(self, test: Any) -> Any:
        """The value of a test, or a bool that is known now."""
        if isinstance(test, RunList) and test.val is not None:
            test = self.lists.length(test) > 0
        if isinstance(test, RunTable):
            test = test.run_time_length() > 0
        if isinstance(test, Choice):
            return self.number(bool, (test,), True, True).val
        if isinstance(test, (torch.Tensor, Number)):
            return self.note(test)
        return bool(test)

    def if_(self, test: Any, then: Callable, orelse: Callable, state: State) -> None:
        self.control.if_(test, then, orelse, state)

    def while_(self, test: Callable, body: Callable, state: State, trips: Any = None) -> None:
        """``trips``: how many there are, where that is known before the loop."""
        self.control.while_(test, body, state, trips)

    def assert_(self, test: Any, text: Callable[[], Any] | None = None) -> None:
        truth = self.truth(test)
        block = None
        if text is not None:
            with self.into(Block(self.block)) as block:
                block.results.append(self.note(text()))
        node = Assert(truth, block, user_line(3), ambient(), self.left())
        self.block.nodes.append(node)

    def left(self) -> Left | None:
        """What the code has left in objects until now."""
        return Left.of(self)

    def print_(self, args: tuple, kwargs: dict[str, Any] | None = None) -> None:
        self.notices.print_(args, dict(kwargs or {}))

    def is_branching(self) -> bool:
        """What runs now is one of several paths, or a trip of a loop."""
        return self.block is not self.root

    def is_of_two_types(self, x: Any) -> bool:
        """The ways of a decision on data give ``x`` different types."""
        noted = self.noted(x)
        loose = noted.loose if isinstance(noted, Val) else frozenset()
        return isinstance(x, Choice) or bool(loose & {"none", "number", "type"})

    def types_of(self, x: Any) -> list[type]:
        """The types of a number or tensor of which it has one at run time; none where it has one."""
        if isinstance(x, Choice) or not self.is_of_two_types(x):
            return []
        loose, kinds = self.noted(x).loose, [bool, int, float]
        last = type(x.hint) if isinstance(x, Number) else torch.Tensor
        if isinstance(x, Number):
            kinds = [kind for kind in kinds if kind is not last]
        elif "number" not in loose:
            kinds = []
        return [*([type(None)] if "none" in loose else []), *kinds, last]

    def type_of(self, x: Any) -> Any:
        """The type that ``x`` has at run time."""
        if isinstance(x, torch.nn.Parameter):
            return torch.nn.Parameter
        if is_fake(x):
            return torch.Tensor
        if isinstance(x, Choice):
            return each(x, type)
        if hasattr(type(x), "run_time_deque"):
            return deque
        if hasattr(type(x), "run_time_tuple"):
            return tuple
        if isinstance(x, RunTable):
            return x.kind
        if isinstance(x, Number):
            return type(x.hint)
        return list if isinstance(x, RunList) else str if isinstance(x, Text) else type(x)

    def update(self, op: Callable[..., Any], value: Any, other: Any) -> Any:
        """``value op= other``; a tensor that is a number on some path gives a new value."""
        if not isinstance(value, torch.Tensor) or "number" not in self.val(value).loose:
            return op(value, other)
        name = op.__name__[1:]
        plain = getattr(operator, f"{name}_" if name in ("and", "or") else name)
        with torch._C.DisableTorchFunction():
            out, twin, dynamic, found = self.worlds.run(plain, (value, other), {})
        call = self.record(op, (value, other), {}, out)
        if dynamic:
            loose = inherited(list(leaves((call.args, call.kwargs))))
            self.worlds.mark(call.outs, out, twin, found, loose)
        self.open_type(plain, (value, other), {}, out)
        return out

    def may_be_none(self, x: Any) -> bool:
        """Whether a run-time value, no choice, is None on some way."""
        if isinstance(x, torch.Tensor) and not is_fake(x):
            return False
        noted = self.noted(x)
        return isinstance(noted, Val) and "none" in noted.loose

    def is_(self, a: Any, b: Any) -> Any:
        """``a is b`` where one of them may be None at run time."""
        a, b = (b, a) if a is None else (a, b)
        noted = self.noted(a)
        if b is None and self.may_be_none(a):
            number = self.number(runtime.is_none, (noted,), False, True)
            number.other = True
            self.control.derive([number.val], [noted])
            return number
        if b is not None:
            self.journal.compared(a, b)
        if a is not b and all(self.may_be_none(x) for x in (a, b)):
            return self.number(operator.is_, (self.noted(a), self.noted(b)), True, True)
        if a is not b and all(isinstance(x, torch.Tensor) for x in (a, b)):
            vals = (self.val(a), self.val(b))
            if any(val.id in self.of_many for val in vals):
                return self.number(operator.is_, vals, True, True)
        if isinstance(a, Choice) or isinstance(b, Choice):
            return self.number(operator.is_, (a, b), True, True)
        if isinstance(a, Bool) or isinstance(b, Bool):
            others = {type(x) for x in (a, b)} - {Bool}
            return self.compute(operator.is_, a, b) if others <= {bool} else False
        return a is b

    def list_(self, items: Any = ()) -> Any:
        return self.lists.new(items)

    def ordered(self, items: RunList, keys: Any, reverse: bool) -> RunList:
        """``sorted(items)`` at run time, by given keys or by the items."""
        return self.lists.derived(runtime.ordered, (items, keys, reverse), [items])


__all__ = ["Tracer", "Undefined", "ambient", "user_line"]
