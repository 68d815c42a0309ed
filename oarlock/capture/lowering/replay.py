"""``Lowering``: replays the nodes of a tape, block by block."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import torch

from oarlock.capture.convert.state import Undefined
from oarlock.capture.functions import SymbolicCalls, symbolic_python
from oarlock.capture.lowering import messages, picks
from oarlock.capture.lowering.blocks import Blocks
from oarlock.capture.lowering.calls import Calls
from oarlock.capture.lowering.ends import Ends
from oarlock.capture.lowering.held import truth_of
from oarlock.capture.lowering.kinds import Either, Maybe, Truth, is_symbolic, kind_of
from oarlock.capture.lowering.loops import Changed
from oarlock.capture.lowering.picks import Pick
from oarlock.capture.lowering.ports import Results
from oarlock.capture.lowering.recorder import PLAIN_REASONS, BlockRecorder, Refused
from oarlock.capture.lowering.recursion import Recursions, ends
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
    map_tree,
)
from oarlock.capture.tape.queries import name_of
from oarlock.capture.tape.runtime import recursive
from oarlock.capture.torch_private import symbolic_kernels, whole_composites
from oarlock.errors import OarlockError
from oarlock.ir import Value, bool_

PEELED = 2  # trips that may change the type of a variable


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
        self.calls, self.ends = Calls(self), Ends(self)
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
                x = x.value
            if isinstance(x, Either):
                return self.expect_wide(x)
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

    def expect_wide(self, x: Either) -> Any:
        """The wide one: the run ends where there is a narrow number in its place."""
        with self.outside():
            flag = self.r.b.local(x.flag.value)
            if truth_of(flag) is not False:
                wide = "tensor" if isinstance(x.wide, torch.Tensor) else kind_of(x.wide).__name__
                kind = kind_of(x.number).__name__
                text = f"{self.r.where}: a Python {kind}, where the program is made for a {wide}"
                good = self.r.b.logical_not(flag)
                self.r.b.assert_(good, message=text, kind="Respecialise")
        return x.wide

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
        self.set(call.outs, self.calls.result(call, args, kwargs))
        if any(self.r.shapes.is_number(d.condition) for d in self.r.shapes.env.inner[decided:]):
            raise NotImplementedError("it decides on the elements of a tensor as it runs")

    def test(self, x: Any) -> Any:
        """A condition: a plain bool, or a value."""
        x = self._leaf(x)
        if isinstance(x, Maybe):
            x = self.present(x)
        with self.outside():
            if isinstance(x, Either):
                ways = [
                    self.r.scalars.value(t, bool_) for t in map(self._truth, (x.number, x.wide))
                ]
                return self.r.b.where(x.flag.value, *ways)
            x = picks.apply(self.r, bool, (x,)) if isinstance(x, Pick) else x
            found = self._truth(x)
            if not isinstance(found, Truth):
                return found
            value = self.r.b.local(found.value)
            known = truth_of(value)
            return value if known is None else known

    def _truth(self, x: Any) -> Any:
        """Of a tensor or number."""
        if not isinstance(x, torch.Tensor):
            return self.r.scalars.truth(x)
        scalar = self.r.scalar_of(x)
        zero = None if scalar.dtype.is_bool else self.r.b.const(0, scalar.dtype)
        return Truth(scalar if zero is None else self.r.b.ne(scalar, zero))

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
        self.ends.fail_unless(good, failing)
        self.inline(other, node.outs)

    def _fork(self, node: Fork) -> None:
        """Lowered by ``ending``: it is the last node."""

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
            results = self.looped(init, cond, body, axes, PEELED)
        for param, result in zip(node.params, results):
            self.env[param] = result

    def looped(
        self, init: list[Any], cond: Callable[[list[Any]], Any],
        body: Callable[[list[Any]], list[Any]], axes: list[Any], spare: int,
    ) -> list[Any]:  # fmt: skip
        """What is carried at the end of a loop; where the first trip changes a type, it is on its own,
        and a run without it fails."""
        try:
            return self.blocks.loop(init, cond, body, axes)
        except Changed as found:
            if not spare:
                raise
            text = f"{self.r.where}: the loop runs not once, and {found}"
        test = self.r.b.local(cond(init))
        if truth_of(test) is not True:
            self.r.b.assert_(test, message=text, kind="Respecialise")
        return self.looped(body(init), cond, body, axes, spare - 1)

    def _assert(self, node: Assert) -> None:
        test = self.test(node.test)
        if test is True:
            return
        with self.outside():
            good = self.r.b.const(False, bool_) if test is False else test
        block = node.message
        has_values = block is not None and messages.needs_values(block)
        if has_values and self.ends.fails_with_values(good, block):
            return
        message = block.results[0] if block is not None else ""
        with self.outside():
            self.r.b.assert_(good, message=messages.plain(message), kind="AssertionError")

    def _raise(self, node: Raise) -> None:
        self.ends.fail(node.kind.__name__, messages.of_error(node, self.get(node.args)))

    def _check(self, node: Check) -> None:
        value = self._leaf(node.value)
        if not is_symbolic(value) and not isinstance(value, (torch.Tensor, Maybe, Either)):
            if value != node.expected:
                raise NotImplementedError(f"{node.what}: {value!r}, captured for {node.expected!r}")
            return
        if isinstance(value, (torch.Tensor, Either)):
            value = Truth(self.test(node.value))
        with self.outside():
            same = self.r.scalars.compute(operator.eq, (value, node.expected))
            text = f"{node.what}: another value than the captured {node.expected!r}"
            self.r.b.assert_(self.r.scalars.value(same), message=text, kind="Respecialise")

    def _print(self, node: Print) -> None:
        self.notes.append(f"{node.where}: {getattr(node.function, 'what', 'print')} is left out")
