"""A tape as Python source: one function that makes the recorded calls again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import torch

from oarlock.capture.tape import runtime
from oarlock.capture.tape.finite import RECORDED
from oarlock.capture.tape.nodes import (
    UNREAD,
    Again,
    Ambient,
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
    Where,
    While,
    blocks_of,
    leaves,
)
from oarlock.capture.tape.queries import access_of, assumption, infix, method, name_of, of_number
from oarlock.capture.tape.sources import KEYS

_PLAIN = (bool, int, str, bytes, type(None), type(Ellipsis))


class Emitter:
    """Lines of the replay function, the objects that they name, and the user's line of each."""

    def __init__(self, ambient: Ambient) -> None:
        self.lines: list[str] = []
        self.origins: dict[int, Where] = {}
        self.names: dict[str, Any] = {}
        self.known: dict[Any, str] = {}
        self.depth = 1
        self.bound: set[int] = set()
        self.kept: set[int] = set()
        self.new: list[int] = []
        self.left: dict[int, str] | None = None  # what objects hold should a line fail
        self.left_texts: dict[int, str] = {}
        self.seen: dict[int, Call] = {}  # by line, those whose errors code of the user sees
        self.ambient = self.first = ambient
        self.temporary = 0

    # ---- text

    def line(self, text: str, where: Where | None = None) -> None:
        self.lines.append("    " * self.depth + text)
        if where is not None:
            self.origins[len(self.lines)] = where

    @contextmanager
    def indented(self) -> Iterator[None]:
        self.depth += 1
        before = len(self.lines)
        yield
        if len(self.lines) == before:
            self.line("pass")
        self.depth -= 1

    def constant(self, x: Any, name: str = "") -> str:
        """The name of a kept object; a method is one though each look makes another object."""
        key: Any = id(x)
        if type(x) is MethodType:
            key = (id(x.__func__), id(x.__self__))
        if key not in self.known:
            stem = name if name.isidentifier() else "k"
            taken = stem in self.names or not name.isidentifier() or hasattr(runtime, stem)
            text = f"{stem}_{len(self.names)}" if taken else stem
            self.names[text] = x
            self.known[key] = text
        return self.known[key]

    def fresh(self, stem: str = "t") -> str:
        self.temporary += 1
        return f"{stem}{self.temporary}_"

    def expr(self, x: Any) -> str:
        """Python text of an argument tree."""
        if isinstance(x, Val):
            return f"v{x.id}"
        kind = type(x)
        if x is UNREAD:
            return "None"
        if kind in _PLAIN or (kind is float and math.isfinite(x)):
            return f"({x!r})" if repr(x).startswith("-") else repr(x)
        if kind is tuple:
            inner = ", ".join(map(self.expr, x))
            return f"({inner},)" if len(x) == 1 else f"({inner})"
        if kind is list:
            return f"[{', '.join(map(self.expr, x))}]"
        if kind is dict:
            return "{" + ", ".join(f"{self.expr(k)}: {self.expr(v)}" for k, v in x.items()) + "}"
        if kind is slice:
            parts = (x.start, x.stop, x.step)
            return f"slice({', '.join(map(self.expr, parts))})"
        if isinstance(x, torch.Size):
            return f"{self.constant(torch.Size, 'Size')}({self.expr(tuple(x))})"
        if isinstance(x, tuple) and not hasattr(x, "_fields"):
            return self.expr(tuple(x))
        if isinstance(x, tuple):
            return f"{self.constant(kind, kind.__name__)}({', '.join(map(self.expr, x))})"
        if isinstance(x, (SubTape, Again)):
            return x.name if isinstance(x, SubTape) else x.tape.name
        return self.constant(x)

    # ---- nodes

    def block(self, block: Block, keep: set[int] | None = None) -> None:
        """Nodes in order; a value dies after its last use here, unless in ``keep``."""
        alive = {v.id for v in leaves(block.results) if isinstance(v, Val)} | (keep or set())
        last = _last_uses(block)
        ends: dict[int, list[int]] = {}
        for v, i in last.items():
            ends.setdefault(i, []).append(v)
        for i, node in enumerate(block.nodes):
            before, self.new = self.new, []
            outer = self.kept
            if blocks_of(node):  # objects made in there may be read after it, where it has run
                self.kept = outer | alive | {v for v, j in last.items() if j > i}
            self.node(node)
            self.kept = outer
            unread = [v for v in self.new if v not in last]
            self.new = before + self.new
            dead = {v for v in (*ends.get(i, ()), *unread) if v in self.bound}
            dead -= alive | self.kept
            if dead and i < len(block.nodes) - 1:
                self.line(" = ".join(f"v{v}" for v in sorted(dead)) + " = None")

    def node(self, node: Any) -> None:
        getattr(self, "_" + type(node).__name__.lower())(node)

    def switch(self, wanted: Ambient) -> None:
        """Set the modes that a call was made in."""
        now = self.ambient
        if now == wanted:
            return
        if now.inference != wanted.inference:
            self.line(f"modes.inference({wanted.inference})")
        if now.grad != wanted.grad or now.inference != wanted.inference:
            self.line(f"set_grad({wanted.grad})")
        if (now.autocast, now.cache) != (wanted.autocast, wanted.cache):
            self.line(f"modes.autocast({self.expr(wanted.autocast)}, {wanted.cache})")
        self.ambient = wanted

    def _call(self, call: Call) -> None:
        for x in leaves((call.args, call.kwargs)):
            if isinstance(x, SubTape):
                self.function(x)
        self.switch(call.ambient)
        if call.left is not None:
            self.leaving(call.left)
        if call.seen_by:
            self.seen[len(self.lines) + 1] = call
        text = self.call_text(call)
        if call.catches is not None:
            self.caught(call, text)
            return
        self.assign(call.outs, self.counted(call, text) if call.is_counted else text, call.where)

    def caught(self, call: Call, text: str) -> None:
        """A call whose error of one class is kept for the next node."""
        before, seen = set(self.bound), self.seen.pop(len(self.lines) + 1)
        kind = self.constant(call.catches, call.catches.__name__)
        self.line("try:")
        self.seen[len(self.lines) + 1] = seen
        with self.indented():
            self.assign(call.outs, text, call.where)
        self.line(f"except {kind} as error_:")
        with self.indented():
            self.line(f"if type(error_) is not {kind}: raise")
            new = sorted(self.bound - before)
            self.line(" = ".join([*(f"v{v}" for v in new), "None"]))
            self.line("failed(error_)")

    def counted(self, call: Call, text: str) -> str:
        """The results of ``text``, which must be as many as in the capture."""
        name, count = self.fresh(), len(call.outs)
        self.line(f"{name} = {text}", call.where)
        what = self.expr(assumption(call))
        self.line(f"if len({name}) != {count}: raise Respecialise({what})", call.where)
        return name

    def leaving(self, left: Any) -> None:
        """The next line may fail."""
        if self.left is not None:
            if id(left) not in self.left_texts:
                self.left_texts[id(left)] = left.statements(self)
            self.left[len(self.lines) + 1] = self.left_texts[id(left)]

    def left_is_done(self) -> None:
        """The next line raises, and what is left has been emitted before it."""
        if self.left is not None:
            self.left[len(self.lines) + 1] = ""

    def call_text(self, call: Call) -> str:
        func, args, kwargs = call.func, call.args, call.kwargs
        access = access_of(func)
        if func is runtime.recursive:
            return f"{self.expr(args[0])}({', '.join(map(self.expr, args[1:]))})"
        if access == "__get__":
            return f"{self.expr(args[0])}.{name_of(func)}"
        if access == "__set__":
            return f"{self.expr(args[0])}.{name_of(func)} = {self.expr(args[1])}"
        if access == "__delete__":
            return f"del {self.expr(args[0])}.{name_of(func)}"
        name = method(func)
        if not kwargs:
            if func is torch.Tensor.size and len(args) == 2:  # quicker than a call
                return f"{self.expr(args[0])}.shape[{self.expr(args[1])}]"
            if name == "__getitem__":
                return f"{self.expr(args[0])}[{self.expr(args[1])}]"
            if name == "__setitem__":
                return f"{self.expr(args[0])}[{self.expr(args[1])}] = {self.expr(args[2])}"
            sign = infix(func, len(args))
            if sign:
                return f"{self.expr(args[0])} {sign} {self.expr(args[1])}"
            form = of_number(func, args)
            if form:
                return form.format(*map(self.expr, args))
        texts = [*map(self.expr, args), *(f"{k}={self.expr(v)}" for k, v in kwargs.items())]
        if name and args:
            return f"{texts[0]}.{name}({', '.join(texts[1:])})"
        func = RECORDED.get(func, func) if type(func) in (BuiltinFunctionType, type) else func
        return f"{self.constant(func, name_of(func))}({', '.join(texts)})"

    def assign(self, outs: Any, text: str, where: Where) -> None:
        """Bind the new values of a call's results."""
        new = [v for v in leaves(outs) if isinstance(v, Val) and v.id not in self.bound]
        if not new:
            self.line(text, where)
        elif isinstance(outs, Val):
            self.line(f"v{outs.id} = {text}", where)
        elif isinstance(outs, (tuple, list)) and new == list(outs) and len(set(new)) == len(new):
            self.line(
                ", ".join(f"v{v.id}" for v in new) + f"{',' * (len(new) == 1)} = {text}", where
            )
        else:
            name = self.fresh()
            self.line(f"{name} = {text}", where)
            self.unpack(outs, name, set())
        self.bind(v.id for v in new)

    def bind(self, ids: Iterable[int]) -> None:
        ids = list(ids)
        self.bound.update(ids)
        self.new += ids

    def unpack(self, outs: Any, path: str, done: set[int]) -> None:
        if isinstance(outs, Val):
            if outs.id not in self.bound and outs.id not in done:
                done.add(outs.id)
                self.line(f"v{outs.id} = {path}")
        elif isinstance(outs, (tuple, list)):
            for i, x in enumerate(outs):
                self.unpack(x, f"{path}[{i}]", done)
        elif isinstance(outs, dict):
            for k, x in outs.items():
                self.unpack(x, f"{path}[{self.expr(k)}]", done)

    def function(self, tape: SubTape) -> None:
        """A nested function for a callable argument; it keeps the values of now that it reads."""
        tape.name = self.fresh("fn")
        params = [f"p{i}_{tape.name}" for i in range(len(tape.params))]
        mine = {v.id for v in leaves(tape.params) if isinstance(v, Val)} - self.bound
        outer, modes, new = self.bound, self.ambient, self.new
        held = [f"v{v}=v{v}" for v in sorted((_reads(tape) & outer) - mine)]
        header = ", ".join([*params, *(["*", *held] if held else [])])
        self.line(f"def {tape.name}({header}):")
        self.bound, self.ambient = set(outer), tape.ambient
        with self.indented():
            for name, param in zip(params, tape.params):
                self.unpack(param, name, set())
                self.bound.update(v.id for v in leaves(param) if isinstance(v, Val))
            self.block(tape.block, {v.id for v in leaves(tape.result) if isinstance(v, Val)})
            if not tape.block.raises:
                self.switch(tape.ambient)
                self.line(f"return {self.expr(tape.result)}")
        self.bound, self.ambient, self.new = outer, modes, new

    def _branch(self, block: Block, outs: list[Val], ambient: Ambient) -> None:
        before, kept = set(self.bound), self.kept
        self.ambient, self.kept = ambient, kept | before
        with self.indented():
            self.block(block)
            if not block.raises:
                for out, result in zip(outs, block.results):
                    self.line(f"v{out.id} = {self.expr(result)}")
                self.switch(ambient)
        self.bound, self.ambient, self.kept = before, ambient, kept

    def _if(self, node: If) -> None:
        ambient = self.ambient
        self.line(f"if {self.expr(node.test)}:", node.where)
        self._branch(node.then, node.outs, ambient)
        if node.orelse.nodes or node.outs:
            self.line("else:")
            self._branch(node.orelse, node.outs, ambient)
        self.bind(v.id for v in node.outs)

    def _fork(self, node: Fork) -> None:
        ambient, before = self.ambient, set(self.bound)
        self.line(f"if {self.expr(node.test)}:", node.where)
        with self.indented():
            self.ending(node.then)
        self.ambient, self.bound = ambient, before
        self.ending(node.orelse)

    def ending(self, block: Block) -> None:
        """The rest of the function, its effects and result."""
        self.block(block)
        if block.end is not None and not block.raises:
            block.end.emit(self)

    def _while(self, node: While) -> None:
        ambient = self.ambient
        for param, init in zip(node.params, node.init):
            self.line(f"v{param.id} = {self.expr(init)}")
            self.bind([param.id])
        before = set(self.bound)
        self.line("while True:", node.where)
        kept, self.kept = self.kept, self.kept | before
        with self.indented():
            self.block(node.cond)
            self.switch(ambient)
            if not node.cond.raises:
                self.line(f"if not {self.expr(node.cond.results[0])}: break", node.where)
                self.block(node.body)
                if not node.body.raises:
                    self.move(node.params, node.body.results)
                self.switch(ambient)
        self.kept = kept
        self.bound, self.ambient = before, ambient

    def move(self, params: list[Val], results: list[Any]) -> None:
        pairs = [(p, r) for p, r in zip(params, results) if p is not r]
        if pairs:
            left = ", ".join(f"v{p.id}" for p, _ in pairs)
            self.line(f"{left} = {', '.join(self.expr(r) for _, r in pairs)}")

    def _assert(self, node: Assert) -> None:
        self.line(f"if not {self.expr(node.test)}:", node.where)
        before, ambient = set(self.bound), self.ambient
        with self.indented():
            if node.left is not None:
                node.left.emit(self)
            if node.message is None:
                self.left_is_done()
                self.line("raise AssertionError", node.where)
            else:
                self.block(node.message)
                self.left_is_done()
                self.line(f"raise AssertionError({self.expr(node.message.results[0])})", node.where)
        self.bound, self.ambient = before, ambient

    def _check(self, node: Check) -> None:
        value, expected = self.expr(node.value), self.expr(node.expected)
        sign = "is not" if node.expected is None or isinstance(node.expected, bool) else "!="
        if isinstance(node.expected, bool):
            value = f"bool({value})"
        what = self.expr(assumption(node))
        self.line(f"if {value} {sign} {expected}: raise Respecialise({what})", node.where)

    def _print(self, node: Print) -> None:
        texts = [
            *map(self.expr, node.args),
            *(f"{k}={self.expr(v)}" for k, v in node.kwargs.items()),
        ]
        name = "print" if node.function is print else self.constant(node.function, "tell")
        self.line(f"{name}({', '.join(texts)})", node.where)

    def _raise(self, node: Raise) -> None:
        if node.left is not None:
            node.left.emit(self)
        kind = self.constant(node.kind, node.kind.__name__)
        cause = node.error.__cause__ if node.error is not None else None
        source = f" from {self.constant(cause)}" if cause is not None else ""
        if cause is None and node.error is not None and node.error.__suppress_context__:
            source = " from None"
        thrown, origin = (None if x is None else self.expr(x) for x in node.thrown)
        source = f" from {origin}" if origin is not None else source
        args = ", ".join(map(self.expr, node.args))
        self.left_is_done()
        if thrown is not None:
            self.line(f"raise {thrown}{source}", node.where)
        elif type(node.kind.__init__) is FunctionType:  # the user's, which has run already
            held = self.expr(vars(node.error)) if node.error is not None else "{}"
            self.line(
                f"raise remade({kind}, ({args}{',' * bool(args)}), {held}){source}", node.where
            )
        else:
            self.line(f"raise {kind}({args}){source}", node.where)

    # ---- the whole

    def source(self, header: str) -> str:
        return "\n".join([header, *self.lines, ""])

    def compile(self, header: str, name: str, file: str) -> Callable[..., Any]:
        """The function of these lines; its first line is ``header``."""
        scope = {**runtime.NAMES, **KEYS, **self.names}
        exec(compile(self.source(header), file, "exec"), scope)
        return scope[name]


_READ = ("args", "kwargs", "test", "init", "value", "expected", "thrown")


def uses(node: Any, fails: bool = False) -> list[int]:
    """Ids of the values that a node reads, inner blocks included; ``fails``: also should a call fail."""
    found: list[int] = []
    for name in _READ:
        tree = getattr(node, name, None)
        for x in leaves(tree) if tree is not None else ():
            if isinstance(x, Val):
                found.append(x.id)
            elif isinstance(x, SubTape):
                found += _ids(x.result)
    left = getattr(node, "left", None)
    if left is not None and (fails or not isinstance(node, Call)):
        found += left.ids
    for block in blocks_of(node):
        found += _ids(block.results)
        for inner in block.nodes:
            found += uses(inner, fails)
    return found


def _ids(tree: Any) -> list[int]:
    return [v.id for v in leaves(tree) if isinstance(v, Val)]


def _reads(tape: SubTape) -> set[int]:
    """What the code of a function reads, its own values included."""
    return set(_ids(tape.result)).union(*(uses(x, True) for x in tape.block.nodes))


def _last_uses(block: Block) -> dict[int, int]:
    return {v: i for i, node in enumerate(block.nodes) for v in uses(node, True)}
