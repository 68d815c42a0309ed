"""Functions that are left out of the conversion and read data: called as they are at run time.

What such a function gives is told by two calls on made-up arguments; each call of the run is held to it.
"""

from __future__ import annotations

import contextlib
import dis
import inspect
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import torch

from oarlock.capture.tape.arguments import holds_tensor, is_record
from oarlock.capture.tape.join import stand_in
from oarlock.capture.tape.journal import content, put
from oarlock.capture.tape.nodes import Val, leaves, map_tree
from oarlock.capture.tape.notices import hushed
from oarlock.capture.tape.numbers import Number, number_of
from oarlock.capture.torch_private import is_fake, outside_modes
from oarlock.errors import UnsupportedError

if TYPE_CHECKING:
    from oarlock.capture.tape.tracer import Tracer

REACHED = 256  # objects that a function may change
_HELD = (list, tuple, dict, set, torch.nn.Module)
_NUMBERS = (bool, int, float)


@dataclass(eq=False)
class Trial:
    """A call of a function that is left out: what it gave, or was refused for; ``changed``: what it has
    changed or told; ``is_unseen``: it has done nothing that can be seen."""

    result: Any = None
    refusal: UnsupportedError | None = None
    changed: list[Any] = field(default_factory=list)
    is_unseen: bool = False

    @property
    def stands(self) -> bool:
        return self.refusal is None and not self.changed and not self.is_unseen


class Opaque:
    """Records calls of functions that run as they are."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.objects: list[Any] = []  # that such functions may change
        self.is_inside = False  # such a function is traced

    def left_out(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` traced like the code around; where it reads data, a call of the run, and where
        it changes what is outside of it, converted."""

        def run(*args: Any, **kwargs: Any) -> Any:
            made = _converted(function) if _assigns(function) else None
            if made is not None:
                return made(*args, **kwargs)
            trial = self.tried(function, args, kwargs)
            if trial.stands:
                return trial.result
            made = _converted(function) if trial.changed else None
            if made is not None:
                return made(*args, **kwargs)
            self.objects += _objects_of(function)
            if trial.refusal is None and not trial.changed:  # it does what can't be seen
                self.tracer.emit(checked, (function, _NOTHING, *args), kwargs, None)
                return None
            refusal = trial.refusal or self.changes(function, trial.changed[0])
            return self.call(function, args, kwargs, refusal)

        return run

    def tried(self, function: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Trial:
        """A call of ``function`` as it is; taken back where it does not stand."""
        owner, block, was_inside = (
            getattr(function, "__self__", None), self.tracer.block, self.is_inside,
        )  # fmt: skip
        reached = _reached([owner, *_objects_of(function), *args, *kwargs.values()])
        before, mark = [(x, content(x)) for x in reached], len(block.nodes)
        trial, self.is_inside = Trial(), True
        try:
            with hushed() as told:
                trial.result = function(*args, **kwargs)
        except UnsupportedError as refusal:
            trial.refusal = refusal
        finally:
            self.is_inside = was_inside
        trial.changed = [*(x for x, old in before if not _holds(x, old)), *told]
        is_kept = any(map(_is_kept, leaves((args, kwargs))))
        trial.is_unseen = trial.result is None and len(block.nodes) == mark and not is_kept
        if not trial.stands:
            del block.nodes[mark:]
            for x, old in before:
                put(x, old)
        return trial

    def changes(self, function: Any, x: Any) -> UnsupportedError:
        return UnsupportedError(
            f"{self.tracer.where()}: {function.__qualname__}, which is left out, changes a "
            f"{type(x).__name__}; give back what it computes, and change the object outside of it"
        )

    def call(
        self, function: Any, args: tuple, kwargs: dict[str, Any], refusal: UnsupportedError
    ) -> Any:
        where = self.tracer.where()
        if any(map(_is_kept, leaves((args, kwargs)))):
            raise refusal
        found = [self.example(function, args, kwargs, fill, where) for fill in (1, 0)]
        form = _both(_form(found[0], where), _form(found[1], where))
        if form is None:
            raise UnsupportedError(
                f"{where}: {function.__qualname__}, which is left out, gives values of other types for "
                f"other data; let it give one type"
            )
        sources = [x for x in leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        made, outs = self.results(found[0], found[1], sources)
        self.tracer.emit(checked, (function, _Form(form, where), *args), kwargs, outs)
        return made

    def example(
        self, function: Any, args: tuple, kwargs: dict[str, Any], fill: int, where: Any
    ) -> Any:
        """What ``function`` gives for tensors full of ``fill``; what it changes is put back."""

        def real(x: Any) -> Any:
            if isinstance(x, torch.Tensor):
                val = self.tracer.val(x)
                sample = val.sample if fill or val.twin is None else val.twin
                new = torch.full(tuple(sample.shape), fill, dtype=sample.dtype)
                return new.requires_grad_(sample.requires_grad)
            return (x.hint if fill else x.other) if isinstance(x, Number) else x

        held = [(x, content(x)) for x in _objects_of(function)]
        state = torch.get_rng_state()
        try:
            with torch._C.DisableTorchFunction(), outside_modes(), _quiet():
                given = map_tree(args, real), map_tree(kwargs, real)
                return function(*given[0], **given[1])
        except Exception as error:
            raise UnsupportedError(
                f"{where}: {function.__qualname__} is left out, and what it gives is not known before it "
                f"runs: it fails for tensors full of {fill}: {error!r}; let it give the same types for any "
                f"data, or call it outside"
            ) from error
        finally:
            torch.set_rng_state(state)
            for x, old in held:
                put(x, old)

    def results(self, a: Any, b: Any, sources: list[torch.Tensor]) -> tuple[Any, Any]:
        """What the code gets, and the values of the run."""
        if isinstance(a, torch.Tensor):
            return self.tensor(a, b, sources)
        if isinstance(a, _NUMBERS):
            val = Val(self.tracer.block, a)
            number = number_of(val, a, True)
            number.other = (not a) if isinstance(a, bool) else a + 1
            return number, val
        if a is None:
            return None, None
        if isinstance(a, dict):
            pairs = {k: self.results(v, b[k], sources) for k, v in a.items()}
            return {k: p for k, (p, _) in pairs.items()}, {k: q for k, (_, q) in pairs.items()}
        pairs = [self.results(v, w, sources) for v, w in zip(a, b)]
        made, outs = [p for p, _ in pairs], [q for _, q in pairs]
        return (tuple(made) if type(a) is tuple else self.tracer.lists.new(made)), outs

    def tensor(self, a: torch.Tensor, b: torch.Tensor, sources: list[torch.Tensor]) -> Any:
        tracer, val = self.tracer, Val(self.tracer.block, None)
        dims = frozenset(i for i, (m, n) in enumerate(zip(a.shape, b.shape)) if m != n)
        with torch._C.DisableTorchFunction():
            mine = [tracer.val(x).sample for x in sources]
            fake = stand_in(tuple(a.shape), a.dtype, a.device, a.requires_grad, mine)
            if dims:
                val.twin = stand_in(tuple(b.shape), a.dtype, a.device, a.requires_grad, [])
        val.dims, val.loose = dims, frozenset({"data"} if dims else ())
        tracer.of_many.add(val.id)  # it may be an argument
        tracer.name(fake, val)
        return fake, val


class _Form:
    """What each call of a function must give."""

    def __init__(self, form: Any, where: Any) -> None:
        self.form, self.where = form, where


_NOTHING = _Form("NoneType", None)


def checked(function: Callable[..., Any], expected: _Form, *args: Any, **kwargs: Any) -> Any:
    """``function(*args, **kwargs)``  Raises: UnsupportedError where it gives something else."""
    if any(isinstance(x, torch.Tensor) and is_fake(x) for x in leaves((args, kwargs))):
        raise UnsupportedError(f"{function.__qualname__} is left out, and runs with data only")
    found = function(*args, **kwargs)
    form = _form(found, expected.where)
    if not _is_like(expected.form, form):
        raise UnsupportedError(
            f"{expected.where}: {function.__qualname__}, which is left out, gives {form}, not "
            f"{expected.form} as when it was captured"
        )
    return found


def _form(x: Any, where: Any) -> Any:
    """The types in a result.  Raises: UnsupportedError for one that a tape can't hold."""
    if isinstance(x, torch.Tensor):
        return "tensor", str(x.dtype), tuple(x.shape), x.requires_grad
    if x is None or type(x) in _NUMBERS:
        return type(x).__name__
    if type(x) in (tuple, list):
        return type(x).__name__, [_form(v, where) for v in x]
    if type(x) is dict:
        return "dict", {k: _form(v, where) for k, v in x.items()}
    raise UnsupportedError(
        f"{where}: a function that is left out gives a {type(x).__name__}, which may depend on data; let it "
        f"give tensors, numbers, or tuples, lists and dicts of these"
    )


def _is_like(a: Any, b: Any) -> bool:
    """The same types; a size that is None may be any."""
    if isinstance(a, tuple) and isinstance(b, tuple) and a[0] == b[0] == "tensor":
        sizes = len(a[2]) == len(b[2]) and all(m in (None, n) for m, n in zip(a[2], b[2]))
        return a[1] == b[1] and a[3] == b[3] and sizes
    if isinstance(a, tuple) and isinstance(b, tuple) and a[0] == b[0]:
        return _keys(a) == _keys(b) and all(map(_is_like, _rows(a), _rows(b)))
    return a == b


def _both(a: Any, b: Any) -> Any:
    """The form of both, None for sizes that differ; None where they have no form in common."""
    if isinstance(a, tuple) and isinstance(b, tuple) and a[0] == b[0]:
        if a[0] == "tensor":
            sizes = tuple(m if m == n else None for m, n in zip(a[2], b[2]))
            found = ("tensor", a[1], sizes, a[3])
            return found if _is_like(found, b) else None
        if _is_like((a[0], _keys(a)), (b[0], _keys(b))):
            pairs = [_both(v, w) for v, w in zip(_rows(a), _rows(b))]
            made = dict(zip(a[1], pairs)) if isinstance(a[1], dict) else pairs
            return None if None in pairs else (a[0], made)
        return None
    return a if a == b else None


def _rows(x: Any) -> list[Any]:
    return list(x[1].values()) if isinstance(x[1], dict) else x[1]


def _keys(x: Any) -> list[str]:
    return [repr(k) for k in x[1]] if isinstance(x[1], dict) else ["item"] * len(x[1])


def _is_kept(x: Any) -> bool:
    """An object of the trace, which would meet code of the run."""
    if isinstance(x, (torch.Tensor, Number)):
        return False
    return hasattr(type(x), "run_time_length") or (is_record(x) and holds_tensor(x))


def _objects_of(function: Any) -> list[Any]:
    """What a function can change: containers and objects that it closes over, or its owner."""
    inner = getattr(function, "__func__", function)
    closed = inspect.getclosurevars(inner)
    found = [
        *closed.nonlocals.values(),
        *closed.globals.values(),
        getattr(function, "__self__", None),
    ]
    return [
        x for x in found if isinstance(x, (list, dict, set)) or (x is not None and is_record(x))
    ]


def _reached(level: list[Any], depth: int = 4) -> list[Any]:
    """Containers and objects, and those that they hold: what may change."""
    found: dict[int, Any] = {}
    while level and depth and len(found) < REACHED:
        inner: list[Any] = []
        for x in level:
            is_held = isinstance(x, _HELD) or is_record(x)
            if is_held and id(x) not in found and not hasattr(type(x), "run_time_length"):
                found[id(x)] = x
                now = x if isinstance(x, tuple) else content(x)
                inner += now.values() if isinstance(now, dict) else now or ()
        level, depth = inner, depth - 1
    return list(found.values())


def _holds(x: Any, old: Any) -> bool:
    """Whether ``x`` holds the objects that it did."""
    now = content(x)
    if isinstance(now, dict) and isinstance(old, dict):
        return now.keys() == old.keys() and all(_is_same(now[k], old[k]) for k in now)
    if isinstance(now, list) and isinstance(old, list):
        return len(now) == len(old) and all(map(_is_same, now, old))
    return not isinstance(now, (set, frozenset)) or now == old


def _is_same(a: Any, b: Any) -> bool:
    """One object, or one table of a module."""
    return a is b or (type(a) is type(b) is dict and _holds(a, b))


def _assigns(function: Any) -> bool:
    """A function assigns variables of its module, or of a function around it."""
    code = getattr(function, "__func__", function).__code__
    steps = dis.get_instructions(code)
    return any(
        x.opname in ("STORE_GLOBAL", "DELETE_GLOBAL")
        or (x.opname in ("STORE_DEREF", "DELETE_DEREF") and x.argval in code.co_freevars)
        for x in steps
    )


def _converted(function: Any) -> Any:
    """``function`` converted all the same; None where it can't be."""
    from oarlock.capture.convert.convert import template_of
    from oarlock.capture.convert.problems import NotConvertible

    inner = getattr(function, "__func__", function)
    template = template_of(inner) if isinstance(inner, FunctionType) else None
    if template is None or isinstance(template, NotConvertible):
        return None
    made = template.bind(inner)
    return made if inner is function else MethodType(made, function.__self__)


def _quiet() -> Any:
    return contextlib.redirect_stdout(io.StringIO())
