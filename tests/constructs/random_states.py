"""Random modules with state of every kind, as source text; ``random_calls`` calls them.

Attributes, buffers, counters, lists, dicts, tuples, objects, closures and globals are read and
changed by forwards that are straight lines, branches and loops over tensors with sizes of their own.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

HEADER = """\
import collections
import dataclasses

import torch
import torch.nn.functional as F

SCALE = 1.5
COUNTER = 0
TABLE = {"a": torch.tensor([0.5, -0.5, 0.25, 1.0]), "b": torch.tensor([1.0, 0.0, 0.0, -1.0])}
CONFIG = {"scale": 0.75, "k": 1, "mode": "sum"}
HISTORY = []


@dataclasses.dataclass
class State:
    h: torch.Tensor
    n: int = 0


def made_counter():
    count, last = 0, None

    def counter(x):
        nonlocal count, last
        count += 1
        given, last = last, x.detach()
        return x if given is None or given.shape != x.shape else x + given * 0.5

    return counter


remember = made_counter()


class Base(torch.nn.Module):
    factor = 2.0
    order = ("low", "high")

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.lin = torch.nn.Linear(4, 4)
        self.norm = torch.nn.BatchNorm1d(4)
        self.drop = torch.nn.Dropout(0.25)
        self.act = torch.nn.Tanh()
        self.parts = torch.nn.ModuleList([torch.nn.Linear(4, 4), torch.nn.ELU()])
        self.mix = torch.nn.Parameter(torch.randn(4, 4) * 0.3)
        self.bias = torch.nn.Parameter(torch.randn(4) * 0.1)
        self.register_buffer("level", torch.tensor(0.25))
        self.register_buffer("total", torch.zeros(4))
        self.register_buffer("steps", torch.tensor(0))
        self.count, self.rate, self.flag, self.mode = 0, 0.5, True, "low"
        self.queue, self.cache, self.seen = [], {}, {"low": 1}
        self.recent = collections.deque(maxlen=2)
        self.hidden = self.last = None
        self.pair = (torch.zeros(4), torch.ones(4))
        self.state = State(torch.zeros(4))

    def helper(self, m):
        return m * self.factor + self.level

    def extra(self, m, n):
        self.count += n
        return m.mean(0) * n


class Derived(Base):
    factor = 0.5

    def helper(self, m):
        return super().helper(m).tanh() + self.bias


"""

M = [
    "{m} + {m}", "{m} * {f}", "{m} @ self.mix", "torch.tanh({m}) + {r}", "self.lin({m})",
    "self.norm({m})", "self.drop({m})", "{m}.softmax(-1)", "{m}.softmax(0)", "{m} - {m}.mean(0)",
    "{m}.flip(0)", "{m}.cumsum(0).tanh()", "torch.where({m} > {s}, {m}, {m})", "{m} * {v}[:, None]",
    "{m}.roll(1, 0)", "{m}.reshape(-1).view({m}.shape)", "{m}.T.contiguous().T",
    "torch.cat([{m}[1:], {m}[:1]])", "torch.stack([{v}] * 4, 1)", "{m}.masked_fill({m} > 0.5, 0.0)",
    "{m}[{v}.argsort()]", "{m}.clamp(-1, 1)", "{m}.repeat(2, 1)[: {m}.shape[0]]", "{r}.expand_as({m})",
    "torch.rand_like({m})", "{m} + torch.randn({m}.shape[0], 4)", "F.dropout({m}, 0.3, self.training)",
    "F.layer_norm({m}, (4,))", "({m} if self.training else {m})", "{m} * self.rate",
    "{m} / {m}.shape[0]", "{m} * {i}", "{m}.detach()", "self.helper({m})", "self.act({m})",
    "remember({m})", "self.parts[{i} % 2]({m})", "({m} if {test} else {m})", "{m}.clone()", "{m}",
    "{m}.view(-1, 2, 2).transpose(1, 2).reshape(-1, 4)", "F.pad({m}, (1, 0))[:, :4]",
    "torch.einsum('nc,c->nc', {m}, {r})", "F.scaled_dot_product_attention({m}[None], {m}[None], {m}[None])[0]",
    "{m}.sort(0).values", "sum([{m}, {m}, {m}])", "max([{m}, {m}], key=lambda t: t.shape[0])",
]  # fmt: skip
V = [
    "{m}.sum(1)", "{m}[:, 0]", "{m}.amax(1)", "{m} @ {r}", "torch.arange({m}.shape[0]) * {f}",
    "{v} + {v}", "{v}.sort().values", "torch.zeros({m}.shape[0])", "{v}.cumsum(0)", "{m}.norm(dim=1)",
    "torch.linspace(0, 1, {m}.shape[0])", "torch.full(({m}.size(0),), {f})", "{v} * {s}", "{v}.tanh()",
    "torch.rand({m}.shape[0])", "torch.stack([row.sum() for row in {m}])", "{v}.new_ones(len({m}))",
]  # fmt: skip
R = [
    "{m}.mean(0)", "{m}[0]", "{m}[-1]", "self.bias", "TABLE['a']", "TABLE['b']", "{r} * {f}",
    "{m}.amax(0)", "self.total", "self.pair[0]", "self.pair[1] + {s}", "self.state.h",
    "self.mix[{i} % 4]", "self.extra({m}, {i})", "{r}.flip(0)", "{v}.sum() * {r}",
    "sum(self.queue, {r})", "self.cache.get({i}, {r})", "{m}[{i} % {m}.shape[0]]",
]  # fmt: skip
S = [
    "{m}.mean()", "{r}.sum()", "{v}.amax()", "{v}[0]", "self.level", "{r}[{i} % 4]",
    "torch.tensor({f})", "({m} > {f}).sum()", "{s} * {f}", "self.steps * {s}", "{m}.std()",
    "torch.stack([{s}, {s}]).amax()", "{s}.tanh()", "torch.rand(())",
]  # fmt: skip
I = [
    "{m}.shape[0]", "len({v})", "self.count", "{m}.dim()", "{i} + 1", "{i} % 3", "len(self.queue)",
    "{m}.numel()", "CONFIG['k']", "self.state.n", "COUNTER", "len(HISTORY)", "len(self.cache)",
    "self.seen.get(self.mode, 0)", "self.order.index(self.mode)", "int(self.training)", "2",
    "min({i}, 3)", "len(self.recent)",
]  # fmt: skip
FLOATS = [
    "0.5", "self.rate", "CONFIG['scale']", "scale", "{i} * 0.25", "float({i})", "1.0 / (1 + {i})",
    "SCALE", "self.factor", "-0.75", "max({f}, {f})", "abs({f})",
]  # fmt: skip
TESTS = [
    "{i} > {i}", "{i} % 2 == 0", "self.training", "self.flag", "self.mode == 'low'", "{s} > {f}",
    "({m} > {f}).any()", "self.hidden is None", "{m}.shape[0] > 3", "{f} > 0.6", "y is None",
    "x.requires_grad", "torch.is_grad_enabled()", "x.dtype == torch.float32", "x is y",
    "{i} in self.cache", "self.mode in self.seen", "self.queue", "not flag", "x.is_contiguous()",
    "self.last is x", "{s}.item() < {f}", "self.level > 0.3 and {i} > 1", "isinstance({m}, torch.Tensor)",
    "{m}.shape == {m}.shape", "hasattr(self, 'more')", "len(self.recent) == 2", "torch.equal({r}, {r})",
]  # fmt: skip
CHANGES = [
    "self.count += 1", "self.count = (self.count + {i}) % 7", "self.rate = self.rate * 0.9",
    "self.flag = not self.flag", "self.mode = 'high' if {test} else 'low'",
    "self.queue.append(({r}).detach())", "self.queue = self.queue[-1:] + [({r}).detach()]",
    "self.hidden = ({m}).detach()", "self.hidden = None", "self.last = x", "self.last = {m}",
    "self.level.mul_(0.9).add_(({s}).detach() * 0.1)", "self.level = self.level * 0.9",
    "self.total += ({r}).detach()", "self.total[{i} % 4] += 1", "self.steps += 1",
    "self.seen[self.mode] = self.seen.get(self.mode, 0) + 1", "self.cache[{i}] = ({r}).detach()",
    "self.pair = (({r}).detach(), self.pair[0])", "self.pair = self.pair[::-1]",
    "self.state.n += 1", "self.state = State(({r}).detach(), self.state.n + 1)",
    "self.state = dataclasses.replace(self.state, n={i})", "self.state.h = self.state.h * 0.5",
    "self.recent.append(({s}).detach())", "HISTORY.append({i})", "TABLE['a'] = TABLE['a'] * 0.9",
    "TABLE['b'].add_(0.1)", "CONFIG['k'] += 1", "CONFIG['scale'] = {f}", "self.cache.clear()",
    "setattr(self, 'more', {i})", "self.seen.update(low={i})", "self.cache.pop({i}, None)",
]  # fmt: skip
KINDS = {"m": M, "v": V, "r": R, "s": S, "i": I, "f": FLOATS}


@dataclass
class Names:
    """Bound names by kind."""

    m: list[str] = field(default_factory=lambda: ["x", "y", "z"])
    v: list[str] = field(default_factory=lambda: ["w"])
    r: list[str] = field(default_factory=lambda: ["self.bias"])
    s: list[str] = field(default_factory=lambda: ["s", "self.level"])
    i: list[str] = field(default_factory=lambda: ["n", "self.count"])
    f: list[str] = field(default_factory=lambda: ["scale", "0.5", "self.rate"])

    def inner(self) -> Names:
        return Names(*(list(getattr(self, kind)) for kind in KINDS))


class StateWriter:
    """Draws one module; ``source`` is its text, with a class ``Subject`` that takes a seed."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.lines: list[str] = []
        self.fresh = 0
        self.in_loop = False
        self.forward()
        base = self.draw.choice(["Base", "Derived", "Derived"])
        body = "\n".join(self.lines)
        self.source = f"{HEADER}class Subject({base}):\n{body}\n"

    def forward(self) -> None:
        names = Names()
        self.put(1, "def forward(self, x, y=None, *, scale=0.5, flag=False):")
        self.put(2, *self.some(["global COUNTER"]))
        if self.lines[-1].endswith("COUNTER"):
            self.put(2, "COUNTER += 1")
        if self.draw.random() < 0.3:
            early = Names(m=["x"], v=["x.sum(1)"], s=["self.level"], i=["self.count"])
            self.change(early, 2, 0)
        self.put(2, "if y is None:", "    y = x * 0.5" if self.draw.random() < 0.7 else "    y = x")
        self.put(2, "z, w, s, n = x + y, x.sum(1), y.mean(), 0")
        for _ in range(self.draw.randint(2, 7)):
            self.statement(names, 2, 0)
        self.put(2, f"return {self.result(names)}")

    def result(self, names: Names) -> str:
        found = ["z", "s", *self.some([*names.m, *names.v, *names.r, *names.s, "n"])]
        found += self.some(["self.hidden", "self.level", "self.total", "x", "self.count"])
        if self.draw.random() < 0.3:
            return "{" + ", ".join(f"'{i}': {v}" for i, v in enumerate(found)) + "}"
        return ", ".join(found)

    def put(self, level: int, *lines: str) -> None:
        self.lines += ["    " * level + line for line in lines]

    def some(self, names: list[str]) -> list[str]:
        return [n for n in names if self.draw.random() < 0.25]

    def made(self, text: str, names: Names, depth: int = 0) -> str:
        """``text`` with names, and now and then expressions, in its places."""
        while "{" in text:
            start, end = text.index("{"), text.index("}")
            kind = text[start + 1 : end]
            text = text[:start] + self.part(kind, names, depth) + text[end + 1 :]
        return text

    def part(self, kind: str, names: Names, depth: int) -> str:
        if kind == "test":
            return f"({self.made(self.draw.choice(TESTS), names, depth + 1)})"
        if depth < 2 and self.draw.random() < (0.4 if kind in "vrif" else 0.15):
            return f"({self.made(self.draw.choice(KINDS[kind]), names, depth + 1)})"
        return self.draw.choice(getattr(names, kind))

    def name(self, kind: str) -> str:
        self.fresh += 1
        return f"{kind}{self.fresh}"

    def statement(self, names: Names, level: int, depth: int) -> None:
        plain = [self.assign, self.assign, self.again, self.change, self.change, self.use]
        nested = [
            self.branch,
            self.branch,
            self.loop,
            self.rows,
            self.while_,
            self.around,
            self.tries,
        ]
        nested += [self.items, self.fails, self.in_place]
        self.draw.choice(plain + (nested if depth < 2 else []))(names, level, depth)

    def assign(self, names: Names, level: int, depth: int) -> None:
        kind = self.draw.choice("mmmvrsi")
        text, name = self.made(self.draw.choice(KINDS[kind]), names), self.name(kind)
        self.put(level, f"{name} = {text}")
        getattr(names, kind).append(name)

    def again(self, names: Names, level: int, depth: int) -> None:
        name, kind = self.draw.choice(
            [("z", "m"), ("y", "m"), ("x", "m"), ("s", "s"), ("n", "i"), ("w", "v")]
        )
        self.put(level, f"{name} = {self.made(self.draw.choice(KINDS[kind]), names)}")

    def change(self, names: Names, level: int, depth: int) -> None:
        self.put(level, self.made(self.draw.choice(CHANGES), names))

    def use(self, names: Names, level: int, depth: int) -> None:
        """What an earlier call has left."""
        self.put(
            level,
            *self.draw.choice(
                [
                    ("if self.hidden is not None and self.hidden.shape == z.shape:", "    z = z + self.hidden * 0.5"),
                    ("if len(self.queue) > 2:", "    z = z + self.queue.pop(0)"),
                    ("for old in self.queue:", "    s = s + old.mean()"),
                    ("for key, old in self.cache.items():", "    s = s + old.sum() * key"),
                    ("if self.last is not None and self.last.shape[0] == z.shape[0]:", "    z = z * self.last"),
                    ("z = z + self.pair[0]", "n += self.state.n"),
                    ("if n in self.cache:", "    z = z - self.cache[n]", "else:", "    self.cache[n] = z.mean(0).detach()"),
                    ("for old in self.recent:", "    s = s * 0.5 + old"),
                    ("n += sum(self.seen.values())",),
                    ("z = {'low': torch.sin, 'high': torch.cos}[self.mode](z)",),
                ]
            ),
        )  # fmt: skip

    def branch(self, names: Names, level: int, depth: int) -> None:
        self.put(level, f"if {self.made('{test}', names)}:")
        self.block(names, level + 1, depth)
        if self.draw.random() < 0.5:
            self.put(level, "else:")
            self.block(names, level + 1, depth)

    def block(self, names: Names, level: int, depth: int) -> None:
        inner = names.inner()
        for _ in range(self.draw.randint(1, 2)):
            self.statement(inner, level, depth + 1)

    def loop(self, names: Names, level: int, depth: int) -> None:
        i = self.name("i")
        self.put(level, f"for {i} in range({self.made('{i}', names)} % 4):")
        inner = names.inner()
        inner.i.append(i)
        self.looped(inner, level, depth)

    def rows(self, names: Names, level: int, depth: int) -> None:
        row = self.name("r")
        self.put(level, f"for {row} in {self.made('{m}', names, 2)}:")
        inner = names.inner()
        inner.r.append(row)
        self.looped(inner, level, depth)

    def while_(self, names: Names, level: int, depth: int) -> None:
        i = self.name("i")
        self.put(
            level, f"{i} = 0", f"while {i} < 3 and {self.made('{test}', names)}:", f"    {i} += 1"
        )
        self.looped(names, level, depth)

    def items(self, names: Names, level: int, depth: int) -> None:
        key, value = self.name("k"), self.name("r")
        over = self.draw.choice(["TABLE", "{'p': self.bias, 'q': self.total}"])
        self.put(level, f"for {key}, {value} in {over}.items():")
        inner = names.inner()
        inner.r.append(value)
        self.looped(inner, level, depth)

    def looped(self, names: Names, level: int, depth: int) -> None:
        self.block(names, level + 1, depth)
        if self.draw.random() < 0.25:
            jump = self.draw.choice(["break", "continue"])
            self.put(level + 1, f"if {self.made('{test}', names)}:", f"    {jump}", "n += 1")

    def around(self, names: Names, level: int, depth: int) -> None:
        mode = self.draw.choice(
            ["torch.no_grad()", "torch.enable_grad()", "torch.set_grad_enabled(self.flag)"]
        )
        self.put(level, f"with {mode}:")
        self.block(names, level + 1, depth)

    def tries(self, names: Names, level: int, depth: int) -> None:
        self.put(level, "try:")
        self.block(names, level + 1, depth)
        self.put(level + 1, f"if {self.made('{test}', names)}:", "    raise ValueError('low', n)")
        self.put(level, "except ValueError as error:", "    n += len(error.args)")
        self.block(names, level + 1, depth)
        if self.draw.random() < 0.3:
            self.put(level, "finally:", f"    {self.made(self.draw.choice(CHANGES), names)}")

    def fails(self, names: Names, level: int, depth: int) -> None:
        """An error that ends some calls, after what they have changed."""
        test = self.draw.choice(
            ["{s} > 1.5", "self.count > 6", "{m}.shape[0] > 5", "len(HISTORY) > 9"]
        )
        self.put(
            level,
            f"if {self.made(test, names)}:",
            "    raise RuntimeError(f'too much: {self.mode}')",
        )

    def in_place(self, names: Names, level: int, depth: int) -> None:
        target = self.draw.choice(["x", "y", "z", "z", "self.hidden"])
        self.put(level, "with torch.no_grad():")
        change = self.draw.choice(
            ["mul_(0.5)", "add_({r})", "clamp_(-1, 1)", "copy_({m})", "t_().t_()", "neg_()"]
        )
        if target == "self.hidden":
            self.put(level + 1, "if self.hidden is not None:")
            level += 1
        elif target == "z":
            self.put(level + 1, "z = z.clone()")
        self.put(level + 1, f"{target}.{self.made(change, names)}")


def text_of(seed: int) -> str:
    """The source of the module of ``seed``."""
    return StateWriter(seed).source
