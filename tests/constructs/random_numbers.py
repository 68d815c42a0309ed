"""Random programs of Python numbers: of the caller, of sizes, of data; what they decide and make."""

from __future__ import annotations

import random
from typing import Any

import torch

from tests.constructs.case import Case, module_of

CAPTURES = 40  # kinds of numbers, and each that has to be a constant
HEADER = """\
import math

import torch


def subject(x, n, f, t):
"""
INTS = [
    "{i} + {i}", "{i} - {i}", "{i} * {i}", "{i} // {d}", "{i} % {d}", "abs({i})", "min({i}, {i})",
    "max({i}, {i})", "divmod({i}, {d})[0]", "divmod({i}, {d})[1]", "{i} ** 2", "{i} & {i}", "{i} | {i}",
    "{i} ^ {i}", "{i} << ({i} % 4)", "{i} >> ({i} % 4)", "~{i}", "-{i}", "int({f})", "round({f})",
    "math.floor({f})", "math.ceil({f})", "len(x)", "x.shape[0]", "x.numel()", "t.item()", "int(t)",
    "int({b})", "sum(range({i} % 5))", "{i}.bit_length()", "{b} + {i}", "({i} if {b} else {i})",
    "int(x.sum())", "int((x > {f}).sum())", "x.argmax().item()", "[{i}, {i}, {i}][{i} % 3]", "math.gcd({i}, {i})",
    "len(range({i}, {i}, 2))", "int({i} / {d})", "(x.shape[0] - 1) // 2 + 1", "round({i}, -1)",
    "math.isqrt(abs({i}))", "{i} and {i}", "{i} or {i}", "math.trunc({f})", "sum([{i}, {i}])",
]  # fmt: skip
FLOATS = [
    "{f} + {f}", "{f} - {i}", "{f} * {f}", "{f} / {e}", "{i} / {d}", "{f} // {e}", "{f} % {e}", "abs({f})",
    "min({f}, {f})", "max({f}, {i})", "round({f}, 2)", "math.sqrt(abs({f}))", "math.exp(min({f}, 3.0))",
    "float({i})", "math.copysign(1.0, {f})", "-{f}", "{f} ** 2", "math.tanh({f})", "({f} if {b} else {f})",
    "x.sum().item()", "float(x[0])", "float(t)", "{f} * {i}", "math.log1p(abs({f}))", "x.tolist()[0]", "math.fmod({f}, {e})",
    "sum([{f}, {f}])", "math.hypot({f}, {f})", "2.0 ** ({i} % 5)", "{f} or {f}", "float(round({f}))", "math.pi * {i}",
    "pow({f}, 3)", "math.atan2({f}, {f})", "(x * {f}).sum().item()", "float({b})",
]  # fmt: skip
BOOLS = [
    "{i} > {i}", "{f} < {f}", "{i} == {i}", "{i} <= {f}", "{f} != {f}", "{f} == {f}", "not {b}", "({b} and {b})",
    "({b} or {b})", "{i} in (0, 1, 2, 5)", "-1 < {i} < 4", "0 <= {f} < 1.5", "{i} % 2 == 0", "math.isnan({f})",
    "isinstance(n, int)", "isinstance(n, bool)", "bool({i})", "bool({f})", "float({i}).is_integer()", "x.sum() > {f}",
    "x.shape[0] > {i}", "any([{b}, {b}])", "all([{b}, {b}])", "{i} is not None", "(x > {f}).all()", "math.isfinite({f})",
    "float({f}).is_integer()", "type(n) is int", "{b} == {b}", "{b} != {b}", "{i} != {f}",
]  # fmt: skip
TENSORS = [
    "{x} * {i}", "{x} + {f}", "{x} / {e}", "{x} ** 2 + {i}", "{x}[: {i} % 3 + 1]", "torch.full(({i} % 4 + 1,), {f})",
    "torch.arange({i} % 5) * {f}", "torch.where({x} > {f}, {x}, {i} * 1.0)", "{x}.clamp({f}, 5.0)", "{x}.roll({i} % 3)",
    "{x}[{i} % {x}.shape[0]]", "torch.tensor([{i}, {i}])", "torch.tensor({f})", "{x} * {b}", "{x} - {i} // {d}",
    "{x}.repeat({i} % 3 + 1)", "torch.zeros({i} % 3, 2) + {f}", "torch.tensor({i}) * {x}", "{x} // {e}", "{x} % {e}",
    "{x}[{i} % 2 :]", "{x}[-({i} % 2 + 1) :]", "torch.linspace({f}, 1.0, {i} % 4 + 1)", "{f} - {x}", "{i} / ({x} + 9)",
    "{x}.add({x}, alpha={i})", "torch.tensor({b})", "t + {i}", "t * {f}", "torch.full((2,), {i})", "{x}.masked_fill({x} > {f}, {f})",
]  # fmt: skip
KINDS = {"i": INTS, "f": FLOATS, "b": BOOLS, "x": TENSORS}


class NumberWriter:
    """Draws one program; ``source`` is its text."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.names = {
            "i": ["n", "n", "n", "x.shape[0]", "(2)", "(3)", "(-1)"], "f": ["f", "f", "0.5", "-1.25", "f"],
            "b": ["n > 1", "f < 0.5", "flag"], "x": ["x", "x", "y"],
            "d": ["2", "3", "-2", "(abs(n) + 1)"], "e": ["2", "0.75", "-1.5", "(abs(f) + 0.5)"],
        }  # fmt: skip
        self.lines, self.fresh = ["    y, flag = x * 2, n > 2"], 0
        for _ in range(self.draw.randint(2, 6)):
            self.statement(1, 0)
        names = [
            n for kind in "ifbx" for n in self.names[kind] if n.isidentifier() and n[-1:].isdigit()
        ]
        self.lines.append(f"    return {', '.join(['y', 'n', 'f', *dict.fromkeys(names)])}")
        self.source = HEADER + "\n".join(self.lines) + "\n"

    def made(self, kind: str, depth: int = 0) -> str:
        if kind in "de" or depth > 2 or (depth and self.draw.random() < 0.55):
            return self.draw.choice(self.names[kind])
        text = self.draw.choice(KINDS[kind])
        while "{" in text:
            start, end = text.index("{"), text.index("}")
            text = text[:start] + self.made(text[start + 1 : end], depth + 1) + text[end + 1 :]
        return f"({text})"

    def put(self, level: int, *lines: str) -> None:
        self.lines += ["    " * level + line for line in lines]

    def assign(self, level: int, is_new: bool) -> None:
        kind = self.draw.choice("iiiffbx")
        own = [n for n in self.names[kind] if n.isidentifier() and n not in ("x", "flag")]
        if is_new or not own or self.draw.random() < 0.3:
            self.fresh += 1
            name = f"{kind}{self.fresh}"
        else:
            name = self.draw.choice(own)
        value = self.made(kind)
        self.put(level, f"{name} = {value}")
        if is_new and name not in self.names[kind]:
            self.names[kind].append(name)

    def statement(self, level: int, depth: int) -> None:
        which = self.draw.choice(["assign"] * 5 + ["if", "if", "for", "while", "try"] * (depth < 2))
        if which == "assign":
            self.assign(level, depth == 0)
            return
        if which == "if":
            self.put(level, f"if {self.made('b')}:")
            self.inner(level, depth)
            self.put(level, "else:")
        elif which == "for":
            self.put(level, f"for k in range({self.made('i')} % 4):")
        elif which == "try":
            self.put(
                level,
                "try:",
                f"    n = {self.made('i')} // {self.made('i')}",
                "except ZeroDivisionError:",
            )
        else:
            trips = f"trips{level}"  # of its own: an inner loop would start the outer one again
            self.put(
                level,
                f"{trips} = 0",
                f"while {trips} < 3 and {self.made('b')}:",
                f"    {trips} += 1",
            )
        self.inner(level, depth)

    def inner(self, level: int, depth: int) -> None:
        for _ in range(self.draw.randint(1, 2)):
            self.statement(level + 1, depth + 1)


def text_of(seed: int) -> str:
    """The source of the program of ``seed``: a function ``subject``."""
    return NumberWriter(seed).source


def program(seed: int) -> Case:
    """The case of ``seed``: calls with numbers of many kinds."""
    module = module_of(f"numbers/p{seed}.py", text_of(seed))
    draw, values = random.Random(seed), torch.Generator().manual_seed(seed)
    calls: list[tuple[Any, ...]] = []
    for _ in range(12):
        x = torch.randn(draw.choice([3, 3, 4, 5, 1]), generator=values) * draw.choice([0.5, 2.0])
        n = draw.choice([0, 1, 1, 2, 3, 4, 5, 7, -1, -3, True, False, 12, 2**40 + 1])
        f = draw.choice([0.5, 0.25, -0.75, 0.0, -0.0, 1.5, 2.5, 3.0, 1e-3, -4.0, 2, 7.25])
        t = torch.tensor(draw.choice([0, 1, 2, -3, 5]))
        calls.append((x, n, f, t))
    return Case(
        str(seed), lambda: module.subject, tuple(calls), module.__file__, (), namespace=vars(module),
        captures=CAPTURES,
    )  # fmt: skip
