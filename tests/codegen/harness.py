"""Compile loop groups with the system compiler and run them group by group through ctypes."""

from __future__ import annotations

import ctypes
import itertools
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from oarlock.codegen import fuse, nests
from oarlock.codegen.c.prelude import Prelude
from oarlock.codegen.c.printer import Bindings, Printer, functions_of
from oarlock.codegen.kernel import Kernel
from oarlock.codegen.kernels import maker_for
from oarlock.codegen.target import Target
from oarlock.evaluate import evaluate_graph
from oarlock.ir import Builder, Graph, evaluate_size
from oarlock.ir.types import decode

COMPILER = shutil.which("gcc") or shutil.which("clang")
HEADER = """#include <stdint.h>
typedef struct ol_ctx {
  char *const *buf; const char *weights; const int64_t *dims; char *scratch; int64_t scratch_bytes;
} ol_ctx;
"""
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-Wno-unused-function"]


def decomposed(graph: Graph) -> Graph:
    """The graph without composites, constants of size 1 kept."""
    mapped = {v: v for v in graph.inputs}
    b = Builder(Graph(list(graph.inputs)))
    for node in graph.nodes:
        inputs = [mapped[v] for v in node.inputs]
        if node.op.is_composite:
            inner = Builder(Graph())
            out = node.op.decompose(inner, *node.inputs)
            outs = out if isinstance(out, tuple) else (out,)
            flat = decomposed(Graph(list(node.inputs), inner.graph.nodes, list(outs)))
            table = dict(zip(node.inputs, inputs))
            for n in flat.nodes:
                made = b.append(n.op, [table.get(v, v) for v in n.inputs], n.graphs)
                table.update(zip(n.outputs, made.outputs))
            mapped.update(zip(node.outputs, [table[v] for v in flat.outputs]))
        else:
            made = b.append(node.op, inputs, node.graphs)
            mapped.update(zip(node.outputs, made.outputs))
    b.graph.outputs = [mapped[v] for v in graph.outputs]
    return b.graph


Built = list[tuple[fuse.Group, "Kernel | None"]]


def kernels_of(graph: Graph, target: Target, params: dict | None = None) -> Built:
    return [(g, kernel_of(g, target, params or {})) for g in fuse.group(graph, target)]


def kernel_of(group: fuse.Group, target: Target, params: dict) -> Kernel | None:
    """None for aliases, which need no code."""
    if group.kind == "loop":
        return nests.build(group, target)
    if group.kind == "alias":
        return None

    def constant(value):
        node = value.producer
        return params.get(node.op.key) if node is not None and node.name == "param" else None

    maker = maker_for(group.anchor, target)
    assert maker is not None, f"no kernel for {group.anchor.name}"
    return maker.build(group, target, constant)


def c_text(kernels: list[Kernel], target: Target, dims: list[str]) -> str:
    prelude = Prelude(target)
    printer = Printer(prelude)
    order = {name: i for i, name in enumerate(dims)}
    texts = []
    for i, kernel in enumerate(kernels):
        named = [p for p in kernel.function.pointers if p.source == "buffer"]
        bound = {p.name: f"c->buf[{k}]" for k, p in enumerate(named)}
        bound |= {n: f"(c->weights + {at})" for n, at in offsets(kernel).items()}
        bindings = Bindings(bound, order)
        for f in functions_of(kernel.function):
            text = printer.function(f, bindings)
            if f.is_kernel:
                text = text.replace(f"static int32_t {f.name}(", f"int32_t k{i}(", 1)
            elif text in texts:
                continue
            texts.append(text)
    protos = "".join(
        f"int32_t k{i}(const ol_ctx *c, int64_t begin, int64_t end, int32_t tid);\n"
        for i in range(len(kernels))
    )
    return "\n".join([HEADER, protos, prelude.text(), *texts])


def offsets(kernel: Kernel) -> dict[str, int]:
    """Where each constant of a kernel lies in its weights, bytes."""
    found, top = {}, 0
    for constant in kernel.constants:
        found[constant.name] = top
        top += -(-constant.array.nbytes // 64) * 64
    return found


def weights_of(kernel: Kernel) -> np.ndarray:
    """The constants of a kernel, each aligned."""
    data = b"".join(
        np.ascontiguousarray(c.array).tobytes() + bytes(-c.array.nbytes % 64)
        for c in kernel.constants
    )
    block = np.zeros(len(data) + 64, np.uint8)
    start = -block.ctypes.data % 64
    block[start : start + len(data)] = np.frombuffer(data, np.uint8)
    return block[start:]


def compile_c(text: str, *flags: str) -> ctypes.CDLL:
    folder = Path(tempfile.mkdtemp())
    (folder / "k.c").write_text(text)
    command = [COMPILER, *flags, "-fPIC", "-shared", "-fno-math-errno", "-o", "k.so", "k.c", "-lm"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:4000] + "\n" + str(folder)
    return ctypes.CDLL(str(folder / "k.so"))


class Context(ctypes.Structure):
    _fields_ = [
        ("buf", ctypes.POINTER(ctypes.c_void_p)),
        ("weights", ctypes.c_void_p),
        ("dims", ctypes.c_void_p),
        ("scratch", ctypes.c_void_p),
        ("scratch_bytes", ctypes.c_int64),
    ]


class Compiled:
    """A graph of loop groups, compiled."""

    def __init__(
        self, graph: Graph, target: Target, flags=("-O1", "-march=native"), params=None
    ) -> None:
        self.graph = graph
        self.dims = sorted(graph.symbols())
        self.steps = kernels_of(graph, target, params)
        self.kernels = [k for _, k in self.steps if k is not None]
        self.text = c_text(self.kernels, target, self.dims)
        self.library = compile_c(self.text, *flags)

    def run(self, arrays, env=None, params=None, pieces=2):
        env = env or {}
        known = dict(zip(self.graph.inputs, arrays))
        for node in self.graph.nodes:
            if node.name == "param":
                known[node.output] = (params or {})[node.op.key]
        dims = np.array([env[d] for d in self.dims] or [0], np.int64)
        k = 0
        for group, kernel in self.steps:
            if kernel is None:
                (out,) = group.writes
                shape = out.type.concrete(env).shape
                known[out] = known[group.reads[0]].reshape(shape)
                continue
            for out in group.writes:
                concrete = out.type.concrete(env)
                known[out] = np.full(concrete.shape, 77, out.dtype.numpy)
            self._launch(k, kernel, known, dims, env, pieces)
            k += 1
        return [known[v] for v in self.graph.outputs]

    def _launch(self, k, kernel, known, dims, env, pieces):
        values = [*kernel.reads, *kernel.writes]
        guarded = [_guarded(known[v]) for v in values]
        buf = (ctypes.c_void_p * max(1, len(guarded)))(*[g.ctypes.data + 64 for g in guarded])
        size = evaluate_size(kernel.scratch_bytes, env)
        scratch = np.zeros(size + 64, np.uint8)
        weights = weights_of(kernel)
        context = Context(buf, weights.ctypes.data, dims.ctypes.data, scratch.ctypes.data, size)
        f = getattr(self.library, f"k{k}")
        f.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int32]
        extent = evaluate_size(kernel.extent, env)
        cuts = [extent * i // pieces for i in range(pieces + 1)]
        for begin, end in itertools.pairwise(cuts):
            assert f(ctypes.addressof(context), begin, end, 0) == 0
        for v, g in zip(values, guarded):
            assert (g[:64] == 0xA5).all() and (g[-64:] == 0xA5).all(), f"{v} written out of bounds"
            inside = g[64:-64].view(v.dtype.numpy).reshape(known[v].shape)
            if v in kernel.writes:
                known[v] = inside.copy()


def _guarded(array: np.ndarray) -> np.ndarray:
    data = np.ascontiguousarray(array).tobytes()
    g = np.full(len(data) + 128, 0xA5, np.uint8)
    g[64 : 64 + len(data)] = np.frombuffer(data, np.uint8)
    return g


def check(
    graph, arrays, target, env=None, params=None, tolerance=4e-6, flags=("-O1", "-march=native")
):
    """Run through the evaluator and as C; compare."""
    expected = evaluate_graph(graph, params or {}, env or {}, arrays)
    flat = decomposed(graph)
    compiled = Compiled(flat, target, flags, params)
    got = compiled.run(arrays, env, params)
    for i, (v, a, b) in enumerate(zip(graph.outputs, expected, got)):
        x, y = decode(a, v.dtype), decode(b, v.dtype)
        assert x.shape == y.shape
        if v.dtype.is_float:
            eps = {"f16": 1e-3, "bf16": 8e-3, "f32": tolerance, "f64": 1e-13}[v.dtype.name]
            np.testing.assert_allclose(y, x, rtol=eps, atol=eps, err_msg=f"output {i}")
        else:
            np.testing.assert_array_equal(y, x, err_msg=f"output {i}")
    return compiled
