"""Random programs of nested control flow over tensors, numbers, lists and attributes, as source text.

Programs end by construction (each ``while`` counts its trips), keep values bounded, and read only
names that are bound, so eager defines what is right. The shape of a program is drawn from a seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType

import torch

from tests.constructs.case import Case, module_of

CAPTURES = 12  # lists of the module that grow are states of their own

HEADER = """\
import torch


class Subject(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([0.5, -0.25]))
        self.register_buffer("level", torch.tensor(0.25))
        self.calls = 0
        self.log = []
        self.memory = None

    def forward(self, x, k):
"""


@dataclass
class Scope:
    """Names bound at a place, by kind."""

    vectors: list[str] = field(default_factory=list)
    scalars: list[str] = field(default_factory=list)
    counts: list[str] = field(default_factory=list)
    lists: list[str] = field(default_factory=list)
    in_loop: bool = False
    in_function: bool = False
    depth: int = 0

    def inner(self, loop: bool = False) -> Scope:
        return Scope(
            list(self.vectors), list(self.scalars), list(self.counts), list(self.lists),
            self.in_loop or loop, self.in_function, self.depth + 1,
        )  # fmt: skip


class Writer:
    """Draws one program; ``source`` is its text."""

    def __init__(self, seed: int, statements: int = 5, depth: int = 3) -> None:
        self.draw = random.Random(seed)
        self.depth = depth
        self.fresh = 0
        self.lines: list[str] = []
        scope = Scope(["x", "y"], ["s", "self.level"], ["n"], ["kept"])
        self.put(2, "y = x * self.weight[0]", "s = x.mean()", "n = 0", "kept = []")
        for _ in range(statements):
            self.statement(scope, 2)
        result = ", ".join(["x", "y", "s", "n", "kept", *self.some(scope.vectors), *scope.scalars])
        self.put(2, f"return {result}")
        self.source = HEADER + "\n".join(self.lines) + "\n"

    def put(self, level: int, *lines: str) -> None:
        self.lines += ["    " * level + line for line in lines]

    def name(self, kind: str) -> str:
        self.fresh += 1
        return f"{kind}{self.fresh}"

    def some(self, names: list[str]) -> list[str]:
        return [n for n in names if self.draw.random() < 0.3]

    def number(self) -> str:
        return self.draw.choice(["0.5", "-0.75", "1.5", "0.1", "2", "-1"])

    def vector(self, scope: Scope) -> str:
        a, b = (self.draw.choice(scope.vectors) for _ in range(2))
        s = self.draw.choice(scope.scalars)
        return self.draw.choice(
            [
                f"torch.tanh({a}) * {self.number()}",
                f"({a} + {s}).sin()",
                f"torch.where({a} > {s}, {b}, {a})",
                f"{a}.flip(0)",
                f"({a} - {b}).tanh()",
                f"{a} * self.weight[1] + {self.number()}",
                f"{a} / (1 + n)",
                a,
                f"{a}.clone()",
                f"{a} if {self.test(scope, 1)} else {b}",
            ]
        )

    def scalar(self, scope: Scope) -> str:
        a = self.draw.choice(scope.vectors)
        s = self.draw.choice(scope.scalars)
        return self.draw.choice(
            [
                f"{a}.mean()",
                f"{a}[0]",
                f"{a}[-1] * {self.number()}",
                f"({s} * {self.number()}).tanh()",
                f"{a}.max()",
                s,
            ]
        )

    def test(self, scope: Scope, depth: int = 0) -> str:
        s = self.draw.choice(scope.scalars)
        v = self.draw.choice(scope.vectors)
        n = self.draw.choice(scope.counts)
        simple = [
            f"{s} > {self.number()}",
            f"{v}.sum() < {self.number()}",
            f"({v} > {self.number()}).any()",
            f"{n} < {self.draw.randint(0, 4)}",
            f"{s}.item() > {self.number()}",
            f"k > {self.draw.randint(0, 3)}",
            f"-1 < {s} < {self.number()}",
            f"len({self.draw.choice(scope.lists)}) > {self.draw.randint(0, 2)}",
            f"int({v}.numel()) > 2",
        ]
        if depth == 0 and self.draw.random() < 0.35:
            joined = self.draw.choice([" and ", " or "]).join(self.test(scope, 1) for _ in range(2))
            return f"not ({joined})" if self.draw.random() < 0.3 else joined
        return self.draw.choice(simple)

    def block(self, scope: Scope, level: int) -> None:
        for _ in range(self.draw.randint(1, 2)):
            if self.statement(scope, level):
                break

    def statement(self, scope: Scope, level: int) -> bool:
        """Write one; true when what follows it would not run."""
        nested = [
            self.branch,
            self.branch,
            self.while_,
            self.for_rows,
            self.for_range,
            self.for_items,
        ]
        nested += [self.tries, self.function, self.counted]
        plain = [self.assign_vector, self.assign_scalar, self.again, self.count, self.append]
        plain += [self.in_place, self.remember, self.store, self.swap, self.pop, self.fold]
        jumps = [self.leave] if scope.in_loop or scope.in_function or scope.depth else []
        choices: list[Callable[[Scope, int], bool | None]] = plain + jumps
        if scope.depth < self.depth:
            choices = choices + nested * (2 if scope.depth == 0 else 1)
        return bool(self.draw.choice(choices)(scope, level))

    # plain statements

    def assign_vector(self, scope: Scope, level: int) -> None:
        value, name = self.vector(scope), self.name("v")
        self.put(level, f"{name} = {value}")
        scope.vectors.append(name)

    def assign_scalar(self, scope: Scope, level: int) -> None:
        value, name = self.scalar(scope), self.name("s")
        self.put(level, f"{name} = {value}")
        scope.scalars.append(name)

    def again(self, scope: Scope, level: int) -> None:
        targets = [v for v in scope.vectors if "." not in v]
        if self.draw.random() < 0.3:
            self.put(level, f"s = {self.scalar(scope)}")
            return
        self.put(level, f"{self.draw.choice(targets)} = {self.vector(scope)}")

    def count(self, scope: Scope, level: int) -> None:
        name = self.draw.choice(scope.counts)
        self.put(
            level, self.draw.choice([f"{name} += 1", f"{name} = {name} + len(kept)", "n += 2"])
        )

    def append(self, scope: Scope, level: int) -> None:
        target = self.draw.choice(scope.lists)
        self.put(level, f"{target}.append({self.vector(scope)})")

    def in_place(self, scope: Scope, level: int) -> None:
        name = self.name("v")
        value = self.draw.choice(scope.vectors)
        self.put(level, f"{name} = {value}.clone()")
        self.put(
            level,
            self.draw.choice(
                [
                    f"{name}[0] = {self.scalar(scope)}",
                    f"{name} += {self.draw.choice(scope.scalars)}",
                    f"{name}[{name} > 0] = {self.number()}",
                    f"{name}[1:] *= {self.number()}",
                    f"{name}.mul_({self.number()})",
                ]
            ),
        )
        scope.vectors.append(name)

    def remember(self, scope: Scope, level: int) -> None:
        self.put(
            level,
            self.draw.choice(
                [
                    f"self.log.append(({self.scalar(scope)}).detach())",
                    "self.calls += 1",
                    f"self.level.copy_(({self.scalar(scope)}).detach())",
                    f"self.level = ({self.scalar(scope)}).detach() * 0.5",
                ]
            ),
        )

    def store(self, scope: Scope, level: int) -> None:
        name = self.name("d")
        v = self.vector(scope)
        self.put(level, f"{name} = {{'a': {v}, 'b': {self.scalar(scope)}}}")
        if self.draw.random() < 0.5:
            self.put(level, f"{name}['a'] = {name}['a'] * {self.number()}")
        scope.vectors.append(f"{name}['a']")
        scope.scalars.append(f"{name}['b']")

    def swap(self, scope: Scope, level: int) -> None:
        self.put(
            level, self.draw.choice(["x, y = y, x", "x, s = y, x[0]", "n, x = n + 1, y.tanh()"])
        )

    def pop(self, scope: Scope, level: int) -> None:
        target, name = self.draw.choice(scope.lists), self.name("v")
        self.put(
            level, f"{name} = {target}.pop() if {target} else {self.draw.choice(scope.vectors)}"
        )
        scope.vectors.append(name)

    def fold(self, scope: Scope, level: int) -> None:
        target, name = self.draw.choice(scope.lists), self.name("s")
        self.put(
            level, f"{name} = sum([v.mean() for v in {target} if {self.test(scope, 1)}], s * 0)"
        )
        scope.scalars.append(name)

    def leave(self, scope: Scope, level: int) -> bool:
        if scope.in_function:
            self.put(level, f"return {self.vector(scope)}")
        elif scope.in_loop and self.draw.random() < 0.8:
            self.put(level, self.draw.choice(["break", "continue"]))
        else:
            self.put(level, f"return {self.vector(scope)}, n")
        return True

    # statements that hold blocks

    def branch(self, scope: Scope, level: int) -> None:
        self.put(level, f"if {self.test(scope)}:")
        self.block(scope.inner(), level + 1)
        if self.draw.random() < 0.3:
            self.put(level, f"elif {self.test(scope)}:")
            self.block(scope.inner(), level + 1)
        if self.draw.random() < 0.6:
            self.put(level, "else:")
            self.block(scope.inner(), level + 1)

    def while_(self, scope: Scope, level: int) -> None:
        trips = self.name("i")
        self.put(level, f"{trips} = 0")
        self.put(level, f"while {trips} < {self.draw.randint(2, 4)} and ({self.test(scope)}):")
        self.put(level + 1, f"{trips} += 1")
        self.block(scope.inner(loop=True), level + 1)
        self.orelse(scope, level)

    def orelse(self, scope: Scope, level: int) -> None:
        if self.draw.random() < 0.15:
            self.put(level, "else:")
            self.block(scope.inner(), level + 1)

    def for_rows(self, scope: Scope, level: int) -> None:
        row, source = self.name("s"), self.draw.choice(scope.vectors)
        self.put(level, f"for {row} in {source}:")
        inner = scope.inner(loop=True)
        inner.scalars.append(row)
        self.block(inner, level + 1)
        self.orelse(scope, level)

    def for_range(self, scope: Scope, level: int) -> None:
        i = self.name("i")
        bound = self.draw.choice(["2", "3", "int(k)", "x.shape[0]", "len(kept)"])
        self.put(level, f"for {i} in range({bound}):")
        inner = scope.inner(loop=True)
        self.block(inner, level + 1)
        self.orelse(scope, level)

    def for_items(self, scope: Scope, level: int) -> None:
        v, i = self.name("v"), self.name("i")
        over = f"({self.draw.choice(scope.vectors)}, {self.draw.choice(scope.vectors)})"
        if self.draw.random() < 0.4:
            over = f"list({self.draw.choice(scope.lists)})"
        self.put(level, f"for {i}, {v} in enumerate({over}):")
        inner = scope.inner(loop=True)
        inner.vectors.append(v)
        self.block(inner, level + 1)

    def tries(self, scope: Scope, level: int) -> None:
        self.put(level, "try:")
        self.block(scope.inner(), level + 1)
        self.put(level + 1, f"if {self.test(scope)}:", '    raise ValueError("low")')
        self.put(level, "except ValueError:")
        self.block(scope.inner(), level + 1)
        if self.draw.random() < 0.3:
            self.put(level, "finally:", "    n += 1")

    def function(self, scope: Scope, level: int) -> None:
        name, argument, result = self.name("f"), self.name("v"), self.name("v")
        self.put(level, f"def {name}({argument}):")
        scalars = ["self.level", f"{argument}[0]"]
        inner = Scope([argument], scalars, ["k"], ["kept"], False, True, scope.depth + 1)
        for _ in range(2):
            self.inside(inner, level + 1)
        self.put(level + 1, f"return {self.vector(inner).replace(' / (1 + n)', ' / 2')}")
        self.put(level, f"{result} = {name}({self.draw.choice(scope.vectors)})")
        scope.vectors.append(result)

    def inside(self, scope: Scope, level: int) -> None:
        """A statement of a function of its own: names of the outer one are not assigned there."""
        start = len(self.lines)
        plain = [self.guarded, self.assign_vector, self.assign_scalar, self.append]
        self.draw.choice(plain)(scope, level)
        self.lines[start:] = [line.replace("/ (1 + n)", "/ 2") for line in self.lines[start:]]

    def guarded(self, scope: Scope, level: int) -> None:
        self.put(level, f"if {self.test(scope)}:")
        self.put(level + 1, f"return {self.vector(scope)}")

    def counted(self, scope: Scope, level: int) -> None:
        """A list of its own that a loop fills."""
        name, row = self.name("l"), self.name("s")
        self.put(level, f"{name} = []", f"for {row} in {self.draw.choice(scope.vectors)}:")
        self.put(level + 1, f"if {row} > {self.number()}:")
        self.put(level + 2, f"{name}.append({row} * {self.draw.choice(scope.vectors)})")
        scope.lists.append(name)


def text_of(seed: int) -> str:
    """The source of the program of ``seed``: a module class ``Subject``."""
    shape = random.Random(seed)
    return Writer(seed, statements=shape.randint(2, 5), depth=shape.choice([1, 2, 2, 3])).source


def program(seed: int) -> Case:
    """The case of ``seed``."""
    return case_of(seed, module_of(f"random/p{seed}.py", text_of(seed)))


def case_of(seed: int, module: ModuleType) -> Case:
    """The ``Subject`` of a module, with seven calls of random data and of two sizes."""
    draw, values = random.Random(seed), torch.Generator().manual_seed(seed)
    calls = []
    for _ in range(7):
        size, scale = draw.choice([3, 3, 5]), draw.choice([0.3, 1.0, 3.0])
        x = torch.randn(size, generator=values) * scale
        calls.append((x, torch.tensor(draw.randint(0, 4))))
    return Case(
        str(seed), module.Subject, tuple(calls), module.__file__, (), namespace=vars(module),
        captures=CAPTURES,
    )  # fmt: skip
