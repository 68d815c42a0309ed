"""Calls from converted code: what is called is converted too, or replaced, or left as it is."""

from __future__ import annotations

import collections
import dataclasses
import functools
import inspect
import itertools
import operator
import sys
import types
import weakref
from array import array
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch

from oarlock.capture.convert import attributes, builtin_calls, texts
from oarlock.capture.convert.build import OPERATORS
from oarlock.capture.convert.callers import CALLERS
from oarlock.capture.convert.cursors import in_turn
from oarlock.capture.convert.data_classes import written
from oarlock.capture.convert.handing import settled
from oarlock.capture.convert.names import MUTATORS
from oarlock.capture.convert.sequences import is_run_time_sequence
from oarlock.capture.convert.state import Text
from oarlock.capture.convert.tracing import at_key, is_table, tracer, used
from oarlock.capture.owners import know_cache
from oarlock.capture.slots import attributes_of

_CONTAINERS = (list, dict, set, collections.deque, bytearray, array)
_ALWAYS_NEW = (object.__new__, *(cls.__new__ for cls in (dict, set, collections.deque)))
_CACHED = functools._lru_cache_wrapper
_PLAIN = (bool, int, float, str, bytes, type(None))


def call(function: Any) -> Any:
    """What to call in place of ``function``."""
    kind = type(function)
    active = tracer()
    if active is not None:
        if active.is_choice(function):
            return function
        override = active.override(function)
        if override is not None:
            return override
    if kind is FunctionType:
        return converted_function(function)
    if kind is MethodType:
        owner = function.__self__
        is_asked = isinstance(owner, _CONTAINERS) and not hasattr(type(owner), "run_time_length")
        if active is not None and is_asked:  # a list of a trace tells itself
            active.uses(owner)
        if active is not None and function.__name__ in ("train", "eval"):
            touch_modules(active, function.__self__)
        return converted_method(function)
    if kind is BuiltinFunctionType or kind is types.MethodWrapperType:
        return builtin(function)
    if kind is type or isinstance(function, type):
        return builtin_calls.TYPES.get(function) or constructor(function)
    if isinstance(function, functools.partial):
        return converted_partial(function)
    if active is not None and kind is types.WrapperDescriptorType:
        is_plain = function.__objclass__ is object and function.__name__ in attributes.PLAINLY
        return attributes.PLAINLY[function.__name__] if is_plain else function
    if active is not None and isinstance(function, _CACHED):
        return functools.partial(uncached, function)
    if active is not None and kind in CALLERS:
        return CALLERS[kind](function)
    if isinstance(function, torch.nn.Module):
        return function  # its call is patched while code is converted
    return callable_object(function)


def touch_modules(active: Any, owner: Any) -> None:
    """The mode of a module and of those inside is about to change."""
    for module in owner.modules() if isinstance(owner, torch.nn.Module) else ():
        active.journal.touch(module)


def converted_function(function: FunctionType) -> Callable[..., Any]:
    from oarlock.capture.convert.convert import converted_or_same

    items = items_of(function)
    if items is not None:
        return items
    known = builtin_calls.FUNCTIONS.get(function)
    if known is not None:
        return known
    made = recursive(followed(function, converted_or_same(function)))
    return reading(function) if made is function else made


def items_of(function: FunctionType, is_in_turn: bool = False) -> Any:
    """What gives the items of a generator function so that a tracer can follow; None of any other.

    Args: is_in_turn: one by one, though nobody has noticed that they are given ahead.
    """
    from oarlock.capture.convert.convert import listing

    if tracer() is None or not function.__code__.co_flags & inspect.CO_GENERATOR:
        return None
    made = listing(function, is_in_turn or function.__code__ in tracer().noticing.codes)
    if made is None:
        return None
    return functools.partial(_all_items, function, made[0]) if made[1] else made[0]


def _all_items(function: FunctionType, give: Any, *args: Any, **kwargs: Any) -> Any:
    """What the generator ``function`` gives, worked out at once by ``give``."""
    noticing = tracer().noticing
    with noticing.ahead(function.__code__) as given:
        noticing.runs(function)
        items = give(*args, **kwargs)
    return iterated(items, given)


def generated(
    ahead: FunctionType,
    in_turn: FunctionType,
    items: Any,
    plain: Callable[[], Any],
    is_tested: bool,
) -> Any:
    """A generator expression: its items ahead, or one by one; ``plain()``: Python's own, where nothing
    is known at run time alone that it goes by."""
    active = tracer()
    if active is None or not (is_tested or is_run_time_sequence(items)):
        _handed.append(items)
        try:
            return plain()
        finally:
            _handed.pop()
    if ahead.__code__ in active.noticing.codes:
        return in_turn(items)
    return _all_items(ahead, ahead, items)


_handed: list[Any] = []  # what generator expressions go over that are being made


def handed() -> Any:
    return _handed[-1]


def followed(
    function: FunctionType, made: FunctionType, form: FunctionType | None = None
) -> FunctionType:
    """``made``, the converted ``function``, which later calls must find as it is.

    Args: form: another form of ``made`` to call in its place.
    """
    active = tracer()
    if active is not None:
        active.noticing.runs(function)
    if active is not None and made is not function:
        return active.code.runs(function, form or made)
    return form or made


def reading(function: Any) -> Any:
    """``function``, which is not converted: what containers hold that it gets is used."""
    active = tracer()
    if active is None:
        return function

    def once(*args: Any, **options: Any) -> Any:
        with active.machinery.watching(function, args):
            found = function(*map(used, args), **{k: used(v) for k, v in options.items()})
        active.code.asks(function, args, options, found)
        return found

    def run(*args: Any, **options: Any) -> Any:
        return settled(once, args, options)

    return run if isinstance(function, (FunctionType, MethodType)) else once


def recursive(made: FunctionType) -> Callable[..., Any]:
    """``made``, or what a trace calls in its place since it calls itself until data stop it."""
    active = tracer()
    return made if active is None else active.recursive.wrapped(made.__code__, made)


def iterated(items: list[Any], given: Any) -> Any:
    """What gives ``items``, which are there ahead: a generator, which knows ``send`` and ``throw``, or a
    list of run-time length."""
    items.given = given  # type: ignore[attr-defined]
    if not tracer().is_symbolic(items):
        return in_turn(list.__iter__(items), functools.partial(tracer().noticing.look, items))
    items.is_iterator = True  # type: ignore[attr-defined]
    return items


def converted_method(method: MethodType) -> Callable[..., Any]:
    from oarlock.capture.convert.convert import converted_or_same

    inner = method.__func__
    if tracer() is not None and isinstance(inner, _CACHED):
        return functools.partial(uncached, inner, method.__self__)
    if type(inner) is not FunctionType:
        return method
    items = items_of(inner)
    made = converted_or_same(inner) if items is None else items
    if made is not inner or OPERATORS in inner.__code__.co_freevars:
        cls = type(method.__self__)
        if tracer() is not None and getattr(cls, inner.__name__, None) is not inner:
            _inherited(tracer(), cls, inner)
    if items is not None:
        return functools.partial(items, method.__self__)
    if made is not inner:
        return MethodType(recursive(followed(inner, made)), method.__self__)
    owner = method.__self__
    if tracer() is not None and isinstance(owner, torch.nn.Module):
        tracer().code.tables(owner)
    if not hasattr(type(owner), "run_time_length"):  # a list of a trace tells itself
        used(owner)
    if tracer() is not None and (isinstance(owner, _CONTAINERS) or _is_of_library(owner)):
        report_change(tracer(), owner)
    return reading(method)


def _inherited(active: Any, cls: type, function: FunctionType) -> None:
    """``super()`` has given a method of a class further up."""
    places = ((b, name) for b in cls.__mro__ for name, x in vars(b).items() if x is function)
    for base, name in itertools.islice(places, 1):
        active.code.method(base, name)
        active.code.inherits(cls)


def uncached(function: Any, *args: Any, **kwargs: Any) -> Any:
    """What a cache keeps belongs to real values: in a trace the function itself is called, once for
    each set of plain arguments, and again where the branch or loop that has called it is over."""
    active = tracer()
    with active.machinery.caching():
        return _uncached(active, function, args, kwargs)


def _uncached(active: Any, function: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    values = (*args, *kwargs.values())
    if any(active.is_symbolic(x) or not isinstance(x, _PLAIN) for x in values):
        return call(function.__wrapped__)(*args, **kwargs)
    key = (id(function), args, tuple(kwargs.items()))
    block, found = active.cached.get(key, (None, None))
    if block is None or not active.block.is_within(block):
        found = call(function.__wrapped__)(*args, **kwargs)
        active.cached[key] = active.block, found
    return found


def converted_partial(function: functools.partial[Any]) -> Callable[..., Any]:
    inner = call(function.func)
    if tracer() is not None and function.keywords:
        used(tracer().read(function, "keywords", function.keywords))
    if inner is function.func:
        return function
    return functools.partial(inner, *function.args, **function.keywords)


def callable_object(function: Any) -> Any:
    """An object whose class defines ``__call__`` in Python."""
    method = call_of(type(function))
    if type(method) is not FunctionType:
        know_cache(function)
        return reading(function) if isinstance(function, weakref.ref) else function
    if tracer() is not None:
        tracer().code.method(type(function), "__call__")
    return converted_method(MethodType(method, function))


def call_of(cls: type) -> Any:
    """``__call__`` as the class defines it, None if it does not."""
    return next((vars(base)["__call__"] for base in cls.__mro__ if "__call__" in vars(base)), None)


def constructor(cls: type) -> Callable[..., Any]:
    """A class whose ``__init__`` is converted, where making an object is just that."""

    if issubclass(cls, BaseException):
        return cls
    if tracer() is not None and cls in tracer().tables.kinds:
        return functools.partial(table, cls)
    made = _own_method(type(cls), "__call__")
    return instances(cls) if made is None else functools.partial(made, cls)


def _own_method(cls: type, name: str) -> Any:
    """What a class of the user defines in Python under ``name``, converted; or None."""
    from oarlock.capture.convert.convert import converted_or_same

    method = getattr(cls, name, None)
    made = converted_or_same(method) if type(method) is FunctionType else method
    if made is method:
        return None
    if tracer() is not None:
        tracer().code.method(cls, name)
    return made


def instances(cls: type) -> Callable[..., Any]:
    """What ``type.__call__`` does: ``__new__`` and ``__init__``, converted."""
    from oarlock.capture.convert.convert import converted_or_same

    made = None if tracer() is None else _own_method(cls, "__new__")
    if made is not None:
        return functools.partial(_made_by, made, cls)
    if type(cls).__call__ is not type.__call__ and _own_method(type(cls), "__call__") is None:
        return reading(cls)
    if cls.__new__ not in _ALWAYS_NEW:
        return reading(cls)
    init = cls.__init__
    if tracer() is not None:
        tracer().code.method(cls, "__init__")
    if type(init) is FunctionType and hasattr(cls, "__post_init__"):
        init = written(cls, "__init__", init)
    made = converted_or_same(init) if type(init) is FunctionType else init
    if made is init:
        if tracer() is not None and cls is collections.deque:
            return made_deque
        return cls if tracer() is None else lambda *args, **kwargs: new(own(cls, args, kwargs))

    def construct(*args: Any, **kwargs: Any) -> Any:
        found = new(cls.__new__(cls))
        made(found, *args, **kwargs)
        return found

    return construct


def _made_by(make: Any, cls: type, *args: Any, **kwargs: Any) -> Any:
    """An object of a class that has a ``__new__`` of its own."""
    found = make(cls, *args, **kwargs)
    if isinstance(found, cls) and type(found).__init__ is not object.__init__:
        call(MethodType(type(found).__init__, found))(*args, **kwargs)
    return found


def new(made: Any) -> Any:
    """``made``, which the code has just made: no path that is open had it before."""
    active = tracer()
    if active is not None:
        made = active.tables.made(made)
        if is_table(made):
            return made
        active.journal.create(made)
        for key in made if isinstance(made, (dict, set)) else ():
            active.journal.keyed(key)
    return made


def made_deque(items: Any = (), maxlen: int | None = None) -> Any:
    if isinstance(items, list) and tracer().is_symbolic(items):
        return tracer().lists.new_deque(items, maxlen)
    return new(own(collections.deque, (items, maxlen), {}))


def table(cls: type, *args: Any, **named: Any) -> Any:
    """``cls(...)`` of a dict or set, one of the run where data decide its keys."""
    active = tracer()
    factory = args[0] if cls is collections.defaultdict and args else None
    rows = args[factory is not None :]
    if rows and active.tables.is_of_run(cls, rows[0]):
        pairs = is_table(rows[0]) or isinstance(rows[0], dict)
        found = active.tables.build(cls, factory, rows[0], pairs)
        if named:
            found.update(named)
        return found
    return new(own(cls, args, named))


def display(kind: type, rows: list[Any]) -> Any:
    """``{...}``; ``rows``: its items, or pairs."""
    active = tracer()
    if active is None:
        return kind(rows)
    if active.tables.is_of_run(kind, rows):
        return active.tables.build(kind, None, rows, kind is dict)
    return new(kind(rows))


def own(cls: type, args: tuple, kwargs: dict[str, Any]) -> Any:
    """``cls(...)``; lists that the factories of a data class make may grow at run time."""
    for x in args:
        used(x)
    made = cls(*args, **kwargs)
    if dataclasses.is_dataclass(cls):
        given = {id(x) for x in (*args, *kwargs.values())}
        for name, value in attributes_of(made).items():
            if type(value) is list and id(value) not in given:
                object.__setattr__(made, name, tracer().list_(value))
    return made


def builtin(function: Any) -> Any:
    """A function written in C: one of ours for run-time values; changes of containers reported."""
    replaced = builtin_calls.replacement(function)
    if replaced is not None:
        return replaced
    active = tracer()
    if active is None:
        return function
    owner = getattr(function, "__self__", None)
    if function is object.__new__:
        return lambda cls, *args, **kwargs: new(function(cls, *args, **kwargs))
    if isinstance(function, types.MethodWrapperType):
        if isinstance(owner, type) and function.__name__ == "__call__":
            return instances(owner)
        if function.__objclass__ is object and function.__name__ in attributes.PLAINLY:
            return functools.partial(attributes.PLAINLY[function.__name__], owner)
    if function is id:
        return lambda x: (active.journal.keyed(x), id(x))[1]
    if isinstance(owner, _CONTAINERS):
        if isinstance(owner, dict) and function.__name__ == "get" and type(owner).get is dict.get:
            return functools.partial(attributes.get_, owner)
        active.uses(owner)
        if id(owner) in active.tables.places:
            function = functools.partial(_keyed, owner, function)
        name = getattr(function, "__name__", "") or function.args[1].__name__
        if name in MUTATORS:
            active.journal.touch(owner)
        elif name == "copy":
            return lambda: new(function())
    elif isinstance(owner, tuple) and function.__name__ in ("index", "count"):
        return functools.partial(_asked_of_tuple, active, function)
    elif isinstance(owner, str):
        if function.__name__ == "format":
            return functools.partial(texts.format_text, owner)
        if function.__name__ == "join":
            return functools.partial(texts.join_text, owner)
        return functools.partial(of_text, active, function)
    elif getattr(function, "__module__", None) in ("_heapq", "_bisect"):
        return functools.partial(_changing, active, function)
    elif isinstance(owner, torch.Tensor) or _is_torch(function):
        return functools.partial(active.parsed, function)
    return reading(function)


def _keyed(owner: Any, method: Any, *args: Any, **options: Any) -> Any:
    with at_key(owner):
        return method(*args, **options)


def _asked_of_tuple(active: Any, method: Any, *args: Any) -> Any:
    """``items.index(x)`` or ``items.count(x)``, at run time where one of them is known then."""
    owner = method.__self__
    if not any(map(active.is_symbolic, (*owner, *args))):
        return method(*args)
    return active.number(getattr(tuple, method.__name__), (owner, *args), 1, True)


def of_text(active: Any, method: Any, *args: Any, **options: Any) -> Any:
    """``text.method(...)``, at run time where one of the texts is of the run."""
    values = (method.__self__, *args, *options.values())
    if not any(isinstance(x, Text) or active.is_symbolic(x) for x in values):
        return method(*args, **options)
    return active.texts.asked(getattr(str, method.__name__), method.__self__, *args, **options)


def _is_torch(function: Any) -> bool:
    module = getattr(function, "__module__", None) or ""
    return module == "torch" or module.startswith("torch._C")


def _changing(active: Any, function: Any, items: Any, *rest: Any, **options: Any) -> Any:
    held = [*(() if active.is_symbolic(items) else items), *rest]
    leaves = [y for x in held for y in (x if type(x) in (tuple, list) else (x,))]
    if not options and (active.is_symbolic(items) or any(map(active.is_symbolic, leaves))):
        return active.of_heap(function, items, *rest)
    active.journal.touch(items)
    return function(items, *rest, **options)


def report_change(active: Any, owner: Any) -> None:
    is_object = not isinstance(owner, (torch.Tensor, ModuleType)) and (
        hasattr(owner, "__dict__") or hasattr(type(owner), "__slots__")
    )
    if is_object or isinstance(owner, (*_CONTAINERS, types.CellType)):
        active.journal.touch(owner)
    if is_object and _is_of_library(owner):
        for held in attributes_of(owner).values():
            if id(owner) not in active.journal.frames[0].born:
                active.journal.hidden.add(id(held))
            touch_inside(active, held)


def _is_of_library(owner: Any) -> bool:
    """An object of Python's library whose own code, which is not converted, may change it.

    Loggers and threads are left out: what they keep tells nothing to the code that uses them.
    """
    top = type(owner).__module__.partition(".")[0]
    return top in sys.stdlib_module_names - {"builtins", "logging", "threading"}


def touch_inside(active: Any, held: Any) -> None:
    """Containers that an object of the standard library holds: its own code may change them."""
    if isinstance(held, _CONTAINERS):
        active.journal.touch(held)
    for item in held if type(held) in (list, tuple) else ():
        if isinstance(item, _CONTAINERS):
            active.journal.touch(item)


def percent(left: str, values: tuple[Any, ...]) -> str:
    return Text.of(texts.percent_parts(left, list(values)))


def percent_of_text(left: Text, values: tuple[Any, ...]) -> str:
    """``left % values`` for a template with values of the run in it, which hold no template."""
    rest, parts = list(values), []
    for part in left.parts:
        if isinstance(part, str):
            parts += texts.percent_parts(part, rest)
        elif isinstance(part[0], str) or "%" in (part[2] or ""):
            return left.changed(operator.mod, values)
        else:
            parts.append(part)
    return Text.of(tuple(parts))
