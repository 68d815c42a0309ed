"""Generator functions as functions that go on where they are: a tape has no frames.

The variables of the generator are those of a function around ``step``, which does what follows the
last ``yield`` up to the next one: of each ``yield``, the rest of the blocks and loops around it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from oarlock.capture.convert.build import (
    apply,
    assign,
    at,
    constant,
    load,
    no_arguments,
    one_argument,
    store,
)
from oarlock.capture.convert.names import FUNCTIONS, bound, own_nodes
from oarlock.capture.convert.scope import parameters

PLACES = 6  # where a generator may yield: what follows is written out for each
_YIELDS = (ast.Yield, ast.YieldFrom, ast.Await)
_LOOPS = (ast.For, ast.While)
_JUMPS = (ast.Break, ast.Continue)
_NAMED = "{}_yielded_"
FIRST, DONE, AT, ITEM, SENT, STEP, LEFT = map(
    _NAMED.format, ("first", "done", "at", "item", "sent", "step", "left")
)


def resumed(node: ast.FunctionDef) -> bool:
    """Make ``node`` give what a tracer can follow; whether it yields in statements only, in no ``try``
    or ``with``, and at a few places."""
    if not all(map(_is_followed, node.body)) or any(map(gives_result, own_nodes(node.body))):
        return False
    form = _Loops()
    outside = [s for s in node.body if isinstance(s, (ast.Global, ast.Nonlocal))]
    body = [x for s in node.body if s not in outside for x in form.all(s)]
    places = _Places()
    places.find(body, (), None, ())
    if not 0 < len(places.found) <= PLACES:
        return False
    shared = {name for s in outside for name in s.names}
    early = _early(body, set(parameters(node.args)))
    main = body[len(early) :]
    names = sorted((bound(body) | {FIRST, DONE, AT, ITEM}) - shared)
    steps = _steps(main, places.found)
    step: list[ast.stmt] = [
        *deepcopy(outside), ast.Nonlocal(names),
        ast.If(load(DONE), [ast.Return(constant(False))], []),
        *steps, assign(DONE, constant(True)), ast.Return(constant(False)),
    ]  # fmt: skip
    given = set(parameters(node.args))
    first = [assign(n, constant(None)) for n in names if n not in given]
    marks = [assign(FIRST, constant(True)), assign(AT, constant(1)), assign(DONE, constant(False))]
    made = _ours(apply("resumed", load(STEP), ast.Lambda(no_arguments(), load(ITEM))))
    define = ast.FunctionDef(STEP, one_argument(SENT), step, [])
    whole = [*outside, *first, *early, *marks, define, ast.Return(made)]
    node.body = [_at(s, node.body[0]) for s in whole]
    return True


def gives_result(node: ast.AST) -> bool:
    """A generator returns something to who waits for its end."""
    value = node.value if isinstance(node, ast.Return) else None
    return value is not None and not (isinstance(value, ast.Constant) and value.value is None)


def _is_followed(statement: ast.stmt) -> bool:
    """Whether the yields in ``statement`` are statements, and so are those around them."""
    if not _yields(statement):
        return True
    if isinstance(statement, (ast.If, ast.While)):
        return not _yields(statement.test) and _are_followed(statement)
    if isinstance(statement, ast.For):
        return not _yields(statement.iter) and _are_followed(statement)
    value = statement.value if isinstance(statement, (ast.Expr, ast.Assign)) else None
    if isinstance(statement, ast.Assign) and len(statement.targets) > 1:
        return False
    is_from = isinstance(value, ast.YieldFrom) and isinstance(statement, ast.Expr)
    inner = value.value if isinstance(value, ast.Yield) or is_from else constant(None)
    return (isinstance(value, ast.Yield) or is_from) and not (inner and _yields(inner))


def _are_followed(statement: ast.If | ast.While | ast.For) -> bool:
    return all(map(_is_followed, [*statement.body, *statement.orelse]))


def _yields(node: ast.AST) -> bool:
    return any(isinstance(n, _YIELDS) for n in own_nodes([node]))


class _Loops:
    """``for`` loops that yield as ``while`` loops over streams; ``yield from`` as such a loop."""

    def __init__(self) -> None:
        self.count = 0

    def all(self, statement: ast.stmt) -> list[ast.stmt]:
        if not _yields(statement):
            return [statement]
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.YieldFrom):
            item = _NAMED.format(f"from{self.count}")
            value = ast.Expr(ast.Yield(load(item)))
            value.is_from = True  # pyright: ignore[reportAttributeAccessIssue]
            return self.loop(store(item), statement.value.value, [value], [], statement)
        if not isinstance(statement, (ast.If, *_LOOPS)):
            return [statement]
        statement.body = [x for s in statement.body for x in self.all(s)]
        statement.orelse = [x for s in statement.orelse for x in self.all(s)]
        if not isinstance(statement, ast.For):
            return [statement]
        return self.loop(
            statement.target, statement.iter, statement.body, statement.orelse, statement
        )

    def loop(
        self, target: ast.expr, items: ast.expr, body: list[ast.stmt], orelse: list[ast.stmt],
        like: ast.stmt,
    ) -> list[ast.stmt]:  # fmt: skip
        self.count += 1
        name = _NAMED.format(f"items{self.count}")
        take = ast.Assign([target], _ours(apply("stream_take", load(name))))
        more = _ours(apply("stream_more", load(name)))
        stop = ast.Expr(_ours(apply("stream_stop", load(name))))
        loop = ast.While(more, [take, *body], [stop, *orelse])
        start = assign(name, _ours(apply("stream_of", items, load(name))))
        return [_at(start, like), _at(loop, like)]


Level = tuple[list[ast.stmt], "ast.While | None"]  # what is left of the body of a loop, or of all


@dataclass
class _Places:
    """The statements that yield, each with what follows it."""

    found: list[tuple[ast.stmt, list[Level]]] = field(default_factory=list)

    def find(
        self, body: list[ast.stmt], after: tuple[ast.stmt, ...], loop: ast.While | None,
        around: tuple[Level, ...],
    ) -> None:  # fmt: skip
        """Args: after: what follows ``body`` in ``loop``; around: what is left of outer loops."""
        for i, statement in enumerate(body):
            rest = (*body[i + 1 :], *after)
            if not _yields(statement):
                continue
            if isinstance(statement, ast.If):
                self.find(statement.body, rest, loop, around)
                self.find(statement.orelse, rest, loop, around)
            elif isinstance(statement, ast.While):
                self.find(statement.body, (), statement, (([*rest], loop), *around))
                self.find(statement.orelse, rest, loop, around)
            else:
                self.found.append((statement, [([*rest], loop), *around]))
                statement.place = len(self.found)  # pyright: ignore[reportAttributeAccessIssue]


def _steps(body: list[ast.stmt], places: list[tuple[ast.stmt, list[Level]]]) -> list[ast.stmt]:
    """The start, or what follows the last yield; where all yield in one loop, then that loop."""
    goes = [i for i, s in enumerate(body) if _yields(s)]
    shared = body[goes[0]] if len(goes) == 1 else None
    if not isinstance(shared, ast.While) or any(map(_yields, shared.orelse)):
        shared = None
    names = _Names()
    start = [assign(FIRST, constant(False)), *_copies(body if shared is None else body[: goes[0]])]
    ways = [[*_sent(s), *_follows(levels, shared, names)] for s, levels in places]
    ways = [[*_next(way, shared), *way] for way in ways]
    chosen = ways[-1]
    for number in range(len(ways) - 1, 0, -1):
        test = ast.Compare(load(AT), [ast.Eq()], [constant(number)])
        if chosen or ways[number - 1]:
            chosen = [ast.If(test, ways[number - 1] or [ast.Pass()], chosen)]
    chosen = [ast.If(load(FIRST), start, chosen)]
    if shared is None:
        return chosen
    loop, *rest = _copies(body[goes[0] :])
    loop = _once(loop)
    if names.has_left:
        loop = ast.If(_not(LEFT), [loop], [])
        chosen = [assign(LEFT, constant(False)), *chosen]
    return [*chosen, loop, *rest]


def _next(way: list[ast.stmt], shared: ast.stmt | None) -> list[ast.stmt]:
    """Sets the place ahead that ``way`` may come to, so that data decide on no more than they must."""
    marks = [n for s in way for n in ast.walk(s) if isinstance(n, ast.Assign) and _is_mark(n)]
    return [] if shared is not None or not marks else [deepcopy(marks[0])]


def _is_mark(node: ast.Assign) -> bool:
    return isinstance(node.targets[0], ast.Name) and node.targets[0].id == AT


class _Names:
    """Of flags that tell that a loop is left; ``has_left``: the one that all share is."""

    def __init__(self) -> None:
        self.count, self.has_left = 0, False

    def fresh(self) -> str:
        self.count += 1
        return _NAMED.format(f"broken{self.count}")


def _sent(statement: ast.stmt) -> list[ast.stmt]:
    """What gets the value that is sent."""
    if isinstance(statement, ast.Assign):
        return [ast.Assign(deepcopy(statement.targets), load(SENT))]
    if getattr(statement, "is_from", False):
        return [ast.Expr(_ours(apply("unsent", load(SENT))))]
    return []


def _follows(levels: list[Level], shared: ast.While | None, names: _Names) -> list[ast.stmt]:
    """The rest of the body of each loop, and its further trips; no more than the body of ``shared``."""
    found: list[ast.stmt] = []
    for rest, loop in levels:
        body, is_shared = _copies(rest), loop is not None and loop is shared
        again = [] if loop is None or is_shared else _copies([loop])
        if any(map(_jumps, body)):
            flag = LEFT if is_shared else names.fresh()
            names.has_left |= is_shared
            once = ast.Tuple([constant(0)], ast.Load())
            trip = ast.For(
                store(_NAMED.format("once")), once, _flat(map(_Broken(flag).visit, body)), []
            )
            body = [assign(flag, constant(False)), trip]
            again = [ast.If(_not(flag), again, [])] if again else []
        found += [*body, *again]
        if is_shared:
            break
    return found


def _not(name: str) -> ast.expr:
    return ast.UnaryOp(ast.Not(), load(name))


def _flat(found: Iterable[Any]) -> list[ast.stmt]:
    return [x for s in found for x in (s if isinstance(s, list) else [s])]


def _once(loop: ast.While) -> ast.stmt:
    """A loop each of whose trips yields is a branch."""
    ends = [i for i, s in enumerate(loop.body) if isinstance(s, ast.Return)]
    if not ends or any(map(_jumps, loop.body[: ends[0]])):
        return loop
    return ast.If(loop.test, loop.body[: ends[0] + 1], loop.orelse)


def _jumps(statement: ast.AST) -> bool:
    """Whether it leaves the loop around it."""
    if isinstance(statement, _JUMPS):
        return True
    if isinstance(statement, _LOOPS):
        return any(map(_jumps, statement.orelse))
    if isinstance(statement, (*FUNCTIONS, ast.Lambda, ast.ClassDef)):
        return False
    return any(map(_jumps, ast.iter_child_nodes(statement)))


class _Broken(ast.NodeTransformer):
    """``break`` sets a flag too."""

    def __init__(self, flag: str) -> None:
        self.flag = flag

    def visit_Break(self, node: ast.Break) -> list[ast.stmt]:
        return [_at(assign(self.flag, constant(True)), node), node]

    def visit_While(self, node: ast.While | ast.For) -> ast.AST:
        node.orelse = _flat(map(self.visit, node.orelse))
        return node

    visit_For = visit_While

    def visit_FunctionDef(self, node: Any) -> Any:
        return node

    visit_ClassDef = visit_Lambda = visit_FunctionDef


def _copies(statements: Iterable[ast.stmt]) -> list[ast.stmt]:
    return _flat(_Returns().visit(deepcopy(s)) for s in statements)


class _Returns(ast.NodeTransformer):
    """What yields gives its item and returns True; ``return`` of the generator: it is done."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        place = getattr(node, "place", None)
        return super().generic_visit(node) if place is None else self.given(node, place)

    def given(self, node: Any, place: int) -> Any:
        item = node.value.value or constant(None)
        made = [assign(ITEM, item), assign(AT, constant(place)), ast.Return(constant(True))]
        return [_at(s, node) for s in made]

    def visit_Return(self, node: ast.Return) -> list[ast.stmt]:
        made = [assign(DONE, constant(True)), ast.Return(constant(False))]
        return [_at(s, node) for s in made]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        return node

    visit_Lambda: Callable[..., Any] = visit_FunctionDef


def _early(body: list[ast.stmt], known: set[str]) -> list[ast.stmt]:
    """The first statements, where nobody can see that they run before the generator begins: the
    variables then hold what they do at each step."""
    found = []
    for statement in body:
        is_plain = isinstance(statement, ast.Assign) and all(
            isinstance(t, ast.Name) for t in statement.targets
        )
        if not is_plain or not _is_constant(statement.value, known):  # pyright: ignore
            break
        found.append(statement)
        known |= bound([statement])
    return found


def _is_constant(value: ast.expr, known: set[str]) -> bool:
    if isinstance(value, ast.Name):
        return value.id in known
    return isinstance(value, ast.Constant)


def _ours(made: ast.Call) -> ast.Call:
    made.converted = True  # pyright: ignore[reportAttributeAccessIssue]
    return made


def _at(new: Any, like: ast.AST) -> Any:
    for node in ast.walk(new):
        if isinstance(node, (ast.expr, ast.stmt, ast.arg)) and not hasattr(node, "lineno"):
            at(node, like)
    return new
