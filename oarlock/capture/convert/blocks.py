"""``if``, ``while`` and ``for`` as calls of operators, with the variables that they carry.

Statements are read backwards, so that each knows which variables are read after it: a block's state
is what it assigns or changes in place and what is read later, or inside before it is assigned.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable

from oarlock.capture.convert.build import (
    GENERATED,
    apply,
    at,
    constant,
    define,
    load,
    no_arguments,
    one_argument,
    texts,
    thunk,
    tuple_of,
)
from oarlock.capture.convert.names import bound, mutated, own_nodes, reads, set_by_calls
from oarlock.capture.convert.scope import Scope
from oarlock.capture.convert.statements import yields

Names = frozenset[str]
_TRY = (ast.Try, ast.TryStar) if hasattr(ast, "TryStar") else (ast.Try,)


class Blocks:
    """Converts the statements of one function."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.inner: dict[str, set[str]] = {}  # our functions and what they read
        self.known: dict[int, tuple[ast.AST, tuple[set[str], bool]]] = {}
        self.dry = False  # only what is read is asked for
        self.exits: dict[str, Names] = {}  # what is read after a jump, by its flag

    def function(self, body: list[ast.stmt]) -> list[ast.stmt]:
        for node in own_nodes(body):
            if isinstance(node, ast.FunctionDef) and getattr(node, "ours", False):
                self.inner[node.name] = node.free_names  # pyright: ignore
        outside = self.scope.nonlocals | self.scope.globals
        always = self.scope.captured(body) | self.scope.shared | outside
        return self.block(body, frozenset(always), frozenset(always))[0]

    def block(
        self, body: list[ast.stmt], after: Names, always: Names
    ) -> tuple[list[ast.stmt], Names]:
        """Returns: the statements, and the names that are read from where they begin."""
        made: list[ast.stmt] = []
        for node in reversed(body):
            new, after = self.statement(node, after, always)
            made[:0] = [s if hasattr(s, "lineno") else at(s, node) for s in new]
        return made, after

    def reads(self, nodes: Iterable[ast.AST]) -> Names:
        found = reads(nodes)
        for name in [n for n in found if n in self.inner]:
            found |= self.inner[name]
        return frozenset(found)

    def statement(
        self, node: ast.stmt, after: Names, always: Names
    ) -> tuple[list[ast.stmt], Names]:
        if isinstance(node, ast.If):
            return self.conditional(node, after, always)
        if isinstance(node, (ast.While, ast.For)):
            return self.loop(node, after, always)
        if isinstance(node, ast.With):
            body, live = self.block(node.body, after, always | after)
            live = live - bound(node.items) | self.reads(node.items)
            return [at(ast.With(node.items, body), node)], live
        if isinstance(node, _TRY):
            return self.attempt(node, after, always)
        if isinstance(node, (ast.Return, ast.Raise)):
            after = always
        if isinstance(node, ast.FunctionDef) and getattr(node, "ours", False):
            return [node], after
        return [node], after - bound([node]) | self.reads([node]) | always

    def attempt(self, node: ast.Try, after: Names, always: Names) -> tuple[list[ast.stmt], Names]:
        final, last = self.block(node.finalbody, after, always)
        outer, exits = always | last, self.exits
        self.exits = {flag: names | last for flag, names in exits.items()}
        handlers, caught = [], outer
        for h in node.handlers:
            body, live = self.block(h.body, last, outer)
            caught |= (live - {h.name}) | self.reads([h.type] if h.type else [])
            handlers.append(at(ast.ExceptHandler(h.type, h.name, body), h))
        orelse, live = self.block(node.orelse, last, outer)
        body, live = self.block(node.body, live, caught)
        self.exits = exits
        return [at(node.__class__(body, handlers, orelse, final), node)], live

    def is_plain(self, node: ast.stmt) -> bool:
        return getattr(node, "plain", False) or (self.scope.is_generator and yields([node]))

    def names(self, nodes: list[ast.stmt], live: Names) -> tuple[str, ...]:
        """The state of a block."""
        facts = [self.facts(n) for n in nodes]
        changed = {name for names, _ in facts for name in names}
        if any(calls for _, calls in facts):
            changed |= self.scope.shared
        mine = self.scope.locals | self.scope.nonlocals | self.scope.globals
        return tuple(sorted(changed & live & mine))

    def facts(self, node: ast.AST) -> tuple[set[str], bool]:
        """What a statement assigns or changes in place, and whether it calls; found once."""
        if id(node) not in self.known:
            calls = any(isinstance(n, ast.Call) for n in own_nodes([node]))
            changed = bound([node]) | mutated([node])
            if calls:
                changed |= set_by_calls([node], self.scope.setters)
            self.known[id(node)] = (node, (changed, calls))
        return self.known[id(node)][1]

    def inside(self, name: str, body: list[ast.stmt], place: ast.stmt, item: str = "") -> ast.stmt:
        arguments = one_argument(item) if item else no_arguments()
        made = at(define(name, arguments, [*self.scope.declare(sorted(bound(body))), *body]), place)
        made.ours = True
        made.free_names = set()  # counted where the block stands
        return made

    def conditional(
        self, node: ast.If, after: Names, always: Names
    ) -> tuple[list[ast.stmt], Names]:
        body, first = self.block(node.body, after, always)
        orelse, second = self.block(node.orelse, after, always)
        before = (first | second) - bound([node.test]) | self.reads([node.test])
        if self.dry:
            return [], before
        if self.is_plain(node):
            return [at(ast.If(apply("plain", node.test), body, orelse), node)], before
        parts = [*node.body, *node.orelse]
        names = self.names(parts, after | first | second)
        state = self.scope.access(names)
        fresh = self.scope.unit.fresh
        made, branches = self.touched(names, node), []
        for kind, part in (("then", body), ("else", orelse)):
            if part:
                made.append(self.inside(fresh(kind), part, node))
                branches.append(load(made[-1].name))
            else:
                branches.append(constant(None))
        unread = self.unread(names, node)
        call = at(apply("if_", node.test, *branches, *state, *unread), node)
        return [*made, at(ast.Expr(call), node)], before

    def unread(self, names: tuple[str, ...], node: ast.If) -> list[ast.expr]:
        """Which of the names nothing reads behind each way, as the way ends in a jump."""
        ways = [_jumps_at_end(node.body), _jumps_at_end(node.orelse)]
        if not node.orelse:
            ways[1] = getattr(node, "flags", frozenset())
        found = []
        for flags in ways:
            is_known = bool(flags) and all(f in self.exits for f in flags)
            read = frozenset().union(*(self.exits[f] for f in flags)) if is_known else names
            found.append(tuple(n for n in names if n not in read and not n.startswith(GENERATED)))
        return [tuple_of(map(texts, found))] if any(found) else []

    def loop(
        self, node: ast.While | ast.For, after: Names, always: Names
    ) -> tuple[list[ast.stmt], Names]:
        """A loop; its header is where it may end or go on."""
        test = [node.test] if isinstance(node, ast.While) else []
        target = [node.target] if isinstance(node, ast.For) else []
        stops = getattr(node, "stops", [])
        orelse, after = self.block(node.orelse, after, always)
        own = frozenset(stops) | self.reads(test)
        header = after | always | own
        outer, self.dry = self.dry, True
        live = self.block(node.body, header, always)[1]
        self.dry = outer
        header |= live - bound(target) - bound(test)
        before = header | (self.reads([node.iter]) if isinstance(node, ast.For) else frozenset())
        if self.dry:
            return [], before
        exits = self.exits
        self.exits = {**exits, **dict.fromkeys(stops, after | always)}
        self.exits[getattr(node, "skipped", "")] = header
        body, _ = self.block(node.body, header, always)
        self.exits = exits
        if self.is_plain(node):
            node.body = body
            if isinstance(node, ast.While):
                node.test = apply("plain", node.test)
                return [*getattr(node, "before", []), node], before
            node.iter = apply("plain_iterable", node.iter)
            node.orelse, orelse = orelse, []
            return [node], before
        names = self.names([*node.body, *test, *target], header)
        made = self.emit(node, body, stops, self.scope.access(names))
        return [*self.touched(names, node), *made, *orelse], before

    def touched(self, names: tuple[str, ...], place: ast.stmt) -> list[ast.stmt]:
        """Tells of variables from outside that a block assigns, before it is entered: what stands
        for them is then in them on each way."""
        found = [self.scope.touching(name) for name in names]
        return [at(ast.Expr(call), place) for call in found if call is not None]

    def emit(
        self, node: ast.While | ast.For, body: list[ast.stmt], stops: list[str], state: tuple
    ) -> list[ast.stmt]:
        fresh = self.scope.unit.fresh
        if isinstance(node, ast.For):
            item = f"{GENERATED}item"
            body = [at(ast.Assign([node.target], load(item)), node.target), *body]
            inner = self.inside(fresh("body"), body, node, item)
            stop = thunk(disjunction(stops)) if stops else constant(None)
            call = apply("for_", node.iter, load(inner.name), stop, *state)
            if isinstance(node.iter, ast.Name) and node.iter.id.startswith(GENERATED):
                call.args.append(constant(1))  # the argument of a comprehension holds it too
            return [inner, at(ast.Expr(at(call, node)), node)]
        test = self.going_on(node, stops)
        before = getattr(node, "before", [])
        condition = self.inside(fresh("test"), [*before, at(ast.Return(test), node.test)], node)
        inner = self.inside(fresh("body"), body, node)
        call = apply("while_", load(condition.name), load(inner.name), *state)
        return [condition, inner, at(ast.Expr(at(call, node)), node)]

    def going_on(self, node: ast.While, stops: list[str]) -> ast.expr:
        """The test of a loop that is asked only while nothing has stopped it."""
        test, names = node.test, bound([node.test])
        if stops and names:
            test = _Binding(self.scope).visit(test)
        names |= set_by_calls([node.test], self.scope.setters)
        bindings = self.scope.access(tuple(sorted(names))) if names else ()
        for name in stops:
            rest = tuple_of([thunk(test)])
            test = at(apply("and_test", apply("not_", load(name)), rest, *bindings), node)
        return test


class _Binding(ast.NodeTransformer):
    """``:=`` as calls of setters, for an expression that comes to stand in a lambda of ours."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def visit_NamedExpr(self, node: ast.NamedExpr) -> ast.expr:
        value = self.visit(node.value)
        return at(ast.Call(load(self.scope.setter(node.target.id)), [value], []), node)


def _jumps_at_end(body: list[ast.stmt]) -> Names:
    """The flags, one of which is set at the end of a block; empty where perhaps none is."""
    last = body[-1] if body else None
    if isinstance(last, ast.If) and last.orelse:
        ways = _jumps_at_end(last.body), _jumps_at_end(last.orelse)
        return ways[0] | ways[1] if all(ways) else frozenset()
    is_set = isinstance(last, ast.Assign) and isinstance(last.value, ast.Constant)
    if not is_set or last.value.value is not True or not isinstance(last.targets[0], ast.Name):
        return frozenset()
    return frozenset({last.targets[0].id})


def disjunction(names: list[str]) -> ast.expr:
    first, *rest = names
    if not rest:
        return load(first)
    return apply("or_test", load(first), tuple_of(thunk(load(n)) for n in rest))
