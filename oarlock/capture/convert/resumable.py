"""Generator functions with one loop as functions that go on where they are: a tape has no frames.

``n = 0`` / ``while True: n += 1; yield n; rest`` becomes a function of what follows the last ``yield``
up to the next one, whose variables are those of the generator.
"""

from __future__ import annotations

import ast

from oarlock.capture.convert.build import (
    apply,
    assign,
    at,
    constant,
    load,
    no_arguments,
    one_argument,
)
from oarlock.capture.convert.names import FUNCTIONS, bound, own_nodes
from oarlock.capture.convert.scope import parameters

_YIELDS = (ast.Yield, ast.YieldFrom, ast.Await)
FIRST, DONE, ITEM, SENT, STEP = (
    f"{name}_yielded_" for name in ("first", "done", "item", "sent", "step")
)


def resumed(node: ast.FunctionDef) -> bool:
    """Make ``node`` give a function for the next item; whether it is a generator with one loop whose
    body yields once."""
    found = _parts(node.body)
    if found is None or any(isinstance(n, (ast.Global, ast.Nonlocal)) for n in ast.walk(node)):
        return False
    start, loop, before, item, target, after, end = found
    names = sorted(bound(node.body) | {FIRST, DONE, ITEM})
    goes = [ast.Assign([target], load(SENT)), *after] if target is not None else after
    early = start if not any(isinstance(n, ast.Call) for n in own_nodes(start)) else []
    late = [] if early else start
    done = [assign(DONE, constant(True)), *end, ast.Return(constant(False))]
    body: list[ast.stmt] = [
        ast.Nonlocal(names),
        ast.If(load(DONE), [ast.Return(constant(False))], []),
        ast.If(load(FIRST), [assign(FIRST, constant(False)), *late], goes),
        ast.If(loop.test, [*before, assign(ITEM, item), ast.Return(constant(True))], done),
    ]
    body = [_Returns().visit(s) if i > 1 else s for i, s in enumerate(body)]
    step = ast.FunctionDef(STEP, one_argument(SENT), _flat(body), [])
    given = set(parameters(node.args))
    first = [assign(n, constant(None)) for n in names if n not in given]
    read = ast.Lambda(no_arguments(), load(ITEM))
    made = apply("resumed", load(STEP), read)
    made.converted = True  # pyright: ignore[reportAttributeAccessIssue]
    marks = [assign(FIRST, constant(True)), assign(DONE, constant(False))]
    body = [*first, *early, *marks, step, ast.Return(made)]
    node.body = [_at(s, loop) for s in body]
    return True


def _parts(body: list[ast.stmt]) -> tuple | None:
    """Before the loop, the loop, its body before the item, the item, what gets the value that is sent,
    the rest of the body, and after the loop."""
    loops = [i for i, s in enumerate(body) if _yields([s])]
    if len(loops) != 1 or not isinstance(body[loops[0]], ast.While) or body[loops[0]].orelse:
        return None
    loop: ast.While = body[loops[0]]  # pyright: ignore[reportAssignmentType]
    places = [i for i, s in enumerate(loop.body) if _yields([s])]
    jumps = (ast.Break, ast.Continue, *FUNCTIONS, ast.Lambda)
    if (
        len(places) != 1
        or _yields([loop.test])
        or any(isinstance(n, jumps) for n in ast.walk(loop))
    ):
        return None
    at_item = loop.body[places[0]]
    value = getattr(at_item, "value", None)
    is_plain = isinstance(at_item, (ast.Expr, ast.Assign)) and isinstance(value, ast.Yield)
    if not is_plain or (value.value is not None and _yields([value.value])):
        return None
    targets = getattr(at_item, "targets", [None])
    if len(targets) != 1:
        return None
    item = value.value or constant(None)
    before, after = loop.body[: places[0]], loop.body[places[0] + 1 :]
    return body[: loops[0]], loop, before, item, targets[0], after, body[loops[0] + 1 :]


def _yields(nodes: list[ast.AST]) -> bool:
    return any(isinstance(n, _YIELDS) for n in own_nodes(nodes))


class _Returns(ast.NodeTransformer):
    """``return`` of the generator: it is done."""

    def visit_Return(self, node: ast.Return) -> list[ast.stmt] | ast.Return:
        value = node.value
        if (
            isinstance(value, ast.Constant)
            and type(value.value) is bool
            and not hasattr(node, "lineno")
        ):
            return node
        return [_at(assign(DONE, constant(True)), node), _at(ast.Return(constant(False)), node)]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        return node


def _flat(body: list) -> list[ast.stmt]:
    return [x for s in body for x in (s if isinstance(s, list) else [s])]


def _at(new: ast.stmt, like: ast.AST) -> ast.stmt:
    for node in ast.walk(new):
        if isinstance(node, (ast.expr, ast.stmt, ast.arg)) and not hasattr(node, "lineno"):
            at(node, like)
    return new
