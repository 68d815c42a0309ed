"""The syntax tree of a function that exists as an object: found by file and line, and checked."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

from oarlock.capture.convert.build import OPERATORS
from oarlock.capture.convert.problems import NotConvertible, Problem

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
FUTURE = 0x1FF0000  # flags of `from __future__` imports
_INSTRUMENTED = "@py_"  # variables that pytest adds for its asserts


@dataclass
class Found:
    """A definition and the class that its private names belong to."""

    node: Definition
    owner: str


@dataclass
class File:
    """A source file: its tree, and its functions by the line they start on."""

    name: str
    lines: list[str]
    tree: ast.Module = field(init=False)
    functions: dict[tuple[int, str], list[Found]] = field(init=False)
    lambdas: dict[tuple[int, str], list[Found]] | None = None
    codes: dict[int, dict[tuple[int, str], list[CodeType]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tree = ast.parse("".join(self.lines), self.name)
        self.functions = _index(_functions(self.tree, ""))

    def holds(self, code: CodeType) -> bool:
        """Whether the file, compiled as it is now, contains this very code."""
        flags = code.co_flags & FUTURE  # those of the file, or of code that compiled its text
        if flags not in self.codes:
            text, table = "".join(self.lines), self.codes.setdefault(flags, {})
            _index_codes(compile(text, self.name, "exec", flags, dont_inherit=True), table)
        return code in self.codes[flags].get((code.co_firstlineno, code.co_name), ())

    def find(self, code: CodeType) -> list[Found]:
        key = (code.co_firstlineno, code.co_name)
        if code.co_name != "<lambda>":
            return self.functions.get(key, [])
        if self.lambdas is None:
            self.lambdas = _index(_lambdas(self.tree, ""))
        return self.lambdas.get(key, [])


_files: dict[str, File] = {}


def file_of(name: str) -> File | None:
    """The file as it is now, parsed once."""
    lines = linecache.getlines(name)
    if not lines:
        return None
    known = _files.get(name)
    if known is None or known.lines is not lines:
        try:
            known = _files[name] = File(name, lines)
        except SyntaxError:
            return None
    return known


def _index(found: Iterator[Found]) -> dict[tuple[int, str], list[Found]]:
    table: dict[tuple[int, str], list[Found]] = {}
    for item in found:
        node = item.node
        decorators = getattr(node, "decorator_list", ())
        line = min([node.lineno, *(d.lineno for d in decorators)])
        table.setdefault((line, getattr(node, "name", "<lambda>")), []).append(item)
        private = getattr(node, "name", "")
        if item.owner and private.startswith("__") and not private.endswith("__"):
            mangled = f"_{item.owner.lstrip('_')}{private}"
            table.setdefault((line, mangled), []).append(item)
    return table


def _index_codes(code: CodeType, table: dict[tuple[int, str], list[CodeType]]) -> None:
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            table.setdefault((inner.co_firstlineno, inner.co_name), []).append(inner)
            _index_codes(inner, table)


def _functions(tree: ast.AST, owner: str) -> Iterator[Found]:
    """Definitions below statements; expressions hold none."""
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        for child in getattr(tree, name, ()) if isinstance(getattr(tree, name, ()), list) else ():
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield Found(child, owner)
            inner = child.name if isinstance(child, ast.ClassDef) else owner
            yield from _functions(child, inner)


def _lambdas(tree: ast.AST, owner: str) -> Iterator[Found]:
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.Lambda):
            yield Found(child, owner)
        inner = child.name if isinstance(child, ast.ClassDef) else owner
        yield from _lambdas(child, inner)


def definition_of(code: CodeType) -> Found:
    """The definition that ``code`` was compiled from.

    Raises: NotConvertible when there is no source, or when it is not what runs.
    """
    linecache.checkcache(code.co_filename)
    file = file_of(code.co_filename)
    where = (code.co_filename, code.co_firstlineno)
    if file is None:
        raise NotConvertible(Problem(where, "its source is not available", "define it in a file"))
    is_known = is_instrumented(code) or OPERATORS in code.co_freevars or file.holds(code)
    matching = file.find(code) if is_known else []
    if len(matching) > 1:
        matching = [item for item in matching if _is_source_of(item.node, code)]
    if len(matching) > 1:
        matching = [item for item in matching if _is_at(item.node, code)] or matching
        matching = (
            matching[:1] if len({ast.dump(item.node) for item in matching}) == 1 else matching
        )
    if len(matching) == 1:
        return matching[0]
    if matching:
        rewrite = "give them names, or put each on a line of its own"
        raise NotConvertible(Problem(where, "several lambdas stand on this line", rewrite))
    why = f"the source of {code.co_name} on disk is not what runs"
    raise NotConvertible(Problem(where, why, "import the module again after editing it"))


def _is_at(node: Definition, code: CodeType) -> bool:
    """Whether the instructions of a lambda come from this place (Python 3.11 tells columns)."""
    if not isinstance(node, ast.Lambda) or not hasattr(code, "co_positions"):
        return False
    body = node.body
    start, end = (body.lineno, body.col_offset), (body.end_lineno, body.end_col_offset)
    places = [p for p in code.co_positions() if None not in p and (p[0] != p[1] or p[2] != p[3])]
    inside = [p for p in places if (p[0], p[2]) >= start and (p[1], p[3]) <= end]
    return bool(inside) and len(inside) >= len([p for p in places if p[2]]) - 1


def _is_source_of(node: Definition, code: CodeType) -> bool:
    """Whether arguments, variables and names agree; catches files edited after their import."""
    args = node.args
    names = [a.arg for a in (*args.posonlyargs, *args.args, *args.kwonlyargs)]
    count = code.co_argcount + code.co_kwonlyargcount
    if len(names) != count or len(args.posonlyargs) != code.co_posonlyargcount:
        return False
    given = code.co_varnames[:count]
    if any(n != g and not g.endswith(n) for n, g in zip(names, given)):
        return False
    mentioned = set(_identifiers(node))
    used = {*code.co_names, *code.co_varnames[:], *code.co_freevars, *code.co_cellvars}
    if is_instrumented(code):
        return True
    return all(n in mentioned or _unmangled(n) in mentioned or n.startswith(".") for n in used)


def is_instrumented(code: CodeType) -> bool:
    """Whether pytest rewrote asserts in it or in a function inside."""
    inner = (c for c in code.co_consts if isinstance(c, CodeType))
    return any(n.startswith(_INSTRUMENTED) for n in code.co_varnames) or any(
        map(is_instrumented, inner)
    )


def _unmangled(name: str) -> str:
    """``_Owner__private`` as it is written."""
    at = name.find("__", 1)
    return name[at:] if name.startswith("_") and at > 0 else name


def _identifiers(node: ast.AST) -> Iterator[str]:
    for child in ast.walk(node):
        for name in ("id", "attr", "arg", "name", "asname", "module", "rest"):
            value = getattr(child, name, None)
            if isinstance(value, str):
                yield from (value, *value.split("."))
        yield from (
            getattr(child, "names", ()) if isinstance(child, (ast.Global, ast.Nonlocal)) else ()
        )
        yield from getattr(child, "kwd_attrs", ())
        if isinstance(child, ast.Assert):
            yield "AssertionError"
    yield "__class__"


def copy_tree(node: Any) -> Any:
    """A copy of a syntax tree, several times faster than ``copy.deepcopy``."""
    kind = type(node)
    if kind is list:
        return [copy_tree(x) for x in node]
    if not isinstance(node, ast.AST):
        return node
    new = kind.__new__(kind)
    mine = new.__dict__
    for name, value in node.__dict__.items():
        mine[name] = value if type(value) in _ATOMS else copy_tree(value)
    return new


_ATOMS = frozenset((int, str, type(None), ast.Load, ast.Store, ast.Del))
