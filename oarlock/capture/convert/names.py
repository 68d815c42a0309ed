"""Which names a piece of syntax binds and reads, in its own scope and in the scopes inside it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping

from oarlock.capture.convert.build import GENERATED, is_ours
from oarlock.capture.convert.walking import below

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_LEAVES = frozenset(
    (ast.Name, ast.Constant, ast.Load, ast.Store, ast.Del, ast.Pass, ast.And, ast.Or, ast.Not,
     *ast.operator.__subclasses__(), *ast.cmpop.__subclasses__(), *ast.unaryop.__subclasses__())
)  # fmt: skip
_SCOPES = (*FUNCTIONS, ast.Lambda, ast.ClassDef, *COMPREHENSIONS)
_KINDS = frozenset(_SCOPES)
_BINDERS = frozenset(
    (*FUNCTIONS, ast.ClassDef, ast.ExceptHandler, ast.Import, ast.ImportFrom, ast.MatchAs,
     ast.MatchStar, ast.MatchMapping, *COMPREHENSIONS)
)  # fmt: skip
MUTATORS = frozenset(
    [
        "append",
        "extend",
        "insert",
        "pop",
        "remove",
        "clear",
        "sort",
        "reverse",
        "update",
        "setdefault",
        "popitem",
        "add",
        "discard",
        "appendleft",
        "extendleft",
        "popleft",
        "rotate",
        "move_to_end",
        "intersection_update",
        "difference_update",
        "symmetric_difference_update",
        "__setitem__",
        "__delitem__",
        "move_to_end",
        "subtract",
    ]
)

_CHANGES = {"setitem": 1, "delitem": 0, "append": 0, "add": 0, "put": 0, "update": 1}


def outer_parts(node: ast.AST) -> list[ast.AST]:
    """The parts of a scope's node that the surrounding scope evaluates."""
    if isinstance(node, FUNCTIONS):
        return [*node.decorator_list, *_evaluated(node.args)]
    if isinstance(node, ast.Lambda):
        return [node.body] if is_ours(node) else _evaluated(node.args)
    if isinstance(node, ast.ClassDef):
        return [*node.decorator_list, *node.bases, *node.keywords]
    assert isinstance(node, COMPREHENSIONS)
    return [node.generators[0].iter]


def _evaluated(args: ast.arguments) -> list[ast.AST]:
    every = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
    annotations = [a.annotation for a in every if a is not None and a.annotation is not None]
    return [*args.defaults, *(d for d in args.kw_defaults if d is not None), *annotations]


def own_nodes(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """All nodes of one scope; of inner scopes the node itself and its outer parts."""
    stack = list(nodes)
    while stack:
        node = stack.pop()
        yield node
        if type(node) in _LEAVES:
            continue
        if type(node) in _KINDS:
            stack.extend(outer_parts(node))
            continue
        stack += below(node)


def parameters(args: ast.arguments) -> list[str]:
    every = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
    return [a.arg for a in every if a is not None]


def bound(nodes: Iterable[ast.AST]) -> set[str]:
    """Names that these nodes bind or unbind in their scope."""
    found: set[str] = set()
    for node in own_nodes(nodes):
        if type(node) is ast.Name:
            if type(node.ctx) is not ast.Load:
                found.add(node.id)
        elif type(node) not in _BINDERS:
            continue
        elif isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            found |= set() if node.name.startswith(GENERATED) else {node.name}
        elif isinstance(node, ast.ExceptHandler) and node.name:
            found.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {(a.asname or a.name).split(".")[0] for a in node.names}
        elif isinstance(node, (ast.MatchAs, ast.MatchStar)) and node.name:
            found.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            found.add(node.rest)
        elif isinstance(node, COMPREHENSIONS):
            found |= walrus_targets(node)
    return found


def set_by_calls(nodes: Iterable[ast.AST], setters: Mapping[str, str]) -> set[str]:
    """Names that ``:=`` inside our lambdas may bind, by calls of setters."""
    called = {n.func.id for n in own_nodes(nodes) if _names_function(n)}  # pyright: ignore
    return {name for name, setter in setters.items() if setter in called}


def _names_function(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name)


def walrus_targets(comprehension: ast.AST) -> set[str]:
    """Names that ``:=`` inside a comprehension binds around it."""
    found: set[str] = set()
    stack = list(ast.iter_child_nodes(comprehension))
    while stack:
        node = stack.pop()
        if isinstance(node, ast.NamedExpr):
            found.add(node.target.id)
        if not isinstance(node, (ast.Lambda, *FUNCTIONS)):
            stack.extend(ast.iter_child_nodes(node))
    return found


def declared(nodes: Iterable[ast.AST], kind: type) -> set[str]:
    """Names declared ``global`` or ``nonlocal`` in a scope."""
    return {name for n in own_nodes(nodes) if isinstance(n, kind) for name in n.names}


def mutated(nodes: Iterable[ast.AST]) -> set[str]:
    """Names whose value converted statements may change in place, as far as one can see."""
    found: set[str] = set()
    for node in own_nodes(nodes):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            place = _CHANGES.get(node.func.attr)
            if node.func.attr == "getattr_":
                place = 0 if node.args[1].value in MUTATORS else None  # pyright: ignore
            changed = node.args[place] if place is not None and len(node.args) > place else None
            if isinstance(changed, ast.Name):
                found.add(changed.id)
    return found


def free(node: ast.AST) -> set[str]:
    """Names that a scope (function, lambda, class, comprehension) takes from around it."""
    known = getattr(node, "free_names", None)
    return _free(node) if known is None else known


def _free(node: ast.AST) -> set[str]:
    if isinstance(node, (*FUNCTIONS, ast.Lambda)):
        body = node.body if isinstance(node.body, list) else [node.body]
        mine = bound(body) | set(parameters(node.args))
    elif isinstance(node, ast.ClassDef):
        body, mine = list(node.body), set()
    else:
        body = list(ast.iter_child_nodes(node))
        mine = bound([g.target for g in node.generators])  # pyright: ignore
    outside = declared(body, ast.Nonlocal) | walrus_of(node)
    mine -= declared(body, ast.Global) | outside
    return (reads(body) | outside) - mine - declared(body, ast.Global)


def walrus_of(node: ast.AST) -> set[str]:
    return walrus_targets(node) if isinstance(node, COMPREHENSIONS) else set()


def reads(nodes: Iterable[ast.AST]) -> set[str]:
    """Names read by these nodes or by the scopes inside them."""
    found: set[str] = set()
    for node in own_nodes(nodes):
        if type(node) is ast.Name:
            if type(node.ctx) is ast.Load:
                found.add(node.id)
        elif type(node) in _KINDS and not is_ours(node):
            found |= free(node)
    return found


def rebound(node: ast.AST) -> set[str]:
    """Names of the surroundings that a function inside may bind anew."""
    if isinstance(node, COMPREHENSIONS):
        return walrus_targets(node)
    if isinstance(node, ast.Lambda):
        inner: list[ast.AST] = [node.body]
    else:
        inner = list(getattr(node, "body", ()))
    outer, below = declared(inner, ast.Nonlocal), set()
    for child in own_nodes(inner):
        if isinstance(child, (*FUNCTIONS, ast.Lambda, ast.ClassDef)) and not is_ours(child):
            below |= rebound(child)
    if isinstance(node, (*FUNCTIONS, ast.Lambda)):  # a class has no variables for those inside
        below -= bound(inner) | set(parameters(node.args))
    return outer | below


def contains(nodes: Iterable[ast.AST], kinds: type | tuple[type, ...]) -> bool:
    """Whether one of these is in the scope itself."""
    return any(isinstance(node, kinds) for node in own_nodes(nodes))
