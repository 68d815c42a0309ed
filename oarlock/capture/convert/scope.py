"""What a function's conversion knows: its names, the scopes around it, what it has to define."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from oarlock.capture.convert.build import (
    GENERATED,
    apply,
    assign_many,
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
from oarlock.capture.convert.names import (
    COMPREHENSIONS,
    bound,
    declared,
    free,
    own_nodes,
    parameters,
    rebound,
)
from oarlock.capture.convert.problems import Problem

Kind = Literal["local", "cell", "global", "builtin"]


@dataclass
class Unit:
    """One object to convert: where it is from, what lies around it, all problems found in it."""

    file: str
    owner: str
    free: frozenset[str]
    module: frozenset[str]
    problems: list[Problem] = field(default_factory=list)
    count: int = 0

    def fresh(self, what: str) -> str:
        self.count += 1
        return f"{GENERATED}{what}_{self.count}"

    def refuse(self, node: ast.AST, reason: str, rewrite: str) -> None:
        self.problems.append(Problem((self.file, getattr(node, "lineno", 0)), reason, rewrite))


@dataclass
class Scope:
    """One function of a unit."""

    unit: Unit
    parent: Scope | None
    locals: set[str]
    globals: set[str]
    nonlocals: set[str]
    shared: set[str]
    first: str | None
    is_generator: bool
    is_failing: bool = False  # it gives an ``Outcome`` in place of raising
    accessors: dict[tuple[str, ...], str] = field(default_factory=dict)
    setters: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def of(node: ast.FunctionDef, unit: Unit, parent: Scope | None) -> Scope:
        """Args: node: before its conversion."""
        outside = declared(node.body, ast.Global), declared(node.body, ast.Nonlocal)
        mine = (bound(node.body) | set(parameters(node.args))) - outside[0] - outside[1]
        inner = [n for n in own_nodes(node.body) if hasattr(n, "body") or hasattr(n, "generators")]
        scopes = [n for n in inner if isinstance(n, (*_DEFINITIONS, *COMPREHENSIONS, ast.ClassDef))]
        shared = {name for n in scopes for name in rebound(n)}
        args = node.args
        first = next((a.arg for a in (*args.posonlyargs, *args.args)), None)
        yields = any(isinstance(n, (ast.Yield, ast.YieldFrom)) for n in own_nodes(node.body))
        return Scope(unit, parent, mine, *outside, shared, first, yields)

    def kind(self, name: str) -> Kind:
        """Where a name of this scope lives, seen from the unit."""
        if name in self.globals:
            return "global"
        if name in self.locals or name.startswith(GENERATED):
            return "local"
        if self.parent is not None:
            return self.parent.kind(name)
        if name in self.unit.free:
            return "cell"
        if name in self.unit.module or not hasattr(builtins, name):
            return "global"
        return "builtin"

    def is_builtin(self, name: str) -> bool:
        return self.kind(name) == "builtin"

    def declare(self, names: Sequence[str]) -> list[ast.stmt]:
        """Statements that make names of this scope assignable in a function inside it."""
        ours = sorted(n for n in names if n not in self.globals)
        theirs = sorted(n for n in names if n in self.globals)
        made: list[ast.stmt] = [ast.Nonlocal(ours)] if ours else []
        return [*made, ast.Global(theirs)] if theirs else made

    def access(self, names: tuple[str, ...]) -> tuple[ast.expr, ast.expr, ast.expr]:
        """``get, set, names`` for a State."""
        if not names:
            return constant(None), constant(None), constant(())
        if names not in self.accessors:
            self.accessors[names] = str(len(self.accessors) + 1)
        key = self.accessors[names]
        return load(f"{GENERATED}get_{key}"), load(f"{GENERATED}set_{key}"), texts(names)

    def touching(self, name: str) -> ast.expr | None:
        """Tells the tracer that a variable of the code around is about to change."""
        kind = self.kind(name)
        if kind == "local":
            is_of_function_around = name in self.nonlocals
            return apply("touch_variable", thunk(load(name))) if is_of_function_around else None
        return apply("touch_cell" if kind == "cell" else "touch_globals", constant(name))

    def setter(self, name: str) -> str:
        """A function that binds a variable and returns its value: ``:=`` inside our lambdas."""
        return self.setters.setdefault(name, f"{GENERATED}bind_{name}")

    def definitions(self) -> list[ast.stmt]:
        """What the function must define first; binds every name that only inner functions assign."""
        made: list[ast.stmt] = []
        mine = sorted(self.locals)
        if mine:
            never = [assign_many(mine, tuple_of(constant(None) for _ in mine))]
            made.append(ast.If(constant(0), [*never], []))
        for names, key in self.accessors.items():
            made += [self._getter(names, key), self._setter(names, key)]
        for name, function in self.setters.items():
            value = f"{GENERATED}v"
            body = [*self.declare([name]), ast.Assign([ast.Name(name, ast.Store())], load(value))]
            made.append(define(function, one_argument(value), [*body, ast.Return(load(value))]))
        return made

    def _getter(self, names: tuple[str, ...], key: str) -> ast.stmt:
        quick: ast.stmt = ast.Return(tuple_of(load(n) for n in names))
        thunks = tuple_of(thunk(load(n)) for n in names)
        slow: ast.stmt = ast.Return(apply("values", texts(names), thunks))
        handler = ast.ExceptHandler(
            ast.Attribute(load("_ol"), "NameError", ast.Load()), None, [slow]
        )
        body = ast.Try([quick], [handler], [], [])
        return define(f"{GENERATED}get_{key}", no_arguments(), [body])

    def _setter(self, names: tuple[str, ...], key: str) -> ast.stmt:
        values = f"{GENERATED}v"
        body: list[ast.stmt] = [*self.declare(names), assign_many(names, load(values))]
        for name in names:
            unbind = ast.Delete([ast.Name(name, ast.Del())])
            body.append(ast.If(apply("is_undefined", load(name)), [unbind], []))
        return define(f"{GENERATED}set_{key}", one_argument(values), body)

    def captured(self, body: list[ast.stmt]) -> set[str]:
        """Names that functions and classes inside may read at any time."""
        found: set[str] = set()
        for node in own_nodes(body):
            if isinstance(node, (*_DEFINITIONS, ast.ClassDef, ast.GeneratorExp)):
                ours = getattr(node, "ours", False)
                found |= set() if ours else free(node)
        return found


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def place(statements: list[ast.stmt], old: ast.AST) -> list[ast.stmt]:
    """Our statements at the line of the user's."""
    return [at(s, old) for s in statements]
