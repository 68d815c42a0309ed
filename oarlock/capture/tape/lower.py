"""A tape to a Program: its calls are replayed on fake tensors, block by block.

Composites arrive whole, as in ``capture``; branches and loops become ``if_`` and ``while_``; numbers
become scalars, and sizes where they are used as such.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import torch

from oarlock.capture.arrays import to_numpy
from oarlock.capture.call import NARROWINGS, refuse
from oarlock.capture.convert.state import Undefined
from oarlock.capture.functions import SymbolicCalls, symbolic_python
from oarlock.capture.lowering import lists, messages
from oarlock.capture.lowering.attributes import Attributes, Names
from oarlock.capture.lowering.blocks import Blocks
from oarlock.capture.lowering.held import truth_of
from oarlock.capture.lowering.lists import ListValue
from oarlock.capture.lowering.ports import Inputs, Results
from oarlock.capture.lowering.recorder import BlockRecorder, Refused
from oarlock.capture.lowering.recursion import Recursions, ends
from oarlock.capture.lowering.scalars import Maybe, Truth, is_symbolic
from oarlock.capture.recorder import Narrowed
from oarlock.capture.tape import runtime
from oarlock.capture.tape.higher import seeded
from oarlock.capture.tape.nodes import (
    Assert,
    Block,
    Call,
    Check,
    Fork,
    If,
    Print,
    Raise,
    SubTape,
    Val,
    While,
    leaves,
    map_tree,
)
from oarlock.capture.tape.queries import READS, name_of
from oarlock.capture.tape.runtime import recursive, table
from oarlock.capture.torch_private import symbolic_kernels, whole_composites
from oarlock.errors import OarlockError, UnsupportedError
from oarlock.ir import Dim, Program, Signature, State, Value, bool_, i64
from oarlock.ir.scope import bindings, graph_uses
from oarlock.ir.verify import verify

PLAIN_REASONS = (NotImplementedError, OarlockError, TypeError, ValueError, RuntimeError, IndexError)


class Env:
    """What every Val is here; captures that fork name one value by Vals of one id."""

    def __init__(self) -> None:
        self.found: dict[int, Any] = {}

    def __getitem__(self, val: Val) -> Any:
        return self.found[val.id]

    def __setitem__(self, val: Val, x: Any) -> None:
        self.found[val.id] = x

    def __contains__(self, val: Val) -> bool:
        return val.id in self.found


class Lowering:
    """Runs the nodes of a tape; ``env`` holds what every Val is here."""

    def __init__(self, recorder: BlockRecorder) -> None:
        self.r, self.blocks = recorder, Blocks(recorder)
        self.recursions = Recursions(self)
        recorder.lowering = self
        self.env = Env()
        self.results = Results(recorder, self.env)
        self.notes: list[str] = []

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Run torch functions in here."""
        r = self.r
        with (
            whole_composites(), symbolic_kernels(), symbolic_python(), r.shapes.mode, r,
            SymbolicCalls(),
        ):  # fmt: skip
            yield

    # ---- values

    def get(self, tree: Any) -> Any:
        """An argument tree with what its Vals are here."""
        return map_tree(tree, self._leaf)

    def _leaf(self, x: Any) -> Any:
        if isinstance(x, SubTape):
            raise NotImplementedError("a function handed to torch, such as to vmap or checkpoint")
        if not isinstance(x, Val):
            return x
        if x not in self.env:
            raise NotImplementedError(f"{x.name or 'a variable'} has no value on every path")
        return self.env[x]

    def present(self, tree: Any) -> Any:
        """``tree`` for a torch function: an optional value must be there, a truth is a tensor."""

        def change(x: Any) -> Any:
            if isinstance(x, Maybe):
                self.expect(x)
                return x.value
            if isinstance(x, Truth):
                with self.outside():
                    return self.r.new(x.value)
            return x

        return map_tree(tree, change)

    def expect(self, x: Maybe) -> None:
        """An assertion that an optional value is there, unless that is known."""
        with self.outside():
            flag = self.r.b.local(self.r.scalars.value(x.flag))
            if truth_of(flag) is True:
                return
            kind = "UnboundLocalError" if x.unbound else "TypeError"
            text = "a variable has no value" if x.unbound else "expected a tensor, got None"
            self.r.b.assert_(flag, message=text, kind=kind)

    def expect_bound(self, func: Any, x: Maybe, *names: str) -> None:
        """The assertion of ``runtime.bound`` or ``attribute``."""
        try:
            func(Undefined(names[-1]), *names)
        except (AttributeError, UnboundLocalError) as error:
            with self.outside():
                flag = self.r.b.local(self.r.scalars.value(x.flag))
                if truth_of(flag) is not True:
                    self.r.b.assert_(flag, message=str(error), kind=type(error).__name__)

    def outside(self) -> Any:
        """A context to add nodes in."""
        from oarlock.capture.torch_private import outside_modes

        return outside_modes()

    def set(self, outs: Any, result: Any) -> None:
        """Let the Vals of ``outs`` be the parts of ``result``."""
        if isinstance(outs, Val):
            self.env[outs] = result
        elif isinstance(outs, (tuple, list)):
            for out, part in zip(outs, result):
                self.set(out, part)
        elif isinstance(outs, dict):
            for key, out in outs.items():
                self.set(out, result[key])

    # ---- nodes

    def run(self, block: Block) -> None:
        """All nodes of a block, in order."""
        for node in block.nodes:
            self.r.where = str(node.where)
            self.r.b.origin = self.r.origin()
            decided = len(self.r.shapes.env.decisions)
            try:
                getattr(self, f"_{type(node).__name__.lower()}")(node)
                with self.outside():
                    self.r.assert_decisions(decided)
            except Refused:
                raise
            except PLAIN_REASONS as error:
                self.refuse(node, error)

    def refuse(self, node: Any, error: Exception) -> NoReturn:
        """Note why, and stop.  Raises: Refused."""
        what = f"{name_of(node.func)}: " if isinstance(node, Call) else ""
        kind = (
            "" if isinstance(error, (NotImplementedError, OarlockError)) else type(error).__name__
        )
        text = f"{kind}{': ' if kind else ''}{error}"
        self.r.problems.append(f"{node.where}: {what}{text}")
        raise Refused from error

    def _call(self, call: Call) -> None:
        self.r.module = getattr(call, "module", "")
        if call.func is recursive:
            self.set(call.outs, self.recursions.call(*call.args))
            return
        args, kwargs = self.get(call.args), self.get(call.kwargs)
        decided = len(self.r.shapes.env.inner)
        self.set(call.outs, self.call(call, args, kwargs))
        if any(self.r.shapes.is_number(d.condition) for d in self.r.shapes.env.inner[decided:]):
            raise NotImplementedError("it decides on the elements of a tensor as it runs")

    def call(self, call: Call, args: tuple, kwargs: dict[str, Any]) -> Any:
        """The result of a call."""
        func = call.func
        if func is table:
            raise NotImplementedError(
                "a dict or set whose keys data decide; count in a tensor, or mark in a tensor of bools"
            )
        if name_of(func) in READS and args and isinstance(args[0], torch.Tensor):
            with self.outside():
                return self.read(name_of(func), *args)
        if getattr(func, "__name__", "") == "list_of":
            with self.outside():
                return lists.list_of(self.r, args)
        if func in _SEEDING:
            return self.seed(func, args)
        if func is runtime.text:
            return messages.Message(args)
        if func in (runtime.bound, runtime.attribute) and isinstance(args[0], Maybe):
            return self.expect_bound(func, *args)
        if func in (runtime.is_none, runtime.is_missing) and isinstance(args[0], Maybe):
            with self.outside():
                return self.r.scalars.compute(operator.is_, (args[0], None))
        if any(isinstance(x, ListValue) for x in args):
            return self.on_list(func, args, kwargs)
        if func in _TRUTHS and isinstance(args[0], torch.Tensor):
            with self.outside():
                number = self.read(_TRUTHS[func], args[0])
                return (
                    number if func is not operator.not_ else self.r.scalars.compute(func, (number,))
                )
        if name_of(func) in _INDEXED and isinstance(args[0], (torch.Tensor, Maybe)):
            args = (args[0], self.index(args[1]), *args[2:])
        if name_of(func) in ("__setitem__", "setitem") and _picks_by_number(args[1]):
            return self.put(*self.present(args))
        numbers = [*args, *kwargs.values()]
        numbers = list(leaves(numbers))
        has_tensor = any(isinstance(x, (torch.Tensor, Maybe)) for x in numbers)
        if not has_tensor and any(map(is_symbolic, numbers)) and not _is_torch(func):
            with self.outside():
                return self.r.scalars.compute(func, args)
        if func in _IDENTITY and any(isinstance(x, Maybe) for x in args):
            with self.outside():
                return self.r.scalars.compute(func, args)
        with self.autocast(call):
            return func(*self.present(args), **self.present(kwargs))

    def index(self, index: Any) -> Any:
        """An index whose tensors of one number are numbers, as torch takes them."""
        items = index if isinstance(index, tuple) else (index,)
        if any(isinstance(x, list) or (isinstance(x, torch.Tensor) and x.dim()) for x in items):
            return index
        with self.outside():
            found = tuple(
                self.r.scalars.number(self.r.value(x)) if _is_place(x) else x for x in items
            )
        return found if isinstance(index, tuple) else found[0]

    def seed(self, func: Any, args: tuple) -> Any:
        """A generator is made, or gets a seed."""
        generators = self.r.generators
        if func is torch.Generator:
            return generators.made(torch.Generator())
        own, seed = (None, args[0]) if func is seeded else args
        generators.seed(own, seed)
        return own

    def put(self, x: torch.Tensor, index: Any, value: Any) -> None:
        """``x[index] = value`` where the index holds a number known at run time."""
        place = x[index]
        if isinstance(value, torch.Tensor):
            place.copy_(value)
        else:
            place.fill_(value)

    def on_list(self, func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """A call with a list of run-time length."""
        rule = lists.RULES.get(func)
        if rule is None:
            raise NotImplementedError("a call with a list whose length is known at run time")
        with self.outside():
            return rule(self.r, *args, **kwargs)

    @contextlib.contextmanager
    def autocast(self, call: Call) -> Iterator[None]:
        if call.ambient.autocast is None:
            yield
        else:
            with torch.autocast("cpu", dtype=call.ambient.autocast):
                yield

    def read(self, name: str, x: torch.Tensor, *rest: Any) -> Any:
        """Python data of a tensor: numbers and truths known at run time."""
        s = self.r.scalars
        if name == "tolist":
            return self._listed(x)
        if name == "equal":
            return self._equal(x, rest[0])
        if name not in _READERS:
            raise NotImplementedError(f"{name} of a tensor")
        number = s.number(self.r.scalar_of(x))
        return number if name == "item" else s.compute(_READERS[name], (number,))

    def _listed(self, x: torch.Tensor) -> Any:
        shape = self.r.value(x).shape
        if not shape:
            return self.r.scalars.number(self.r.value(x))
        if not isinstance(shape[0], int) and len(shape) == 1:
            return lists.numbers_of(self.r, self.r.value(x))
        if not isinstance(shape[0], int):
            raise NotImplementedError("a list as long as the data say")
        with self.recording():
            rows = list(x.unbind(0))
        return [self._listed(row) for row in rows]

    def _equal(self, x: torch.Tensor, y: torch.Tensor) -> Any:
        a, b = self.r.value(x), self.r.value(y)
        if a.shape != b.shape:
            raise NotImplementedError("torch.equal of tensors of different shapes")
        same = self.r.b.cast(self.r.b.eq(a, b), dtype=i64)
        least = self.r.b.reduce_min(same, axes=tuple(range(a.rank))) if a.rank else same
        return Truth(self.r.b.ne(least, 0))

    def test(self, x: Any) -> Any:
        """A condition: a plain bool, or a value."""
        x = self._leaf(x)
        if isinstance(x, Maybe):
            x = self.present(x)
        with self.outside():
            if isinstance(x, torch.Tensor):
                scalar = self.r.scalar_of(x)
                zero = None if scalar.dtype.is_bool else self.r.b.const(0, scalar.dtype)
                return scalar if zero is None else self.r.b.ne(scalar, zero)
            found = self.r.scalars.truth(x)
            if not isinstance(found, Truth):
                return found
            value = self.r.b.local(found.value)
            known = truth_of(value)
            return value if known is None else known

    def _if(self, node: If) -> None:
        if self.recursions.is_first:
            ending = self.recursions.ending(node)
            if ending is not None:
                self.inline(ending, node.outs)
                return
        test = self.test(node.test)
        if isinstance(test, bool):
            self.inline(node.then if test else node.orelse, node.outs)
        elif node.then.raises or node.orelse.raises:
            self._guarded(node, test)
        else:
            sides = [self.side(node.then), self.side(node.orelse)]
            with self.outside():
                results = self.blocks.branch(test, *sides)
            for out, result in zip(node.outs, results):
                self.env[out] = result

    def inline(self, block: Block, outs: Sequence[Val]) -> None:
        """The nodes of a block that always runs."""
        self.run(block)
        for out, result in zip(outs, () if block.raises else block.results):
            self.env[out] = self.get(result)

    def _guarded(self, node: If, test: Value) -> None:
        """A branch that ends in ``raise``: an assertion that it is not taken, then the other."""
        failing, other = (node.then, node.orelse) if node.then.raises else (node.orelse, node.then)
        with self.outside():
            good = self.r.b.logical_not(test) if failing is node.then else test
        self.fail_unless(good, failing)
        self.inline(other, node.outs)

    # ---- ends

    def ending(self, block: Block, result: Any) -> tuple:
        """What the function gives at the end of a block: that of the ways where it forks."""
        self.run(block)
        last = block.nodes[-1] if block.nodes else None
        if isinstance(last, Fork):
            return self.fork(last)
        return self.results.whole(result, block.results[0], "result")

    def fork(self, node: Fork) -> tuple:
        """The ways of a decision, joined where they end.  Raises: Refused."""
        try:
            return self.joined(node)
        except PLAIN_REASONS as error:
            self.refuse(node, error)

    def joined(self, node: Fork) -> tuple:
        test = self.test(node.test)
        if isinstance(test, bool):
            way = node.then if test else node.orelse
            return self.ending(way, way.result)
        for failing, other in ((node.then, node.orelse), (node.orelse, node.then)):
            if failing.raises:
                with self.outside():
                    good = self.r.b.logical_not(test) if failing is node.then else test
                self.fail_unless(good, failing)
                return self.ending(other, other.result)
        with self.outside():
            sides = [self.way(block) for block in (node.then, node.orelse)]
            return self.blocks.branch(test, *sides)[0]

    def way(self, block: Block) -> Callable[[], list[Any]]:
        def run() -> list[Any]:
            with self.scope():
                return [self.ending(block, block.result)]

        return run

    def _fork(self, node: Fork) -> None:
        """Lowered by ``ending``: it is the last node."""

    def fail_unless(self, good: Value, block: Block) -> None:
        """An assertion with the error that a block raises.

        What the block computes before it is recorded where the message needs it.
        """
        if messages.needs_values(block) and self.fails_with_values(good, block):
            return
        error = next((n for n in reversed(list(block.walk())) if isinstance(n, Raise)), None)
        kind = "RuntimeError" if error is None else error.kind.__name__
        text = "" if error is None else messages.said(error)
        with self.outside():
            self.r.b.assert_(good, message=text, kind=kind)

    def fails_with_values(self, good: Value, block: Block) -> bool:
        """A branch that computes what a message shows, and fails; whether there is one."""
        mark = self.r.mark()

        def fail() -> list[Any]:
            with self.scope():
                self.run(block)
                if not block.raises:  # the message of an assertion
                    self.fail("AssertionError", messages.text(self.get(block.results[0])))
            return []

        try:
            with self.outside():
                self.blocks.branch(good, list, fail)
        except (Refused, *PLAIN_REASONS):
            self.r.back_to(mark)
            return False
        return True

    def fail(self, kind: str, parts: Sequence[Any]) -> None:
        """An assertion that never holds."""
        template, values = messages.template(self.r, parts)
        with self.outside():
            bad = self.r.b.const(False, bool_)
            self.r.b.assert_(bad, *values, message=template, kind=kind)

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Values of a block that only the block sees."""
        before = dict(self.env.found)
        try:
            with self.recording():
                yield
        finally:
            self.env.found = before

    def side(self, block: Block) -> Callable[[], list[Any]]:
        def run() -> list[Any]:
            with self.scope():
                self.run(block)
                return [self.get(result) for result in block.results]

        return run

    def _while(self, node: While) -> None:
        init = [self.get(x) for x in node.init]
        if self.recursions.is_first and not ends(node.body):
            for param, x in zip(node.params, init):
                self.env[param] = x
            return

        def begin(items: list[Any]) -> None:
            for param, item in zip(node.params, items):
                self.env[param] = item

        def cond(items: list[Any]) -> Value:
            with self.scope():
                begin(items)
                self.run(node.cond)
                test = self.test(node.cond.results[0])
            return self.r.b.const(test, bool_) if isinstance(test, bool) else test

        def body(items: list[Any]) -> list[Any]:
            with self.scope():
                begin(items)
                self.run(node.body)
                return [self.get(x) for x in node.body.results]

        if node.cond.raises or node.body.raises:
            raise NotImplementedError("a loop that always raises")
        with self.outside():
            axes = [param.dims for param in node.params]
            results = self.blocks.loop(init, cond, body, axes)
        for param, result in zip(node.params, results):
            self.env[param] = result

    def _assert(self, node: Assert) -> None:
        test = self.test(node.test)
        if test is True:
            return
        with self.outside():
            good = self.r.b.const(False, bool_) if test is False else test
        block = node.message
        has_values = block is not None and messages.needs_values(block)
        if has_values and self.fails_with_values(good, block):
            return
        message = block.results[0] if block is not None else ""
        with self.outside():
            self.r.b.assert_(good, message=messages.plain(message), kind="AssertionError")

    def _raise(self, node: Raise) -> None:
        self.fail(node.kind.__name__, messages.of_error(node, self.get(node.args)))

    def _check(self, node: Check) -> None:
        value = self._leaf(node.value)
        if not is_symbolic(value) and not isinstance(value, (torch.Tensor, Maybe)):
            if value != node.expected:
                raise NotImplementedError(f"{node.what}: {value!r}, captured for {node.expected!r}")
            return
        if isinstance(value, torch.Tensor):
            value = Truth(self.test(node.value))
        with self.outside():
            same = self.r.scalars.compute(operator.eq, (value, node.expected))
            text = f"{node.what}: another value than the captured {node.expected!r}"
            self.r.b.assert_(self.r.scalars.value(same), message=text, kind="Respecialise")

    def _print(self, node: Print) -> None:
        self.notes.append(f"{node.where}: print is left out")


def lower(tape: Any, args: tuple, kwargs: dict[str, Any], names: Sequence[str] = ()) -> Program:
    """The program of a tape, for calls such as ``(*args, **kwargs)``.

    Args: names: of the positional arguments.
    Raises: UnsupportedError with the reasons why there is none.
    """
    return lower_with_weights(tape, args, kwargs, names)[0]


def lower_with_weights(
    tape: Any, args: tuple, kwargs: dict[str, Any], names: Sequence[str] = ()
) -> tuple[Program, dict[str, torch.Tensor]]:
    """The program, and the tensors that its params were read from, by key."""
    program, recorder, _ = lower_with_places(tape, args, kwargs, names)
    return program, recorder.weights


def lower_with_places(
    tape: Any, args: tuple, kwargs: dict[str, Any], names: Sequence[str] = ()
) -> tuple[Program, BlockRecorder, Attributes]:
    """The program, what has recorded it, and the attributes that are its state."""
    ranges: dict[str, Dim] = {}
    for _ in range(NARROWINGS):
        try:
            return _lower(tape, args, kwargs, names, ranges)
        except Narrowed as found:
            ranges[found.dim.name] = found.dim
    raise UnsupportedError("the ranges of the dims become narrower without end:", list(ranges))


def _lower(
    tape: Any, args: tuple, kwargs: dict[str, Any], names: Sequence[str], ranges: Mapping[str, Dim]
) -> tuple[Program, BlockRecorder, Attributes]:
    places = Names(getattr(tape, "objects", ()))
    recorder = BlockRecorder(_names(tape, places))
    low = Lowering(recorder)
    inputs = Inputs(recorder, tape, low.env.__setitem__, ranges)
    shown = [names[i] if i < len(names) else f"args.{i}" for i in range(len(args))]
    arg_trees = [inputs.tree(x, f"args[{i}]", n) for i, (x, n) in enumerate(zip(args, shown))]
    kwarg_trees = [(k, inputs.tree(x, f"kwargs[{k!r}]", k)) for k, x in kwargs.items()]
    changes = getattr(tape, "changes", None) or []
    attributes = Attributes(recorder, changes, places)
    inputs.bind_others(attributes)
    results, whole = low.results, ()
    with contextlib.suppress(Refused), low.recording():
        whole = low.ending(tape.root, tape.result)
    refuse(list(dict.fromkeys(recorder.problems)))
    tree = results.tree(whole, "result")
    refuse(list(dict.fromkeys([*recorder.problems, *recorder.shapes.refused()[0]])))
    try:
        states = recorder.states() | attributes.after(low.env, tape.root.results)
    except NotImplementedError as error:
        raise UnsupportedError("what calls leave in objects is no state:", [str(error)]) from None
    state = tuple(State(name, len(results.outputs) + i) for i, name in enumerate(states))
    graph = recorder.graph
    graph.outputs = [*results.outputs, *states.values()]
    signature = Signature(tuple(arg_trees), tuple(kwarg_trees), tree, tuple(inputs.names))
    params = {key: to_numpy(tensor) for key, tensor in recorder.weights.items()}
    params |= attributes.params
    low.notes += attributes.notes
    program = Program(graph, params, dict(recorder.shapes.dims), state, signature)
    for shown_, fake in inputs.fakes:
        if recorder.view(fake).memory.version:
            low.notes.append(f"input {shown_} is updated in place: the caller's stays as it is")
    if low.notes:
        program.meta["notes"] = list(dict.fromkeys(low.notes))
    return verify(_pruned(program)), recorder, attributes


def _pruned(program: Program) -> Program:
    """Without what nothing reads, and without the dims of it."""
    from oarlock.passes.dead_code import dead_code

    program = dead_code(program)
    used = graph_uses(program.graph) | set(bindings(program.graph))
    return program.replace(dims={k: d for k, d in program.dims.items() if k in used})


def _names(tape: Any, names: Names) -> dict[int, str]:
    """Names of the tensors that are read beside the arguments."""
    found: dict[int, str] = {}
    for _, source in tape.inputs:
        if source.base is not None:
            x = source.value()
            if isinstance(x, torch.Tensor):
                found[id(x)] = names.of(source)
    return found


def _is_torch(func: Any) -> bool:
    return "torch" in (getattr(func, "__module__", "") or "") or "torch" in str(func)


def _picks_by_number(index: Any) -> bool:
    items = index if isinstance(index, tuple) else (index,)
    mixed = any(isinstance(x, (torch.Tensor, list)) for x in items)
    return not mixed and any(isinstance(x, torch.SymInt) for x in items)


def _is_place(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.dtype not in (torch.bool, torch.uint8)


def _reader_table() -> dict[str, Any]:
    return {
        "__bool__": bool, "is_nonzero": bool, "__int__": int, "__float__": float,
        "__index__": int, "item": operator.pos,
    }  # fmt: skip


_TRUTHS = {
    bool: "__bool__", operator.truth: "__bool__", operator.not_: "__bool__", int: "__int__",
    float: "__float__", operator.index: "__index__",
}  # fmt: skip
_SEEDING = (seeded, torch.Generator, torch.Generator.manual_seed)
_INDEXED = ("__getitem__", "getitem", "__setitem__", "setitem")
_READERS = _reader_table()
_IDENTITY = (operator.is_, operator.is_not)
