"""The numpy reference executor: what every other executor is measured against."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from oarlock.errors import CompilerBug, InputError
from oarlock.ir import scope
from oarlock.ir.dim import Dim, Size, evaluate_size, solve_linear
from oarlock.ir.graph import Graph, Node, Program, Value
from oarlock.ir.signature import rebuild
from oarlock.ir.types import TensorType, decode, encode

Observer = Callable[[Node, Sequence[np.ndarray]], None]


def evaluate(program: Program, *inputs: Any, observe: Observer | None = None, **named: Any) -> Any:
    """Run ``program`` on arrays; the structure that the captured function returned.

    Args: inputs, named: the program's tensor inputs in order, or by name; arrays in storage types
    (bf16 as uint16); observe: called with every node and its output arrays.
    Raises: InputError naming the input.
    """
    arrays = match_inputs(program, inputs, named)
    env = solve_dims(program, arrays)
    _check_branches(program.graph, env)
    outputs = _run(program.graph, program.params, env, arrays, observe)
    hidden = {state.output for state in program.state}
    results = [x for i, x in enumerate(outputs) if i not in hidden]
    return rebuild(program.signature.result, results, lambda text: size_of_text(text, program, env))


def match_inputs(
    program: Program, inputs: Sequence[Any], named: Mapping[str, Any]
) -> list[np.ndarray]:
    """Arrays in the order of the graph's inputs.  Raises: InputError."""
    names = input_names(program)
    if len(inputs) > len(names):
        raise InputError(f"expected {len(names)} inputs ({', '.join(names)}), got {len(inputs)}")
    given = dict(zip(names, inputs))
    for name, x in named.items():
        if name not in names:
            raise InputError(f"no input {name!r}; expected {', '.join(names)}", name)
        if name in given:
            raise InputError(f"input {name!r} is given twice", name)
        given[name] = x
    for name in names:
        if name not in given:
            raise InputError(f"input {name!r} is missing; expected {', '.join(names)}", name)
    return [
        check_input(name, value.type, given[name])
        for name, value in zip(names, program.graph.inputs)
    ]


def input_names(program: Program) -> list[str]:
    """Names of the graph's inputs."""
    if program.signature.names:
        return list(program.signature.names)
    return [v.name or f"input{i}" for i, v in enumerate(program.graph.inputs)]


def check_input(name: str, type: TensorType, x: Any) -> np.ndarray:
    """The array, its element type and rank checked.  Raises: InputError."""
    array = np.asarray(x)
    if array.dtype != type.dtype.numpy:
        raise InputError(f"input {name!r}: expected {type}, got {array.dtype}", name)
    if array.ndim != type.rank:
        got = f"{type.dtype}{list(array.shape)}"
        raise InputError(f"input {name!r}: expected {type} of rank {type.rank}, got {got}", name)
    return array


def solve_dims(program: Program, arrays: Sequence[np.ndarray]) -> dict[str, int]:
    """Values of the symbols from the shapes.  Raises: InputError when they do not agree."""
    env: dict[str, int] = {}
    names = input_names(program)
    for name, value, array in zip(names, program.graph.inputs, arrays):
        for axis, (size, got) in enumerate(zip(value.shape, array.shape)):
            if isinstance(size, Dim) and size.is_symbol and size.name not in env:
                _check_range(program.dims.get(size.name, size), got, name, axis)
                env[size.name] = got
    for name, value, array in zip(names, program.graph.inputs, arrays):
        for axis, (size, got) in enumerate(zip(value.shape, array.shape)):
            unknown = size.symbols() - env.keys() if isinstance(size, Dim) else set()
            if len(unknown) == 1:
                (symbol,) = unknown
                found = solve_linear(size, symbol, env, got)
                if found is None:
                    raise InputError(f"input {name!r}: axis {axis} is {got}, expected {size}", name)
                _check_range(program.dims.get(symbol, Dim(symbol)), found, name, axis)
                env[symbol] = found
    for name, value, array in zip(names, program.graph.inputs, arrays):
        for axis, (size, got) in enumerate(zip(value.shape, array.shape)):
            _check_size(size, got, env, name, axis, value.type)
    return env


def _check_range(dim: Dim, got: int, name: str, axis: int) -> None:
    low, high = dim.bounds()
    if got < low or (high is not None and got > high):
        top = "inf" if high is None else high
        raise InputError(
            f"input {name!r}: axis {axis} is {got}; dim {dim.name} is in [{low}, {top}]", name
        )


def _check_size(
    size: Size, got: int, env: Mapping[str, int], name: str, axis: int, type: TensorType
) -> None:
    expected = size.evaluate(env) if isinstance(size, Dim) else size
    if expected != got:
        where = f" ({size} with {_values(env)})" if isinstance(size, Dim) else ""
        raise InputError(
            f"input {name!r}: expected {type}, axis {axis} of size {expected}{where}; got {got}",
            name,
        )


def size_of_text(text: str, program: Program, env: Mapping[str, int]) -> int:
    """The value of a size printed in a signature."""
    from oarlock.ir.parser import parse_size

    size = parse_size(text, program.dims)
    return size.evaluate(env) if isinstance(size, Dim) else size


def evaluate_graph(
    graph: Graph,
    params: Mapping[str, np.ndarray],
    env: Mapping[str, int],
    arrays: Sequence[np.ndarray],
    observe: Observer | None = None,
) -> list[np.ndarray]:
    """Run one graph; arrays in and out are storage arrays."""
    return _run(graph, params, dict(env), arrays, observe)


def _run(
    graph: Graph,
    params: Mapping[str, np.ndarray],
    env: dict[str, int],
    arrays: Sequence[np.ndarray],
    observe: Observer | None,
) -> list[np.ndarray]:
    """Run one graph; the symbols that it binds are added to ``env``."""
    bind_shapes(graph.inputs, arrays, env)
    known: dict[Value, np.ndarray] = dict(zip(graph.inputs, arrays))
    last_use = {v: i for i, node in enumerate(graph.nodes) for v in node.inputs}
    keep = set(graph.outputs)
    for i, node in enumerate(graph.nodes):
        results = _evaluate_node(node, [known[v] for v in node.inputs], params, env, observe)
        if observe is not None:
            observe(node, results)
        known.update(zip(node.outputs, results))
        for v in node.inputs:
            if last_use[v] == i and v not in keep:
                known.pop(v, None)
    return [known[v] for v in graph.outputs]


def bind_shapes(values: Sequence[Value], arrays: Sequence[np.ndarray], env: dict[str, int]) -> None:
    """Give symbols that have no value yet the sizes of the arrays.  Raises: InputError."""
    for value, array in zip(values, arrays):
        for size, got in zip(value.shape, array.shape):
            if isinstance(size, Dim) and size.is_symbol and size.name not in env:
                bind_symbol(size, got, env)


def bind_symbol(size: Dim, got: int, env: dict[str, int]) -> None:
    """Give one symbol its value.  Raises: InputError when it is out of its range."""
    low, high = size.bounds()
    if got < low or (high is not None and got > high):
        top = "inf" if high is None else high
        raise InputError(f"size {size} is {got}; expected in [{low}, {top}]")
    env[size.name] = got


def _evaluate_node(
    node: Node,
    arrays: Sequence[np.ndarray],
    params: Mapping[str, np.ndarray],
    env: dict[str, int],
    observe: Observer | None,
) -> list[np.ndarray]:
    if node.name == "param":
        return [params[node.op.key]]
    op = node.op.bind(env)
    if node.op.has_graphs:

        def run(graph: Graph, *args: np.ndarray) -> list[np.ndarray]:
            return evaluate_graph(graph, params, env, args, observe)

        results = list(op.reference_graphs(run, node.graphs, *arrays))
        bind_shapes(node.outputs, results, env)
        return results
    _check_limits(node, env)
    with np.errstate(all="ignore"):
        decoded = [decode(x, v.dtype) for x, v in zip(arrays, node.inputs)]
        results = op.reference(*decoded)
    results = results if isinstance(results, tuple) else (results,)
    bind_results(node, arrays, results, env)
    return [_store(node, v, x, env) for v, x in zip(node.outputs, results)]


def bind_results(
    node: Node, arrays: Sequence[np.ndarray], results: Sequence[Any], env: dict[str, int]
) -> None:
    """Give the symbols that ``node`` binds their values.  Raises: InputError."""
    if not node.op.binds:
        return
    dims = {str(size): size for size in node.op.attributes.values() if isinstance(size, Dim)}
    for name, value in node.op.bound(arrays).items():
        bind_symbol(dims[name], value, env)
    bind_shapes(node.outputs, [np.asarray(x) for x in results], env)


def _check_branches(graph: Graph, env: Mapping[str, int]) -> None:
    """Sizes must fit every sub-graph, whether it runs or not: an engine plans memory for all of them.

    Raises: InputError.
    """
    for node in (n for outer in graph.nodes for inner in outer.graphs for n in inner.walk()):
        if scope.uses(node) <= env.keys():
            _check_limits(node, env)


def _check_limits(node: Node, env: Mapping[str, int]) -> None:
    """Raises: InputError when the sizes of this run do not fit the op."""
    for spare, why in node.op.excesses([v.type for v in node.inputs]):
        if evaluate_size(spare, env) < 0:
            raise InputError(f"{node.name}: expected {why}, with {_values(env)}")
    for size in (s for v in node.outputs for s in v.shape if isinstance(s, Dim)):
        if not node.op.binds and size.evaluate(env) < 0:
            raise InputError(f"{node.name}: a size of {size} is negative, with {_values(env)}")


def _values(env: Mapping[str, int]) -> str:
    return ", ".join(f"{k}={v}" for k, v in env.items())


def _store(node: Node, value: Value, x: np.ndarray, env: Mapping[str, int]) -> np.ndarray:
    with np.errstate(all="ignore"):
        array = encode(np.asarray(x), value.dtype)
    shape = value.type.concrete(env).shape
    if array.shape != shape:
        raise CompilerBug(
            f"{node.name}: reference gives {array.shape}, inferred {shape}", str(node)
        )
    return array
