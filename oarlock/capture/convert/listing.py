"""The converted source of a function, to read: each statement with the line it comes from."""

from __future__ import annotations

import ast
from pathlib import Path


def listing(tree: ast.FunctionDef, file: str) -> str:
    """Python text; the comment at the end of a line is the user's file and line."""
    ast.fix_missing_locations(tree)
    text = ast.unparse(tree).splitlines()
    again = ast.parse("\n".join(text)).body[0]
    lines: dict[int, int] = {}
    _match(tree, again, lines)
    name = Path(file).name
    width = min(max(map(len, text), default=0), 88)
    return "\n".join(
        f"{line:<{width}}  # {name}:{lines[i]}" if i in lines else line
        for i, line in enumerate(text, 1)
    )


def _match(ours: ast.AST, printed: ast.AST, lines: dict[int, int]) -> None:
    """Pairs statements of a tree with those of its printed text."""
    if isinstance(ours, (ast.stmt, ast.ExceptHandler)):
        lines.setdefault(printed.lineno, ours.lineno)  # pyright: ignore
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        mine, theirs = getattr(ours, field, None), getattr(printed, field, None)
        if isinstance(mine, list) and isinstance(theirs, list):
            for a, b in zip(mine, theirs):
                _match(a, b, lines)
