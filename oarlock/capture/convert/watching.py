"""Operations inside ``try`` that may fail as data decide: a test and a ``raise`` before each.

``try: y = d[f(x)]`` / ``except KeyError`` becomes ``try: t = f(x)`` / ``if fails(d, t): raise
failure(d, t)`` / ``y = d[t]``.  The ``raise`` is one below a decision, which ``raises`` makes a jump.
What a call of the user's function fails by is asked behind it; see ``attempts``.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Iterator
from typing import Any

from oarlock.capture.convert.build import apply, at, constant, load, store, tuple_of
from oarlock.capture.convert.source import copy_tree

_LOOK_UP = ("KeyError", "IndexError", "LookupError")
_DIVISIONS: dict[type, str] = {ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%"}
_FUNCTIONS = {
    "next": ("StopIteration",),
    "int": ("ValueError", "OverflowError"),
    "getattr": ("AttributeError",),
}
_METHODS = {
    "pop": _LOOK_UP,
    "popitem": _LOOK_UP,
    "popleft": _LOOK_UP,
    "remove": ("KeyError", "ValueError", "LookupError"),
    "index": ("ValueError",),
    "sqrt": ("ValueError",),
    "log": ("ValueError",),
}
_Key = str | tuple[str, int]
_ANY = ("Exception", "BaseException", "ArithmeticError")
_ORDER: dict[type, tuple[str, ...]] = {
    ast.Subscript: ("value", "slice"),
    ast.Attribute: ("value",),
    ast.BinOp: ("left", "right"),
    ast.UnaryOp: ("operand",),
    ast.Compare: ("left", "comparators"),
    ast.Tuple: ("elts",),
    ast.List: ("elts",),
    ast.Starred: ("value",),
    ast.NamedExpr: ("value",),
    ast.Slice: ("lower", "upper", "step"),
    ast.keyword: ("value",),
    ast.JoinedStr: ("values",),
    ast.FormattedValue: ("value",),
}
_PLACES: dict[type, str] = {
    ast.Assign: "value",
    ast.AnnAssign: "value",
    ast.AugAssign: "value",
    ast.Expr: "value",
    ast.Return: "value",
    ast.If: "test",
    ast.For: "iter",
}


def watched(node: ast.Try, temporary: Callable[[], str]) -> list[ast.stmt]:
    """The body of ``node``; an error for its handlers or ``finally`` is asked for before it happens."""
    names = [n for h in node.handlers for n in _names(h.type)]
    names += ["BaseException"] if node.finalbody else []
    return _Watch(names, temporary, node.handlers).block(node.body)


def watched_function(body: list[ast.stmt], temporary: Callable[[], str]) -> list[ast.stmt]:
    """The body of a function that gives an ``Outcome``; what its calls fail by, it fails by."""
    return _Watch([], temporary, []).block(body)


def named(handler: ast.ExceptHandler, temporary: Callable[[], str]) -> ast.ExceptHandler:
    """``handler`` with ``raise`` of what it has caught by a name."""
    again = [n for n in _own(handler.body) if isinstance(n, ast.Raise) and n.exc is None]
    if again and handler.name is None:
        handler.name = temporary()
    for node in again:
        node.exc = at(load(handler.name or ""), node)
    return handler


def _own(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a handler, without those of handlers and functions inside."""
    for node in body:
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            for part in ("body", "orelse", "finalbody"):
                yield from _own(getattr(node, part, []))


def _names(kind: ast.expr | None) -> Iterator[str]:
    if isinstance(kind, ast.Tuple):
        for item in kind.elts:
            yield from _names(item)
    else:
        yield kind.id if isinstance(kind, ast.Name) else "Exception"


class _Watch:
    """Args: caught: names of the errors that are caught; temporary: makes a variable; handlers: none
    for a function that gives an ``Outcome``."""

    def __init__(
        self, caught: list[str], temporary: Callable[[], str], handlers: list[ast.ExceptHandler]
    ) -> None:
        self.caught, self.temporary, self.handlers = caught, temporary, handlers
        self.made: list[ast.stmt] = []

    def block(self, body: list[ast.stmt]) -> list[ast.stmt]:
        return [new for node in body for new in self.statement(node)]

    def statement(self, node: ast.stmt) -> list[ast.stmt]:
        if isinstance(node, (ast.If, ast.For, ast.While, ast.With)):
            node.body = self.block(node.body)
            if not isinstance(node, ast.With):
                node.orelse = self.block(node.orelse)
        if isinstance(node, ast.Try):
            self.inside(node)
        if isinstance(node, ast.Assert):
            node = self.asserted(node)
        self.made = []
        place = _PLACES.get(type(node))
        value = getattr(node, place, None) if place is not None else None
        if value is not None and self.is_watched(value):
            setattr(node, place or "", self.flat(value))
        if isinstance(node, ast.AugAssign):
            self.changed(node.target)
        for target in node.targets if isinstance(node, ast.Delete) else ():
            self.changed(target)
        return [*self.made, node]

    def inside(self, node: ast.Try) -> None:
        """A ``try`` in the body, whose own handlers ask for themselves what they catch."""
        if not node.handlers:
            node.body = self.block(node.body)
        for handler in node.handlers:
            handler.body = self.block(handler.body)
        node.orelse, node.finalbody = self.block(node.orelse), self.block(node.finalbody)

    def asserted(self, node: ast.Assert) -> ast.stmt:
        """``assert`` as a ``raise`` below a decision."""
        if not __debug__ or not (self.catches(("AssertionError",)) or not self.handlers):
            return node
        error: ast.expr = at(load("AssertionError"), node)
        if node.msg is not None:
            error = at(ast.Call(error, [node.msg], []), node)
        test = at(ast.UnaryOp(ast.Not(), node.test), node.test)
        return at(ast.If(test, [at(ast.Raise(error, None), node)], []), node)

    def changed(self, target: ast.expr) -> None:
        """A target that is read, or deleted, as an item."""
        if isinstance(target, ast.Subscript) and self.catches(_LOOK_UP):
            target.value, target.slice = self.simple(target.value), self.simple(target.slice)
            self.check(target, "item", target.value, target.slice)

    # what may fail

    def catches(self, errors: tuple[str, ...]) -> bool:
        return any(name in (*errors, *_ANY) for name in self.caught)

    def kind(self, node: ast.AST) -> str | None:
        """How an operation may fail so that a handler catches it."""
        if isinstance(node, ast.Subscript):
            is_item = isinstance(node.ctx, ast.Load) and not isinstance(node.slice, ast.Slice)
            return "item" if is_item and self.catches(_LOOK_UP) else None
        if isinstance(node, ast.Attribute):
            is_read = isinstance(node.ctx, ast.Load) and "AttributeError" in self.caught
            return "attribute" if is_read else None
        if isinstance(node, ast.BinOp):
            is_division = type(node.op) in _DIVISIONS
            return "division" if is_division and self.catches(("ZeroDivisionError",)) else None
        if not isinstance(node, ast.Call) or node.keywords or any(map(_is_starred, node.args)):
            return None
        if isinstance(node.func, ast.Name):
            errors = _FUNCTIONS.get(node.func.id)
            return "call" if errors is not None and self.catches(errors) else None
        if isinstance(node.func, ast.Attribute):
            errors = _METHODS.get(node.func.attr)
            return "method" if errors is not None and self.catches(errors) else None
        return None

    def is_watched(self, node: ast.AST) -> bool:
        is_one = self.kind(node) is not None or self.is_attempted(node)
        return is_one or any(map(self.is_watched, _children(node)))

    def is_attempted(self, node: ast.AST) -> bool:
        """A call that may be one of a user's function, or an item of a user's object."""
        if isinstance(node, ast.Subscript):
            is_item = isinstance(node.ctx, ast.Load) and not isinstance(node.slice, ast.Slice)
            return is_item and (not self.handlers or self.catches(_LOOK_UP))
        if not isinstance(node, ast.Call) or hasattr(node, "converted"):
            return False
        if not isinstance(node.func, ast.Name):
            return True
        return node.func.id == "next" or not hasattr(builtins, node.func.id)

    # operands, each evaluated once and in order

    def flat(self, node: Any) -> Any:
        """``node`` with a test before each operation that may fail."""
        parts = _places(node)
        held = [i for i, (owner, key) in enumerate(parts) if self.is_watched(_get(owner, key))]
        for i, (owner, key) in enumerate(parts[: held[-1] + 1] if held else []):
            value = self.flat(_get(owner, key)) if i in held else _get(owner, key)
            _set(owner, key, self.simple(value) if i < held[-1] else value)
        kind = self.kind(node)
        if kind == "item":
            node.value, node.slice = self.simple(node.value), self.simple(node.slice)
            self.check(node, kind, node.value, node.slice)
        elif kind == "attribute":
            node.value = self.simple(node.value)
            self.check(node, kind, node.value, constant(node.attr))
        elif kind == "division":
            node.left, node.right = self.simple(node.left), self.simple(node.right)
            self.check(node, kind, constant(_DIVISIONS[type(node.op)]), node.left, node.right)
        elif kind is not None:
            node.args = [self.simple(x) for x in node.args]
            if kind == "method":
                node.func.value = self.simple(node.func.value)
            self.check(node, kind, node.func, *node.args)
        return self.attempted(node) if self.is_attempted(node) else node

    def attempted(self, node: Any) -> ast.expr:
        """``node`` in a variable; what it may have failed by is raised here."""
        if isinstance(node, ast.Subscript):
            call = _converted(apply("attempt_item", node.value, node.slice), node)
        else:
            node.attempted, call = True, node
        name = self.temporary()
        self.made.append(at(ast.Assign([at(store(name), node)], call), node))
        kinds = [h.type or at(load("BaseException"), node) for h in self.handlers]

        def ask(what: str, place: int) -> ast.Call:
            types = at(tuple_of(map(copy_tree, kinds)), node)
            return _converted(
                apply(what, at(load(name), node), types, at(constant(place), node)), node
            )

        sites = []
        for place in (*range(len(kinds)), -1):
            is_named = place < 0 or self.handlers[place].name is not None
            pieces = self.temporary() if is_named else ""
            keep = at(ast.Assign([at(store(pieces), node)], ask("pieces", place)), node)
            value = at(load(pieces) if is_named else constant(None), node)
            raised = at(ast.Raise(_converted(apply("rebuilt", value), node), None), node)
            raised.caught, raised.pieces = place, pieces
            body = [keep, raised] if is_named else [raised]
            sites.append(at(ast.If(ask("caught", place), body, []), node))
        failed = _converted(apply("has_failed", at(load(name), node)), node)
        self.made.append(at(ast.If(failed, sites, []), node))
        return _converted(apply("value_of", at(load(name), node)), node)

    def simple(self, node: Any) -> Any:
        """A variable or constant with the value of ``node``."""
        if isinstance(node, (ast.Name, ast.Constant, ast.Starred, ast.Slice, ast.keyword)):
            return node
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "super":
            return node
        name = self.temporary()
        self.made.append(at(ast.Assign([at(store(name), node)], node), node))
        return at(load(name), node)

    def check(self, node: ast.AST, kind: str, *operands: ast.expr) -> None:
        """``if fails(kind, operands): raise failure(kind, operands)``"""
        test, error = (
            _ours(name, kind, tuple(map(copy_tree, operands)), node)
            for name in ("fails", "failure")
        )
        raised = at(ast.Raise(error, None), node)
        self.made.append(at(ast.If(test, [raised], []), node))


def _ours(name: str, kind: str, operands: tuple[ast.expr, ...], node: ast.AST) -> ast.Call:
    return _converted(apply(name, at(constant(kind), node), at(tuple_of(operands), node)), node)


def _converted(made: ast.Call, node: ast.AST) -> ast.Call:
    """A call of an operator, whose operands are still to be converted."""
    made.converted = True  # pyright: ignore[reportAttributeAccessIssue]
    return at(made, node)


def _is_starred(node: ast.AST) -> bool:
    return isinstance(node, ast.Starred)


def _places(node: ast.AST) -> list[tuple[Any, _Key]]:
    """Where the operands of ``node`` stand, in the order of their evaluation."""
    if isinstance(node, ast.Call):
        is_method = isinstance(node.func, ast.Attribute)
        first = (node.func, "value") if is_method else (node, "func")
        places: list[Any] = [first, *((node, ("args", i)) for i in range(len(node.args)))]
        places += [(k, "value") for k in node.keywords]
    else:
        places = []
        for name in _ORDER.get(type(node), ()):
            value = getattr(node, name)
            if isinstance(value, list):
                places += [(node, (name, i)) for i in range(len(value))]
            elif value is not None:
                places.append((node, name))
    return places


def _children(node: ast.AST) -> list[Any]:
    return [_get(owner, key) for owner, key in _places(node)]


def _get(owner: Any, key: _Key) -> Any:
    return getattr(owner, key) if isinstance(key, str) else getattr(owner, key[0])[key[1]]


def _set(owner: Any, key: _Key, value: Any) -> None:
    if isinstance(key, str):
        setattr(owner, key, value)
    else:
        getattr(owner, key[0])[key[1]] = value
