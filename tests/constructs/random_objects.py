"""Random programs of views, aliases, objects, containers with keys of data, closures and generators.

They go beyond ``random_programs`` in what is changed in place, by which of its names, and in what a
call leaves for the next one.
"""

from __future__ import annotations

import random

from tests.constructs.case import Case, module_of
from tests.constructs.random_programs import Scope, Writer, case_of

HEADER = """\
import torch


class Box:
    def __init__(self, v, n):
        self.v, self.n, self.items = v, n, []

    def bump(self, s):
        if s > 0:
            self.v = self.v + s
            self.n += 1
        return self

    @property
    def twice(self):
        return self.v * 2


class Subject(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([0.5, -0.25]))
        self.register_buffer("level", torch.tensor(0.25))
        self.calls = 0
        self.log = []
        self.memory = None
        self.last = None
        self.table = {0: 1}
        self.seen = set()
        self.box = Box(torch.tensor(0.5), 1)

    def forward(self, x, k):
"""


class ObjectWriter(Writer):
    """Draws one program; what it changes has more than one name."""

    def __init__(self, seed: int, statements: int = 5, depth: int = 2) -> None:
        super().__init__(seed, statements, depth)
        self.source = HEADER + "\n".join(self.lines) + "\n"

    def statement(self, scope: Scope, level: int) -> bool:
        own = [
            self.view, self.alias, self.alias_list, self.object_, self.keyed, self.members,
            self.keep, self.generator, self.closure, self.lookup, self.detached, self.dtype,
            self.nested, self.clean_up, self.comprehension, self.field_, self.split, self.queue,
            self.table, self.masked, self.early,
        ]  # fmt: skip
        if self.draw.random() < 0.7:
            return bool(self.draw.choice(own)(scope, level))
        return super().statement(scope, level)

    def pick(self, names: list[str]) -> str:
        return self.draw.choice(names)

    def key(self, scope: Scope) -> str:
        v = self.pick(scope.vectors)
        return self.pick(
            [f"int({v}.sum() > 0)", f"int({v}.argmax())", f"int(({v} > 0).sum())", "k.item()"]
        )

    def view(self, scope: Scope, level: int) -> None:
        name, base = self.name("v"), self.pick(scope.vectors)
        view = self.pick([f"{base}[1:]", f"{base}.view(-1)", f"{base}[:2]", f"{base}[::2]", base])
        change = self.pick(
            [
                f"{name}.mul_({self.number()})",
                f"{name} += {self.pick(scope.scalars)}",
                f"{name}[0] = {self.scalar(scope)}",
                f"{name}.clamp_(-1, 1)",
                f"{name}[{name} > 0] = {self.number()}",
            ]
        )
        self.put(level, f"{base} = {base} * 1", f"{name} = {view}")
        if self.draw.random() < 0.5:
            self.put(level, f"if {self.test(scope)}:", f"    {change}")
        else:
            self.put(level, change)

    def alias(self, scope: Scope, level: int) -> None:
        name = self.name("v")
        a, b = self.pick(scope.vectors), self.pick(scope.vectors)
        self.put(level, f"{a} = {a} + 0", f"{name} = {a} if {self.test(scope, 1)} else {b} + 0")
        self.put(level, self.pick([f"{name}.add_(1)", f"{name} *= {self.number()}"]))
        scope.vectors.append(name)

    def alias_list(self, scope: Scope, level: int) -> None:
        name, target = self.name("l"), self.pick(scope.lists)
        self.put(level, f"{name} = {target} if {self.test(scope)} else []")
        self.put(level, f"{name}.append({self.vector(scope)})", f"n += len({target})")
        scope.lists.append(name)

    def object_(self, scope: Scope, level: int) -> None:
        name, other = self.name("o"), self.name("o")
        self.put(level, f"{name} = Box({self.vector(scope)}, {self.draw.randint(0, 2)})")
        self.put(
            level,
            self.pick(
                [f"{other} = {name}", f"{other} = {name} if {self.test(scope)} else self.box"]
            ),
        )
        change = self.pick(
            [
                f"{other}.v = {other}.v * {self.number()}",
                f"{other}.n += 1",
                f"{other}.bump({self.pick(scope.scalars)})",
                f"{other}.items.append({self.scalar(scope)})",
                f"{other}.v = {other}.twice",
            ]
        )
        self.put(level, f"if {self.test(scope)}:", f"    {change}")
        self.put(level, f"n = n + {name}.n + len({name}.items)")
        scope.vectors.append(f"{name}.v")

    def field_(self, scope: Scope, level: int) -> None:
        change = self.pick(
            [
                f"self.box.v = ({self.scalar(scope)}).detach()",
                "self.box.n += 1",
                f"self.box = Box(({self.scalar(scope)}).detach(), self.box.n)",
                f"self.box.bump(({self.pick(scope.scalars)}).detach())",
                "self.calls, self.box.n = self.box.n, self.calls",
            ]
        )
        if self.draw.random() < 0.6:
            self.put(level, f"if {self.test(scope)}:", f"    {change}")
        else:
            self.put(level, change)
        self.put(level, "n = n + self.box.n", "s = s + self.box.v.mean()")

    def keyed(self, scope: Scope, level: int) -> None:
        name, key = self.name("t"), self.name("i")
        self.put(level, f"{name} = {{}}", f"for {key} in {self.pick(scope.vectors)}:")
        self.put(
            level + 1,
            f"{name}[int({key} > 0)] = {name}.get(int({key} > 0), 0) + {self.pick(['1', key])}",
        )
        self.put(
            level,
            f"for {key} in sorted({name}):",
            f"    n = n + {key}",
            f"    s = s + {name}[{key}]",
        )

    def table(self, scope: Scope, level: int) -> None:
        key = self.name("i")
        self.put(level, f"{key} = {self.pick(['int(k) % 2', 'len(kept) % 2', 'self.calls % 2'])}")
        self.put(
            level, f"self.table[{key}] = self.table.get({key}, 0) + 1", f"n = n + self.table[{key}]"
        )
        if self.draw.random() < 0.3:
            self.put(level, f"if {self.test(scope)}:", "    self.table[0] = self.table[0] + 2")

    def members(self, scope: Scope, level: int) -> None:
        name, key = self.name("m"), self.name("i")
        self.put(level, f"{name} = set()", f"for {key} in {self.pick(scope.vectors)}.tolist():")
        self.put(
            level + 1, f"{name}.add(int({key} * 2))", f"if int({key}) in {name}:", "    n += 1"
        )
        self.put(level, f"n = n + len({name})")

    def keep(self, scope: Scope, level: int) -> None:
        v = self.pick(scope.vectors)
        self.put(
            level, "if self.last is not None and self.last.shape == x.shape:",
            f"    {self.pick(['x', 'y'])} = {self.pick(['x', 'y'])} + self.last * 0.5",
        )  # fmt: skip
        self.put(
            level,
            self.pick(
                [
                    f"self.last = {v}.detach()",
                    f"self.last = {v}.detach().clone()",
                    "self.last = None",
                ]
            ),
        )

    def generator(self, scope: Scope, level: int) -> None:
        name, row = self.name("g"), self.name("s")
        self.put(level, f"def {name}(v):", f"    for {row} in v:")
        self.put(level + 2, f"if {row} > {self.number()}:", f"    yield {row} * {self.number()}")
        if self.draw.random() < 0.3:
            self.put(level + 2, f"if {row} < -1:", "    return")
        use = self.pick(
            [
                f"s = sum({name}({self.pick(scope.vectors)}), s * 0)",
                f"kept.extend({name}({self.pick(scope.vectors)}))",
            ]
        )
        self.put(level, use)

    def closure(self, scope: Scope, level: int) -> None:
        name, count, argument = self.name("f"), self.name("c"), self.name("v")
        self.put(level, f"{count} = 0", f"def {name}({argument}):", f"    nonlocal {count}")
        self.put(level + 1, f"{count} += 1", f"if {argument}.sum() > {self.number()}:")
        self.put(level + 2, f"{count} += 2", f"return {argument} * {self.number()}")
        self.put(level + 1, f"return {argument} + {count}")
        result = self.name("v")
        self.put(level, f"{result} = {name}({self.pick(scope.vectors)})")
        if self.draw.random() < 0.5:
            self.put(level, f"if {self.test(scope)}:", f"    {result} = {name}({result})")
        self.put(level, f"n = n + {count}")
        scope.vectors.append(result)

    def lookup(self, scope: Scope, level: int) -> None:
        name = self.name("v")
        a, b = self.pick(scope.vectors), self.pick(scope.vectors)
        where = self.pick([f"{{0: {a}, 1: {b}}}", f"[{a}, {b}]"])
        error = "KeyError" if where[0] == "{" else "IndexError"
        self.put(level, "try:", f"    {name} = {where}[{self.key(scope)}] * 1", f"except {error}:")
        self.put(level + 1, f"{name} = {self.vector(scope)}", "n += 1")
        scope.vectors.append(name)

    def detached(self, scope: Scope, level: int) -> None:
        name = self.name("v")
        if self.draw.random() < 0.5:
            self.put(level, "with torch.no_grad():", f"    {name} = {self.vector(scope)}")
        else:
            self.put(level, f"{name} = ({self.vector(scope)}).detach()")
        if self.draw.random() < 0.5:
            self.put(level, f"if {self.test(scope)}:", f"    {name} = {self.vector(scope)}")
        scope.vectors.append(name)

    def dtype(self, scope: Scope, level: int) -> None:
        name, v = self.name("v"), self.pick(scope.vectors)
        self.put(
            level,
            f"{name} = "
            + self.pick(
                [
                    f"{v}.double()",
                    f"({v} > 0).float() * 2",
                    f"{v}.round().int() + 0.5",
                    f"{v} * torch.tensor(2.0, dtype=torch.float64)",
                ]
            ),
        )
        if self.draw.random() < 0.4:
            self.put(
                level, f"if {self.test(scope)}:", f"    {name} = {name}.float() * {self.number()}"
            )
        scope.vectors.append(name)

    def nested(self, scope: Scope, level: int) -> None:
        name = self.name("d")
        target = self.pick(scope.lists)
        self.put(level, f"{name} = {{'l': {target}, 't': ({self.vector(scope)}, {target})}}")
        self.put(level, f"if {self.test(scope)}:", f"    {name}['l'].append({self.vector(scope)})")
        self.put(level, f"n = n + len({name}['t'][1])")
        if self.draw.random() < 0.4:
            self.put(level, f"{name}['l'] = []", f"{name}['l'].append(s)")
        scope.vectors.append(f"{name}['t'][0]")

    def clean_up(self, scope: Scope, level: int) -> None:
        name = self.name("v")
        self.put(level, f"{name} = {self.vector(scope)}", "try:")
        self.put(
            level + 1,
            f"if {self.test(scope)}:",
            f"    raise {self.pick(['ValueError', 'KeyError'])}(1)",
        )
        self.put(level + 1, f"{name} = {name} * {self.number()}", "n += 1")
        self.put(level, "except ValueError as error:", "    n = n + len(error.args)")
        if self.draw.random() < 0.5:
            self.put(level, "except KeyError:", f"    {name} = {name} + 1")
        else:
            self.put(level, "except Exception:", "    n += 3")
        if self.draw.random() < 0.5:
            self.put(level, "else:", f"    {name} = {name}.sin()")
        self.put(level, "finally:", "    self.calls += 1")
        scope.vectors.append(name)

    def comprehension(self, scope: Scope, level: int) -> None:
        name, v = self.name("l"), self.pick(scope.vectors)
        row = self.name("s")
        self.put(
            level,
            self.pick(
                [
                    f"{name} = [{row} * 2 for {row} in {v} if {row} > {self.number()}]",
                    f"{name} = sorted({v}.tolist())",
                    f"{name} = [a + b for a, b in zip({v}, {v}.flip(0)) if a < b]",
                    f"{name} = list({{i: {row} for i, {row} in enumerate({v}) if {row} > 0}}.values())",
                    f"{name} = [max({v}.tolist()), min({v}.tolist())]",
                ]
            ),
        )
        self.put(level, f"n = n + len({name})", f"s = sum({name}, s)")

    def split(self, scope: Scope, level: int) -> None:
        a, b = self.name("v"), self.name("v")
        v = self.pick(scope.vectors)
        self.put(
            level, f"{a}, {b} = {v} * 1, {v}", f"{a}, *rest = [{a}, {b}, {self.vector(scope)}]"
        )
        self.put(level, f"if {self.test(scope)}:", f"    {a}, {b} = {b}, {a}", "n = n + len(rest)")
        scope.vectors += [a, b]

    def queue(self, scope: Scope, level: int) -> None:
        name, top = self.name("l"), self.name("v")
        self.put(level, f"{name} = [{self.vector(scope)}, {self.vector(scope)}]", "trips = 0")
        self.put(
            level, f"while {name} and trips < 4:", "    trips += 1", f"    {top} = {name}.pop()"
        )
        self.put(
            level + 1,
            f"if {top}.sum() > {self.number()}:",
            f"    {name}.append({top} * 0.5 - 0.25)",
        )
        self.put(level + 1, f"s = s + {top}.mean()")
        self.put(level, "n = n + trips")

    def masked(self, scope: Scope, level: int) -> None:
        v, name = self.pick(scope.vectors), self.name("v")
        self.put(level, f"{name} = {v}[{v} > {self.number()}]", f"if {name}.numel() > 0:")
        self.put(level + 1, f"s = s + {name}.mean()", f"n = n + len({name})")
        if self.draw.random() < 0.4:
            self.put(level, "else:", f"    s = s * {self.number()}")

    def early(self, scope: Scope, level: int) -> bool:
        if scope.in_function or scope.depth or self.draw.random() < 0.5:
            self.put(level, "n += 1")
            return False
        self.put(level, f"if {self.test(scope)}:", f"    return {self.vector(scope)}, n, kept")
        return False


def text_of(seed: int) -> str:
    """The source of the program of ``seed``: a module class ``Subject``."""
    shape = random.Random(seed)
    return ObjectWriter(seed, shape.randint(2, 5), shape.choice([0, 1, 1, 2])).source


def program(seed: int) -> Case:
    """The case of ``seed``."""
    return case_of(seed, module_of(f"objects/p{seed}.py", text_of(seed)))
