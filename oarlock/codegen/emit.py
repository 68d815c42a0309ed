"""The C files of an engine: kernels, nested steps as functions, one entry that runs a range of steps.

A kernel reads the addresses of its buffers from ``c->args``, so launches whose code is otherwise
the same (the layers of a transformer) share one function.  Large programs are split over files of
balanced size, to be compiled at the same time.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from oarlock.codegen import loops as L
from oarlock.codegen.c.names import dim_name
from oarlock.codegen.c.prelude import Prelude
from oarlock.codegen.c.printer import Bindings, Printer, functions_of
from oarlock.codegen.emitter import STOPPED
from oarlock.codegen.schedule import Branch, Copy, Host, Launch, Loop, Step, Stop
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
  char *const *args;
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
_HIDDEN = '__attribute__((visibility("hidden"))) '
_INHERITED = "c->buf, c->weights, c->dims, c->scratch, c->scratch_bytes"
_SIGNATURE = "const ol_ctx *c, int64_t begin, int64_t end, int32_t tid"
FILE_BYTES = 40_000  # of kernels, worth a file of its own
MAX_FILES = 8


def emit(steps: Sequence[Step], dims: Sequence[str], target: Target) -> list[str]:
    """The texts of an engine's C files; the last one has the entry."""
    return _Emission(dims, target).texts(steps)


@dataclass
class _Shared:
    """A kernel and its helpers; ``text`` is what launches that share it have in common."""

    function: L.Function
    bindings: Bindings
    text: str

    @cached_property
    def helpers(self) -> list[L.Function]:
        return list(functions_of(self.function))[:-1]

    def cost(self, bytes_of: Mapping[str, int], present: Collection[str] = ()) -> int:
        """Bytes of C that it adds to a file with some helpers."""
        missing = {h.name for h in self.helpers}.difference(present)
        return len(self.text) + sum(bytes_of[name] for name in missing)


@dataclass
class _Part:
    """A file in the making."""

    kernels: list[_Shared] = field(default_factory=list)
    helpers: set[str] = field(default_factory=set)
    bytes: int = 0


class _Emission:
    def __init__(self, dims: Sequence[str], target: Target) -> None:
        self.target = target
        self.scratch = Printer(Prelude(target))  # for texts that are compared
        self.sizes = Printer(Prelude(target))  # for the entry
        self.dims = {name: i for i, name in enumerate(dims)}
        self.kernels: dict[str, _Shared] = {}  # by text
        self.helpers: dict[str, str] = {}  # text by name
        self.checked: dict[str, L.Function] = {}  # the helper that gave the text
        self.nested: dict[str, str] = {}  # text by name, in order

    def texts(self, steps: Sequence[Step]) -> list[str]:
        entry = self._entry(steps)
        files = _split(
            list(self.kernels.values()), {name: len(text) for name, text in self.helpers.items()}
        )
        rest = "\n".join([*self.nested.values(), CLOCK, entry])
        if len(files) < 2:
            return [self._file(self.sizes, self.kernels.values(), "static ", rest)]
        names = [kernel.function.name for kernel in self.kernels.values()]
        declared = [f"{_HIDDEN}int32_t {name}({_SIGNATURE});" for name in names]
        last = "\n".join([HEADER, self.sizes.prelude.text(), *declared, rest])
        return [*(self._file(Printer(Prelude(self.target)), f, _HIDDEN) for f in files), last]

    def _file(
        self, printer: Printer, kernels: Iterable[_Shared], linkage: str, rest: str = ""
    ) -> str:
        texts: dict[str, str] = {}
        for kernel in kernels:
            for helper in kernel.helpers:
                if helper.name not in texts:
                    texts[helper.name] = printer.function(helper)
            name = kernel.function.name
            texts[name] = printer.function(kernel.function, kernel.bindings, linkage)
        return "\n".join([HEADER, printer.prelude.text(), *texts.values(), rest])

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
  const ol_ctx context = {{buf, weights, dims, scratch, scratch_bytes, 0}};
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
                lines += [f"{pad}{line}" for line in self._launch(step)]
                continue
            if isinstance(step, Copy):
                size = self._size(step.size)
                lines.append(
                    f"{pad}__builtin_memcpy({step.target}, {step.source}, (uint64_t)({size}));"
                )
                continue
            if isinstance(step, Stop):
                lines.append(f"{pad}if (!*(const uint8_t *){step.predicate}) return {STOPPED};")
                continue
            if isinstance(step, Branch):
                then, other = self._nested(step.then), self._nested(step.other)
                chosen = f"*(const uint8_t *){step.predicate}"
                call = f"{chosen} ? {then}(c, pool, parallel) : {other}(c, pool, parallel)"
            elif isinstance(step, Loop):
                call = f"{self._while(step)}(c, pool, parallel)"
            else:
                raise CompilerBug("a host call inside of a branch or loop")
            lines += [f"{pad}status = {call};", f"{pad}if (status) return status;"]
        return "\n".join(lines)

    def _launch(self, step: Launch) -> list[str]:
        kernel = step.kernel
        name = self._shared(kernel.function, kernel.name).function.name
        slots = [p.name for p in kernel.function.pointers if p.source != "scratch"]
        args = ", ".join(f"(char *){step.addresses[slot]}" for slot in slots) or "0"
        extent = self._size(kernel.extent)
        return [
            *(f"/* {node.origin} */" for node in kernel.nodes[:1] if str(node.origin)),
            "{",
            f"  char *const args[] = {{{args}}};",
            f"  const ol_ctx k = {{{_INHERITED}, args}};",
            f"  status = parallel(pool, {name}, &k, {extent}, {kernel.grain});",
            "}",
            "if (status) return status;",
        ]

    def _shared(self, function: L.Function, hint: str) -> _Shared:
        """The kernel with this code, named after its first launch."""
        slots = [p.name for p in function.pointers if p.source != "scratch"]
        bindings = Bindings({slot: f"c->args[{i}]" for i, slot in enumerate(slots)}, self.dims)
        anonymous = replace(function, name="kernel", comment="")
        text = self.scratch.function(anonymous, bindings)
        if text not in self.kernels:
            named = replace(function, name=f"k{len(self.kernels)}_{hint}")
            self.kernels[text] = _Shared(named, bindings, text)
        for helper in functions_of(function):
            if not helper.is_kernel:
                self._check_helper(helper)
        return self.kernels[text]

    def _check_helper(self, helper: L.Function) -> None:
        if self.checked.get(helper.name) is helper:
            return
        self.checked[helper.name] = helper
        text = self.scratch.function(helper)
        if self.helpers.setdefault(helper.name, text) != text:
            raise CompilerBug(f"two helpers are called {helper.name}")

    def _nested(self, steps: Sequence[Step]) -> str:
        return self._function("steps", self._lines(steps, 1))

    def _while(self, step: Loop) -> str:
        before = self._lines(step.before, 1)
        condition, body = self._lines(step.condition, 2), self._lines(step.body, 2)
        test = f"    if (!*(const uint8_t *){step.predicate}) break;"
        return self._function("loop", f"{before}\n  for (;;) {{\n{condition}\n{test}\n{body}\n  }}")

    def _function(self, hint: str, body: str) -> str:
        name = f"{hint}{len(self.nested)}"
        self.nested[name] = (
            f"static int32_t {name}({_NESTED}) {{\n  int32_t status = 0;\n{body}\n"
            "  (void)c; (void)pool; (void)parallel;\n  return status;\n}\n"
        )
        return name

    def _size(self, size: Size) -> str:
        """A size as C over ``c->dims``."""
        if isinstance(size, int):
            return str(size)
        text = self.sizes.expr(L.index(size), 0)
        for name, i in self.dims.items():
            text = re.sub(rf"\b{re.escape(dim_name(name))}\b", f"c->dims[{i}]", text)
        return text


def _split(kernels: Sequence[_Shared], bytes_of: Mapping[str, int]) -> list[list[_Shared]]:
    """Kernels by file, of about equal size; kernels with the same helpers stay together."""
    total = sum(len(k.text) for k in kernels) + sum(bytes_of.values())
    files = [_Part() for _ in range(max(1, min(MAX_FILES, total // FILE_BYTES)))]
    for kernel in sorted(kernels, key=lambda k: -k.cost(bytes_of)):
        best = min(files, key=lambda f: f.bytes + kernel.cost(bytes_of, f.helpers))
        best.bytes += kernel.cost(bytes_of, best.helpers)
        best.helpers |= {h.name for h in kernel.helpers}
        best.kernels.append(kernel)
    order = {k.function.name: i for i, k in enumerate(kernels)}
    return [sorted(f.kernels, key=lambda k: order[k.function.name]) for f in files if f.kernels]
