"""``return``, ``break`` and ``continue`` without jumps: what follows moves into the other branch.

``if c: return a`` followed by ``rest`` becomes ``if c: result = a`` / ``else: rest``.  Only where both
ways go on, and out of loops, a flag says that the rest is left out.  What Python may keep, it keeps:
a ``return`` outside every converted ``if`` and loop stays.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

from oarlock.capture.convert.build import (
    GENERATED,
    apply,
    assign,
    at,
    constant,
    load,
    thunk,
    tuple_of,
)
from oarlock.capture.convert.names import own_nodes
from oarlock.capture.convert.raises import Region, handled, kept, mark, of_pieces
from oarlock.capture.convert.scope import Scope
from oarlock.capture.convert.source import copy_tree
from oarlock.capture.convert.statements import yields
from oarlock.capture.convert.walking import every_node

RESULT, DONE = f"{GENERATED}result", f"{GENERATED}done"
_JUMPS = (ast.Return, ast.Break, ast.Continue)
_SMALL = 40  # nodes of a rest that is written twice rather than guarded by a flag
NEXT = "next"


@dataclass
class _Loop:
    """Names of the flags of the loop around a statement."""

    broken: str
    skipped: str


class Jumps:
    """Lowers one function.  ``lower`` gives statements and how they may end: NEXT or flags set."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.flags: set[str] = set()
        self.taken: frozenset[str] = frozenset()
        self.shapes: list[str] = []
        self.failures: list[str] = []  # kinds of results that are errors
        self.regions: list[Region] = []
        self.managed = 0  # `with` statements around

    def function(self, body: list[ast.stmt]) -> list[ast.stmt]:
        kinds = (*_JUMPS, *_TRY, *([ast.Raise] if self.scope.is_failing else []))
        if not body or not any(isinstance(n, kinds) for n in own_nodes(body)):
            return body
        last = body[-1]
        if not isinstance(last, ast.Return) and not self.scope.is_generator:
            body = [*body, at(ast.Return(constant(None)), last)]
        self.shapes = shapes_of([n for n in own_nodes(body) if isinstance(n, ast.Return)])
        made, ends = self.lower(body, None, False)
        kinds = [str(i or "") for i in range(len(self.shapes))]
        failed = [k for k in self.failures if DONE + k in ends]
        used = [k for k in kinds if DONE + k in ends and k not in failed]
        if failed:
            made += self.outcome(used, failed, last)
        elif used and not self.scope.is_generator:
            made += [at(choosing(k, used[-1]), last) for k in used[:-1]]
            made.append(at(ast.Return(load(RESULT + used[-1])), last))
            self.flags |= {DONE + k for k in used[:-1]}
        if used or failed or self.flags:
            self.scope.locals |= {name + k for k in kinds for name in (RESULT, DONE)}
        flags = sorted(self.flags & {DONE + k for k in kinds})
        return prune([*(at(assign(name, constant(False)), body[0]) for name in flags), *made])

    def outcome(self, used: list[str], failed: list[str], place: ast.stmt) -> list[ast.stmt]:
        """The end of a function that gives an ``Outcome``."""
        made = [at(choosing(k, used[-1]), place) for k in used[:-1]]
        self.flags |= {DONE + k for k in (*used[:-1], *failed)}
        rows = [tuple_of([load(DONE + k), thunk(load(RESULT + k))]) for k in failed]
        value = [thunk(load(RESULT + used[-1]))] if used else []
        end = apply("outcome" if used else "fails_always", *value, *rows)
        return [*made, at(ast.Return(at(end, place)), place)]

    def lower(
        self, body: list[ast.stmt], loop: _Loop | None, inside: bool
    ) -> tuple[list[ast.stmt], frozenset[str]]:
        """Args: inside: whether a converted ``if`` or loop is around, so that nothing may jump."""
        made: list[ast.stmt] = []
        ends: set[str] = set()
        for i, node in enumerate(body):
            new, how = self.statement(node, body[i + 1 :], loop, inside)
            made += new
            if how is None:  # the statement took the rest of the block
                return made, frozenset(ends | self.taken)
            ends |= how - {NEXT}
            if NEXT not in how:
                return made, frozenset(ends)
            flagged = how - {NEXT}
            rest = body[i + 1 :]
            if flagged and rest:
                inner, last = self.lower(rest, loop, True)
                guard = self.guard(flagged, inner, rest[0])
                return [*made, guard], frozenset(ends | last | flagged)
        return made, frozenset(ends | {NEXT})

    def guard(self, flags: frozenset[str], body: list[ast.stmt], place: ast.stmt) -> ast.stmt:
        self.flags |= flags
        tests: list[ast.expr] = [apply("not_", load(f)) for f in sorted(flags)]
        test = tests[0]
        for other in tests[1:]:
            test = _conjunction(test, other)
        made = at(ast.If(at(test, place), body, []), place)
        made.flags = flags
        return made

    def statement(
        self, node: ast.stmt, rest: list[ast.stmt], loop: _Loop | None, inside: bool
    ) -> tuple[list[ast.stmt], frozenset[str] | None]:
        if isinstance(node, ast.Return):
            if not inside:
                return [node], frozenset()
            value = node.value or at(constant(None), node)
            shape = shape_of(node)
            kind = str(self.shapes.index(shape) or "") if shape in self.shapes else ""
            flag = at(assign(DONE + kind, constant(True)), node)
            return [at(assign(RESULT + kind, value), node), flag], frozenset({DONE + kind})
        if isinstance(node, (ast.Break, ast.Continue)):
            if loop is None:
                return [node], frozenset()
            flag = loop.broken if isinstance(node, ast.Break) else loop.skipped
            return [at(assign(flag, constant(True)), node)], frozenset({flag})
        if isinstance(node, ast.Raise):
            flag = getattr(node, "flag", None)
            if getattr(node, "at_once", False):
                return [node], frozenset()
            if flag is None:
                return self.failing(node, inside)
            return [at(assign(flag, constant(True)), node)], frozenset({flag})
        if isinstance(node, ast.If):
            return self.conditional(node, rest, loop, inside)
        if isinstance(node, (ast.While, ast.For)):
            return self.loop(node, loop, inside)
        if isinstance(node, ast.With):
            is_manager = not getattr(node, "tells", False)
            self.managed += is_manager
            body, how = self.lower(node.body, loop, inside)
            self.managed -= is_manager
            made = at(ast.With(node.items, body), node)
            return [made], how | {NEXT}  # it may swallow an exception
        if isinstance(node, _TRY):
            return self.attempt(node, loop, inside)
        return [node], frozenset({NEXT})

    def failing(
        self, node: ast.Raise, inside: bool
    ) -> tuple[list[ast.stmt], frozenset[str] | None]:
        """``raise`` of what is caught further out: by a ``try`` around this one, or by the caller."""
        around = self.regions[-1].managed if self.regions else 0
        is_lowered = inside and node.exc is not None and self.managed == around
        if is_lowered and self.regions:
            flag, name = (self.scope.unit.fresh(x) for x in ("raised", "pieces"))
            self.scope.locals |= {flag, name}
            self.flags.add(flag)
            self.regions[-1].sites.append((flag, of_pieces(node, name)))
            done = flag
        elif is_lowered and self.scope.is_failing:
            kind = str(len(self.shapes))
            self.shapes.append(f"failure {kind}")
            self.failures.append(kind)
            name, done = RESULT + kind, DONE + kind
        else:
            return [node], frozenset()
        return [kept(node, name), at(assign(done, constant(True)), node)], frozenset({done})

    def conditional(
        self, node: ast.If, rest: list[ast.stmt], loop: _Loop | None, inside: bool
    ) -> tuple[list[ast.stmt], frozenset[str] | None]:
        if not any(map(self.moves, own_nodes([*node.body, *node.orelse]))):
            return [node], frozenset({NEXT})
        if self.stays(node):
            body, first = self.lower(node.body, loop, inside)
            orelse, second = self.lower(node.orelse, loop, inside)
            made = _plain(at(ast.If(node.test, body, orelse), node))
            return [made], first | second | {NEXT}
        parts = [node.body, node.orelse]
        goes_on = [falls(part) for part in parts]
        takes_rest = bool(rest) and (not all(goes_on) or _size(rest) <= _SMALL)
        if takes_rest:
            more = [copy_tree(rest) if all(goes_on) else rest, rest]
            parts = [[*p, *m] if on else p for p, m, on in zip(parts, more, goes_on)]
        ways = [self.lower(part, loop, True) for part in parts]
        made = at(ast.If(node.test, ways[0][0], ways[1][0]), node)
        self.taken = ways[0][1] | ways[1][1]
        return [made], None if takes_rest else self.taken

    def moves(self, node: ast.AST) -> bool:
        """Whether a node is a jump, or may hold one that ``raises.mark`` or ``failing`` makes."""
        raises = self.scope.is_failing or bool(self.regions)
        kinds = (*_JUMPS, *_TRY, *([ast.Raise] if raises else []))
        return isinstance(node, kinds) or hasattr(node, "flag")

    def stays(self, node: ast.stmt) -> bool:
        """Whether a statement of a generator must stay as it is: it yields or jumps out."""
        if not self.scope.is_generator:
            return False
        return yields([node]) or jumps_out(node)

    def loop(
        self, node: ast.While | ast.For, outer: _Loop | None, inside: bool
    ) -> tuple[list[ast.stmt], frozenset[str]]:
        unit = self.scope.unit
        if self.stays(node):
            node.body, _ = self.lower(node.body, None, inside)
            node.orelse, _ = self.lower(node.orelse, outer, inside)
            return [_plain(node)], frozenset({NEXT})
        flags = _Loop(unit.fresh("broken"), unit.fresh("skipped"))
        body, how = self.lower(node.body, flags, True)
        stops = how - {flags.skipped, NEXT}
        self.flags |= stops
        orelse, last = node.orelse, frozenset()
        first: list[ast.stmt] = []
        if flags.skipped in self.flags:
            body = [at(assign(flags.skipped, constant(False)), node), *body]
        if flags.broken in how:
            first = [at(assign(flags.broken, constant(False)), node)]
        self.scope.locals |= {flags.skipped, flags.broken} & self.flags
        made: ast.stmt
        if isinstance(node, ast.While):
            made = at(ast.While(node.test, body, []), node)
            made.before = getattr(node, "before", [])
        else:
            made = at(ast.For(node.target, node.iter, body, [], None), node)
        made.stops, made.skipped = sorted(stops), flags.skipped
        statements = [*first, made]
        if orelse:
            lowered, last = self.lower(orelse, outer, inside or bool(stops))
            statements += [self.guard(stops, lowered, orelse[0])] if stops else lowered
        ends = (stops - {flags.broken}) | last | {NEXT}
        endless = isinstance(node, ast.While) and _is_true(node.test) and flags.broken not in how
        if (endless and not orelse) or (orelse and not stops and NEXT not in last):
            ends = ends - {NEXT}
        return statements, frozenset(ends)

    def attempt(
        self, node: ast.Try, loop: _Loop | None, inside: bool
    ) -> tuple[list[ast.stmt], frozenset[str]]:
        if self.scope.is_generator or not isinstance(node, ast.Try):
            return self.whole(node, loop, inside)
        if not node.handlers:
            return self.finally_(node, loop, inside)
        sites = mark(node, self.scope.unit.fresh)
        self.flags |= {flag for flag, _ in sites}
        self.regions.append(Region(self.managed))
        made, ends = self.whole(node, loop, inside, catches=True)
        sites += self.regions.pop().sites
        flags = {flag for flag, _ in sites}
        self.scope.locals |= flags
        first = [at(assign(flag, constant(False)), node) for flag in sorted(flags)]
        passes = self.scope.is_failing or bool(self.regions)
        for flag, raised in sites:
            body = handled(node, raised, self.temporary, passes)
            step = at(ast.If(load(flag), body, []), raised)
            more, how = self.conditional(step, [], loop, inside)
            made += more
            ends |= how or frozenset()
        return [*first, *made], ends - flags

    def finally_(
        self, node: ast.Try, loop: _Loop | None, inside: bool
    ) -> tuple[list[ast.stmt], frozenset[str]]:
        """``try`` with ``finally`` alone: what its body raises below a decision is raised behind it."""
        self.regions.append(Region(self.managed))
        made, ends = self.whole(node, loop, inside, catches=True)
        sites = self.regions.pop().sites
        first = [at(assign(flag, constant(False)), node) for flag, _ in sites]
        for flag, raised in sites:
            step = at(ast.If(load(flag), [raised], []), raised)
            more, how = self.conditional(step, [], loop, inside)
            made += more
            ends |= how or frozenset()
        return [*first, *made], ends - {flag for flag, _ in sites}

    def temporary(self, what: str) -> str:
        name = self.scope.unit.fresh(what)
        self.scope.locals.add(name)
        return name

    def check_final(self, final: list[ast.stmt], inside: bool) -> None:
        if inside and any(isinstance(n, _JUMPS) for n in own_nodes(final)):
            self.scope.unit.refuse(
                final[0], "a jump out of `finally`, inside an if or a loop", "jump after the try"
            )

    def whole(
        self, node: ast.Try, loop: _Loop | None, inside: bool, catches: bool = False
    ) -> tuple[list[ast.stmt], frozenset[str]]:
        final = node.finalbody
        self.check_final(final, inside)
        body, ends = self.lower(node.body, loop, inside)
        regions, self.regions = self.regions, self.regions[: -1 if catches else None]
        orelse = node.orelse
        if orelse:
            flagged = ends - {NEXT}
            lowered, last = self.lower(orelse, loop, inside or bool(flagged))
            orelse = [self.guard(flagged, lowered, orelse[0])] if flagged else lowered
            ends = flagged | last
        handlers = []
        for h in node.handlers:
            lowered, how = self.lower(h.body, loop, inside)
            handlers.append(at(ast.ExceptHandler(h.type, h.name, lowered), h))
            ends |= how
        self.regions = regions
        finalbody, how = self.lower(final, loop, inside)
        ends |= how - {NEXT}
        return [at(node.__class__(body, handlers, orelse, finalbody), node)], frozenset(ends)


def choosing(kind: str, into: str) -> ast.stmt:
    """The result is that of a kind, where it was left: a decision of its own, so that it may fork."""
    return ast.If(load(DONE + kind), [assign(RESULT + into, load(RESULT + kind))], [])


def shapes_of(returns: list[ast.Return]) -> list[str]:
    """The structures that a function returns, as far as its text tells; one where it only may return None."""
    found = sorted({shape_of(node) for node in returns})
    return [""] if set(found) <= {"value", "none"} else found


_DISPLAYS = (ast.Tuple, ast.List, ast.Dict)


def shape_of(node: ast.Return) -> str:
    value = node.value
    if value is None or (isinstance(value, ast.Constant) and value.value is None):
        return "none"
    if isinstance(value, ast.Call) and len(value.args) == 1:  # a display that is converted
        value = value.args[0] if isinstance(value.args[0], _DISPLAYS) else value
    if isinstance(value, (ast.Tuple, ast.List)):
        return f"{type(value).__name__} of {len(value.elts)}"
    if isinstance(value, ast.Dict):
        return f"dict of {[ast.dump(k) for k in value.keys if k is not None]}"
    return "value"


_TRY = (ast.Try, ast.TryStar) if hasattr(ast, "TryStar") else (ast.Try,)


def _conjunction(a: ast.expr, b: ast.expr) -> ast.expr:
    return apply("and_test", a, tuple_of([thunk(b)]))


def _plain(node: ast.stmt) -> ast.stmt:
    node.plain = True  # pyright: ignore[reportAttributeAccessIssue]
    return node


def jumps_out(node: ast.stmt) -> bool:
    """Whether a ``return``, or a ``break`` or ``continue`` of a loop around it, is inside."""
    own = isinstance(node, (ast.For, ast.While))
    for part in ("body", "orelse", "finalbody", "handlers"):
        for child in getattr(node, part, ()):
            if isinstance(child, ast.Return):
                return True
            if isinstance(child, (ast.Break, ast.Continue)) and not (own and part == "body"):
                return True
            if jumps_out(child) and not (own and part == "body" and not _returns(child)):
                return True
    return False


def _returns(node: ast.stmt) -> bool:
    return any(isinstance(n, ast.Return) for n in own_nodes([node]))


def falls(body: list[ast.stmt]) -> bool:
    """Whether what follows a block may run; True where that is not plain to see."""
    for node in body:
        if isinstance(node, (*_JUMPS, ast.Raise)):
            return False
        if isinstance(node, ast.If) and not falls(node.body) and not falls(node.orelse):
            return False
        if isinstance(node, ast.While) and _is_true(node.test) and not breaks(node.body):
            return False
        ways = (
            [[*node.body, *node.orelse], *(h.body for h in node.handlers)]
            if isinstance(node, _TRY)
            else []
        )
        if ways and not any(map(falls, ways)):
            return False
    return True


def breaks(body: list[ast.stmt]) -> bool:
    """Whether a ``break`` of the loop around is inside."""
    for node in body:
        if isinstance(node, ast.Break):
            return True
        loop = isinstance(node, (ast.For, ast.While))
        scope = isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        parts = () if scope else ("body", "orelse", "finalbody", "handlers")
        inner = [getattr(node, p, []) for p in parts if not (loop and p == "body")]
        if any(isinstance(x, list) and breaks(x) for x in inner):
            return True
    return False


def _size(body: list[ast.stmt]) -> int:
    nodes = [n for s in body for n in ast.walk(s)]
    loops = (ast.FunctionDef, ast.Lambda, ast.For, ast.While, ast.ClassDef)
    return _SMALL + 1 if any(isinstance(n, loops) for n in nodes) else len(nodes)


def _is_true(test: ast.expr) -> bool:
    return isinstance(test, ast.Constant) and bool(test.value)


def prune(body: list[ast.stmt]) -> list[ast.stmt]:
    """Without assignments to flags that nothing reads."""
    read: set[str] = set()
    for node in every_node(body):
        if type(node) is ast.Name:
            if type(node.ctx) is ast.Load:
                read.add(node.id)
        elif isinstance(node, ast.stmt):
            read |= set(getattr(node, "stops", ()))
    return _prune(body, read)


def _prune(body: list[ast.stmt], read: set[str]) -> list[ast.stmt]:
    made: list[ast.stmt] = []
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            is_flag = name.startswith((DONE, f"{GENERATED}broken", f"{GENERATED}skipped"))
            if is_flag and name not in read:
                continue
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
            for part in ("body", "orelse", "finalbody"):
                inner = getattr(node, part, None)
                if isinstance(inner, list) and inner:
                    setattr(
                        node, part, _prune(inner, read) or ([ast.Pass()] if part == "body" else [])
                    )
            for handler in getattr(node, "handlers", ()):
                handler.body = _prune(handler.body, read) or [ast.Pass()]
        made.append(node)
    return made
