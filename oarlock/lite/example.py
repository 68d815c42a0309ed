"""``main.c`` and ``Makefile`` of a package."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from oarlock.lite.header import Interface
from oarlock.lite.ports import Port


def main_c(interface: Interface) -> str:
    """A program that pipes records of raw inputs through the model."""
    prefix, upper = interface.prefix, interface.prefix.upper()
    hidden = {x.name for c in interface.carried for x in (c.before, c.after)}
    visible = [p for p in interface.ports if p.name not in hidden]
    inputs = [p for p in visible if not p.is_output]
    lines = [
        "/* Reads records of raw inputs on stdin, one after the other, and writes the raw outputs of",
        f" * each on stdout.  `{prefix} 100` runs each record 100 times and prints the time of a run. */",
        "#include <stdio.h>",
        "#include <stdlib.h>",
        "#include <string.h>",
        "#include <time.h>",
        "",
        f'#include "{prefix}.h"',
        "",
        f"static char memory[{upper}_ARENA_BYTES + {upper}_ARENA_ALIGN];",
        *(_array(interface, p) for p in interface.ports),
        "",
        "static int read_record(void) {",
        *(f"  {line}" for line in _reads(upper, inputs)),
        "}",
        "",
        "int main(int argc, char **argv) {",
        f"  char *arena = memory + ({upper}_ARENA_ALIGN - (uintptr_t)memory % {upper}_ARENA_ALIGN);",
        "  const long repeat = argc > 1 ? strtol(argv[1], 0, 10) : 1;",
        "  long records = 0;",
        "  clock_t spent = 0;",
        *_initial(interface),
        f"  {_loop(inputs)} {{",
        "    const clock_t start = clock();",
        "    for (long i = 0; i < repeat; i++) {",
        f"      const int32_t status = {_call(interface)};",
        "      if (status) {",
        f'        fprintf(stderr, "{prefix}_run: status %d\\n", (int)status);',
        "        return 1;",
        "      }",
        "    }",
        "    spent += clock() - start;",
        *(
            f"    fwrite({p.name}, 1, {upper}_{p.name.upper()}_BYTES, stdout);"
            for p in visible
            if p.is_output and p.elements
        ),
        *(_carry(upper, c.before, c.after) for c in interface.carried),
        "    records++;",
        "  }",
        "  if (argc > 1 && records && repeat > 0) {",
        "    const double us = 1e6 * (double)spent / CLOCKS_PER_SEC;",
        '    fprintf(stderr, "%.4f us per run\\n", us / ((double)records * (double)repeat));',
        "  }",
        "  return 0;",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _array(interface: Interface, port: Port) -> str:
    size = f"{interface.prefix.upper()}_{port.name.upper()}_ELEMENTS"
    return f"static {port.scalar} {port.name}[{size if port.elements else 1}];"


def _reads(upper: str, inputs: Sequence[Port]) -> Iterator[str]:
    """Statements that return 0 at the end of the file."""
    for port in inputs:
        if port.elements:
            size = f"{upper}_{port.name.upper()}_BYTES"
            yield f"if (fread({port.name}, 1, {size}, stdin) != {size}) return 0;"
    yield "return 1;"


def _loop(inputs: Sequence[Port]) -> str:
    return "while (read_record())" if any(p.elements for p in inputs) else "if (read_record())"


def _call(interface: Interface) -> str:
    args = ["arena", *(p.name for p in interface.ports)]
    return f"{interface.prefix}_run({', '.join(args)})"


def _initial(interface: Interface) -> Iterator[str]:
    for c in interface.carried:
        name = f"{interface.prefix.upper()}_{c.before.name.upper()}"
        yield f"  memcpy({c.before.name}, {name}_INITIAL, {name}_BYTES);"


def _carry(upper: str, before: Port, after: Port) -> str:
    return f"    memcpy({before.name}, {after.name}, {upper}_{before.name.upper()}_BYTES);"


def makefile(prefix: str, flags: Sequence[str], compiler: str) -> str:
    """Builds ``lib<prefix>.a`` and the example."""
    own = [f for f in flags if f != "-ffreestanding"]
    return f"""# `make` builds the example; add {prefix}.c and {prefix}_weights.c to a build of your own.
CC = {compiler}
CFLAGS = {" ".join(own)}

{prefix}: main.c {prefix}.o {prefix}_weights.o
\t$(CC) $(CFLAGS) main.c {prefix}.o {prefix}_weights.o -o $@

{prefix}.o: {prefix}.c {prefix}.h {prefix}_weights.h
\t$(CC) $(CFLAGS) -ffreestanding -c {prefix}.c -o $@

{prefix}_weights.o: {prefix}_weights.c {prefix}_weights.h
\t$(CC) $(CFLAGS) -ffreestanding -c {prefix}_weights.c -o $@

clean:
\trm -f {prefix} {prefix}.o {prefix}_weights.o
"""
