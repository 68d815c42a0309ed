"""One definition through all passes, in AutoGraph's order.

Source: Moldovan et al., AutoGraph: Imperative-style Coding with Graph-based Performance (2019).
"""

from __future__ import annotations

import ast

from oarlock.capture.convert.blocks import Blocks
from oarlock.capture.convert.jumps import Jumps
from oarlock.capture.convert.names import free
from oarlock.capture.convert.scope import Scope, Unit, place
from oarlock.capture.convert.statements import Statements
from oarlock.capture.convert.watching import watched_function


class Converter(Statements):
    """Statements and expressions, with functions inside converted like the one around them."""

    def define_function(self, node: ast.FunctionDef, inner: bool = False) -> ast.FunctionDef:
        return convert_definition(node, self.scope.unit, self.scope, inner)


def convert_definition(
    node: ast.FunctionDef, unit: Unit, parent: Scope | None, ours: bool = False,
    is_failing: bool = False,
) -> ast.FunctionDef:  # fmt: skip
    """``node``, converted in place.

    Args: ours: it is called where it stands, and only there; is_failing: see ``attempts``.
    """
    names = free(node)
    scope = Scope.of(node, unit, parent)
    scope.is_failing = is_failing
    for arg in ast.walk(node.args):
        if isinstance(arg, ast.arg):
            arg.annotation = None
    node.returns = None
    statements = node.body
    doc = statements[:1] if ast.get_docstring(node, clean=False) is not None else []
    body = statements[len(doc) :]
    converter = Converter(scope)
    if is_failing:
        body = watched_function(body, converter.temporary)
    body = converter.block(body)
    body = Jumps(scope).function(body)
    body = Blocks(scope).function(body)
    outside = scope.declare(sorted(scope.nonlocals | scope.globals))
    head = place([*outside, *scope.definitions()], node)
    node.body = [*doc, *head, *body] or [ast.Pass()]
    node.free_names, node.ours = names, ours  # pyright: ignore[reportAttributeAccessIssue]
    return node


class Mangler(ast.NodeTransformer):
    """Private names as the class around them spells them."""

    def __init__(self, owner: str) -> None:
        self.prefix = f"_{owner.lstrip('_')}"

    def name(self, name: str) -> str:
        private = name.startswith("__") and not name.endswith("__") and "." not in name
        return self.prefix + name if private else name

    def generic_visit(self, node: ast.AST) -> ast.AST:
        for key in ("id", "attr", "arg", "name", "asname", "rest"):
            value = getattr(node, key, None)
            if isinstance(value, str):
                setattr(node, key, self.name(value))
        if isinstance(node, (ast.Global, ast.Nonlocal)):
            node.names = [self.name(n) for n in node.names]
        return super().generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return node  # mangles for itself
