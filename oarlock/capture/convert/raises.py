"""``raise`` below a decision inside ``try``: a jump to the handlers rather than an error.

``try: if c: raise E(x); rest`` / ``except E: h`` becomes ``try: if c: raised = True; else: rest`` /
``except E: h`` / ``if raised: try: raise E(x)`` / ``except E: h``, so that both ways of a decision on
data can be followed.  What the error says is computed after the jump, from variables that stay.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

from oarlock.capture.convert.source import copy_tree

_BLOCKS = (ast.If, ast.While, ast.For)


def mark(node: ast.Try, fresh: Callable[[str], str]) -> list[tuple[str, ast.Raise]]:
    """Give each ``raise`` that the handlers of ``node`` may catch a ``flag``; flags and statements.

    Args: fresh: makes the name of a flag.
    """
    found = list(_raises(_inner(node)))
    if not node.handlers or not any(inside for _, inside in found):
        return []
    sites = []
    for statement, _ in found:
        statement.flag = fresh("raised")  # type: ignore
        sites.append((statement.flag, statement))  # type: ignore
    return sites


def _inner(node: ast.Try) -> list[ast.stmt]:
    """The user's statements: conversion puts them into a ``with`` that tells of the handlers."""
    first = node.body[0]
    return first.body if getattr(first, "tells", False) else node.body  # type: ignore


def _raises(body: list[ast.stmt], inside: bool = False) -> Iterator[tuple[ast.Raise, bool]]:
    """Each ``raise`` of a new error that leaves through nothing but ifs and loops."""
    for node in body:
        if isinstance(node, ast.Raise) and node.exc is not None and not hasattr(node, "flag"):
            yield node, inside
        elif isinstance(node, _BLOCKS):
            yield from _raises([*node.body, *node.orelse], True)


def handled(node: ast.Try, statement: ast.Raise) -> ast.Try:
    """The ``try`` that raises at once what ``statement`` of its body raises."""
    raised = ast.copy_location(ast.Raise(statement.exc, statement.cause), statement)
    again = node.__class__([raised], copy_tree(node.handlers), [], [])
    return ast.copy_location(again, node)
