"""A program to C: decompose, group, build kernels, give buffers, emit one file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from oarlock.codegen import fuse, nests
from oarlock.codegen.c.prelude import Prelude
from oarlock.codegen.c.printer import Bindings, Printer, functions_of
from oarlock.codegen.kernel import Constant, Kernel
from oarlock.codegen.target import Target
from oarlock.errors import BuildError
from oarlock.ir import Builder, Graph, Program, Size, Value, dim_max
from oarlock.passes.decompose import decompose

ALIGNMENT = 64
HEADER = """#include <stdint.h>

typedef struct ol_ctx {
  char *const *buf;
  const char *weights;
  const int64_t *dims;
  char *scratch;
  int64_t scratch_bytes;
} ol_ctx;
typedef int32_t (*ol_item_fn)(const ol_ctx *, int64_t, int64_t, int32_t);
typedef struct ol_pool ol_pool;
typedef int32_t (*ol_parallel_fn)(ol_pool *, ol_item_fn, const ol_ctx *, int64_t, int64_t);
"""
CLOCK = """
extern int clock_gettime(int, int64_t *);
static int64_t now_ns(void) {
  int64_t t[2] = {0, 0};
  (void)clock_gettime(1, t);
  return t[0] * 1000000000 + t[1];
}
"""


@dataclass(frozen=True)
class Lowered:
    """source: one C file; constants: packed in order, 64-byte aligned; metadata: JSON data."""

    source: str
    constants: tuple[Constant, ...]
    metadata: dict[str, Any]


def lower(program: Program, target: Target) -> Lowered:
    """Raises: BuildError naming every op that has neither a kernel nor a simpler form."""
    graph = _own_outputs(decompose(program).graph)
    groups = fuse.group(graph, target)
    missing = [n for g in groups if g.kind == "kernel" for n in g.nodes[:1]]
    if missing:
        lines = "\n".join(f"  {n.name}  {n.origin}" for n in missing)
        raise BuildError(f"{len(missing)} nodes have no kernel on {target.name}:\n{lines}")
    layout = _Layout(program, graph)
    kernels: list[Kernel] = []
    for group in groups:
        if group.kind == "alias":
            layout.alias(group.writes[0], group.reads[0])
        else:
            kernel = nests.build(group, target)
            layout.use(kernel, len(kernels))
            kernels.append(kernel)
    source = _emit(kernels, layout, target)
    return Lowered(source, tuple(layout.constants), layout.metadata(kernels))


def _own_outputs(graph: Graph) -> Graph:
    """Every output is stored by a kernel of its own: views, inputs and repeats are copied."""
    b = Builder(graph)
    seen: set[Value] = set()
    for i, value in enumerate(graph.outputs):
        node = value.producer
        owned = node is not None and not node.op.view and node.name not in ("param", "const")
        if not owned or value in seen:
            graph.outputs[i] = b.cast(value, dtype=value.dtype)
        seen.add(graph.outputs[i])
    return graph


@dataclass
class _Layout:
    """Buffers: inputs, outputs, then the arena; weights apart."""

    program: Program
    graph: Graph
    buffers: dict[Value, int] = field(default_factory=dict)
    arena: dict[int, dict[str, Any]] = field(default_factory=dict)
    constants: list[Constant] = field(default_factory=list)
    offsets: dict[str, int] = field(default_factory=dict)
    top: int = 0
    count: int = 0

    def __post_init__(self) -> None:
        for value in [*self.graph.inputs, *self.graph.outputs]:
            self.buffers[value] = self.count
            self.count += 1

    def alias(self, value: Value, of: Value) -> None:
        """``value`` is the memory of ``of``."""
        if of.producer is not None and of.producer.name == "param":
            self.buffers[value] = -1 - self.weight(of)
        else:
            self.buffers[value] = self.buffers[of]

    def use(self, kernel: Kernel, step: int) -> None:
        """Give buffers to what a kernel writes; what it reads is alive until now."""
        for value in kernel.writes:
            if value not in self.buffers:
                self.buffers[value] = self.count
                self.arena[self.count] = {
                    "bytes": _size(value.type.bytes), "first": step, "last": step,
                }  # fmt: skip
                self.count += 1
        for value in kernel.reads:
            entry = self.arena.get(self.buffers.get(value, -1))
            if entry is not None:
                entry["last"] = step

    def weight(self, value: Value) -> int:
        """The offset of a param in the weights, bytes."""
        key = value.producer.op.key  # type: ignore[union-attr]
        if key not in self.offsets:
            array = self.program.params[key]
            self.offsets[key] = self.top
            self.constants.append(Constant(key, array))
            self.top += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
        return self.offsets[key]

    def address(self, value: Value) -> str:
        """The C text of a value's memory."""
        node = value.producer
        if node is not None and node.name == "param":
            return f"(c->weights + {self.weight(value)})"
        buffer = self.buffers[value]
        return f"c->buf[{buffer}]" if buffer >= 0 else f"(c->weights + {-1 - buffer})"

    def metadata(self, kernels: list[Kernel]) -> dict[str, Any]:
        scratch: Size = 0
        for kernel in kernels:
            scratch = dim_max(scratch, kernel.scratch_bytes)
        return {
            "dims": [[name, *dim.bounds()] for name, dim in self.program.dims.items()],
            "inputs": [self._port(v) for v in self.graph.inputs],
            "outputs": [self._port(v) for v in self.graph.outputs],
            "buffers": [self.arena.get(i) for i in range(self.count)],
            "scratch_bytes": _size(scratch),
            "steps": [_step(kernel) for kernel in kernels],
            "host": [],
        }

    def _port(self, value: Value) -> dict[str, Any]:
        return {
            "name": value.name, "dtype": value.dtype.name,
            "shape": [_size(s) for s in value.shape], "buffer": self.buffers[value],
        }  # fmt: skip


def _size(size: Size) -> int | str:
    return size if isinstance(size, int) else str(size)


def _step(kernel: Kernel) -> dict[str, Any]:
    origins = dict.fromkeys(str(n.origin) for n in kernel.nodes if str(n.origin))
    return {
        "name": kernel.name, "ops": [n.name for n in kernel.nodes],
        "origin": next(reversed(origins), ""), "slow": kernel.slow,
    }  # fmt: skip


def _emit(kernels: list[Kernel], layout: _Layout, target: Target) -> str:
    prelude = Prelude(target)
    printer = Printer(prelude)
    dims = {name: i for i, name in enumerate(layout.program.dims)}
    texts, calls = [], []
    for i, kernel in enumerate(kernels):
        named = [p for p in kernel.function.pointers if p.source == "buffer"]
        values = [*kernel.reads, *kernel.writes]
        addresses = {p.name: layout.address(v) for p, v in zip(named, values)}
        name = f"k{i}_{kernel.name}"
        for f in functions_of(kernel.function):
            text = printer.function(f, Bindings(addresses, dims))
            if f.is_kernel:
                text = text.replace(f"static int32_t {f.name}(", f"static int32_t {name}(", 1)
            texts.append(text)
        calls.append((name, kernel))
    run = _entry(calls, dims)
    return "\n".join([HEADER, prelude.text(), *texts, CLOCK, run])


def _entry(calls: list[tuple[str, Kernel]], dims: dict[str, int]) -> str:
    cases = []
    for i, (name, kernel) in enumerate(calls):
        extent = _c_size(kernel.extent, dims)
        cases.append(
            f"    case {i}: status = parallel(pool, {name}, &c, {extent}, {kernel.grain}); break;"
        )
    switch = "\n".join(cases)
    return f"""
__attribute__((visibility("default")))
int32_t oarlock_run(char *const *buf, const char *weights, const int64_t *dims, char *scratch,
                    int64_t scratch_bytes, ol_pool *pool, ol_parallel_fn parallel,
                    int32_t first_step, int32_t last_step, int64_t *profile_ns) {{
  const ol_ctx c = {{buf, weights, dims, scratch, scratch_bytes}};
  for (int32_t step = first_step; step < last_step; step++) {{
    const int64_t start = profile_ns ? now_ns() : 0;
    int32_t status = 0;
    switch (step) {{
{switch}
    default: status = 3; break;
    }}
    if (status) return status;
    if (profile_ns) profile_ns[step] = now_ns() - start;
  }}
  (void)parallel; (void)pool;
  return 0;
}}
"""


def _c_size(size: Size, dims: dict[str, int]) -> str:
    """A size as C over ``dims``."""
    if isinstance(size, int):
        return str(size)
    from oarlock.codegen import loops as L

    text = Printer(Prelude(_PLAIN())).expr(L.index(size), 0)
    for name, i in dims.items():
        from oarlock.codegen.c.names import dim_name

        text = text.replace(dim_name(name), f"dims[{i}]")
    return text


def _PLAIN() -> Target:
    from oarlock.codegen import target as targets

    return targets.get("plain")
