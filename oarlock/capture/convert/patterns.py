"""``match`` as a chain of ``if``; Python itself takes structures apart."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Sequence
from typing import Any

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
    if _compares(first.pattern):
        taken = [assign(hit, constant(False)), *_Attempt(hit, fresh).of(first.pattern, subject)]
    else:
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
    if isinstance(pattern, ast.MatchClass) and not (pattern.patterns or pattern.kwd_patterns):
        return at(ast.Call(load("isinstance"), [load(subject), pattern.cls], []), pattern)
    if isinstance(pattern, ast.MatchOr):
        parts = [_simple(p, subject) for p in pattern.patterns]
        if all(p is not None for p in parts):
            return at(ast.BoolOp(ast.Or(), [p for p in parts if p is not None]), pattern)
    return None


def _compares(pattern: ast.pattern) -> bool:
    """Whether a value inside is compared: the run may have it."""
    kinds = (ast.MatchValue, ast.MatchSingleton, ast.MatchClass)
    return any(isinstance(n, kinds) for n in ast.walk(pattern))


class _Attempt:
    """Statements that set ``hit``, and bind the names of a pattern, where a subject matches it.

    Python takes one structure apart, into variables of ours; what stands inside is tried on these.
    """

    def __init__(self, hit: str, fresh: Callable[[], str]) -> None:
        self.hit, self.fresh = hit, fresh

    def of(self, pattern: ast.pattern, subject: str) -> list[ast.stmt]:
        return self.tried([(pattern, subject)], [])

    def tried(
        self, wanted: list[tuple[ast.pattern, str]], names: list[tuple[str, str]]
    ) -> list[ast.stmt]:
        """``wanted``: what is still to match; ``names``: what to bind to which of our variables."""
        if not wanted:
            bind: list[ast.stmt] = [assign(name, load(value)) for name, value in names]
            return [*bind, assign(self.hit, constant(True))]
        (pattern, subject), rest = wanted[0], wanted[1:]
        if isinstance(pattern, ast.MatchAs):
            inner = [] if pattern.pattern is None else [(pattern.pattern, subject)]
            bound = [(pattern.name, subject)] if pattern.name else []
            return self.tried([*inner, *rest], [*names, *bound])
        test = _simple(pattern, subject)
        if test is not None:
            return [ast.If(test, self.tried(rest, names), [])]
        if isinstance(pattern, ast.MatchOr):
            first, *others = (self.tried([(p, subject), *rest], names) for p in pattern.patterns)
            for other in others:
                missed = ast.UnaryOp(ast.Not(), load(self.hit))
                first = [*first, ast.If(missed, other, [])]
            return first
        return self.apart(pattern, subject, rest, names)

    def apart(
        self, pattern: ast.pattern, subject: str, rest: list[Any], names: list[tuple[str, str]]
    ) -> list[ast.stmt]:
        if isinstance(pattern, ast.MatchClass) and _is_number(pattern):
            test = ast.Call(load("isinstance"), [load(subject), pattern.cls], [])
            inside = [(pattern.patterns[0], subject)]
            return [ast.If(test, self.tried([*inside, *rest], names), [])]
        is_split, inside, bound = self.fresh(), [], []
        whole = self.opened(pattern, inside, bound)
        split = _taken(whole, subject, is_split)
        then = self.tried([*inside, *rest], [*names, *bound])
        return [*split, ast.If(load(is_split), then, [])]

    def opened(self, pattern: Any, inside: list[Any], bound: list[tuple[str, str]]) -> Any:
        """The outermost structure of a pattern, with variables of ours for its parts."""
        whole = copy.copy(pattern)

        def part(inner: ast.pattern) -> ast.pattern:
            if isinstance(inner, ast.MatchStar):
                return ast.MatchStar(self.rest(inner.name, bound))
            inside.append((inner, self.fresh()))
            return ast.MatchAs(None, inside[-1][1])

        for field in ("patterns", "kwd_patterns"):
            if hasattr(whole, field):
                setattr(whole, field, [part(p) for p in getattr(whole, field)])
        if isinstance(whole, ast.MatchMapping):
            whole.rest = self.rest(whole.rest, bound)
        return whole

    def rest(self, name: str | None, bound: list[tuple[str, str]]) -> str | None:
        if name is not None:
            bound.append((name, self.fresh()))
        return name and bound[-1][1]


def _is_number(pattern: ast.MatchClass) -> bool:
    """``int(x)``: the number itself is the part, and one of the run is of a class of ours."""
    is_one = len(pattern.patterns) == 1 and not pattern.kwd_patterns
    return is_one and isinstance(pattern.cls, ast.Name) and pattern.cls.id in _NUMBERS


_NUMBERS = ("int", "float", "bool")


def _take_apart(pattern: ast.pattern, subject: str, hit: str) -> list[ast.stmt]:
    if isinstance(pattern, ast.MatchAs) and pattern.pattern is None and pattern.name:
        bind = ast.Assign([store(pattern.name)], load(subject))
        return [bind, assign(hit, constant(True))]
    return _taken(pattern, subject, hit)


def _taken(pattern: ast.pattern, subject: str, hit: str) -> list[ast.stmt]:
    taken = ast.match_case(pattern, None, [assign(hit, constant(True))])
    split = ast.Match(load(subject), [taken])
    split.converted = True  # pyright: ignore[reportAttributeAccessIssue]
    return [assign(hit, constant(False)), split]
