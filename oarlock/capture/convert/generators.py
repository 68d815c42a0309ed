"""Generator functions as functions that give a list: a tape has no suspended frames."""

from __future__ import annotations

import ast
from typing import Any

from oarlock.capture.convert.names import FUNCTIONS
from oarlock.capture.convert.resumable import gives_result

ITEMS = "items_yielded_"
_SHARING = (ast.Global, ast.Nonlocal)


def listed(node: ast.FunctionDef) -> bool:
    """Make ``node`` append what it yields to a list and return that; whether it may be so.

    It may when it yields in statements only, ends by itself, and changes nothing but its variables,
    so that nobody sees that it runs at once.
    """
    inner = [n for statement in node.body for n in ast.walk(statement)]
    if (
        any(map(gives_result, inner))
        or any(map(_is_seen, inner))
        or any(isinstance(n, (*FUNCTIONS, ast.Lambda)) for n in inner)
    ):
        return False
    change = _Change()
    body = [change.visit(statement) for statement in node.body]
    if any(isinstance(n, (ast.Yield, ast.YieldFrom)) for b in body for n in ast.walk(b)):
        return False
    start = ast.Assign([ast.Name(ITEMS, ast.Store())], ast.List([], ast.Load()))
    node.body = [_at(start, body[0]), *body, _at(_result(), body[-1])]
    return True


def _is_seen(node: ast.AST) -> bool:
    """Something that others could notice too early, or that may never end."""
    if isinstance(node, ast.Raise):
        return True
    if isinstance(node, ast.While):
        return isinstance(node.test, ast.Constant)
    if isinstance(node, (ast.Attribute, ast.Subscript)):
        return not isinstance(node.ctx, ast.Load)
    return isinstance(node, _SHARING) or (isinstance(node, ast.Name) and node.id == "print")


class _Change(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> Any:
        if isinstance(node.value, ast.Yield):
            return _at(_call("append", node.value.value or ast.Constant(None)), node)
        if isinstance(node.value, ast.YieldFrom):
            inner = node.value.value
            if isinstance(inner, ast.GeneratorExp):
                inner = _at(ast.ListComp(inner.elt, inner.generators), inner)
            return _at(_call("extend", inner), node)
        return node

    def visit_Return(self, node: ast.Return) -> Any:
        return _at(_result(), node)


def _call(name: str, value: ast.expr) -> ast.Expr:
    method = ast.Attribute(ast.Name(ITEMS, ast.Load()), name, ast.Load())
    return ast.Expr(ast.Call(method, [value], []))


def _result() -> ast.Return:
    return ast.Return(ast.Name(ITEMS, ast.Load()))


def _at(new: Any, like: ast.AST) -> Any:
    for node in ast.walk(new):
        if isinstance(node, (ast.expr, ast.stmt)) and not hasattr(node, "lineno"):
            ast.copy_location(node, like)
    return new
