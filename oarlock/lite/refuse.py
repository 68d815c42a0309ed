"""What keeps a program from becoming C: all of it, before anything is written."""

from __future__ import annotations

from collections.abc import Mapping

from oarlock.errors import UnknownName, UnsupportedError, UserError
from oarlock.ir import Dim, Node, Program
from oarlock.ir.graph import clone_graph


def fix_dims(program: Program, dims: Mapping[str, int]) -> Program:
    """The program with every dim at a size: those not in ``dims`` at the smallest above 0.

    Raises: UnknownName for a dim that there is not; UserError for sizes out of range;
    UnsupportedError with every node whose sizes the run decides.
    """
    _refuse([p for node in program.graph.walk() for p in _run_time_problems(node)])
    unknown = [name for name in dims if name not in program.dims]
    if unknown:
        known = ", ".join(program.dims) or "none"
        raise UnknownName(f"no dim {', '.join(map(repr, unknown))}; the dims are {known}")
    env = {name: dims.get(name, _smallest(dim)) for name, dim in program.dims.items()}
    wrong = [
        f"{name}={env[name]}: expected {_range(dim)}"
        for name, dim in program.dims.items()
        if not _holds(dim, env[name])
    ]
    if wrong:
        raise UserError("sizes out of range: " + "; ".join(wrong))
    return program.replace(graph=clone_graph(program.graph, env), dims={})


def _smallest(dim: Dim) -> int:
    low, high = dim.bounds()
    return low if high == 0 else max(low, 1)


def _holds(dim: Dim, size: int) -> bool:
    low, high = dim.bounds()
    return low <= size and (high is None or size <= high)


def _range(dim: Dim) -> str:
    low, high = dim.bounds()
    return f"{low} or more" if high is None else f"{low} to {high}"


def _run_time_problems(node: Node) -> list[str]:
    where = f"  {node.origin}".rstrip()
    if node.op.binds:
        return [f"{node.name}: the run decides the size {', '.join(node.op.binds)}{where}"]
    return [f"{node.name}: a check while the program runs{where}"] if node.op.effect else []


def _refuse(problems: list[str]) -> None:
    """Raises: UnsupportedError."""
    if problems:
        count = f"{len(problems)} node{'s' if len(problems) > 1 else ''}"
        raise UnsupportedError(f"{count} cannot become C:", problems)


def check(program: Program) -> None:
    """Raises: UnsupportedError with every node that has no C."""
    problems = []
    for node in program.graph.walk():
        if node.name == "aten_call":
            target = node.op.target  # type: ignore[attr-defined]
            problems.append(f"{target} runs in PyTorch alone  {node.origin}".rstrip())
        problems += [
            f"{node.name} gives {v.type}: its sizes are not fixed  {node.origin}".rstrip()
            for v in node.outputs
            if any(isinstance(size, Dim) for size in v.shape)
        ]
    _refuse(problems)
