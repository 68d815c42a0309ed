"""Walks over syntax trees, several times faster than those of ``ast``."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator

_NO_NODES = ("ctx", "op", "ops", "id", "attr", "kind", "type_comment", "level", "module", "simple")


@functools.cache
def parts(kind: type[ast.AST]) -> tuple[str, ...]:
    """The fields of a kind of node that may hold other nodes, operators and contexts left out."""
    return tuple(field for field in kind._fields if field not in _NO_NODES)


def below(node: ast.AST) -> list[ast.AST]:
    """The nodes in the fields of a node, without operators and contexts."""
    found: list[ast.AST] = []
    for field in parts(type(node)):
        value = getattr(node, field, None)
        if type(value) is list:
            found += [x for x in value if isinstance(x, ast.AST)]
        elif isinstance(value, ast.AST):
            found.append(value)
    return found


def every_node(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """All nodes, those of inner scopes too, without operators and contexts."""
    stack = list(nodes)
    while stack:
        node = stack.pop()
        yield node
        stack += below(node)


def locate(tree: ast.AST) -> None:
    """What ``ast.fix_missing_locations`` does."""
    stack: list[tuple[ast.AST, tuple[int, int, int, int]]] = [(tree, (1, 0, 1, 0))]
    while stack:
        node, place = stack.pop()
        if node._attributes:
            place = _located(node.__dict__, place)
        stack += [(inner, place) for inner in below(node)]


def _located(mine: dict[str, int], around: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """The place of a node, which gets what it lacks from the node around it."""
    line, column = mine.setdefault("lineno", around[0]), mine.setdefault("col_offset", around[1])
    if mine.get("end_lineno") is None:
        mine["end_lineno"] = around[2]
    if mine.get("end_col_offset") is None:
        mine["end_col_offset"] = around[3]
    return line, column, mine["end_lineno"], mine["end_col_offset"]
