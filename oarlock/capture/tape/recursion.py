"""Functions that call themselves until data stop them: a function of the tape that calls itself.

Its parameters and results have the types that all calls have together: it is traced until these stay.
The first time, calls of itself count as paths that never end, so what the others give is the result.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from types import CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import torch

from oarlock.capture.convert.build import OPERATORS
from oarlock.capture.convert.convert import BLOCKS
from oarlock.capture.convert.handlers import Endless, Steering
from oarlock.capture.tape import runtime
from oarlock.capture.tape.ambience import ambient
from oarlock.capture.tape.items import merged, outs_of
from oarlock.capture.tape.join import (
    Joiner,
    Leaf,
    Many,
    Same,
    holds_run_time,
    item_of,
    keys_of,
    leaves_of,
)
from oarlock.capture.tape.loops import same_type
from oarlock.capture.tape.nodes import Again, Block, Call, SubTape, Val
from oarlock.capture.tape.numbers import Number
from oarlock.capture.tape.run_list import is_run
from oarlock.capture.tape.signatures import normaliser
from oarlock.errors import UnsupportedError

if TYPE_CHECKING:
    from oarlock.capture.tape.tracer import Tracer

ATTEMPTS = 12
TYPES = "the types of what a function that calls itself takes and gives change; write it as a loop"
REPEATS = 6  # of a function in its own calls, all below decisions on data


class Recursion(Steering):
    """The code of functions that call themselves below decisions on data, found while tracing."""

    def __init__(self, codes: frozenset[CodeType]) -> None:
        super().__init__(", ".join(sorted(code.co_name for code in codes)))
        self.codes = codes


def look_for(known: frozenset[CodeType]) -> None:
    """Raises: Recursion when a function of the user's is in its own calls many times."""
    frame: Any = sys._getframe(2)
    counts: Counter[CodeType] = Counter()
    last = None
    while frame is not None:
        code = frame.f_code
        if OPERATORS in code.co_freevars and id(code) not in BLOCKS:
            counts[code] += 1
            last = code if counts[code] >= REPEATS else last
        frame = frame.f_back
    if last is not None and last not in known:
        raise Recursion(frozenset([last]))


class Recursive:
    """The recursive functions of a trace.  ``codes``: of functions that are traced as such."""

    def __init__(self, tracer: Tracer, codes: frozenset[CodeType]) -> None:
        self.tracer, self.codes = tracer, codes
        self.open: dict[CodeType, Definition] = {}

    def wrapped(self, code: CodeType, fn: Callable[..., Any]) -> Callable[..., Any]:
        """What to call in place of converted function ``fn``."""
        if code not in self.codes:
            return fn

        normal = normaliser(fn)

        def call(*args: Any, **kwargs: Any) -> Any:
            args, kwargs = normal(*args, **kwargs)
            inner = self.open.get(code)
            if inner is not None:
                return inner.again(args, kwargs)
            definition = self.open[code] = Definition(self.tracer, fn, args, kwargs)
            try:
                definition.trace()
            finally:
                del self.open[code]
            return definition.call(args, kwargs)

        return call

    def within(self, converted: Callable[..., Any]) -> Callable[..., Any]:
        """What to call in place of a static function, which may be in its own calls."""
        inner = getattr(converted, "inner", None)
        function = inner.__func__ if isinstance(inner, MethodType) else inner
        if not isinstance(function, FunctionType) or function.__code__ not in self.codes:
            return converted
        made = self.wrapped(function.__code__, function)
        return MethodType(made, inner.__self__) if isinstance(inner, MethodType) else made


class Definition:
    """One recursive function: the joint types of its arguments and of its result."""

    def __init__(self, tracer: Tracer, fn: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        self.tracer, self.fn, self.names = tracer, fn, list(kwargs)
        self.joiner = Joiner(tracer.val, may_grow=True, outside=tracer.objects)
        self.given = self.row(args, kwargs)
        items = [self.typed(x) for x in self.given]
        self.params = Many(self.given, list(range(len(items))), items)
        self.result: Any = None
        self.inner: list[tuple[Any, ...]] = []
        self.tape = SubTape(Block(tracer.block), (), is_recursive=True)

    def row(self, args: tuple, kwargs: dict[str, Any]) -> tuple[Any, ...]:
        if list(kwargs) != self.names:
            raise self.refusal("is called with other keyword arguments in itself")
        return (*args, *kwargs.values())

    def refusal(self, why: str) -> UnsupportedError:
        name = getattr(self.fn, "__name__", "a function")
        return UnsupportedError(
            f"{self.tracer.where()}: {name}, which calls itself until data stop it, {why}; write it "
            f"as a loop"
        )

    def typed(self, x: Any) -> Any:
        """The joint of ``x`` alone; what is no run-time value is constant until it differs."""
        if isinstance(x, torch.Tensor):
            return self.joiner.tensors(x, x)
        if isinstance(x, Number):
            return self.joiner.numbers(x, x)
        if is_run(x):
            kind = tuple if hasattr(type(x), "run_time_tuple") else list
            return Leaf("list", (x, x), kind, kind, item=x.item)
        if isinstance(x, (tuple, list, dict)) and holds_run_time(x):
            keys = keys_of(x) or []
            return Many(x, keys, [self.typed(item_of(x, k)) for k in keys])
        return Same(x)

    # ---- calls

    def again(self, args: tuple, kwargs: dict[str, Any]) -> Any:
        """A call of the function in itself."""
        row = self.row(args, kwargs)
        self.inner.append(row)
        if self.result is None:
            raise Endless
        return self.emitted(Again(self.tape), row)

    def call(self, args: tuple, kwargs: dict[str, Any]) -> Any:
        """The call from outside."""
        return self.emitted(self.tape, self.row(args, kwargs))

    def emitted(self, target: Any, row: tuple[Any, ...]) -> Any:
        tracer = self.tracer
        for leaf in leaves_of(self.result):
            leaf.out = Val(tracer.block, None)  # type: ignore[attr-defined]
        given = (target, *map(tracer.note, row))
        tracer.block.nodes.append(
            Call(runtime.recursive, given, {}, outs_of(self.result), tracer.where(), ambient())
        )
        return tracer.control.value(self.result)

    # ---- the body

    def trace(self) -> None:
        for attempt in range(ATTEMPTS):
            effort = self.tracer.effort
            with effort.again(self.tracer.where(), TYPES) if attempt else nullcontext():
                if self.attempt():
                    return
        raise self.refusal("has arguments or results whose types do not settle")

    def attempt(self) -> bool:
        """Trace the body once; whether the types stay."""
        tracer, self.inner = self.tracer, []
        frame = tracer.journal.open()
        block, known = Block(tracer.block), len(tracer.lists.learned)
        try:
            for leaf in leaves_of(self.params):
                leaf.out = Val(block, None)  # type: ignore[attr-defined]
            self.tape.params = tuple(outs_of(item) for item in self.params.items)
            with tracer.into(block):
                row = tracer.control.value(self.params)
                split = len(row) - len(self.names)
                out = self.fn(*row[:split], **dict(zip(self.names, row[split:])))
                result = tracer.note(out)
            after = frame.contents()
        except Endless:
            if self.widened_params():  # with the sizes of the first call alone no path ends
                return False
            raise self.refusal("does so on every path") from None
        finally:
            frame.restore()
            tracer.journal.close(frame)
        plain = [obj for obj, _ in after.values() if getattr(obj, "val", True) is None]
        tracer.higher.changed(after)
        stays = not plain and not tracer.lists.have_learned(known, block)
        stays &= self.widened(out)
        self.tape.block, self.tape.result = block, result
        self.tape.ambient = ambient()
        return stays

    def widened_params(self) -> bool:
        """Join the arguments of inner calls into the types; whether that changes them."""
        where, params, stays = self.tracer.where(), self.params, True
        for row in self.inner:
            new = merged(self.joiner, params, row, where)
            stays &= same_type(params, new)
            params = new
        self.params = params
        return not stays

    def widened(self, out: Any) -> bool:
        """Join the arguments of inner calls and the result into the types; whether they had them."""
        where, before = self.tracer.where(), self.params
        stays = not self.widened_params()
        params, self.params = self.params, before
        if self.result is None:
            result, stays = self.typed(out), False
        else:
            result = merged(self.joiner, self.result, out, where)
            stays &= same_type(self.result, result)
        if not stays:
            self.params, self.result = params, result
        return stays
