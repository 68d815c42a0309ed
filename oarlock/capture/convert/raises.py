"""``raise`` below a decision inside ``try``: a jump to the handlers rather than an error.

``try: if c: raise E(x); rest`` / ``except E: h`` becomes ``try: if c: raised = True; else: rest`` /
``except E: h`` / ``if raised: try: raise E(x)`` / ``except E: h``, so that both ways of a decision on
data can be followed.  What the error says is computed after the jump, from variables that stay.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from oarlock.capture.convert.build import apply, assign, at, load, operator, tuple_of
from oarlock.capture.convert.source import copy_tree

_BLOCKS = (ast.If, ast.While, ast.For)


def mark(node: ast.Try, fresh: Callable[[str], str]) -> list[tuple[str, ast.Raise]]:
    """Give each ``raise`` that the handlers of ``node`` may catch a ``flag``; flags and statements.

    Args: fresh: makes the name of a flag.
    """
    found = [(s, inside) for s, inside in _raises(_inner(node)) if getattr(s, "caught", 0) >= 0]
    if not node.handlers or not any(inside for _, inside in found):
        return []
    sites = []
    for statement, _ in found:
        statement.flag = fresh("raised")  # type: ignore
        sites.append((statement.flag, statement))  # type: ignore
    return sites


def _inner(node: ast.Try) -> list[ast.stmt]:
    """The user's statements: conversion puts them into a ``with`` that tells of the handlers."""
    first = node.body[0]
    return first.body if getattr(first, "tells", False) else node.body  # type: ignore


def _raises(body: list[ast.stmt], inside: bool = False) -> Iterator[tuple[ast.Raise, bool]]:
    """Each ``raise`` of a new error that leaves through nothing but ifs and loops."""
    for node in body:
        if isinstance(node, ast.Raise) and node.exc is not None and not hasattr(node, "flag"):
            yield node, inside
        elif isinstance(node, _BLOCKS):
            yield from _raises([*node.body, *node.orelse], True)


@dataclass
class Region:
    """The body of a ``try`` that is being lowered.

    Args: managed: how many ``with`` are around it; sites: errors that pass through what is inside.
    """

    managed: int
    sites: list[tuple[str, ast.Raise]] = field(default_factory=list)


def kept(statement: ast.Raise, name: str) -> ast.stmt:
    """``name = pieces_of(error, cause)``: an error in pieces, by a variable."""
    pieces = getattr(statement, "pieces", "")
    given = [x for x in (statement.exc, statement.cause) if x is not None]
    value = load(pieces) if pieces else apply("pieces_of", *given)
    return at(assign(name, at(value, statement)), statement)


def of_pieces(statement: ast.Raise, name: str) -> ast.Raise:
    """``raise`` of an error that a variable keeps."""
    made = at(ast.Raise(at(apply("rebuilt", load(name)), statement), None), statement)
    made.pieces = name
    return made


def handled(
    node: ast.Try, statement: ast.Raise, fresh: Callable[[str], str], passes: bool
) -> list[ast.stmt]:
    """What raises at once what ``statement`` of the body of ``node`` raises.

    Args: passes: what no handler catches is raised behind them, by a statement that can be lowered.
    """
    place = getattr(statement, "caught", None)
    handlers = _fresh(node.handlers)
    if place is not None:
        own = [h for h in node.handlers if not hasattr(h, "steers")]
        handlers = [_of_any(_fresh([own[place]])[0])]
    elif not passes and not hasattr(statement, "pieces"):
        raised = _at_once(statement.exc, statement)
        return [at(node.__class__([raised], handlers, [], []), node)]
    error = fresh("error")
    given: Any = statement.exc if place is not None else apply("one_error", statement.exc)
    made: list[ast.stmt] = [at(assign(error, at(given, statement)), statement)]
    raised = _at_once(load(error) if place is None else apply("thrown", load(error)), statement)
    again = at(node.__class__([raised], handlers, [], []), node)
    if place is not None or not passes:
        return [*made, again]
    own = [h for h in copy_tree(node.handlers) if not hasattr(h, "steers")]
    kinds = [h.type or load("BaseException") for h in own]
    test = at(apply("matches", load(error), tuple_of(kinds)), statement)
    rest = at(ast.Raise(load(error), statement.cause), statement)
    return [*made, at(ast.If(test, [again], [rest]), statement)]


def _fresh(handlers: list[ast.ExceptHandler]) -> list[ast.ExceptHandler]:
    """A copy whose inner ``try`` is not marked yet: its flags are those of the copy."""
    made = copy_tree(handlers)
    for handler in made:
        for node in ast.walk(handler):
            node.__dict__.pop("flag", None)
    return made


def _of_any(handler: ast.ExceptHandler) -> ast.ExceptHandler:
    """``handler`` for whatever is raised, which it is known to catch."""
    body, name = handler.body, handler.name
    if name is not None:
        body = [at(assign(name, at(apply("held_error", load(name)), handler)), handler), *body]
    return at(ast.ExceptHandler(operator("BaseException"), name, body), handler)


def _at_once(error: ast.expr | None, statement: ast.Raise) -> ast.Raise:
    """A ``raise`` that stays one: it stands in a ``try`` of its own."""
    made = at(ast.Raise(error, statement.cause), statement)
    made.at_once = True
    return made
