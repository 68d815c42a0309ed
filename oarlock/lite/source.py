"""The C file of a package: kernels as plain functions of pointers, one entry that calls them.

Sizes, offsets and the order of calls are constants.  Kernels whose code is the same are one
function, whatever buffers and weights they are called with.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from oarlock.codegen import loops as L
from oarlock.codegen.buffers import Place
from oarlock.codegen.c.names import scalar_name
from oarlock.codegen.c.prelude import Prelude
from oarlock.codegen.c.printer import Printer, functions_of, unused
from oarlock.codegen.kernel import Kernel
from oarlock.codegen.prune import names_in, prune
from oarlock.codegen.schedule import Branch, Copy, Launch, Loop, Step
from oarlock.codegen.target import Target
from oarlock.errors import CompilerBug
from oarlock.lite.ports import Port
from oarlock.lite.weights import Weight


@dataclass(frozen=True)
class Memory:
    """Where everything is: ``offsets`` by buffer, None for a port; ``weights`` by offset."""

    ports: Sequence[Port]
    offsets: Sequence[int | None]
    weights: Mapping[int, Weight]
    scratch: int  # offset of the scratch in the arena
    arena_bytes: int
    alignment: int

    @property
    def arguments(self) -> str:
        """What nested functions are called with."""
        return ", ".join(["arena", *(p.name for p in self.ports)])

    @property
    def parameters(self) -> str:
        return ", ".join(["char *arena", *(p.parameter for p in self.ports)])

    def pointer(self, place: Place, type: str, const: str = "const ") -> str:
        """A pointer to ``type`` at a place."""
        cast = f"({const}{type} *)({const}void *)"
        if place.buffer is None:
            weight = self.weights[place.offset]
            fits = weight.scalar == type
            return f"{weight.name}.values" if fits else f"{cast}{weight.name}.values"
        offset = self.offsets[place.buffer]
        if offset is None:
            port = self.ports[place.buffer]
            return port.name if port.scalar == type else f"{cast}{port.name}"
        return self.arena(offset, type, const)

    def arena(self, offset: int, type: str, const: str = "const ") -> str:
        """A pointer into the arena."""
        return f"({const}{type} *)({const}void *)(arena + {offset})"


@dataclass
class Source:
    """The text of one package's ``.c`` file in the making."""

    prefix: str
    memory: Memory
    target: Target
    functions: dict[str, str] = field(default_factory=dict)  # text by name, in order
    kernels: dict[str, str] = field(default_factory=dict)  # name by text
    counts: dict[str, int] = field(default_factory=dict)
    ops: dict[str, tuple[str, ...]] = field(default_factory=dict)  # names by function

    def __post_init__(self) -> None:
        self.printer = Printer(Prelude(self.target))

    def text(self, steps: Sequence[Step]) -> str:
        """The file.  Raises: CompilerBug."""
        entry = self._entry(steps)
        head = [
            f'#include "{self.prefix}.h"',
            f'#include "{self.prefix}_weights.h"\n',
            "#if defined(__GNUC__)",
            "#define OL_KERNEL static __attribute__((noinline))",
            "#else",
            "#define OL_KERNEL static",
            "#endif",
        ]
        return "\n".join([*head, self.printer.prelude.text(), *self.functions.values(), entry])

    def _entry(self, steps: Sequence[Step]) -> str:
        body = self._block(steps, 1)
        names = [p.name for p in self.memory.ports if p.elements]
        missing = [f"!{name}" for name in names]
        if self.memory.arena_bytes:
            align = f"{self.prefix.upper()}_ARENA_ALIGN"
            missing = [*missing, "!arena", f"(uintptr_t)arena % {align} != 0"]
        unused = [f"  (void){p.name};" for p in self.memory.ports if not p.elements]
        refuse = f"  if ({' || '.join(missing)}) return {self.prefix.upper()}_ARGUMENT;"
        arena = ["  char *const arena = memory;" if self.memory.arena_bytes else "  (void)memory;"]
        if not self.memory.arena_bytes and re.search(r"\barena\b", body):
            arena.append("  char *const arena = 0;")
        return "\n".join(
            [
                f"{entry_signature(self.prefix, self.memory.ports)} {{",
                *arena,
                *([refuse] if missing else []),
                *unused,
                *([] if "status" not in body else ["  int32_t status = 0;"]),
                body,
                f"  return {self.prefix.upper()}_OK;",
                "}\n",
            ]
        )

    def _block(self, steps: Sequence[Step], depth: int) -> str:
        pad = "  " * depth
        return "\n".join(f"{pad}{line}" for step in steps for line in self._step(step))

    def _step(self, step: Step) -> Iterator[str]:
        if isinstance(step, Launch):
            yield from self._launch(step)
        elif isinstance(step, Copy):
            if step.size:
                target = self.memory.pointer(step.target, "char", "")
                source = self.memory.pointer(step.source, "char")
                yield f"__builtin_memcpy({target}, {source}, {step.size}u);"
        elif isinstance(step, Branch):
            then, other = (
                self._nested("steps", self._block(s, 1)) for s in (step.then, step.other)
            )
            chosen, args = self._flag(step.predicate), self.memory.arguments
            yield f"status = {chosen} ? {then}({args}) : {other}({args});"
            yield "if (status) return status;"
        elif isinstance(step, Loop):
            yield f"status = {self._while(step)}({self.memory.arguments});"
            yield "if (status) return status;"
        else:
            raise CompilerBug("a host call in a package")

    def _flag(self, place: Place) -> str:
        return f"*{self.memory.pointer(place, 'uint8_t')}"

    def _while(self, step: Loop) -> str:
        before = self._block(step.before, 1)
        condition, body = self._block(step.condition, 2), self._block(step.body, 2)
        test = f"    if (!{self._flag(step.predicate)}) break;"
        lines = [before, "  for (;;) {", condition, test, body, "  }"]
        return self._nested("loop", "\n".join(line for line in lines if line))

    def _nested(self, hint: str, body: str) -> str:
        name = self._fresh(hint)
        unused = [f"(void){name};" for name in self.memory.arguments.split(", ")]
        self.functions[name] = "\n".join(
            [
                f"static int32_t {name}({self.memory.parameters}) {{",
                *(["  int32_t status = 0;"] if "status" in body else []),
                *([body] if body else []),
                f"  {' '.join(unused)}",
                "  return 0;",
                "}\n",
            ]
        )
        return name

    def _launch(self, step: Launch) -> Iterator[str]:
        kernel = step.kernel
        if kernel.extent == 0:
            return
        call = _call(self._function(kernel), list(self._arguments(step)))
        where = next(reversed([str(n.origin) for n in kernel.nodes if str(n.origin)]), "")
        if where:
            yield f"/* {where.replace('*/', '* /')} */"
        if can_fail(kernel.function):
            yield f"status = {call};"
            yield "if (status) return status;"
        else:
            yield f"{call};"

    def _arguments(self, step: Launch) -> Iterator[str]:
        for p in step.kernel.function.pointers:
            const = "" if p.written else "const "
            if p.source == "scratch":
                offset = L.number_of(L.index(p.offset))
                assert isinstance(offset, int)
                yield self.memory.arena(self.memory.scratch + offset, scalar_name(p.dtype), const)
            else:
                yield self.memory.pointer(step.addresses[p.name], scalar_name(p.dtype), const)

    def _function(self, kernel: Kernel) -> str:
        """The name of a kernel's function, written when no kernel before had this code."""
        for helper in list(functions_of(kernel.function))[:-1]:
            text = self.printer.function(helper)
            if self.functions.setdefault(helper.name, text) != text:
                raise CompilerBug(f"two helpers are called {helper.name}")
        code = self._code(kernel)
        if code not in self.kernels:
            name = self.kernels[code] = self._fresh(f"k_{kernel.name}")
            comment = kernel.function.comment.splitlines()
            lines = [f"/* {line.replace('*/', '* /')} */" for line in comment]
            self.ops[name] = tuple(n.name for n in kernel.nodes)
            self.functions[name] = "\n".join([*lines, code.replace("(", f" {name}(", 1)])
        return self.kernels[code]

    def _code(self, kernel: Kernel) -> str:
        """The function without its name and comment."""
        f = kernel.function
        body = prune(f.body)
        used = set(names_in(body))
        parameters = ", ".join(self.printer.pointer(p) for p in f.pointers) or "void"
        fails = can_fail(f)
        values = {"begin": "0", "end": str(kernel.extent), "tid": "0"}
        types = {"tid": "int32_t"}
        return "\n".join(
            [
                f"OL_KERNEL {'int32_t' if fails else 'void'}({parameters}) {{",
                *(
                    f"  const {types.get(k, 'int64_t')} {k} = {v};"
                    for k, v in values.items()
                    if k in used
                ),
                *(f"  {line}" for line in unused([p.name for p in f.pointers], used)),
                *self.printer.block(body, 1),
                *(["  return 0;"] if fails else []),
                "}\n",
            ]
        )

    def _fresh(self, hint: str) -> str:
        self.counts[hint] = self.counts.get(hint, 0) + 1
        return f"{hint}_{self.counts[hint]}"


def _call(name: str, arguments: Sequence[str]) -> str:
    """A call, over several lines when it is long."""
    line = f"{name}({', '.join(arguments)})"
    return line if len(line) < 84 else f"{name}(\n      " + ",\n      ".join(arguments) + ")"


def can_fail(f: L.Function) -> bool:
    """Whether a kernel may return a status that is not 0."""
    return any(isinstance(x, L.Return) for x in L.walk(f.body))


def entry_signature(prefix: str, ports: Sequence[Port]) -> str:
    """The declaration of the entry, without ``;``."""
    head = f"int32_t {prefix}_run("
    parts = ["void *memory", *(p.parameter for p in ports)]
    line = f"{head}{', '.join(parts)})"
    return line if len(line) <= 98 else head + (",\n" + " " * len(head)).join(parts) + ")"
