"""The C file of an engine: kernels, nested steps as functions, one entry that runs a range of steps."""

from __future__ import annotations

from collections.abc import Sequence

from oarlock.codegen import loops as L
from oarlock.codegen.c.names import dim_name
from oarlock.codegen.c.prelude import Prelude
from oarlock.codegen.c.printer import Bindings, Printer, functions_of
from oarlock.codegen.schedule import Branch, Copy, Host, Launch, Loop, Step
from oarlock.codegen.target import Target
from oarlock.errors import CompilerBug
from oarlock.ir import Size

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
_NESTED = "const ol_ctx *c, ol_pool *pool, ol_parallel_fn parallel"


def emit(steps: Sequence[Step], dims: Sequence[str], target: Target) -> str:
    """The text of an engine."""
    return _Emission(dims, target).text(steps)


class _Emission:
    def __init__(self, dims: Sequence[str], target: Target) -> None:
        self.prelude = Prelude(target)
        self.printer = Printer(self.prelude)
        self.dims = {name: i for i, name in enumerate(dims)}
        self.functions: dict[str, str] = {}  # text by name, in order
        self.count = 0

    def text(self, steps: Sequence[Step]) -> str:
        run = self._entry(steps)
        return "\n".join([HEADER, self.prelude.text(), *self.functions.values(), CLOCK, run])

    def _entry(self, steps: Sequence[Step]) -> str:
        cases = "\n".join(
            f"    case {i}: {{\n{self._lines([step], 3)}\n      break;\n    }}"
            for i, step in enumerate(steps)
            if not isinstance(step, Host)
        )
        return f"""
__attribute__((visibility("default")))
int32_t oarlock_run(char *const *buf, const char *weights, const int64_t *dims, char *scratch,
                    int64_t scratch_bytes, ol_pool *pool, ol_parallel_fn parallel,
                    int32_t first_step, int32_t last_step, int64_t *profile_ns) {{
  const ol_ctx context = {{buf, weights, dims, scratch, scratch_bytes}};
  const ol_ctx *c = &context;
  int32_t status = 0;
  for (int32_t step = first_step; step < last_step; step++) {{
    const int64_t start = profile_ns ? now_ns() : 0;
    switch (step) {{
{cases}
    default: return 3;
    }}
    if (profile_ns) profile_ns[step] = now_ns() - start;
  }}
  (void)parallel; (void)pool; (void)c;
  return status;
}}
"""

    def _lines(self, steps: Sequence[Step], depth: int) -> str:
        """Statements that run steps and return a status that is not 0."""
        pad = "  " * depth
        lines = []
        for step in steps:
            if isinstance(step, Launch):
                call = self._launch(step)
            elif isinstance(step, Copy):
                size = self._size(step.size)
                lines.append(
                    f"{pad}__builtin_memcpy({step.target}, {step.source}, (uint64_t)({size}));"
                )
                continue
            elif isinstance(step, Branch):
                then, other = self._nested(step.then), self._nested(step.other)
                chosen = f"*(const uint8_t *){step.predicate}"
                call = f"{chosen} ? {then}(c, pool, parallel) : {other}(c, pool, parallel)"
            elif isinstance(step, Loop):
                call = f"{self._while(step)}(c, pool, parallel)"
            else:
                raise CompilerBug("a host call inside of a branch or loop")
            lines += [f"{pad}status = {call};", f"{pad}if (status) return status;"]
        return "\n".join(lines)

    def _launch(self, step: Launch) -> str:
        kernel = step.kernel
        name = f"k{self.count}_{kernel.name}"
        self.count += 1
        for f in functions_of(kernel.function):
            text = self.printer.function(f, Bindings(step.addresses, self.dims))
            if f.is_kernel:
                text = text.replace(f"static int32_t {f.name}(", f"static int32_t {name}(", 1)
                self.functions[name] = text
            elif self.functions.setdefault(f.name, text) != text:
                raise CompilerBug(f"two helpers are called {f.name}")
        return f"parallel(pool, {name}, c, {self._size(kernel.extent)}, {kernel.grain})"

    def _nested(self, steps: Sequence[Step]) -> str:
        body = self._lines(steps, 1)
        return self._function("steps", body)

    def _while(self, step: Loop) -> str:
        before = self._lines(step.before, 1)
        condition, body = self._lines(step.condition, 2), self._lines(step.body, 2)
        test = f"    if (!*(const uint8_t *){step.predicate}) break;"
        return self._function("loop", f"{before}\n  for (;;) {{\n{condition}\n{test}\n{body}\n  }}")

    def _function(self, hint: str, body: str) -> str:
        name = f"{hint}{self.count}"
        self.count += 1
        self.functions[name] = (
            f"static int32_t {name}({_NESTED}) {{\n  int32_t status = 0;\n{body}\n"
            "  (void)c; (void)pool; (void)parallel;\n  return status;\n}\n"
        )
        return name

    def _size(self, size: Size) -> str:
        """A size as C over ``c->dims``."""
        if isinstance(size, int):
            return str(size)
        text = self.printer.expr(L.index(size), 0)
        for name, i in self.dims.items():
            text = text.replace(dim_name(name), f"c->dims[{i}]")
        return text
