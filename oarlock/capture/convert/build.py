"""Small syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from typing import Any

OPERATORS = "_ol"  # the variable that holds the operators in converted code
GENERATED = "_ol_"  # how every other name of ours begins


def load(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


def store(name: str) -> ast.Name:
    return ast.Name(name, ast.Store())


def constant(value: Any) -> ast.Constant:
    return ast.Constant(value)


def operator(name: str) -> ast.Attribute:
    return ast.Attribute(load(OPERATORS), name, ast.Load())


def apply(name: str, *args: ast.expr) -> ast.Call:
    """``_ol.name(args)``"""
    return ast.Call(operator(name), list(args), [])


def call(name: str, *args: ast.expr) -> ast.Call:
    """``name(args)``"""
    return ast.Call(load(name), list(args), [])


def assign(name: str, value: ast.expr) -> ast.Assign:
    return ast.Assign([store(name)], value)


def assign_many(names: Sequence[str], value: ast.expr) -> ast.Assign:
    return ast.Assign([ast.Tuple([store(n) for n in names], ast.Store())], value)


def tuple_of(items: Iterable[ast.expr]) -> ast.Tuple:
    return ast.Tuple(list(items), ast.Load())


def texts(names: Iterable[str]) -> ast.Tuple:
    return tuple_of(constant(n) for n in names)


def no_arguments() -> ast.arguments:
    return ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])


def one_argument(name: str) -> ast.arguments:
    args = [ast.arg(name)]
    return ast.arguments(posonlyargs=[], args=args, kwonlyargs=[], kw_defaults=[], defaults=[])


def thunk(body: ast.expr) -> ast.Lambda:
    """``lambda: body``, marked as ours: it runs where it stands, if at all."""
    made = ast.Lambda(no_arguments(), body)
    made.ours = True  # pyright: ignore[reportAttributeAccessIssue]
    return made


def define(name: str, arguments: ast.arguments, body: list[ast.stmt]) -> ast.FunctionDef:
    made = ast.FunctionDef(name, arguments, body or [ast.Pass()], [])
    if hasattr(made, "type_params") or "type_params" in ast.FunctionDef._fields:
        made.type_params = []  # pyright: ignore[reportAttributeAccessIssue]
    return made


def at(new: Any, old: ast.AST) -> Any:
    """``new`` at the place of ``old``."""
    return ast.copy_location(new, old)


def is_ours(node: ast.AST) -> bool:
    return getattr(node, "ours", False)
