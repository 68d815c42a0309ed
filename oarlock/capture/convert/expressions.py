"""Expressions: calls, truth, conditions, attributes and subscripts become operators' calls."""

from __future__ import annotations

import ast
from copy import deepcopy
from typing import Any

from oarlock.capture.convert.build import (
    GENERATED,
    apply,
    at,
    call,
    constant,
    define,
    load,
    one_argument,
    operator,
    thunk,
    tuple_of,
)
from oarlock.capture.convert.generators import listed
from oarlock.capture.convert.names import COMPREHENSIONS, own_nodes, walrus_targets
from oarlock.capture.convert.resumable import resumed
from oarlock.capture.convert.scope import Scope

_SUSPENDS = (ast.Yield, ast.YieldFrom, ast.Await)
_REFUSED = {
    "locals": "pass the values that it reads",
    "exec": "write the code out, or call it in a function marked not_to_static",
    "eval": "write the expression out, or call it in a function marked not_to_static",
}
_CONSUMERS = ("sum", "list", "tuple", "set", "frozenset", "sorted", "max", "min", "dict")
_READERS = (*_CONSUMERS, "any", "all", "zip", "enumerate", "map", "filter", "len", "next", "iter")
_BINARY: dict[type, str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
    ast.MatMult: "@",
    ast.LShift: "<<",
    ast.RShift: ">>",
    ast.BitAnd: "&",
    ast.BitOr: "|",
    ast.BitXor: "^",
}
_UNARY: dict[type, str] = {ast.USub: "__neg__", ast.UAdd: "__pos__", ast.Invert: "__invert__"}
_COMPARE: dict[type, str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Is: "is",
    ast.IsNot: "is not",
    ast.In: "in",
    ast.NotIn: "not in",
}


def symbol_of(op: ast.operator) -> str:
    return _BINARY[type(op)]


class Expressions(ast.NodeTransformer):
    """Converts expressions; functions that they need are put into ``pending``, to come first."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.pending: list[ast.stmt] = []
        self.inside = 0  # depth of our lambdas around the expression
        self.foreign: list[set[str]] = []  # names of the user's lambdas and generators around it

    def define_function(self, node: ast.FunctionDef, inner: bool = False) -> ast.FunctionDef:
        raise NotImplementedError  # by statements, which know how

    # names

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if not isinstance(node.ctx, ast.Load) or any(node.id in names for names in self.foreign):
            return node
        kind = self.scope.kind(node.id)
        if kind == "cell" and node.id != "__class__":
            return at(apply("read_cell", constant(node.id), node), node)
        if kind == "global" and not node.id.startswith("__"):
            return at(apply("read_global", constant(node.id), node), node)
        return node

    def visit_NamedExpr(self, node: ast.NamedExpr) -> ast.expr:
        value = self.visit(node.value)
        if not self.inside:
            return at(ast.NamedExpr(node.target, value), node)
        return at(call(self.scope.setter(node.target.id), value), node)

    # truth

    def test(self, node: ast.expr) -> ast.expr:
        """An expression of which only the truth is used."""
        if isinstance(node, ast.BoolOp):
            return self.junction(node, truth=True)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return at(apply("not_test", self.test(node.operand)), node)
        return self.visit(node)

    def deferred(self, node: ast.expr, truth: bool = False) -> ast.Lambda:
        self.inside += 1
        body = self.test(node) if truth else self.visit(node)
        self.inside -= 1
        return at(thunk(body), node)

    def state(self, *nodes: ast.expr) -> list[ast.expr]:
        """``get, set, names`` of what a conditional expression binds; nothing if it binds none."""
        names = {n.target.id for n in own_nodes(nodes) if isinstance(n, ast.NamedExpr)}
        if any(isinstance(n, ast.Call) for n in own_nodes(nodes)):
            names |= self.scope.shared
        return list(self.scope.access(tuple(sorted(names)))) if names else []

    def junction(self, node: ast.BoolOp, truth: bool = False) -> ast.expr:
        if any(isinstance(n, _SUSPENDS) for n in own_nodes(node.values)):
            return at(ast.BoolOp(node.op, [self.plain(v) for v in node.values]), node)
        kind = "and_" if isinstance(node.op, ast.And) else "or_"
        first = self.test(node.values[0]) if truth else self.visit(node.values[0])
        rest = tuple_of(self.deferred(v, truth) for v in node.values[1:])
        state = self.state(*node.values[1:])
        return at(apply(kind + "test" if truth else kind, first, rest, *state), node)

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        return self.junction(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        if isinstance(node.op, ast.Not):
            return at(apply("not_", self.test(node.operand)), node)
        operand = self.visit(node.operand)
        if isinstance(node.operand, ast.Constant):
            return at(ast.UnaryOp(node.op, operand), node)
        return at(apply("unary", constant(_UNARY[type(node.op)]), operand), node)

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        parts = (node.test, node.body, node.orelse)
        if any(isinstance(n, _SUSPENDS) for n in own_nodes(parts)):
            body, orelse = self.visit(node.body), self.visit(node.orelse)
            return at(ast.IfExp(self.plain(node.test), body, orelse), node)
        test = self.test(node.test)
        branches = self.deferred(node.body), self.deferred(node.orelse)
        return at(apply("ifexp", test, *branches, *self.state(node.body, node.orelse)), node)

    def plain(self, node: ast.expr) -> ast.expr:
        """A test in a place where only plain Python can branch."""
        return at(apply("plain", self.test(node)), node)

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        signs = [_COMPARE[type(op)] for op in node.ops]
        if any(isinstance(n, _SUSPENDS) for n in own_nodes([node])):
            return at(
                ast.Compare(self.visit(node.left), node.ops, self.all(node.comparators)), node
            )
        if len(signs) > 1:
            operands = [self.visit(node.left), self.visit(node.comparators[0])]
            rest = tuple_of(self.deferred(c) for c in node.comparators[1:])
            made = apply("chain", tuple_of(map(constant, signs)), *operands, rest)
            made.args += self.state(*node.comparators[1:])
            return at(made, node)
        operands = [self.visit(node.left), self.visit(node.comparators[0])]
        if signs[0] in ("in", "not in"):
            name = "contains" if signs[0] == "in" else "lacks"
            return at(apply(name, *operands), node)
        to_none = isinstance(node.comparators[0], ast.Constant) and signs[0] in ("==", "!=")
        if signs[0] in ("is", "is not") or (to_none and node.comparators[0].value is None):  # pyright: ignore
            name = {"is": "is_", "is not": "is_not", "==": "equals", "!=": "differs"}[signs[0]]
            return at(apply(name, *operands), node)
        sides = (node.left, *node.comparators)
        may_be_rows = not any(isinstance(x, ast.Constant) for x in sides)
        if may_be_rows or any(isinstance(x, (ast.Tuple, ast.List)) for x in sides):
            return at(apply("compare", constant(signs[0]), *operands), node)
        return at(ast.Compare(operands[0], node.ops, [operands[1]]), node)

    # calls

    def all(self, nodes: list[Any]) -> list[Any]:
        return [self.visit(n) for n in nodes]

    def held(self, node: ast.expr) -> ast.expr:
        """An expression whose value outlives it: an iterator is one that a tracer can follow."""
        made = self.visit(node)
        is_call = isinstance(node, ast.Call) and not is_converted(node)
        return at(apply("held", made), node) if is_call else made

    def visit_Call(self, node: ast.Call) -> ast.expr:
        if is_converted(node):
            return at(ast.Call(node.func, self.all(node.args), []), node)
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name and self.scope.is_builtin(name) and not any(name in f for f in self.foreign):
            special = self.builtin_call(node, name)
            if special is not None:
                return at(special, node)
        if len(node.args) == 1 and not node.keywords and _is_join(node.func):
            node = self.as_list(node)
        how = "attempt" if getattr(node, "attempted", False) else "call"
        function = at(ast.Call(operator(how), [self.visit(node.func)], []), node.func)
        keywords = [at(ast.keyword(k.arg, self.visit(k.value)), k) for k in node.keywords]
        for k in [k for k in keywords if k.arg is None]:
            k.value = at(apply("whole", k.value), k.value)
        is_read = name in _READERS and self.scope.is_builtin(name)
        args = self.all(node.args) if is_read else [self.held(x) for x in node.args]
        return at(ast.Call(function, args, keywords), node)

    def builtin_call(self, node: ast.Call, name: str) -> ast.expr | None:
        if name == "super" and not node.args and self.scope.first and "__class__" in self.classes():
            return ast.Call(load("super"), [load("__class__"), load(self.scope.first)], [])
        if name == "locals" and not node.args and not self.foreign:
            names = sorted(n for n in self.scope.locals if not n.startswith(GENERATED))
            values = [thunk(self.visit(at(load(n), node))) for n in names]
            return apply("bound", ast.Dict([constant(n) for n in names], values))
        if name in _REFUSED or (name in ("vars", "dir") and not node.args):
            rewrite = _REFUSED.get(name, _REFUSED["locals"])
            self.scope.unit.refuse(node, f"{name}() reads the variables of the frame", rewrite)
        if not node.args or not isinstance(node.args[0], ast.GeneratorExp):
            return None
        if name in _CONSUMERS:
            changed = self.as_list(node)
            return self.visit_Call(changed)
        if name in ("any", "all") or (name == "next" and len(node.args) == 2):
            return self.early_exit(node, name)
        return None

    def classes(self) -> set[str]:
        scope: Scope | None = self.scope
        while scope.parent is not None:  # pyright: ignore
            scope = scope.parent  # pyright: ignore
        return set(scope.unit.free)  # pyright: ignore

    def as_list(self, node: ast.Call) -> ast.Call:
        """``f(x for x in xs)`` as ``f([x for x in xs])``, for an f that reads it to the end."""
        first = node.args[0]
        if not isinstance(first, ast.GeneratorExp):
            return node
        listed = at(ast.ListComp(first.elt, first.generators), first)
        return at(ast.Call(node.func, [listed, *node.args[1:]], node.keywords), node)

    # attributes, subscripts, texts

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        if not isinstance(node.ctx, ast.Load) or _is_super(node.value):
            return at(ast.Attribute(self.visit(node.value), node.attr, node.ctx), node)
        return at(apply("getattr_", self.visit(node.value), constant(node.attr)), node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        value, index = self.visit(node.value), self.visit(node.slice)
        if not isinstance(node.ctx, ast.Load):
            return at(ast.Subscript(value, index, node.ctx), node)
        return at(apply("getitem", value, index), node)

    def visit_Slice(self, node: ast.Slice) -> ast.expr:
        parts = (node.lower, node.upper, node.step)
        made = [constant(None) if p is None else self.visit(p) for p in parts]
        return at(apply("slice", *made), node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.expr:
        parts: list[ast.expr] = []
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                spec = constant("") if part.format_spec is None else self.visit(part.format_spec)
                conversion = chr(part.conversion) if part.conversion > 0 else ""
                parts.append(tuple_of([self.visit(part.value), constant(conversion), spec]))
            else:
                parts.append(part)
        if all(isinstance(p, ast.Constant) for p in parts):
            return node
        return at(apply("text", *parts), node)

    def spread(self, node: ast.List | ast.Tuple) -> ast.expr:
        """A display that unpacks: what is unpacked may have a length that is known at run time."""
        parts = []
        for x in node.elts:
            is_many = isinstance(x, ast.Starred)
            value = self.visit(x.value if isinstance(x, ast.Starred) else x)
            parts.append(tuple_of([constant(is_many), value]))
        return at(apply("spread", constant(isinstance(node, ast.Tuple)), *parts), node)

    def visit_Tuple(self, node: ast.Tuple) -> ast.expr:
        if isinstance(node.ctx, ast.Load) and any(isinstance(x, ast.Starred) for x in node.elts):
            return self.spread(node)
        return at(ast.Tuple(self.items(node), node.ctx), node)

    def visit_List(self, node: ast.List) -> ast.expr:
        if isinstance(node.ctx, ast.Load) and any(isinstance(x, ast.Starred) for x in node.elts):
            return self.spread(node)
        made = at(ast.List(self.items(node), node.ctx), node)
        return at(apply("list_", made), node) if isinstance(node.ctx, ast.Load) else made

    def items(self, node: ast.List | ast.Tuple) -> list[ast.expr]:
        is_value = isinstance(node.ctx, ast.Load)
        return [self.held(x) for x in node.elts] if is_value else self.all(node.elts)

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        left, right = self.visit(node.left), self.visit(node.right)
        if isinstance(node.op, ast.Mod) and isinstance(node.left, (ast.Constant, ast.JoinedStr)):
            return at(apply("percent", left, right), node)
        if isinstance(node.left, ast.Constant) and isinstance(node.right, ast.Constant):
            return at(ast.BinOp(left, node.op, right), node)
        return at(apply("binary", constant(symbol_of(node.op)), left, right), node)

    # functions inside expressions

    def visit_Lambda(self, node: ast.Lambda) -> ast.expr:
        needs = (*COMPREHENSIONS, ast.NamedExpr)
        if not self.foreign and any(isinstance(n, needs) for n in ast.walk(node.body)):
            return self.hoisted_lambda(node)
        args = node.args
        made = ast.arguments(
            posonlyargs=args.posonlyargs,
            args=args.args,
            vararg=args.vararg,
            kwonlyargs=args.kwonlyargs,
            kwarg=args.kwarg,
            defaults=self.all(args.defaults),
            kw_defaults=[d and self.visit(d) for d in args.kw_defaults],
        )
        names = {a.arg for a in ast.walk(args) if isinstance(a, ast.arg)}
        self.foreign.append(names)
        depth, self.inside = self.inside, 0
        body = self.visit(node.body)
        self.inside = depth
        self.foreign.pop()
        return at(ast.Lambda(made, body), node)

    def hoisted_lambda(self, node: ast.Lambda) -> ast.expr:
        """A lambda that needs statements, as a function defined before the statement."""
        name = self.scope.unit.fresh("lambda")
        body = at(ast.Return(node.body), node.body)
        args = node.args
        required = ast.arguments(
            posonlyargs=args.posonlyargs,
            args=args.args,
            vararg=args.vararg,
            defaults=[],
            kwonlyargs=args.kwonlyargs,
            kwarg=args.kwarg,
            kw_defaults=[constant(None) if d else None for d in args.kw_defaults],
        )
        self.pending.append(self.define_function(at(define(name, required, [body]), node)))
        positional = tuple_of(self.all(args.defaults))
        pairs = [(a.arg, d) for a, d in zip(args.kwonlyargs, args.kw_defaults) if d is not None]
        keywords = ast.Dict([constant(n) for n, _ in pairs], [self.visit(d) for _, d in pairs])
        return at(apply("lambda_", load(name), positional, keywords), node)

    def comprehension(
        self, node: Any, name: str, first: list[ast.stmt], leaf: ast.stmt, last: ast.stmt
    ) -> ast.expr:
        """A call of a function with the loops of ``node`` around ``leaf``."""
        if any(g.is_async for g in node.generators):
            self.scope.unit.refuse(node, "an asynchronous comprehension", "use plain loops")
            return constant(None)
        made = self.loops(node, name, first, leaf, [last])
        self.pending.append(self.define_function(made, inner=True))
        return at(call(name, self.visit(node.generators[0].iter)), node)

    def loops(
        self, node: Any, name: str, first: list[ast.stmt], leaf: ast.stmt, last: list[ast.stmt]
    ) -> ast.FunctionDef:
        """The definition of a function of what the first loop goes over."""
        items = f"{GENERATED}items"
        inner = leaf
        for i, g in reversed(list(enumerate(node.generators))):
            for condition in reversed(g.ifs):
                inner = at(ast.If(condition, [inner], []), condition)
            source = load(items) if i == 0 else g.iter
            inner = at(ast.For(g.target, source, [inner], [], None), g.iter)
        outer = sorted(walrus_targets(node))
        body = [*self.scope.declare(outer), *first, inner, *last]
        body = [ast.fix_missing_locations(at(s, node)) for s in body]
        return at(define(name, one_argument(items), body), node)

    def collected(self, node: Any, kind: str, empty: ast.expr, leaf: ast.expr) -> ast.expr:
        out = f"{GENERATED}out"
        first: list[ast.stmt] = [ast.Assign([ast.Name(out, ast.Store())], empty)]
        step = at(ast.Expr(at(leaf, node)), node)
        return self.comprehension(
            node, self.scope.unit.fresh(kind), first, step, ast.Return(load(out))
        )

    def visit_Dict(self, node: ast.Dict) -> ast.expr:
        keys = [k if k is None else self.visit(k) for k in node.keys]
        pairs = zip(node.keys, self.all(node.values))
        values = [v if k is not None else at(apply("whole", v), node) for k, v in pairs]
        if any(not isinstance(k, ast.Constant) for k in keys) and None not in keys:
            rows = [ast.Tuple([k, v], ast.Load()) for k, v in zip(keys, values)]
            return at(apply("dict_", *rows), node)
        return at(apply("new", at(ast.Dict(keys, values), node)), node)

    def visit_Starred(self, node: ast.Starred) -> ast.expr:
        value = self.visit(node.value)
        if isinstance(node.ctx, ast.Load):
            value = at(apply("unpacked", value), node)
        return at(ast.Starred(value, node.ctx), node)

    def visit_Set(self, node: ast.Set) -> ast.expr:
        return at(apply("set_", *self.all(node.elts)), node)

    def visit_ListComp(self, node: ast.ListComp) -> ast.expr:
        if self.foreign:
            return self.native(node)
        leaf = _ours(apply("append", load(f"{GENERATED}out"), node.elt))
        return self.collected(node, "listcomp", ast.List([], ast.Load()), leaf)

    def visit_SetComp(self, node: ast.SetComp) -> ast.expr:
        if self.foreign:
            return self.native(node)
        leaf = _ours(apply("add", load(f"{GENERATED}out"), node.elt))
        return self.collected(node, "setcomp", _ours(apply("new_set")), leaf)

    def visit_DictComp(self, node: ast.DictComp) -> ast.expr:
        if self.foreign:
            return self.native(node)
        leaf = _ours(apply("put", load(f"{GENERATED}out"), node.key, node.value))
        return self.collected(node, "dictcomp", ast.Dict([], []), leaf)

    def early_exit(self, node: ast.Call, name: str) -> ast.expr | None:
        """``any``, ``all`` and ``next`` of a generator as a loop that returns early."""
        generator = node.args[0]
        assert isinstance(generator, ast.GeneratorExp)
        if self.foreign or node.keywords or len(node.args) != (2 if name == "next" else 1):
            return None
        leaf: ast.stmt
        if name == "next":
            missing = f"{GENERATED}default"
            leaf, last = ast.Return(generator.elt), ast.Return(load(missing))
            made = self.comprehension(generator, self.scope.unit.fresh("next"), [], leaf, last)
            assert isinstance(made, ast.Call)
            function = self.pending[-1]
            assert isinstance(function, ast.FunctionDef)
            function.args.args.append(ast.arg(missing))
            made.args.append(self.visit(node.args[1]))
            return made
        found = name == "any"
        test = generator.elt if found else at(ast.UnaryOp(ast.Not(), generator.elt), generator.elt)
        leaf = at(ast.If(test, [at(ast.Return(constant(found)), test)], []), test)
        last = ast.Return(constant(not found))
        return self.comprehension(generator, self.scope.unit.fresh(name), [], leaf, last)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> ast.expr:
        if self.foreign or any(g.is_async for g in node.generators):
            return self.native(node)
        names, forms = [], []
        for change in (listed, resumed):
            part = deepcopy(node)
            leaf = at(ast.Expr(at(ast.Yield(part.elt), node)), node)
            names.append(self.scope.unit.fresh("genexpr"))
            forms.append(self.loops(part, names[-1], [], leaf, []))
            if not change(forms[-1]):
                return self.native(node)
        self.pending += map(self.define_function, forms)
        items, is_tested = self.visit(node.generators[0].iter), any(g.ifs for g in node.generators)
        plain = thunk(self.native(node, at(apply("handed"), node)))
        made = apply("generated", load(names[0]), load(names[1]), items, plain, constant(is_tested))
        return at(made, node)

    def native(self, node: Any, items: ast.expr | None = None) -> ast.expr:
        """A comprehension that stays one: its tests and iterables must be plain.

        Args: items: what it goes over, if that is there already.
        """
        first = node.generators[0]
        iterable = self.visit(first.iter) if items is None else items
        self.foreign.append(
            {n.id for g in node.generators for n in ast.walk(g.target) if isinstance(n, ast.Name)}
            | walrus_targets(node)
        )
        generators = []
        for i, g in enumerate(node.generators):
            source = iterable if i == 0 else self.visit(g.iter)
            source = at(apply("plain_iterable", source), g.iter)
            ifs = [self.plain(c) for c in g.ifs]
            generators.append(ast.comprehension(self.visit(g.target), source, ifs, g.is_async))
        made = node.__class__(
            **{k: self.visit(getattr(node, k)) for k in node._fields if k != "generators"},
            generators=generators,
        )
        self.foreign.pop()
        return at(made, node)


def _ours(made: ast.Call) -> ast.Call:
    """A call of an operator inside syntax that is still to be converted."""
    made.converted = True  # pyright: ignore[reportAttributeAccessIssue]
    return made


def _is_super(node: ast.expr) -> bool:
    is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    return is_call and node.func.id == "super"  # pyright: ignore


def is_converted(node: ast.AST) -> bool:
    return getattr(node, "converted", False)


def _is_join(function: ast.expr) -> bool:
    is_text = isinstance(function, ast.Attribute) and isinstance(function.value, ast.Constant)
    return is_text and function.attr == "join" and isinstance(function.value.value, str)  # pyright: ignore
