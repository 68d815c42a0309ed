"""``Tracer``: runs Python code on fake tensors and records the torch calls that it makes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from oarlock.capture.convert import is_left_out
from oarlock.capture.convert.state import State, Text, Undefined
from oarlock.capture.tape import runtime
from oarlock.capture.tape.active import activated
from oarlock.capture.tape.ambience import ambient
from oarlock.capture.tape.arithmetic import in_both_worlds
from oarlock.capture.tape.chance import Chance
from oarlock.capture.tape.choice import Choice, choice, each
from oarlock.capture.tape.choice import length as choice_length
from oarlock.capture.tape.code import Code
from oarlock.capture.tape.containers import KINDS
from oarlock.capture.tape.control import Control, NeedsConstant
from oarlock.capture.tape.data import DataHints
from oarlock.capture.tape.effects import Left
from oarlock.capture.tape.graded import Graded
from oarlock.capture.tape.higher import Higher
from oarlock.capture.tape.inputs import Inputs
from oarlock.capture.tape.join import Leaf, Many, Same, stand_in
from oarlock.capture.tape.journal import Journal
from oarlock.capture.tape.lines import user_line
from oarlock.capture.tape.lists import Lists
from oarlock.capture.tape.run_list import RunList
from oarlock.capture.tape.merged import Merged
from oarlock.capture.tape.nodes import (
    Assert,
    Block,
    Call,
    Check,
    Print,
    Val,
    Where,
    leaves,
    map_tree,
)
from oarlock.capture.tape.numbers import Bool, Number, number_of
from oarlock.capture.tape.opaque import Opaque
from oarlock.capture.tape.probes import depend
from oarlock.capture.tape.queries import READS, access_of, is_query, is_update, name_of
from oarlock.capture.tape.raising import failed
from oarlock.capture.tape.reads import SIZES, Data, Objects, Sizes
from oarlock.capture.tape.recursion import Recursive
from oarlock.capture.tape.sources import Source
from oarlock.capture.tape.tables import RunTable, Tables
from oarlock.capture.tape.texts import Texts
from oarlock.capture.tape.worlds import Worlds, inherited
from oarlock.capture.torch_private import (
    FAKE_ERRORS,
    fake_mode,
    is_fake,
    quiet_fakes,
    under_mode,
)
from oarlock.errors import OarlockError, UnsupportedError

_OF_DTYPE = ("dtype", "is_floating_point", "is_complex", "element_size", "itemsize", "nbytes")
_SCALARS = (bool, int, float, str, type(None))


class Tracer(TorchFunctionMode):
    """Records the outermost torch calls of code that runs under it, autograd included.

    Real tensors that the code meets become inputs of the tape, with the source that holds them.

    Args: state, symbolic, is_exact: see ``Inputs``; reported: refusals to pass over; are_apart: each
        number that is read from data has another sample; sites: see ``Tables``.
    """

    def __init__(
        self, state: dict[int, tuple[torch.Tensor, Source]] | None = None,
        symbolic: dict[Any, tuple[Any, Any]] | None = None,
        recursive: frozenset[Any] = frozenset(), is_exact: bool = False,
        reported: frozenset[str] = frozenset(), are_apart: bool = False,
        sites: frozenset[Any] = frozenset(),
    ) -> None:  # fmt: skip
        super().__init__()
        self.are_apart = are_apart
        self.fake, self.data = fake_mode(), DataHints()
        self.root = self.block = Block()
        self.vals: dict[int, tuple[torch.Tensor, Val]] = {}
        self.inputs = Inputs(self, state or {}, symbolic or {}, is_exact)
        self.journal, self.control, self.lists = Journal(), Control(self), Lists(self)
        self.tables = Tables(self, sites)
        self.opaque, self.texts = Opaque(self), Texts(self)
        self.code, self.chance = Code(self), Chance(self)
        self.merged, self.graded = Merged(self), Graded(self)
        self.journal.merged = self.merged
        self.worlds, self.sizes, self.reader = Worlds(self), Sizes(self), Data(self)
        self.objects = Objects(self, self.inputs.symbolic)
        self.journal.first = self.objects.substitute
        self.higher, self.recursive = Higher(self), Recursive(self, recursive)
        self.reported = reported
        self.is_narrow = False  # takes for constant what differs between the worlds
        self.unconverted: dict[str, None] = {}
        self.has_backward = False
        self.grads_set: set[int] = set()
        self.grad_guards: dict[int, tuple[Source, bool]] = {}
        self.cached: dict[Any, Any] = {}  # what functions with a cache gave
        self.bound_checks: set[tuple[int, int]] = set()
        self.of_many: set[int] = set()  # ids of values that are one of several objects

    # ---- running

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Run the user's code in here."""
        with quiet_fakes(), activated(self), self.fake, self.data, self:
            yield

    @contextmanager
    def into(self, block: Block) -> Iterator[Block]:
        """Record into ``block``."""
        before, self.block = self.block, block
        try:
            yield block
        finally:
            self.block = before

    def where(self) -> Where:
        return user_line(3)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for x in (*args, *kwargs.values()):
            if type(x) is list:
                self.merged.used(x)
        name = name_of(func)
        if name in READS:
            return self.reader.read(func, args, kwargs)
        if name in _OF_DTYPE and args and isinstance(args[0], torch.Tensor):
            self.sizes.certain(self.val(args[0]), "dtype", None)
        if name == "__deepcopy__":
            return self.copied(args[0], args[1])
        if name == "register_hook":
            return self.higher.hook(args[0], args[1], name)
        if _is_silent(name, func):
            return func(*args, **kwargs)
        if is_query(func) or (access_of(func) == "__get__" and name in SIZES):
            out = func(*self.worlds.samples(args), **self.worlds.samples(kwargs))
            return self.sizes.read(func, args, kwargs, out) if name in SIZES else out
        before = _kind(args) if is_update(func) else None
        grads = self.graded.starts(name, access_of(func), args)
        try:
            out, other, dynamic, found = self.worlds.run(func, args, kwargs)
        except OarlockError:
            raise
        except FAKE_ERRORS as error:
            raise UnsupportedError(
                f"{self.where()}: {name}: torch can't tell what it gives before it runs ({error}); "
                f"call it before the function, and pass what it gives as an argument"
            ) from error
        except Exception as error:
            args, kwargs = self.noted(args), self.noted(kwargs)
            failed(error, Call(func, args, kwargs, None, user_line(), ambient()))
            raise
        if name == "grad" or (before is not None and before != _kind(args)):
            self.merged.are_tensors_told = True
        self.watch_grads(func, name, args, out)
        self.graded.ends(grads)
        if access_of(func) == "__get__" and not _has_tensor(out):
            return out
        if dynamic and other and isinstance(out, torch.Tensor) and id(out) in self.vals:
            out = self.apart(out, other[0], args, kwargs, name == "contiguous")
        if dynamic and other and _is_many(out) and len(out) != len(other[0]):
            return self.many(func, args, kwargs, out, other[0], found)
        call = self.record(func, args, kwargs, out)
        if name == "backward" or (name == "grad" and access_of(func) is None):
            self.higher.fired()
        if dynamic:
            givers = list(leaves((call.args, call.kwargs)))
            self.worlds.mark(call.outs, out, other, found, inherited(givers))
            self.control.derive(leaves(call.outs), givers)
        return out

    def many(
        self, func: Any, args: Any, kwargs: Any, out: Any, other: Any, is_data: bool
    ) -> RunList:
        """The results of a call that gives a number of tensors that sizes decide."""
        found = self.lists.run([len(out), len(other)], is_data)
        call = self.emit(func, args, kwargs, found.val)
        givers = [v for v in leaves((call.args, call.kwargs)) if isinstance(v, Val)]
        loose = inherited(givers)
        whole = next((v for v in givers if isinstance(v.sample, torch.Tensor)), None)
        for i, x in enumerate(out):
            val = Val(self.block, x)
            self.name(x, val)
            self.worlds.mark_one(val, x, other[min(i, len(other) - 1)], is_data, loose)
            if whole is not None and whole.sample.dim() == x.dim():  # pieces, of which one is short
                val.dims |= whole.dims
            self.lists.learn(found, x)
        return found

    def parsed(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a function of torch written in C, whose parser of arguments refuses some numbers."""
        if not any(isinstance(x, Bool) for x in leaves((args, kwargs))):
            found = function(*args, **kwargs)
            self.code.asks(function, args, kwargs, found)
            return found
        if name_of(function) == "requires_grad_":
            return function(*(self.concrete(x, "requires_grad") for x in args))
        with under_mode(self) as is_mine:
            if not is_mine:
                return function(*args, **kwargs)
            owner = getattr(function, "__self__", None)
            if isinstance(owner, torch.Tensor):
                function, args = getattr(torch.Tensor, function.__name__), (owner, *args)
            return self.__torch_function__(function, (), args, kwargs)

    def indexed(self, x: torch.Tensor, key: Any, *value: Any) -> Any:
        """``x[key]``, or ``x[key] = value``, where lists of run-time length are in ``key``."""
        function = torch.Tensor.__setitem__ if value else torch.Tensor.__getitem__
        with under_mode(self):
            return self.__torch_function__(function, (), (x, key, *value), {})

    def copied(self, x: torch.Tensor, memo: dict[int, Any]) -> torch.Tensor:
        """``copy.deepcopy(x)``; it keeps ``memo`` so that what is met twice is copied once."""
        if id(x) not in memo:
            memo[id(x)] = self.__torch_function__(runtime.deep_copy, (), (x,))
        return memo[id(x)]

    def watch_grads(self, func: Any, name: str, args: tuple, out: Any) -> None:
        """Whether a leaf from outside has a gradient is a condition, where the code asks first."""
        access = access_of(func)
        if name == "backward" or (name == "grad" and access is None):
            self.has_backward = True
        elif name == "grad" and access == "__set__":
            self.grads_set.add(self.val(args[0]).id)
        elif name == "grad" and access == "__get__" and not self.has_backward:
            val = self.val(args[0])
            source = next((s for v, s, _ in self.inputs if v is val), None)
            if source is not None and val.id not in self.grads_set:
                self.grad_guards[val.id] = (source, out is None)

    def apart(
        self, out: torch.Tensor, other: Any, args: Any, kwargs: Any, is_by_strides: bool
    ) -> torch.Tensor:
        """``out``, or an alias of it where the call may give back an argument, and may not: it does
        in one world only, or the strides decide, which sizes of 0 and 1 leave open."""
        given = leaves(self.worlds.samples((args, kwargs), 1))
        if any(other is x for x in given) and not is_by_strides:
            return out
        with torch._C.DisableTorchFunction():
            return out.view_as(out)

    def record(self, func: Any, args: tuple, kwargs: dict[str, Any], out: Any) -> Call:
        """Append a call; tensors of ``out`` that are new become its results."""
        noted = self.note(args), self.note(kwargs)
        call = Call(func, noted[0], noted[1], self.bind(out), user_line(3), ambient())
        self.block.nodes.append(call)
        return call

    def emit(self, func: Any, args: tuple, kwargs: dict[str, Any], outs: Any) -> Call:
        """Append a call with given results."""
        call = Call(func, self.note(args), self.note(kwargs), outs, user_line(3), ambient())
        self.block.nodes.append(call)
        return call

    # ---- values

    def note(self, tree: Any) -> Any:
        """``tree`` with Vals for everything known at run time, about to be used."""
        noted = map_tree(tree, self.leaf)
        for val in leaves(noted):
            if isinstance(val, Val) and "unbound" in val.loose:
                self.check_bound(val)
        return noted

    def noted(self, tree: Any) -> Any:
        """``note`` for values that are only passed on."""
        return map_tree(tree, self.leaf)

    def leaf(self, x: Any) -> Any:
        if isinstance(x, torch.Tensor):
            return self.val(x)
        if isinstance(x, Number):
            return x.val
        if isinstance(x, Choice):
            return x._oarlock_val
        if isinstance(x, RunTable):
            return x.val
        if isinstance(x, RunList):
            self.merged.used(x)
            return x.val if x.val is not None else [self.noted(i) for i in list.__iter__(x)]
        if isinstance(x, torch.Generator) and id(x) in self.higher.generators:
            return self.higher.generators[id(x)][1]
        return self.texts.val(x) if isinstance(x, Text) else x

    def length(self, x: Any) -> Any:
        """``len`` of what is known at run time and no tensor."""
        return choice_length(x) if isinstance(x, Choice) else len(x)

    def check_bound(self, val: Val) -> None:
        key = (val.id, id(self.block))
        if key not in self.bound_checks:
            self.bound_checks.add(key)
            call = Call(runtime.bound, (val, val.name), {}, None, user_line(4), ambient())
            self.block.nodes.append(call)

    def val(self, x: torch.Tensor) -> Val:
        """The value that a tensor in the hands of the user's code stands for."""
        if not is_fake(x):
            x = self.inputs.fake_of(x)
        found = self.vals.get(id(x))
        return found[1] if found else self.bind(x)

    def bind(self, out: Any) -> Any:
        """The tree of a call's results: Vals for tensors, None for anything else."""
        return map_tree(out, self._bind_leaf)

    def _bind_leaf(self, x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x.val if isinstance(x, Number) else None
        found = self.vals.get(id(x))
        return found[1] if found else self.name(x, Val(self.block, x))

    def name(self, x: torch.Tensor, val: Val) -> Val:
        """Let fake tensor ``x`` stand for ``val``."""
        self.vals[id(x)] = (x, val)
        val.sample = x
        return val

    def stand_for(self, leaf: Leaf, val: Val) -> Any:
        """What the user's code holds for a value that is one of two."""
        val.dims, val.loose = leaf.dims, leaf.loose
        self.of_many.add(val.id)
        if leaf.kind == "number":
            val.sample = leaf.a
            number = number_of(val, leaf.a, leaf.is_data)
            number.other, number.is_free = leaf.b, True
            number.loops = frozenset([leaf.loop]) if hasattr(leaf, "loop") else frozenset()  # type: ignore[attr-defined]
            return number
        if leaf.kind == "list":
            val.sample = self.lists.one_of(leaf, val)
            return val.sample
        if leaf.kind == "table":
            val.sample = self.tables.one_of(leaf, val)
            return val.sample
        if leaf.kind == "any":
            return choice(self, leaf, val)
        if leaf.kind == "text":
            val.sample = ""
            return Text.of(((val, "", ""),))
        if leaf.dims and leaf.is_data:
            val.loose |= {"data"}
        sources = [x for x in leaf.parts if isinstance(x, torch.Tensor)]
        with torch._C.DisableTorchFunction():
            sources = [self.val(x).sample for x in sources]
            device = sources[0].device
            fake = stand_in(leaf.a, leaf.dtype, device, leaf.grad, sources)  # type: ignore[arg-type]
            val.twin = stand_in(leaf.b, leaf.dtype, device, leaf.grad, []) if leaf.dims else None  # type: ignore[arg-type]
        self.name(fake, val)
        return fake

    def sample_of(self, joint: Any) -> Any:
        """Fakes in the structure of a joined value, for an item of a list."""
        if isinstance(joint, Leaf):
            val = Val(self.block, None)
            return self.stand_for(joint, val)
        if isinstance(joint, Many):
            items = [self.sample_of(x) for x in joint.items]
            like = joint.like
            return dict(zip(joint.keys, items)) if isinstance(like, dict) else type(like)(items)
        return joint.value

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
        depend(found, op, args)
        self.control.derive([found.val], [x.val for x in numbers])
        return found

    def number(self, op: Callable[..., Any], args: tuple, hint: Any, is_data: bool) -> Any:
        """A symbolic number that ``op(*args)`` gives at run time."""
        if isinstance(hint, (tuple, complex)):
            raise UnsupportedError(
                f"{user_line()}: {op.__name__} of numbers known at run time gives "
                f"no plain number; compute its parts with torch functions"
            )
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
        found = self.higher.override(function) or self.chance.override(function)
        found = found or self.code.setting(function)
        return self.opaque.left_out(function) if found is None and is_left_out(function) else found

    def is_symbolic(self, x: Any) -> bool:
        """``x`` is known at run time only: a tensor, a symbolic number, a list of run-time length."""
        return isinstance(x, (torch.Tensor, Number, Choice, RunTable)) or (
            isinstance(x, RunList) and x.val is not None
        )

    def is_choice(self, x: Any) -> bool:
        """``x`` is one of two Python objects at run time."""
        return isinstance(x, Choice)

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
        self.block.nodes.append(Call(func, args, {}, outs, user_line(), ambient()))

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
        node = Print(self.note(tuple(args)), self.note(kwargs or {}), user_line(3))
        self.block.nodes.append(node)

    def is_branching(self) -> bool:
        """What runs now is one of several paths, or a trip of a loop."""
        return self.block is not self.root

    def is_of_two_types(self, x: Any) -> bool:
        """The ways of a decision on data give ``x`` different types."""
        noted = self.noted(x)
        loose = noted.loose if isinstance(noted, Val) else frozenset()
        return isinstance(x, Choice) or bool(loose & {"none", "number", "type"})

    def type_of(self, x: Any) -> Any:
        """The type that ``x`` has at run time."""
        if isinstance(x, torch.nn.Parameter):
            return torch.nn.Parameter
        if is_fake(x):
            return torch.Tensor
        if isinstance(x, Choice):
            return each(x, type)
        if hasattr(x, "run_time_tuple"):
            return tuple
        if isinstance(x, RunTable):
            return x.kind
        for stand, real in ((Number, type(getattr(x, "hint", None))), (RunList, list), (Text, str)):
            if isinstance(x, stand):
                return real
        return type(x)

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
        return out

    def is_(self, a: Any, b: Any) -> Any:
        """``a is b`` where one of them may be None at run time."""
        a, b = (b, a) if a is None else (a, b)
        noted = self.noted(a)
        if b is None and isinstance(noted, Val) and "none" in noted.loose:
            number = self.number(runtime.is_none, (noted,), False, True)
            number.other = True
            self.control.derive([number.val], [noted])
            return number
        if b is not None:
            self.journal.compared(a, b)
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


def _is_silent(name: str, func: Any) -> bool:
    return name == "_set_grad_enabled" or "_record_function" in str(func)


def _is_many(out: Any) -> bool:
    """Tensors in a list or plain tuple."""
    return type(out) in (list, tuple) and all(isinstance(x, torch.Tensor) for x in out)


def _kind(args: tuple) -> Any:
    """What an update may change of a tensor beside its data."""
    if not args or not isinstance(args[0], torch.Tensor):
        return None
    with torch._C.DisableTorchFunction():
        return args[0].shape, args[0].stride(), args[0].dtype, args[0].requires_grad


def _has_tensor(out: Any) -> bool:
    if isinstance(out, (tuple, list)):
        return any(map(_has_tensor, out))
    return isinstance(out, torch.Tensor)


__all__ = ["Tracer", "Undefined", "ambient", "user_line"]
