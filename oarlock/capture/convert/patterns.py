"""``match`` as a chain of ``if``; Python itself takes structures apart."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence

from oarlock.capture.convert.build import assign, at, constant, load, store


def cases(
    found: Sequence[ast.match_case], subject: str, fresh: Callable[[], str]
) -> list[ast.stmt]:
    """The statements of ``match subject``, still to be converted."""
    if not found:
        return []
    first, rest = found[0], cases(found[1:], subject, fresh)
    place = first.pattern
    simple = _simple(first.pattern, subject)
    if isinstance(simple, ast.Constant) and first.guard is None:
        return first.body
    if simple is not None and not bindings(first.pattern):
        test = simple if first.guard is None else _both(simple, first.guard)
        return [ast.fix_missing_locations(at(ast.If(test, first.body, rest), place))]
    hit = fresh()
    taken = _take_apart(first.pattern, subject, hit)
    test: ast.expr = load(hit)
    test = test if first.guard is None else _both(test, first.guard)
    made = [*taken, ast.If(test, first.body, rest)]
    return [ast.fix_missing_locations(at(s, place)) for s in made]


def _both(test: ast.expr, guard: ast.expr) -> ast.expr:
    if isinstance(test, ast.Constant):
        return guard
    return at(ast.BoolOp(ast.And(), [test, guard]), guard)


def bindings(pattern: ast.pattern) -> bool:
    return any(isinstance(n, (ast.MatchAs, ast.MatchStar)) and n.name for n in ast.walk(pattern))


def _simple(pattern: ast.pattern, subject: str) -> ast.expr | None:
    """The test of a pattern of values only."""
    if isinstance(pattern, ast.MatchValue):
        return at(ast.Compare(load(subject), [ast.Eq()], [pattern.value]), pattern)
    if isinstance(pattern, ast.MatchSingleton):
        value = at(constant(pattern.value), pattern)
        return at(ast.Compare(load(subject), [ast.Is()], [value]), pattern)
    if isinstance(pattern, ast.MatchAs) and pattern.pattern is None and pattern.name is None:
        return constant(True)
    if isinstance(pattern, ast.MatchOr):
        parts = [_simple(p, subject) for p in pattern.patterns]
        if all(p is not None for p in parts):
            return at(ast.BoolOp(ast.Or(), [p for p in parts if p is not None]), pattern)
    return None


def _take_apart(pattern: ast.pattern, subject: str, hit: str) -> list[ast.stmt]:
    if isinstance(pattern, ast.MatchAs) and pattern.pattern is None and pattern.name:
        bind = ast.Assign([store(pattern.name)], load(subject))
        return [bind, assign(hit, constant(True))]
    taken = ast.match_case(pattern, None, [assign(hit, constant(True))])
    split = ast.Match(load(subject), [taken])
    split.converted = True  # pyright: ignore[reportAttributeAccessIssue]
    return [assign(hit, constant(False)), split]
