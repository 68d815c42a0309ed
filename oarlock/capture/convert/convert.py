"""``convert``: a callable whose control flow a tracer can record, and what is left alone."""

from __future__ import annotations

import ast
import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any
from weakref import WeakKeyDictionary

import torch

from oarlock.capture.convert import calls
from oarlock.capture.convert.build import GENERATED, OPERATORS, at, define
from oarlock.capture.convert.functions import Mangler, convert_definition
from oarlock.capture.convert.generators import listed
from oarlock.capture.convert.left_out import is_excluded, is_marked
from oarlock.capture.convert.modules import converting_modules
from oarlock.capture.convert.operators import Operators
from oarlock.capture.convert.problems import NotConvertible, Problem
from oarlock.capture.convert.resumable import resumed
from oarlock.capture.convert.scope import Unit
from oarlock.capture.convert.source import FUTURE, Found, copy_tree, definition_of
from oarlock.capture.convert.traces import strip_frames
from oarlock.capture.convert.tracing import tracer
from oarlock.capture.convert.walking import locate

_GENERATOR = 0x20
_ASYNC = 0x80 | 0x200  # coroutines, asynchronous generators

_templates: dict[int, tuple[CodeType, Template | NotConvertible]] = {}
_listings: dict[tuple[CodeType, bool], tuple[Template, bool] | None] = {}
_failing: dict[CodeType, Template | None] = {}
FAILING: set[CodeType] = set()  # code of functions that give an ``Outcome``
_functions: WeakKeyDictionary[FunctionType, FunctionType] = WeakKeyDictionary()


@dataclass
class Template:
    """Converted code of one code object, for any closure; ``tree`` prints it."""

    code: CodeType
    tree: ast.FunctionDef
    file: str
    problems: tuple[Problem, ...] = ()

    def bind(self, function: FunctionType) -> FunctionType:
        """The converted code with the globals, closure and defaults of ``function``."""
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or ()))
        around = cells.get(OPERATORS)  # of the converted code that has defined the function
        outside = cells if around is None else around.cell_contents.cells
        operators = CellType(Operators(self.file, function.__globals__, outside))
        every = {**cells, OPERATORS: operators}
        closure = tuple(every[name] for name in self.code.co_freevars)
        made = FunctionType(
            self.code, function.__globals__, function.__name__, function.__defaults__, closure
        )
        made.__kwdefaults__ = function.__kwdefaults__
        functools.update_wrapper(made, function)
        return made


def converted_or_same(function: FunctionType) -> FunctionType:
    """The converted function; itself where it is excluded, converted already, or can't be."""
    code = function.__code__
    if OPERATORS in code.co_freevars or is_excluded(function):
        return function
    known = _functions.get(function)
    if known is not None and _is_same(known, function):
        return known
    template = template_of(function)
    if isinstance(template, NotConvertible):
        active = tracer()
        if active is not None:
            active.unconverted.update(dict.fromkeys(map(str, template.found)))
        return function
    made = _functions[function] = template.bind(function)
    return made


def _is_same(made: FunctionType, function: FunctionType) -> bool:
    """``made`` was converted from ``function`` as it is now."""
    template = _templates.get(id(function.__code__))
    return (
        made.__defaults__ is function.__defaults__
        and made.__kwdefaults__ is function.__kwdefaults__
        and template is not None
        and getattr(template[1], "code", None) is made.__code__
    )


def listing(function: FunctionType, is_in_turn: bool) -> tuple[FunctionType, bool] | None:
    """A generator function as one that gives a list of what it yields (True; not ``is_in_turn``), or an
    iterator that a tracer can follow (False); None where it can't be."""
    code = function.__code__
    if not code.co_flags & _GENERATOR or is_excluded(function):
        return None
    if (code, is_in_turn) not in _listings:
        _listings[code, is_in_turn] = None
        for change in (resumed,) if is_in_turn else (listed, resumed):
            with contextlib.suppress(NotConvertible):
                _listings[code, is_in_turn] = make_template(function, change), change is listed
                break
    found = _listings[code, is_in_turn]
    return None if found is None else (found[0].bind(function), found[1])


def failing_form_of(function: FunctionType) -> FunctionType | None:
    """A converted function that gives an ``Outcome`` in place of raising; None where it can't be."""
    code = function.__code__
    if code.co_flags & (_GENERATOR | _ASYNC) or is_excluded(function):
        return None
    if code not in _failing:
        _failing[code] = None
        with contextlib.suppress(NotConvertible):
            _failing[code] = make_template(function, _is_apart(code), is_failing=True)
            FAILING.add(_failing[code].code)  # pyright: ignore[reportOptionalMemberAccess]
    found = _failing[code]
    return None if found is None else found.bind(function)


def _is_apart(code: CodeType) -> Callable[[ast.FunctionDef], bool]:
    """Whether a definition binds no variables of converted code around it."""

    def is_apart(node: ast.FunctionDef) -> bool:
        return OPERATORS not in code.co_freevars or not any(
            isinstance(n, ast.Nonlocal) for n in ast.walk(node)
        )

    return is_apart


def template_of(function: FunctionType) -> Template | NotConvertible:
    code = function.__code__
    known = _templates.get(id(code))
    if known is None:
        try:
            made: Template | NotConvertible = make_template(function)
        except NotConvertible as problem:
            made = problem
        known = _templates[id(code)] = (code, made)
    return known[1]


def make_template(
    function: FunctionType, change: Callable[[ast.FunctionDef], bool] | None = None,
    is_failing: bool = False,
) -> Template:  # fmt: skip
    """Args: change: what becomes of the definition first, where it can; is_failing: see ``attempts``.

    Raises: NotConvertible with every problem.
    """
    code = function.__code__
    where = (code.co_filename, code.co_firstlineno)
    if code.co_flags & _ASYNC:
        raise NotConvertible(Problem(where, "asynchronous code", "use a plain function"))
    found = definition_of(code)
    unit = Unit(
        code.co_filename, found.owner, frozenset(code.co_freevars), frozenset(function.__globals__)
    )
    node = definition(found)
    if change is not None and not change(node):
        raise NotConvertible()
    tree = convert_definition(node, unit, None, is_failing=is_failing)
    if unit.problems:
        raise NotConvertible(*unit.problems)
    return Template(compile_definition(tree, code), tree, code.co_filename)


def definition(found: Found) -> ast.FunctionDef:
    """A copy of a definition without decorators and defaults, with names as they are compiled."""
    node = copy_tree(found.node)
    if isinstance(node, ast.Lambda):
        body = [at(ast.Return(node.body), node.body)]
        node = at(define(f"{GENERATED}lambda", node.args, body), node)
    node.decorator_list = []
    node.args.defaults, node.args.kw_defaults = [], [None for _ in node.args.kw_defaults]
    return Mangler(found.owner).generic_visit(node) if found.owner else node


def compile_definition(tree: ast.FunctionDef, original: CodeType) -> CodeType:
    """The code of a function whose free variables are those of ``original`` and ours."""
    arguments = [ast.arg(name) for name in dict.fromkeys((OPERATORS, *original.co_freevars))]
    name, tree.name = tree.name, f"{GENERATED}whole"  # its own name may be a global's
    outer = define(
        f"{GENERATED}around",
        ast.arguments(posonlyargs=[], args=arguments, kwonlyargs=[], kw_defaults=[], defaults=[]),
        [tree],
    )
    module = ast.Module([at(outer, tree)], [])
    locate(module)
    flags = original.co_flags & FUTURE
    made = compile(module, original.co_filename, "exec", flags=flags, dont_inherit=True)
    around = next(c for c in made.co_consts if isinstance(c, CodeType))
    code = next(c for c in around.co_consts if isinstance(c, CodeType) and c.co_name == tree.name)
    tree.name = name
    return rename(
        code, original.co_name, getattr(original, "co_qualname", ""), original.co_firstlineno
    )


_NAMES = {
    "lambda": "<lambda>",
    "listcomp": "<listcomp>",
    "setcomp": "<setcomp>",
    "dictcomp": "<dictcomp>",
    "genexpr": "<genexpr>",
}


def rename(code: CodeType, name: str, qualified: str, line: int = 0) -> CodeType:
    """Code whose inner functions of ours bear the name of the user's function they are part of."""
    consts = []
    for c in code.co_consts:
        if isinstance(c, CodeType):
            kind = (
                c.co_name[len(GENERATED) :].rpartition("_")[0]
                if c.co_name.startswith(GENERATED)
                else None
            )
            if kind is None:
                c = rename(c, c.co_name, getattr(c, "co_qualname", ""))
            else:
                known = _NAMES.get(kind)
                inner = f"{qualified}.<locals>.{known}" if known else qualified
                c = rename(c, known or name, inner)
                if not known:
                    BLOCKS[id(c)] = c
        consts.append(c)
    changes: dict[str, Any] = {"co_consts": tuple(consts), "co_name": name}
    if qualified and hasattr(code, "co_qualname"):
        changes["co_qualname"] = qualified
    if line:
        changes["co_firstlineno"] = code.co_firstlineno
    return code.replace(**changes)


BLOCKS: dict[int, CodeType] = {}


def convert(fn: Callable[..., Any]) -> Callable[..., Any]:
    """``fn`` with its control flow, and that of all it calls, open to a tracer.

    Without a tracer it does what ``fn`` does.  Errors show the user's lines.

    Raises: NotConvertible with everything in ``fn`` itself that can't be converted.
    """
    inner = _convertible(fn)

    @functools.wraps(fn if hasattr(fn, "__name__") else type(fn))
    def converted(*args: Any, **kwargs: Any) -> Any:
        try:
            with converting_modules():
                return inner(*args, **kwargs)
        except BaseException as error:
            raise strip_frames(error, BLOCKS) from error.__cause__

    converted.__wrapped__ = fn  # pyright: ignore[reportAttributeAccessIssue]
    converted.inner = inner  # pyright: ignore[reportAttributeAccessIssue]
    return converted


def _convertible(fn: Any) -> Callable[..., Any]:
    if isinstance(fn, FunctionType):
        return _own(fn)
    if isinstance(fn, MethodType) and isinstance(fn.__func__, FunctionType):
        return MethodType(_own(fn.__func__), fn.__self__)
    if isinstance(fn, functools.partial):
        return functools.partial(_convertible(fn.func), *fn.args, **fn.keywords)
    if isinstance(fn, torch.nn.Module):
        _check_module(fn)
        return fn
    if isinstance(fn, (classmethod, staticmethod)):
        return _convertible(fn.__func__)
    if not isinstance(fn, type) and isinstance(calls.call_of(type(fn)), FunctionType):
        return MethodType(_own(calls.call_of(type(fn))), fn)
    return calls.call(fn)


def _check_module(module: torch.nn.Module) -> None:
    forward = module.forward
    if isinstance(forward, MethodType) and not is_excluded(forward.__func__):
        _own(forward.__func__)


def _own(function: FunctionType) -> FunctionType:
    """Like ``converted_or_same``, but what can't be converted is an error."""
    if OPERATORS in function.__code__.co_freevars or is_marked(function):
        return function
    template = template_of(function)
    if isinstance(template, NotConvertible):
        raise NotConvertible(*dict.fromkeys([*template.found, *_below(function, set())]))
    return template.bind(function)


def _below(function: FunctionType, seen: set[CodeType]) -> Iterator[Problem]:
    """The problems of the functions that it names, and of those that they name."""
    seen.add(function.__code__)
    named = [function.__globals__.get(name) for name in function.__code__.co_names]
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):
            named.append(cell.cell_contents)
    for callee in named:
        if type(callee) is not FunctionType or callee.__code__ in seen or is_excluded(callee):
            continue
        template = template_of(callee)
        yield from template.found if isinstance(template, NotConvertible) else ()
        yield from _below(callee, seen)


def source_of(fn: Any) -> str:
    """The converted source of a function, with the user's line beside each statement."""
    from oarlock.capture.convert.listing import listing

    if isinstance(fn, torch.nn.Module):
        fn = fn.forward
    fn = getattr(fn, "__wrapped__", fn) if hasattr(fn, "inner") else fn
    function = fn.__func__ if isinstance(fn, MethodType) else fn
    if isinstance(function, functools.partial):
        return source_of(function.func)
    if not isinstance(function, FunctionType):
        function = type(function).__call__
    template = template_of(function)
    if isinstance(template, NotConvertible):
        raise template
    return listing(template.tree, template.file)
