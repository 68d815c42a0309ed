"""Random programs over sizes, as source text: tensors are cut, pooled, stacked and split, and the
sizes, lengths, axes and strides of what comes out are read, looped over and decided on.

Eager defines what is right; a call that fails in eager mode has to fail the same way.
"""

from __future__ import annotations

import random

import torch

from tests.constructs.case import Case, module_of

HEADER = """\
import torch
import torch.nn.functional as F


class Subject(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(0.5))
        self.register_buffer("total", torch.tensor(0.0))
        self.seen = 0

    def forward(self, x, y):
"""
# from a vector, another one
CUTS = [
    "{v}[::{k}]", "{v}[{k}:]", "{v}[:-{k}]", "{v}[: {v}.shape[0] // {k}]", "{v}[:{k}]",
    "{v}[-{k}:]", "{v}[: max(1, len({v}) - {k})]", "{v}[min({k}, len({v}) - 1) :]",
    "F.max_pool1d({v}[None], {k}, ceil_mode=True)[0]", "F.avg_pool1d({v}[None], {k}, 1)[0]",
    "F.pad({v}, ({k}, 0))", "F.adaptive_avg_pool1d({v}[None], {k})[0]",
    "F.conv1d({v}[None, None], torch.ones(1, 1, {k}), stride={k})[0, 0]",
    "{v}.unfold(0, {k}, {k}).sum(-1)", "{v}.unfold(0, {k}, 1)[0]", "{v}.repeat({k})",
    "torch.cat([{v}, {w}])", "torch.cat([{v}[: {k}], {w}])", "{v}.chunk({k})[-1]",
    "{v}.split({k})[0]", "{v}.split({k})[-1]", "torch.tensor_split({v}, {k})[0]",
    "{v}.view(-1, 1).expand(-1, {k}).reshape(-1)", "torch.outer({v}, {w}).flatten()[::{k}]",
    "{v}.roll({k})", "{v}.topk(min({k}, {v}.size(0))).values", "{v}.narrow(0, 0, min({k}, len({v})))",
    "{v}[torch.arange(0, {v}.shape[0], {k})]", "torch.arange({v}.shape[0]) * 0.1",
    "torch.ones(len({v}) // {k})", "torch.zeros({n} % 5 + 1)", "torch.linspace(0, 1, {n} % 7 + 1)",
    "torch.stack([{v}, {v} * 2])[:, ::{k}].reshape(-1)", "{v}.cumsum(0)", "{v} * 2 - 1",
    "{v}[: {v}.shape[0] // 2 * 2].view(2, -1).sum(0)", "{v}[: len({v}) // {k} * {k}].view(-1, {k}).mean(1)",
    "torch.triu({v}[:, None] * {v}[None])[0]", "F.interpolate({v}[None, None], scale_factor=0.5)[0, 0]",
    "{v}.squeeze().reshape(-1)", "torch.atleast_1d({v}[:{k}].squeeze())", "{v}.flip(0)[::{k}]",
]  # fmt: skip
# from a vector, a number
READS = [
    "{v}.shape[0]", "{v}.size(0)", "{v}.size(-1)", "len({v})", "{v}.numel()", "{v}.shape.numel()",
    "len({v}.split({k}))", "len({v}.chunk({k}))", "{v}.unfold(0, {k}, {k}).shape[0]",
    "{v}[::{k}].stride(0)", "{v}.view(1, -1)[:, ::{k}].stride(0)", "{v}[: {k}].squeeze().dim()",
    "{v}[::{k}].squeeze().ndim", "int({v}[::{k}].is_contiguous())", "sum(1 for _ in {v})",
    "len({v}.tolist())", "len(list({v}[::{k}]))", "{v}[None].shape[-1]", "torch.outer({v}, {w}).shape[1]",
    "max({v}.shape[0], {w}.shape[0])", "abs(len({v}) - len({w}))", "len({v}) // {k}", "len({v}) % {k}",
    "len([*zip({v}, {w})])", "tuple({v}[::{k}].shape)[0]", "{v}.nelement() - {k}", "{n} + {k}", "{n} // {k}",
]  # fmt: skip
TESTS = ["{n} > {k}", "{n} % 2 == 0", "len({v}) == len({w})", "{v}.shape == {w}.shape",
         "{v}.sum() > {w}.sum()", "{v}.shape[0] < {w}.size(0) + {k}"]  # fmt: skip


class Writer:
    """Draws one program; ``source`` is its text."""

    def __init__(self, seed: int, statements: int = 6) -> None:
        self.draw, self.fresh, self.lines = random.Random(seed), 0, []
        self.vectors, self.numbers = ["x", "y"], ["n"]
        self.put(2, "n = x.shape[0]", "kept = []")
        for _ in range(statements):
            self.statement(2)
        numbers = [f"self.scale * {n}" for n in self.numbers[-3:]]
        vectors = [f"{v} * self.scale" for v in self.vectors[-3:]]
        self.put(2, f"return {', '.join([*numbers, *vectors])}, kept")
        self.source = HEADER + "\n".join(self.lines) + "\n"

    def put(self, level: int, *lines: str) -> None:
        self.lines += ["    " * level + line for line in lines]

    def text(self, forms: list[str]) -> str:
        pick = self.draw.choice
        return pick(forms).format(
            v=pick(self.vectors),
            w=pick(self.vectors),
            n=pick(self.numbers),
            k=pick([1, 2, 2, 3, 4]),
        )

    def name(self, stem: str) -> str:
        self.fresh += 1
        return f"{stem}{self.fresh}"

    def statement(self, level: int) -> None:
        kinds = [self.cut, self.cut, self.read, self.read, self.update]
        if level == 2:
            kinds += [self.branch, self.loop, self.rows]
        self.draw.choice(kinds)(level)

    def cut(self, level: int) -> None:
        text, name = self.text(CUTS), self.name("v")
        self.put(level, f"{name} = {text}")
        if level == 2:
            self.vectors.append(name)

    def read(self, level: int) -> None:
        text, name = self.text(READS), self.name("n")
        self.put(level, f"{name} = {text}")
        if level == 2:
            self.numbers.append(name)

    def update(self, level: int) -> None:
        n, v = self.draw.choice(self.numbers), self.draw.choice(self.vectors)
        self.put(level, self.draw.choice([
            f"self.seen = {n}", f"self.total += {n}", f"kept.append({v} * {n})",
            f"kept.append({n})", f"kept.append(self.total + {n})",
        ]))  # fmt: skip

    def branch(self, level: int) -> None:
        test, name = self.text(TESTS), self.name("v")
        self.put(level, f"if {test}:", f"    {name} = {self.text(CUTS)}", "else:",
                 f"    {name} = {self.text(CUTS)}")  # fmt: skip
        self.vectors.append(name)

    def loop(self, level: int) -> None:
        v, name, n = self.draw.choice(self.vectors), self.name("v"), self.draw.choice(self.numbers)
        trips = self.draw.choice(
            ["2", f"{n} % 3", f"len({v}) % 4", "int(x.sum().abs().item()) % 3"]
        )
        self.put(level, f"{name} = {v}", f"for i in range({trips}):")
        step = self.draw.choice(
            ["{w} * 2 + i", "{w} + len({w})", "{w} / {w}.shape[0]", "{w}[: 3] + i"]
        )
        self.put(level + 1, f"{name} = {step.format(w=name)}")
        self.vectors.append(name)

    def rows(self, level: int) -> None:
        name, total = self.text(CUTS), self.name("n")
        self.put(level, f"{total} = torch.zeros(())", f"for i, row in enumerate({name}):")
        self.put(level + 1, f"{total} = {total} + row * (i + 1)")
        self.numbers.append(f"{total}.numel()")
        self.put(level, f"kept.append({total})")


def sizes(seed: int, calls: int = 6) -> list[tuple[int, int]]:
    """Of both arguments, near each other at first, that rounding meets sizes that are one by chance."""
    draw = random.Random(seed)
    first, second = draw.randint(1, 6), draw.randint(1, 6)
    found = [(first, second), (first + draw.choice([-1, 1]), second + draw.choice([0, 0, 1]))]
    found += [(draw.randint(1, 9), draw.randint(1, 9)) for _ in range(calls - 2)]
    return [(max(1, m), max(1, n)) for m, n in found]


def program(seed: int) -> Case:
    """The case of ``seed``: calls of random data and sizes, each with a capture of its own at most."""
    module = module_of(f"random/sizes{seed}.py", Writer(seed).source)
    values = torch.Generator().manual_seed(seed)
    calls = [
        (torch.randn(m, generator=values), torch.randn(n, generator=values)) for m, n in sizes(seed)
    ]
    return Case(
        f"sizes{seed}", module.Subject, tuple(calls), module.__file__, (), namespace=vars(module),
        every_line=False, captures=len(calls),
    )  # fmt: skip
