"""Rewrites as text: ``NAME.txt`` holds cases of the stage NAME.

A case is a line ``== title``, a program without its first line, and ``=>`` before what it becomes,
or ``unchanged`` in its place.  Params hold random numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from oarlock.ir import Program, parser
from oarlock.ir.op import Sample
from oarlock.passes.stage import get
from tests.samples import draw

FOLDER = Path(__file__).parent
HEADER = "oarlock 1\n"
UNCHANGED = "unchanged"


@dataclass
class Rewrite:
    """A case; ``after`` is None when nothing changes."""

    stage: str
    title: str
    before: str
    after: str | None

    def program(self) -> Program:
        """The program before."""
        program = parser.parse(HEADER + self.before)
        types = {n.op.key: n.op.type for n in program.graph.walk() if n.name == "param"}
        params = draw(list(types.values()), Sample((), low=0.5), 1)
        return program.replace(params=dict(zip(types, params)))

    def run(self, program: Program) -> Program:
        return get(self.stage)(program)

    def show(self, program: Program) -> str:
        return str(program).removeprefix(HEADER).strip()


def read(path: Path) -> list[Rewrite]:
    """The cases of a file."""
    found = []
    for block in path.read_text().split("== ")[1:]:
        title, _, rest = block.partition("\n")
        before, arrow, after = rest.partition("\n=>\n")
        if not arrow:
            before, _, _ = rest.rpartition(f"\n{UNCHANGED}")
        found.append(Rewrite(path.stem, title, before.strip(), after.strip() if arrow else None))
    return found


def write(path: Path, cases: list[Rewrite]) -> None:
    """The file with what every case becomes now."""
    path.write_text("\n".join(_block(case) for case in cases))


def _block(case: Rewrite) -> str:
    program = case.program()
    before, after = case.show(program), case.show(case.run(program))
    end = f"\n{UNCHANGED}\n" if before == after else f"\n=>\n{after}\n"
    return f"== {case.title}\n{before}{end}"


def files() -> Iterator[Path]:
    yield from sorted(FOLDER.glob("*.txt"))
