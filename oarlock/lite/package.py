"""Write a program as C: header, source, weights, an example, a Makefile."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from oarlock.codegen.c.names import identifier
from oarlock.codegen.lower import Scheduled, schedule
from oarlock.codegen.plan import plan
from oarlock.errors import UserError
from oarlock.ir import Program
from oarlock.ir.archive import PathLike, weights_digest
from oarlock.lite import compile as compilation
from oarlock.lite import example, refuse, targets, weights
from oarlock.lite.compile import Sizes
from oarlock.lite.header import Carried, Interface
from oarlock.lite.ports import Port, ports_of
from oarlock.lite.source import Memory, Source
from oarlock.lite.targets import C99, LiteTarget
from oarlock.lite.weights import Weight
from oarlock.passes.pipeline import optimise
from oarlock.runtime.layout import StatePort
from oarlock.runtime.state import lift_state


@dataclass(frozen=True)
class Package:
    """A written package; sizes are bytes.  ``live_bytes``: no arena can be smaller."""

    folder: Path
    interface: Interface
    target: LiteTarget
    live_bytes: int
    ops: Mapping[str, tuple[str, ...]]  # IR by function

    @property
    def name(self) -> str:
        """The prefix of its files and of its names in C."""
        return self.interface.prefix

    @property
    def arena_bytes(self) -> int:
        return self.interface.arena_bytes

    @property
    def weight_bytes(self) -> int:
        return self.interface.weight_bytes

    @property
    def ports(self) -> Sequence[Port]:
        """Inputs, then outputs."""
        return self.interface.ports

    @property
    def build_line(self) -> str:
        """How the code and the weights are compiled for the target."""
        flags = " ".join([*C99, *self.target.flags])
        return f"{compiler_for(self.target)} {flags} -c {self.name}.c {self.name}_weights.c"

    @cached_property
    def sizes(self) -> Sizes:
        """Sizes once compiled.  Raises: ToolError."""
        compiler = compilation.find(self.target)
        return compilation.measure(self.folder, self.name, self.target, compiler)

    @property
    def total_bytes(self) -> int:
        """Code, tables and weights once compiled.  Raises: ToolError."""
        return self.sizes.text + self.sizes.weights + self.sizes.data

    def compile_example(self, compiler: str | Sequence[str] | None = None) -> Path:
        """Build ``main.c`` in the package's folder; the program.  Raises: ToolError."""
        found = compilation.find(self.target, compiler)
        return compilation.example(self.folder, self.name, self.target, found)

    def to_dict(self) -> dict[str, Any]:
        """What the command line shows.  Raises: ToolError."""
        sizes = self.sizes
        return {
            "folder": str(self.folder),
            "target": f"{self.target.name} ({self.target.code.name})",
            "version": self.interface.version,
            "inputs": [str(p) for p in self.ports if not p.is_output],
            "outputs": [str(p) for p in self.ports if p.is_output],
            "text_bytes": sizes.text,
            "weight_bytes": sizes.weights,
            "arena_bytes": self.arena_bytes,
            "live_bytes": self.live_bytes,
            "needs": list(sizes.needs),
            "functions": sizes.functions,
            "build": self.build_line,
        }


def compiler_for(target: LiteTarget) -> str:
    """A compiler's command for people to start from."""
    return "cc" if target.is_native else f"zig cc -target {target.triple}"


def build(
    program: Program,
    target: str,
    out: PathLike,
    dims: Mapping[str, int] | None = None,
    prefix: str | None = None,
) -> Package:
    """Write ``program`` as C into the folder ``out``.

    Args: target: native, c99 or aarch64-linux; dims: sizes of the dynamic dims, those not named
    are the smallest above 0; prefix: of files and C names, by default the folder's name.
    Raises: UserError, with everything that cannot become C.
    """
    folder, machine = Path(out), targets.get(target)
    name = identifier(prefix or folder.resolve().name).lower()
    fixed, carried = lift_state(refuse.fix_dims(program, dims or {}))
    refuse.check(fixed)
    scheduled = schedule(optimise(fixed), machine.code)
    ports = ports_of(fixed)
    table = weights.table(name, scheduled.buffers.constants)
    memory, live_bytes = _memory(scheduled, ports, table, machine)
    interface = Interface(
        name, f"{machine.name} ({machine.code.name})", _version(program, fixed), ports,
        [_carried(name, program, ports, state, len(fixed.graph.inputs)) for state in carried],
        memory.arena_bytes, memory.alignment, sum(w.array.nbytes for w in table.values()),
    )  # fmt: skip
    source = Source(name, memory, machine.code)
    files = {
        f"{name}.c": source.text(scheduled.steps),
        f"{name}.h": interface.text(),
        **_weight_files(name, [*table.values(), *(c.initial for c in interface.carried)], machine),
        "main.c": example.main_c(interface),
        "Makefile": example.makefile(name, [*C99, *machine.flags], compiler_for(machine)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (folder / file).write_text(text)
    return Package(folder, interface, machine, live_bytes, source.ops)


def _weight_files(name: str, found: Sequence[Weight], machine: LiteTarget) -> dict[str, str]:
    return {
        f"{name}_weights.h": weights.header(name, found),
        f"{name}_weights.c": weights.source(name, found, machine.alignment),
    }


def _version(program: Program, fixed: Program) -> str:
    """Changes with the program, its sizes and its weights."""
    digest = hashlib.sha256(str(fixed).encode())
    digest.update(weights_digest(program.params).encode())
    return digest.hexdigest()[:16]


def _memory(
    scheduled: Scheduled, ports: Sequence[Port], table: Mapping[int, Weight], machine: LiteTarget
) -> tuple[Memory, int]:
    """Where everything is, and the most bytes alive at once."""
    metadata = {"dims": [], "buffers": scheduled.buffers.entries()}
    placed = plan(metadata, {}, machine.alignment)
    scratch = scheduled.scratch_bytes
    if not isinstance(scratch, int):
        raise UserError(f"scratch of {scratch} bytes: its size is not fixed")
    total = placed.arena_bytes + -(-scratch // machine.alignment) * machine.alignment
    memory = Memory(
        ports, placed.offsets, table, placed.arena_bytes, total, machine.alignment
    )  # fmt: skip
    return memory, placed.live_bytes + total - placed.arena_bytes


def _carried(
    name: str, program: Program, ports: Sequence[Port], state: StatePort, inputs: int
) -> Carried:
    initial = np.asarray(program.params[state.name])
    before, after = ports[state.input], ports[inputs + state.output]
    return Carried(before, after, Weight(f"{name}_initial_{before.name}", initial))
