"""Check a program against the rules of the IR, all problems at once."""

from __future__ import annotations

from collections.abc import Iterator

from oarlock.errors import InvalidProgram, ParseError, TypeMismatch
from oarlock.ir import scope
from oarlock.ir.graph import Graph, Node, Program, Value
from oarlock.ir.types import DType, TensorType, bool_, i64


def verify(program: Program, *, with_params: bool = True) -> Program:
    """Return the program.

    Args: with_params: also check the arrays of the params against the types in the graph.
    Raises: InvalidProgram with every problem, one line each.
    """
    problems = list(_graph_problems(program.graph, "graph"))
    problems += _symbol_problems(program) + _state_problems(program)
    problems += _signature_problems(program)
    if with_params:
        problems += _param_problems(program)
    if problems:
        raise InvalidProgram(
            "\n".join(["the program is not valid:", *(f"  {p}" for p in problems)])
        )
    return program


def _graph_problems(graph: Graph, where: str, around: frozenset[str] = frozenset()) -> list[str]:
    """``around``: labels of the graphs that nodes in here may call."""
    problems: list[str] = []
    known: set[Value] = set(graph.inputs)
    if len(known) != len(graph.inputs):
        problems.append(f"{where}: an input appears twice")
    for i, node in enumerate(graph.nodes):
        here = f"{where}, node {i} {node.name}" + (f" ({node.origin})" if str(node.origin) else "")
        problems += [
            f"{here}: input {k} is not defined before it"
            for k, v in enumerate(node.inputs)
            if v not in known
        ]
        problems += _type_problems(node, here)
        if node.op.calls and node.op.calls not in around:
            problems.append(f"{here}: no graph {node.op.calls!r} around it")
        for k, inner in enumerate(node.graphs):
            labels = around | ({node.op.defines} if node.op.defines else set())
            problems += _graph_problems(inner, f"{here}, graph {k}", labels)
        known.update(node.outputs)
    problems += [
        f"{where}: output {k} is not defined" for k, v in enumerate(graph.outputs) if v not in known
    ]
    return problems


def _type_problems(node: Node, here: str) -> list[str]:
    try:
        types = node.op.infer_types([v.type for v in node.inputs], node.graphs)
    except TypeMismatch as error:
        return [f"{here}: {error}"]
    got = tuple(v.type for v in node.outputs)
    return [] if got == types else [f"{here}: types {got}, expected {types}"]


def _symbol_problems(program: Program) -> list[str]:
    used = program.graph.symbols()
    missing = [name for name in used if name not in program.dims]
    found = [f"dim {name} has no range in the program" for name in missing]
    return found + scope.problems(program)


def _state_problems(program: Program) -> list[str]:
    problems = []
    types = _param_types(program)
    for state in program.state:
        if state.output >= len(program.graph.outputs):
            problems.append(f"state {state.name!r}: no output {state.output}")
        elif state.name in types and program.graph.outputs[state.output].type != types[state.name]:
            got = program.graph.outputs[state.output].type
            problems.append(f"state {state.name!r}: expected {types[state.name]}, got {got}")
    return problems


def _param_types(program: Program) -> dict[str, TensorType]:
    return {n.op.key: n.op.type for n in program.graph.walk() if n.name == "param"}


def _param_problems(program: Program) -> list[str]:
    problems = []
    for key, type in _param_types(program).items():
        array = program.params.get(key)
        if array is None:
            problems.append(f"param {key!r}: expected {type}, got no array")
        elif array.dtype != type.dtype.numpy or tuple(array.shape) != tuple(type.shape):
            got = f"{array.dtype}{list(array.shape)}"
            problems.append(f"param {key!r}: expected {type}, got {got}")
    return problems


MAX_TREE_DEPTH = 64


def _signature_problems(program: Program) -> list[str]:
    signature, inputs = program.signature, len(program.graph.inputs)
    outputs = len(program.result_outputs)
    problems: list[str] = []
    names = signature.names
    if names and (len(names) != inputs or len(set(map(str, names))) != inputs):
        problems.append(f"signature: names {names}, expected {inputs} different ones")
    problems += [f"signature: name {n!r} is not text" for n in names if not _is_text(n)]
    for where, tree in enumerate(signature.args):
        problems += _tree_problems(tree, f"argument {where}", inputs, program)
    for name, tree in signature.kwargs:
        problems += [] if _is_text(name) else [f"signature: argument name {name!r} is not text"]
        problems += _tree_problems(tree, f"argument {name!r}", inputs, program)
    if signature.result is not None:
        problems += _tree_problems(signature.result, "result", outputs, program)
    return problems[:20]


def _tree_problems(tree: object, where: str, count: int, program: Program) -> list[str]:
    stack = [(tree, 0)]
    while stack:
        node, depth = stack.pop()
        if not isinstance(node, dict) or depth > MAX_TREE_DEPTH:
            return [f"signature, {where}: not a tree of at most {MAX_TREE_DEPTH} levels"]
        children = _children(node, count, program)
        if children is None:
            return [f"signature, {where}: bad tree {str(node)[:80]}"]
        stack += [(child, depth + 1) for child in children]
    return []


def _children(node: dict, count: int, program: Program) -> list | None:
    """The sub-trees of a tree's root; None when the root is malformed."""
    kind = next(iter(node), None)
    value = node.get(kind)
    if kind == "record" and node.keys() == {"record", "fields"}:
        return _pairs(node["fields"]) if _is_text(value) else None
    if kind == "optional" and node.keys() == {"optional", "tree"}:
        return [node["tree"]] if _is_scalar(value, count, bool_, program) else None
    if kind == "choice" and node.keys() == {"choice", "options"}:
        options = node["options"]
        is_list = isinstance(options, (list, tuple)) and _is_scalar(value, count, i64, program)
        are_plain = is_list and all(isinstance(x, dict) and list(x) == ["const"] for x in options)
        return list(options) if are_plain else None
    if kind == "part":  # inside rows
        return [] if _is_part(node, program) else None
    if len(node) != 1:
        return None
    if kind == "leaf":
        return [] if type(value) is int and 0 <= value < count else None
    if kind == "rows":
        return [value] if isinstance(value, dict) and _holds_rows(value, program) else None
    if kind == "const":
        plain = value is None or isinstance(value, (bool, int, float)) or _is_text(value)
        return [] if plain else None
    if kind == "size":
        return [] if _is_size(value, program) else None
    if kind == "dict":
        return _pairs(value)
    return list(value) if kind in ("tuple", "list") and isinstance(value, (list, tuple)) else None


def _holds_rows(tree: dict, program: Program) -> bool:
    """The tree holds tensors of the result, each with a first axis."""
    outputs, stack, found = program.result_outputs, [(tree, 0)], []
    while stack:
        node, depth = stack.pop()
        if not isinstance(node, dict) or depth > MAX_TREE_DEPTH:
            return False
        kind = next(iter(node), None)
        if kind == "leaf":
            found.append(node["leaf"])
        elif kind == "part" and _is_part(node, program):
            found.append(node["sizes"])
        elif kind == "optional" and node.keys() == {"optional", "tree"}:
            found.append(node["optional"])
            stack.append((node["tree"], depth + 1))
        elif kind == "rows" and list(_kinds(node[kind])) == ["part"]:
            stack.append((node[kind], depth + 1))
        elif kind in ("tuple", "list") and isinstance(node[kind], (list, tuple)):
            stack += [(child, depth + 1) for child in node[kind]]
        else:
            return False
    inside = [i for i in found if type(i) is int and 0 <= i < len(outputs)]
    return bool(found) and len(inside) == len(found) and all(outputs[i].rank for i in found)


def _is_scalar(index: object, count: int, dtype: DType, program: Program) -> bool:
    """A tensor of the result with one element, for each row inside of rows."""
    outputs = program.result_outputs
    if type(index) is not int or not 0 <= index < min(count, len(outputs)):
        return False
    return outputs[index].dtype is dtype and outputs[index].rank <= 1


def _kinds(tree: object) -> Iterator[str]:
    """What the tensors in a tree of rows are, each kind once."""
    stack, seen = [(tree, 0)], set()
    while stack:
        node, depth = stack.pop()
        kind = next(iter(node), "") if isinstance(node, dict) and depth <= MAX_TREE_DEPTH else ""
        inside = node[kind] if isinstance(node, dict) and kind in ("tuple", "list") else None
        if isinstance(inside, (list, tuple)):
            stack += [(child, depth + 1) for child in inside]
        elif kind not in seen:
            seen.add(kind)
            yield kind


def _is_part(node: dict, program: Program) -> bool:
    """Slices of a tensor of the result, as many as another one says."""
    if node.keys() != {"part", "sizes", "axis"}:
        return False
    outputs, numbers = program.result_outputs, list(node.values())
    if any(type(x) is not int or x < 0 for x in numbers):
        return False
    if max(node["part"], node["sizes"]) >= len(outputs):
        return False
    data, sizes = outputs[node["part"]], outputs[node["sizes"]]
    return sizes.rank == 1 and sizes.dtype is i64 and node["axis"] < data.rank


def _pairs(value: object) -> list | None:
    if not isinstance(value, (list, tuple)):
        return None
    plain = all(
        isinstance(p, (list, tuple))
        and len(p) == 2
        and (_is_text(p[0]) or isinstance(p[0], (int, float)))
        for p in value
    )
    return [tree for _, tree in value] if plain else None


def _is_text(value: object) -> bool:
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def _is_size(value: object, program: Program) -> bool:
    from oarlock.ir.parser import parse_size

    try:
        return isinstance(value, str) and parse_size(value, program.dims) is not None
    except ParseError:
        return False
