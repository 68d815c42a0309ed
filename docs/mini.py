"""The whole compiler in about 300 lines: capture, IR, passes, fusion, memory plan, C, run, compare.

The real one has the same stages under the same names (see the folders of ``oarlock/``), with
dynamic sizes, every dtype, vector code and threads.  Run it: ``python docs/mini.py``.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

# ---- ir: values in SSA form, typed by their shape; everything is f32 here ----------------------


@dataclass(eq=False)
class Value:
    shape: tuple[int, ...]
    name: str
    array: np.ndarray | None = None  # a weight


@dataclass(eq=False)
class Node:
    op: str
    inputs: list[Value]
    output: Value
    origin: str = ""


@dataclass
class Program:
    inputs: list[Value]
    nodes: list[Node]
    outputs: list[Value]
    weights: list[Value] = field(default_factory=list)

    def __str__(self) -> str:
        def show(v: Value) -> str:
            return f"%{v.name}: f32{list(v.shape)}"

        head = f"graph({', '.join(map(show, self.inputs))}) {{"
        body = [
            f"  {show(n.output)} = {n.op}({', '.join('%' + v.name for v in n.inputs)})"
            for n in self.nodes
        ]
        return "\n".join([head, *body, f"  return {', '.join(v.name for v in self.outputs)}", "}"])


# ---- ops: one record each, with its numpy reference and, when pointwise, its C -----------------


@dataclass(frozen=True)
class Op:
    aten: str
    reference: Callable[..., np.ndarray]
    c: str = ""  # a scalar expression of {0}, {1}; empty: it has a kernel of its own


OPS = {
    "add": Op("aten.add.Tensor", np.add, "({0} + {1})"),
    "mul": Op("aten.mul.Tensor", np.multiply, "({0} * {1})"),
    "relu": Op("aten.relu.default", lambda x: np.maximum(x, 0), "({0} > 0 ? {0} : 0)"),
    "sigmoid": Op("aten.sigmoid.default", lambda x: 1 / (1 + np.exp(-x)), "(1 / (1 + expf(-{0})))"),
    "tanh": Op("aten.tanh.default", np.tanh, "tanhf({0})"),
    "linear": Op("aten.linear.default", lambda x, w, b: x @ w.T + b),
    "reduce_max": Op("aten.amax.default", lambda x: x.max(-1)),
}
OF_ATEN = {op.aten: name for name, op in OPS.items()}


# ---- capture: a dispatch mode sees every ATen call of the eager model --------------------------


class Recorder(TorchDispatchMode):
    """Records ATen calls.  Every problem is kept and reported at the end, not the first alone."""

    def __init__(self, weights: dict[int, str]) -> None:
        super().__init__()
        self.names, self.program = weights, Program([], [], [])
        self.values: dict[int, Value] = {}
        self.alive: list[torch.Tensor] = []  # ids stay unique while the tensors live
        self.problems: list[str] = []

    def value(self, x: torch.Tensor) -> Value:
        if id(x) not in self.values:
            name = self.names.get(id(x), f"const{len(self.values)}")
            self.bind(x, Value(tuple(x.shape), name, x.detach().numpy().copy()))
            self.program.weights.append(self.values[id(x)])
        return self.values[id(x)]

    def bind(self, x: torch.Tensor, value: Value) -> None:
        self.alive.append(x)
        self.values[id(x)] = value

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = OF_ATEN.get(str(func))
        if name is None:
            self.problems.append(f"{func} has no op")
        else:
            inputs = [self.value(a) for a in args if isinstance(a, torch.Tensor)]
            value = Value(tuple(out.shape), str(len(self.program.nodes)))
            self.program.nodes.append(Node(name, inputs, value))
            self.bind(out, value)
        return out


def capture(model: torch.nn.Module, example: torch.Tensor) -> Program:
    """Run the model once and keep what it did."""
    recorder = Recorder({id(p): n for n, p in model.named_parameters()})
    x = Value(tuple(example.shape), "x")
    recorder.program.inputs.append(x)
    with torch.inference_mode(), recorder:  # composites such as linear arrive whole
        recorder.bind(example, x)
        out = model(example)
    if recorder.problems:
        raise SystemExit("\n".join(["cannot capture:", *recorder.problems]))
    recorder.program.outputs.append(recorder.value(out))
    return recorder.program


# ---- evaluate: the reference that everything else is measured against --------------------------


def evaluate(program: Program, x: np.ndarray) -> np.ndarray:
    known = {program.inputs[0]: x} | {w: w.array for w in program.weights}
    for node in program.nodes:
        known[node.output] = OPS[node.op].reference(*(known[v] for v in node.inputs))
    return known[program.outputs[0]]


# ---- passes: program in, program out ------------------------------------------------------------


def eliminate_common(program: Program) -> Program:
    """The same op of the same inputs is computed once."""
    seen: dict[tuple, Value] = {}
    same: dict[Value, Value] = {}
    nodes = []
    for node in program.nodes:
        inputs = [same.get(v, v) for v in node.inputs]
        key = (node.op, *map(id, inputs))
        if key in seen:
            same[node.output] = seen[key]
        else:
            seen[key] = node.output
            nodes.append(Node(node.op, inputs, node.output))
    outputs = [same.get(v, v) for v in program.outputs]
    return Program(program.inputs, nodes, outputs, program.weights)


def eliminate_dead(program: Program) -> Program:
    """Nodes that no output needs are dropped."""
    needed, nodes = set(program.outputs), []
    for node in reversed(program.nodes):
        if node.output in needed:
            needed.update(node.inputs)
            nodes.insert(0, node)
    weights = [w for w in program.weights if w in needed]
    return Program(program.inputs, nodes, program.outputs, weights)


PIPELINE = [eliminate_common, eliminate_dead]


# ---- fuse: pointwise nodes of one use join their consumer's loop, linear takes an epilogue -----


def group(program: Program) -> list[list[Node]]:
    """Kernels, each a list of nodes ending in the one whose value is stored."""
    uses = {
        v: [n for n in program.nodes if v in n.inputs] for n in program.nodes for v in [n.output]
    }
    home: dict[Node, list[Node]] = {}
    for node in program.nodes:
        home[node] = [node]
        for v in node.inputs if OPS[node.op].c else []:
            maker = next((n for n in program.nodes if n.output is v), None)
            single = maker and len(uses[v]) == 1 and v.shape == node.output.shape
            anchors = [n for g in (home.get(maker, []), home[node]) for n in g if not OPS[n.op].c]
            if (
                single
                and v not in program.outputs
                and len(anchors) <= 1
                and maker.op != "reduce_max"
            ):
                merged = home[maker] + home[node]
                home.update(dict.fromkeys(merged, merged))
    unique = {id(g): g for g in home.values()}
    order = {n: i for i, n in enumerate(program.nodes)}
    return [
        sorted(g, key=order.get)
        for g in sorted(unique.values(), key=lambda g: max(map(order.get, g)))
    ]


# ---- plan memory: a buffer is free again after its last reader ----------------------------------


def plan(program: Program, kernels: list[list[Node]]) -> tuple[dict[Value, int], int]:
    """Offset in floats of every intermediate, first fit, and the size of the arena."""
    last = {v: i for i, k in enumerate(kernels) for n in k for v in n.inputs}
    offsets: dict[Value, int] = {}
    live: list[tuple[int, int, Value]] = []
    top = 0
    for i, kernel in enumerate(kernels):
        value = kernel[-1].output
        if value in program.outputs:
            continue
        live = sorted(item for item in live if last[item[2]] >= i)
        at, size = 0, int(np.prod(value.shape))
        for start, end, _ in live:
            if at + size <= start:
                break
            at = max(at, end)
        offsets[value] = at
        live.append((at, at + size, value))
        live.sort(key=lambda item: item[:2])
        top = max(top, at + size)
    return offsets, top


# ---- emit: C --------------------------------------------------------------------------------------


def emit(program: Program) -> tuple[str, int]:
    """The C of a program and its arena, floats."""
    kernels = group(program)
    offsets, arena = plan(program, kernels)
    where = {program.inputs[0]: "x", program.outputs[0]: "y"}
    where |= {v: f"(arena + {offset})" for v, offset in offsets.items()}
    at = 0
    for w in program.weights:
        where[w] = f"(weights + {at})"
        at += w.array.size
    body = "\n".join(emit_kernel(kernel, where) for kernel in kernels)
    head = "#include <math.h>\n#include <stdint.h>\n"
    signature = "void run(const float *x, float *y, const float *weights, float *arena)"
    return f"{head}{signature} {{\n  (void)arena; (void)weights;\n{body}\n}}\n", arena


def emit_kernel(kernel: list[Node], where: dict[Value, str]) -> str:
    comment = f"  /* {' + '.join(n.op for n in kernel)} */"
    anchor = next((n for n in kernel if not OPS[n.op].c), None)
    out = kernel[-1].output
    known: dict[Value, str] = {}
    if anchor is None:
        text = expression(kernel, known, where, out.shape, "i")
        size = int(np.prod(out.shape))
        return f"{comment}\n  for (int64_t i = 0; i < {size}; i++) {where[out]}[i] = {text};"
    rows, columns = int(np.prod(anchor.output.shape[:-1])), anchor.output.shape[-1]
    if anchor.op == "reduce_max":
        rows, k = int(np.prod(anchor.output.shape)), anchor.inputs[0].shape[-1]
        x = where[anchor.inputs[0]]
        return f"""{comment}
  for (int64_t m = 0; m < {rows}; m++) {{
    float best = {x}[m * {k}];
    for (int64_t k = 1; k < {k}; k++) best = {x}[m * {k} + k] > best ? {x}[m * {k} + k] : best;
    {where[out]}[m] = best;
  }}"""
    x, w, b = (where[v] for v in anchor.inputs)
    k = anchor.inputs[0].shape[-1]
    known[anchor.output] = "sum"
    text = expression([n for n in kernel if n is not anchor], known, where, out.shape, "i")
    return f"""{comment}
  for (int64_t m = 0; m < {rows}; m++) for (int64_t n = 0; n < {columns}; n++) {{
    const int64_t i = m * {columns} + n;
    float sum = {b}[n];
    for (int64_t k = 0; k < {k}; k++) sum += {x}[m * {k} + k] * {w}[n * {k} + k];
    {where[out]}[i] = {text};
  }}"""


def expression(nodes: list[Node], known: dict, where: dict, shape: tuple, i: str) -> str:
    """One scalar expression for a chain of pointwise nodes; operands broadcast from the right."""

    def operand(v: Value) -> str:
        if v in known:
            return known[v]
        size = int(np.prod(v.shape)) if v.shape else 1
        return f"{where[v]}[{i if size == np.prod(shape) else f'{i} % {size}'}]"

    for node in nodes:
        known[node.output] = OPS[node.op].c.format(*map(operand, node.inputs))
    return known[nodes[-1].output] if nodes else next(iter(known.values()))


# ---- run: compile, load, call ---------------------------------------------------------------------


def build(program: Program) -> Callable[[np.ndarray], np.ndarray]:
    text, arena_floats = emit(program)
    folder = Path(tempfile.mkdtemp())
    (folder / "k.c").write_text(text)
    compiler = [sys.executable, "-m", "ziglang", "cc", "-O2", "-Wall", "-Wextra", "-Werror"]
    command = [
        *compiler,
        "-shared",
        "-fPIC",
        "-o",
        str(folder / "k.so"),
        str(folder / "k.c"),
        "-lm",
    ]
    subprocess.run(command, check=True)
    run = ctypes.CDLL(str(folder / "k.so")).run
    weights = np.concatenate([w.array.ravel() for w in program.weights] or [np.zeros(1)])
    weights = weights.astype(np.float32)
    arena = np.empty(max(arena_floats, 1), np.float32)

    def call(x: np.ndarray) -> np.ndarray:
        x = np.ascontiguousarray(x, np.float32)
        y = np.empty(program.outputs[0].shape, np.float32)
        run(*(ctypes.c_void_p(a.ctypes.data) for a in (x, y, weights, arena)))
        return y

    return call


# ---- the whole way ----------------------------------------------------------------------------------


class Gated(torch.nn.Module):
    """A small model with something to fuse, something to share and something to drop."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.gate = torch.nn.Linear(16, 32), torch.nn.Linear(16, 32)
        self.fc2 = torch.nn.Linear(32, 4)

    def forward(self, x):
        torch.tanh(self.fc1(x))  # nobody uses this
        h = torch.relu(self.fc1(x)) * torch.sigmoid(self.gate(x))
        return torch.tanh(self.fc2(h))


def main() -> None:
    torch.manual_seed(0)
    model, x = Gated().eval(), torch.randn(8, 16)
    program = capture(model, x)
    captured = len(program.nodes)
    for stage in PIPELINE:
        program = stage(program)
    print(program)
    kernels = group(program)
    print(f"{captured} nodes captured, {len(program.nodes)} after passes, {len(kernels)} kernels")
    eager = model(x).detach().numpy()
    for name, run in (("reference", lambda a: evaluate(program, a)), ("engine", build(program))):
        error = float(np.abs(run(x.numpy()) - eager).max())
        print(f"{name}: max abs error against eager {error:.1e}")
        assert error < 32 * 2**-23 * 4, name  # K roundings of values below 4


if __name__ == "__main__":
    main()
