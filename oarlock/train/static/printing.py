"""A program as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from oarlock.capture.tape.nodes import (
    Assert,
    Block,
    Call,
    Check,
    If,
    Print,
    Raise,
    Val,
    While,
    leaves,
)
from oarlock.capture.tape.queries import name_of
from oarlock.train.static.program import BATCH, SIZES, Program
from oarlock.train.static.recorder import Recorder


def text_of(program: Program) -> str:
    """Placeholders, then a line for each call with its type and the user's line."""
    inputs = ", ".join(map(str, program.placeholders.values()))
    lines = [f"program({inputs}) {{", *Printer(program).lines(program.block, 1), "}"]
    return "\n".join(lines) + "\n"


class Printer:
    """Gives values short numbers in order."""

    def __init__(self, program: Program) -> None:
        self.recorder: Recorder = program.recorder
        self.labels = {p.val.id: p.name for p in program.placeholders.values()}
        for val, source, real in self.recorder.inputs:
            if source.base is not None and isinstance(real, Tensor):
                name = self.recorder.name_of_tensor(real)
                self.labels[val.id] = name or f"tensor_{len(self.labels)}"
        self.texts = {val.id: text for text, val in program.names.items()}
        self.symbols = _symbols(program)
        self.count = 0

    def label(self, val: Val) -> str:
        if val.id not in self.labels:
            self.labels[val.id] = f"%{self.count}"
            self.count += 1
        return self.labels[val.id]

    def text(self, x: Any) -> str:
        if isinstance(x, Val):
            return self.label(x)
        if isinstance(x, (tuple, list)):
            inner = ", ".join(map(self.text, x))
            return f"[{inner}]" if isinstance(x, list) else f"({inner})"
        if isinstance(x, dict):
            return "{" + ", ".join(f"{k}: {self.text(v)}" for k, v in x.items()) + "}"
        return repr(x)

    def lines(self, block: Block, depth: int) -> Iterator[str]:
        for node in block.nodes:
            for line in getattr(self, f"_{type(node).__name__.lower()}")(node):
                yield "  " * depth + line

    def line(self, text: str, node: Any) -> str:
        return f"{text:<64}  # {node.where}"

    def outs(self, tree: Any) -> str:
        vals = [v for v in leaves(tree) if isinstance(v, Val)]
        return f"{', '.join(map(self.label, vals))} = " if vals else ""

    def types(self, tree: Any) -> str:
        vals = [v for v in leaves(tree) if isinstance(v, Val)]
        shown = ", ".join(map(self.type, vals))
        names = [self.texts[v.id] for v in vals if v.id in self.texts]
        return (f" : {shown}" if shown else "") + "".join(f" {name!r}" for name in names)

    def type(self, val: Val) -> str:
        """The element type and the sizes: as declared, where placeholders decide them."""
        sample, twin = val.sample, val.twin
        if not isinstance(sample, Tensor):
            return type(sample).__name__
        shown = []
        for axis, n in enumerate(sample.shape):
            is_twin = isinstance(twin, Tensor) and twin.dim() == sample.dim()
            if axis not in val.dims:
                shown.append(str(n))
            else:
                pair = (n, twin.shape[axis]) if is_twin else (0, 0)
                shown.append(size_text(pair, self.symbols))
        return f"{str(sample.dtype)[6:]}[{', '.join(shown)}]"

    def _call(self, node: Call) -> Iterator[str]:
        given = [
            *map(self.text, node.args),
            *(f"{k}={self.text(v)}" for k, v in node.kwargs.items()),
        ]
        outs = self.outs(node.outs)
        text = f"{outs}{name_of(node.func)}({', '.join(given)}){self.types(node.outs)}"
        yield self.line(text, node)

    def _if(self, node: If) -> Iterator[str]:
        test = self.text(node.test)
        yield self.line(f"{self.outs(node.outs)}if {test} {{{self.types(node.outs)}", node)
        yield from self.branch(node.then)
        yield "} else {"
        yield from self.branch(node.orelse)
        yield "}"

    def branch(self, block: Block) -> Iterator[str]:
        yield from self.lines(block, 1)
        if block.results:
            yield f"  give {', '.join(map(self.text, block.results))}"

    def _while(self, node: While) -> Iterator[str]:
        pairs = ", ".join(
            f"{self.label(p)} = {self.text(x)}" for p, x in zip(node.params, node.init)
        )
        yield self.line(f"while ({pairs}) {{{self.types(node.params)}", node)
        yield from self.branch(node.cond)
        yield "} do {"
        yield from self.branch(node.body)
        yield "}"

    def _assert(self, node: Assert) -> Iterator[str]:
        yield self.line(f"assert {self.text(node.test)}", node)

    def _check(self, node: Check) -> Iterator[str]:
        yield self.line(f"check {self.text(node.value)} == {self.text(node.expected)}", node)

    def _print(self, node: Print) -> Iterator[str]:
        yield self.line(f"print({', '.join(map(self.text, node.args))})", node)

    def _raise(self, node: Raise) -> Iterator[str]:
        yield self.line(f"raise {node.kind.__name__}{self.text(node.args)}", node)


def _symbols(program: Program) -> dict[tuple[int, int], str]:
    """The symbol that a size stands for in the recording, by its sizes in both worlds.

    Sizes of several names share their sizes there: these have no symbol in values made of them.
    """
    found: dict[tuple[int, int], set[str]] = {BATCH: set(), SIZES: set()}
    for place in program.placeholders.values():
        for axis, size in enumerate(place.shape):
            if isinstance(size, str):
                found[SIZES if axis else BATCH].add(size)
    return {pair: names.pop() for pair, names in found.items() if len(names) == 1}


def size_text(sizes: tuple[int, int], symbols: dict[tuple[int, int], str]) -> str:
    """``k * N`` or ``N + c`` where that is what the two sizes show, else None."""
    for (a, b), name in symbols.items():
        times, rest = divmod(sizes[1] - sizes[0], b - a)
        more = sizes[0] - times * a
        if rest or times < 1 or (more and (times > 1 or abs(more) >= a)):
            continue
        if more:
            return f"{name} {'+' if more > 0 else '-'} {abs(more)}"
        return name if times == 1 else f"{times}*{name}"
    return "None"
