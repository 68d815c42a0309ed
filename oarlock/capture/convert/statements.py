"""Statements in canonical form: one simple target each, mutations as calls, no patterns."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from oarlock.capture.convert.build import (
    apply,
    assign,
    at,
    constant,
    load,
    operator,
    store,
    thunk,
    tuple_of,
)
from oarlock.capture.convert.expressions import Expressions, is_converted, symbol_of
from oarlock.capture.convert.names import bound, free, own_nodes, rebound
from oarlock.capture.convert.patterns import cases
from oarlock.capture.convert.watching import named, watched

_YIELDS = (ast.Yield, ast.YieldFrom)


class Statements(Expressions):
    """``block`` converts a list of statements; each may become several."""

    def block(self, statements: Sequence[ast.stmt]) -> list[ast.stmt]:
        made: list[ast.stmt] = []
        outer, self.pending = self.pending, []
        for statement in statements:
            new = self.statement(statement)
            made += [at(s, statement) for s in self.pending] + new
            self.pending = []
        self.pending = outer
        return made

    def statement(self, node: ast.stmt) -> list[ast.stmt]:
        convert = getattr(self, f"stmt_{type(node).__name__}", None)
        if convert is None:
            return [self.generic_visit(node)]  # pyright: ignore
        new = convert(node)
        return [s if hasattr(s, "lineno") else at(s, node) for s in new]

    # targets

    def is_plain(self, target: ast.expr) -> bool:
        """Names and tuples of names, which Python may bind itself."""
        if isinstance(target, ast.Name):
            return True
        if isinstance(target, ast.Starred):
            return self.is_plain(target.value)
        return isinstance(target, (ast.Tuple, ast.List)) and all(map(self.is_plain, target.elts))

    def put(self, target: ast.expr, value: ast.expr) -> list[ast.stmt]:
        """``target = value``"""
        if isinstance(target, _ROWS) and not isinstance(value, _ROWS):
            has_rest = any(isinstance(x, ast.Starred) for x in target.elts)
            count = constant(None if has_rest else len(target.elts))
            value = at(apply("unpacked", value, count), target)
        if self.is_plain(target):
            return [*self.announce(target), at(ast.Assign([target], value), target)]
        if isinstance(target, ast.Attribute):
            changed = apply("setattr_", value, self.visit(target.value), constant(target.attr))
            return [at(ast.Expr(at(changed, target)), target)]
        if isinstance(target, ast.Subscript):
            changed = apply("setitem", value, self.visit(target.value), self.visit(target.slice))
            return [at(ast.Expr(at(changed, target)), target)]
        names: list[str] = []
        simple = self.simplified(target, names)
        made: list[ast.stmt] = [at(ast.Assign([simple], value), target)]
        for name, part in zip(names, _leaves(target)):
            made += self.put(part, load(name))
        return made

    def simplified(self, target: ast.expr, names: list[str]) -> ast.expr:
        """A target with a variable of ours for each leaf."""
        if isinstance(target, ast.Starred):
            return ast.Starred(self.simplified(target.value, names), ast.Store())
        if isinstance(target, (ast.Tuple, ast.List)):
            return ast.Tuple([self.simplified(t, names) for t in target.elts], ast.Store())
        names.append(self.temporary())
        return store(names[-1])

    def temporary(self) -> str:
        name = self.scope.unit.fresh("t")
        self.scope.locals.add(name)
        return name

    def announce(self, *nodes: ast.AST) -> list[ast.stmt]:
        """Tells the tracer of variables of the code around that are about to change."""
        made: list[ast.stmt] = []
        for name in sorted(bound(nodes)):
            touching = self.scope.touching(name)
            if touching is not None:
                made.append(at(ast.Expr(touching), nodes[0]))
        return made

    # simple statements

    def stmt_Assign(self, node: ast.Assign) -> list[ast.stmt]:
        value = self.held(node.value)
        if len(node.targets) == 1:
            return self.put(node.targets[0], value)
        name = self.temporary()
        made: list[ast.stmt] = [assign(name, value)]
        for target in node.targets:
            made += self.put(target, load(name))
        return made

    def stmt_AnnAssign(self, node: ast.AnnAssign) -> list[ast.stmt]:
        return [] if node.value is None else self.put(node.target, self.visit(node.value))

    def stmt_AugAssign(self, node: ast.AugAssign) -> list[ast.stmt]:
        target, sign = node.target, constant(symbol_of(node.op))
        if isinstance(target, ast.Name):
            old = self.visit(at(load(target.id), target))
            new = at(apply("update", sign, old, self.visit(node.value)), node)
            return self.put(target, new)
        owner = self.temporary()
        made: list[ast.stmt] = [assign(owner, self.visit(target.value))]
        if isinstance(target, ast.Attribute):
            key: ast.expr = constant(target.attr)
            read, write = "getattr_", "setattr_"
        else:
            key = load(self.temporary())
            made.append(assign(key.id, self.visit(target.slice)))  # pyright: ignore
            read, write = "getitem", "setitem"
        old = at(apply(read, load(owner), key), target)
        new = at(apply("update", sign, old, self.visit(node.value)), node)
        return [*made, ast.Expr(at(apply(write, new, load(owner), key), node))]

    def stmt_Delete(self, node: ast.Delete) -> list[ast.stmt]:
        made: list[ast.stmt] = []
        for target in node.targets:
            if isinstance(target, ast.Attribute):
                gone = apply("delattr_", self.visit(target.value), constant(target.attr))
                made.append(ast.Expr(at(gone, target)))
            elif isinstance(target, ast.Subscript):
                gone = apply("delitem", self.visit(target.value), self.visit(target.slice))
                made.append(ast.Expr(at(gone, target)))
            elif isinstance(target, (ast.Tuple, ast.List)):
                made += self.stmt_Delete(at(ast.Delete(target.elts), target))
            else:
                made += [*self.announce(target), at(ast.Delete([target]), target)]
        return made

    def stmt_Assert(self, node: ast.Assert) -> list[ast.stmt]:
        if not __debug__:
            return []
        message = [] if node.msg is None else [self.deferred(node.msg)]
        return [ast.Expr(at(apply("assert_", self.test(node.test), *message), node))]

    def stmt_Raise(self, node: ast.Raise) -> list[ast.stmt]:
        made = ast.Raise(node.exc and self.visit(node.exc), node.cause and self.visit(node.cause))
        for name in ("caught", "pieces"):
            if hasattr(node, name):
                setattr(made, name, getattr(node, name))
        return [made]

    def stmt_Import(self, node: ast.stmt) -> list[ast.stmt]:
        return [*self.announce(node), node]

    stmt_ImportFrom = stmt_Import

    def stmt_Global(self, node: ast.stmt) -> list[ast.stmt]:
        return []  # declared again where the function begins

    stmt_Nonlocal = stmt_Global

    # definitions

    def stmt_FunctionDef(self, node: ast.FunctionDef) -> list[ast.stmt]:
        decorators = self.all(node.decorator_list)
        args = node.args
        defaults = self.all(args.defaults)
        kw_defaults = [d and self.visit(d) for d in args.kw_defaults]
        made = self.define_function(node)
        made.decorator_list = decorators
        made.args.defaults, made.args.kw_defaults = defaults, kw_defaults
        return [made]

    def stmt_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> list[ast.stmt]:
        return [node]

    def stmt_ClassDef(self, node: ast.ClassDef) -> list[ast.stmt]:
        return [node]  # its methods are converted when they are called

    # compound statements

    def stmt_If(self, node: ast.If) -> list[ast.stmt]:
        test = self.test(node.test)
        return [at(ast.If(test, self.block(node.body), self.block(node.orelse)), node)]

    def stmt_While(self, node: ast.While) -> list[ast.stmt]:
        outer, self.pending = self.pending, []
        test = self.test(node.test)
        before, self.pending = self.pending, outer
        made = at(ast.While(test, self.block(node.body), self.block(node.orelse)), node)
        made.before = before
        return [made]

    def stmt_For(self, node: ast.For) -> list[ast.stmt]:
        source = self.visit(node.iter)
        target, body = node.target, self.block(node.body)
        if not self.is_plain(target) or self.announce(target):
            name = self.temporary()
            body = [*self.put(target, load(name)), *body]
            target = at(store(name), node.target)
        return [at(ast.For(target, source, body, self.block(node.orelse), None), node)]

    def stmt_With(self, node: ast.With) -> list[ast.stmt]:
        items: list[ast.withitem] = []
        first: list[ast.stmt] = []
        for item in node.items:
            target = item.optional_vars
            if target is not None and not self.is_plain(target):
                name = self.temporary()
                if len(node.items) > 1:  # the next item may read this one's target
                    inner = at(ast.With(node.items[1:], node.body), node)
                    node = at(ast.With(node.items[:1], [inner]), node)
                    return self.stmt_With(node)
                first = self.put(target, load(name))
                target = store(name)
            manager = at(apply("context", self.visit(item.context_expr)), item.context_expr)
            items.append(ast.withitem(manager, target))
        return [at(ast.With(items, [*first, *self.block(node.body)]), node)]

    def stmt_Return(self, node: ast.Return) -> list[ast.stmt]:
        return [ast.Return(node.value and self.held(node.value))]

    def stmt_Try(self, node: ast.Try) -> list[ast.stmt]:
        if node.handlers and node.finalbody:  # which is for errors of the handlers as well
            inner = at(node.__class__(node.body, node.handlers, node.orelse, []), node)
            return self.stmt_Try(at(ast.Try([inner], [], [], node.finalbody), node))
        is_open = not self.scope.is_generator
        if is_open:
            node.handlers = [named(h, self.temporary) for h in node.handlers]
        body = self.block(watched(node, self.temporary) if is_open else node.body)
        if is_open:
            types = [h.type or load("BaseException") for h in node.handlers]
            types += [load("BaseException")] if self.is_seen(node.finalbody) else []
            manager = ast.withitem(
                apply("handling", thunk(tuple_of(types)), constant(bool(node.handlers))), None
            )
            body = [at(ast.With([manager], body), node)]
            body[0].tells = True  # pyright: ignore[reportAttributeAccessIssue]
        handlers = [
            at(ast.ExceptHandler(h.type, h.name, self.block(h.body)), h) for h in node.handlers
        ]
        if handlers and isinstance(node, ast.Try):
            passed = ast.ExceptHandler(operator("steering"), None, [ast.Raise(None, None)])
            passed.steers = True  # pyright: ignore[reportAttributeAccessIssue]
            handlers.insert(0, at(passed, node.handlers[0]))
        made = node.__class__(body, handlers, self.block(node.orelse), self.block(node.finalbody))
        return [at(made, node)]

    stmt_TryStar = stmt_Try

    def is_seen(self, body: list[ast.stmt]) -> bool:
        """Whether others may see what statements change, where an error ends the function."""
        outside = self.scope.nonlocals | self.scope.globals
        return not all(map(_computes, body)) or bool(bound(body) & outside)

    def stmt_Match(self, node: ast.Match) -> list[ast.stmt]:
        if is_converted(node):
            return [node]
        name = self.temporary()
        subject = at(assign(name, node.subject), node.subject)
        return self.block([subject, *cases(node.cases, name, self.temporary)])

    def _refuse_async(self, node: ast.stmt) -> list[ast.stmt]:
        self.scope.unit.refuse(node, "asynchronous code", "use a plain function")
        return []

    stmt_AsyncFor = stmt_AsyncWith = _refuse_async


_COMPUTING = (ast.Assign, ast.AugAssign, ast.BinOp, ast.Constant, ast.Name, ast.operator,
              ast.expr_context, ast.Pass)  # fmt: skip


def _computes(node: ast.stmt) -> bool:
    """Whether a statement only computes a variable from others."""
    return all(isinstance(n, _COMPUTING) for n in ast.walk(node))


_ROWS = (ast.Tuple, ast.List)


def _leaves(target: ast.expr) -> list[ast.expr]:
    if isinstance(target, ast.Starred):
        return _leaves(target.value)
    if isinstance(target, (ast.Tuple, ast.List)):
        return [leaf for t in target.elts for leaf in _leaves(t)]
    return [target]


def note_names(node: ast.FunctionDef) -> tuple[set[str], set[str]]:
    """What a function inside takes from its surroundings and what it binds there."""
    return free(node), rebound(node)


def yields(nodes: Sequence[ast.AST]) -> bool:
    return any(isinstance(n, (*_YIELDS, ast.Await)) for n in own_nodes(nodes))
