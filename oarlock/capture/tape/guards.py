"""What must hold for a tape to serve a call."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch

from oarlock.capture.tape.emit import Emitter
from oarlock.capture.tape.sources import KEYS, Key, Source, key_of

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclass(frozen=True)
class Guard:
    """A condition as Python text; ``key`` is of a size or number that could become symbolic.

    ``at``: the place of what it reads; ``quick``: the text that calls evaluate; empty where that of
    another condition holds it too.
    """

    text: str
    what: str
    key: Key | None = None
    value: Any = None
    at: str = ""
    quick: str | None = None


class Guards:
    """Collects conditions; compiles them to one function ``(args, kwargs) -> bool``."""

    def __init__(self, emitter: Emitter) -> None:
        self.emitter = emitter
        self.items: list[Guard] = []
        self.texts: set[str] = set()

    def place(self, source: Source) -> str:
        if source.base is None:
            return source.path
        return self.emitter.constant(source.base) + source.path

    def add(
        self, text: str, what: str, key: Key | None = None, value: Any = None, at: str = "",
        quick: str | None = None,
    ) -> None:  # fmt: skip
        if text not in self.texts:
            self.texts.add(text)
            self.items.append(Guard(text, what, key, value, at, quick))

    def same(self, source: Source, value: Any) -> None:
        """An argument that is no tensor: scalars by equality, others by identity."""
        at = self.place(source)
        if value is None or isinstance(value, (bool, torch.dtype)):
            self.add(f"{at} is {self.emitter.expr(value)}", f"{source} is {value}")
        elif isinstance(value, (int, float, complex, str, bytes, torch.device)):
            kind = self.emitter.constant(type(value), type(value).__name__ + "_type")
            text = f"type({at}) is {kind} and {at} == {self.emitter.expr(value)}"
            if value != value:
                text = f"type({at}) is {kind} and {at} != {at}"
            elif _is_zero(value):
                text += f" and repr({at}) == {repr(value)!r}"
            key = key_of(source, -1) if type(value) in (int, float) else None
            self.add(text, f"{source} == {value!r}", key, value, at)
        elif type(value) is tuple and _is_fixed(value):
            same = self.emitter.constant(value)
            kinds = self.emitter.constant([*map(type, value)])
            text = f"type({at}) is tuple and {at} == {same} and [*map(type, {at})] == {kinds}"
            if any(map(_is_zero, value)):
                text += f" and repr({at}) == {repr(value)!r}"
            self.add(text, f"{source} == {value}")
        else:
            same = self.emitter.constant(value)
            self.add(f"{at} is {same}", f"{source} is the same object")

    def kind(self, source: Source, value: dict) -> None:
        """A dict that each call replaces: another of this class, whose keys are guarded."""
        at, kind = self.place(source), self.emitter.constant(type(value), "kind")
        self.add(f"type({at}) is {kind}", f"{source} is of type {type(value)}")
        made = getattr(value, "default_factory", None)
        if made is not None:
            factory = self.emitter.constant(made)
            self.add(f"{at}.default_factory is {factory}", f"{source} makes {made}")

    def number(self, source: Source, value: Any) -> None:
        """A number that is read at each call: only its type counts."""
        cls = list if isinstance(value, list) else type(value)
        kind = self.emitter.constant(cls, cls.__name__ + "_type")
        self.add(f"type({self.place(source)}) is {kind}", f"{source} is of type {cls}")

    def structure(self, source: Source, value: Any) -> None:
        at, kind = self.place(source), type(value)
        name = self.emitter.constant(kind, kind.__name__ + "_type")
        text = f"type({at}) is {name}"
        if isinstance(value, dict):
            text += f" and list({at}) == {self.emitter.expr(list(value))}"
            text += self.key_types(at, value)
        elif isinstance(value, set):
            text += f" and {at} == {self.emitter.constant(set(value))}"
        elif isinstance(value, (list, tuple, deque)):
            text += f" and len({at}) == {len(value)}"
        self.add(text, f"{source} has the same structure", at=at)

    def key_types(self, at: str, held: dict[Any, Any]) -> str:
        """``1``, ``1.0`` and ``True`` are equal keys."""
        kinds = list(map(type, held))
        if not {bool, int, float}.intersection(kinds):
            return ""
        return f" and list(map(type, {at})) == {self.emitter.constant(kinds)}"

    def content(self, source: Source, held: Any) -> None:
        """A container from outside: the keys of a dict, how many items of a deque, a whole set."""
        at = self.place(source)
        if not isinstance(held, (dict, list)):
            self.add(f"{at} == {self.emitter.constant(held)}", f"{source} holds {held}")
        elif isinstance(held, dict):
            text = f"list({at}) == {self.emitter.constant(list(held))}{self.key_types(at, held)}"
            self.add(text, f"{source} has its keys")
        else:
            self.add(f"len({at}) == {len(held)}", f"{source} has {len(held)} items")

    def tensor(self, source: Source, x: torch.Tensor, dims: frozenset[int]) -> None:
        """An argument: class, dtype, device, whether it needs gradients, layout, sizes."""
        at = self.place(source)
        kind = self.emitter.constant(type(x), type(x).__name__ + "_type")
        dtype, device = self.emitter.expr(x.dtype), x.device.type
        where = "_t.is_cpu" if x.is_cpu else f"_t.device.type == {device!r}"
        self.add(
            f"type({at}) is {kind} and {at}.dtype is {dtype} and {at}.dim() == {x.dim()}"
            f" and {at}.requires_grad is {x.requires_grad}"
            f" and {at}.is_contiguous() is {x.is_contiguous()} and {at}.is_leaf is {x.is_leaf}"
            f" and {at}.device.type == {device!r} and {at}.is_neg() is {x.is_neg()}",
            f"{source} is a {x.dtype} tensor of {x.dim()} axes, requires_grad={x.requires_grad}",
            quick=f"type(_t := {at}) is {kind} and _t.dtype is {dtype} and _t.is_neg() is {x.is_neg()}"
            f" and _t.requires_grad is {x.requires_grad} and _t.is_leaf is {x.is_leaf}"
            f" and _t.is_contiguous() is {x.is_contiguous()}"
            f" and {where} and {_sized(x, dims)}",
        )
        self.flipped(source, x)
        self.sizes(source, x, dims)

    def layout(self, source: Source, x: torch.Tensor, asked: set[str]) -> None:
        """Strides, and what else of them the code has asked for."""
        at = self.place(source)
        text = f"{at}.is_contiguous()"
        if not x.is_contiguous():
            text = f"{at}.stride() == {x.stride()}"
        for name in sorted(asked & {"storage_offset", "_is_view"}):
            text += f" and {at}.{name}() == {getattr(x, name)()}"
        self.add(text, f"{source} has its strides")

    def hooks(self, source: Source, x: torch.Tensor) -> None:
        """Whether hooks see the gradients that the code asks for."""
        at = self.place(source)
        both = f"bool({at}._backward_hooks or {at}._post_accumulate_grad_hooks)"
        has = bool(x._backward_hooks or x._post_accumulate_grad_hooks)  # type: ignore[attr-defined]
        self.add(f"{both} is {has}", f"{source} has hooks, or none")

    def sizes(self, source: Source, x: torch.Tensor, dims: frozenset[int]) -> None:
        """Those of a tensor that are not ``dims``."""
        at = self.place(source)
        for axis, n in enumerate(x.shape):
            if axis not in dims:
                size, key = f"{at}.shape[{axis}]", key_of(source, axis)
                self.add(f"{size} == {n}", f"{source}.shape[{axis}] == {n}", key, n, size, "")

    def state(self, source: Source, x: torch.Tensor, dims: frozenset[int]) -> None:
        """A parameter, buffer or global that is read at each call."""
        at, dtype = self.place(source), self.emitter.expr(x.dtype)
        is_parameter = isinstance(x, torch.nn.Parameter)
        rank = f"shape == {tuple(x.shape)}" if is_parameter else f"dim() == {x.dim()}"
        self.add(
            f"{at}.dtype is {dtype} and {at}.requires_grad is {x.requires_grad} and {at}.{rank}",
            f"{source} keeps its type",
            quick=f"(_t := {at}).dtype is {dtype} and _t.requires_grad is {x.requires_grad}"
            f" and {_sized(x, frozenset() if is_parameter else dims)}",
        )
        self.flipped(source, x)
        if not is_parameter:
            self.sizes(source, x, dims)

    def flipped(self, source: Source, x: torch.Tensor) -> None:
        """Complex numbers that are read as their conjugates, or as negative ones."""
        if x.dtype.is_complex or x.is_neg():
            at = self.place(source)
            text = f"{at}.is_conj() is {x.is_conj()} and {at}.is_neg() is {x.is_neg()}"
            self.add(text, f"{source} is conjugate, or not")

    def distinct(self, sources: list[Source], what: str) -> None:
        """No two are one object."""
        if any(s.base is None or s.path for s in sources) and len(sources) > 1:
            ids = ", ".join(f"id({self.place(s)})" for s in sources)
            self.add(f"len({{{ids}}}) == {len(sources)}", f"the {what} are different ones")

    def module(self, module: torch.nn.Module, is_called: bool) -> None:
        """Its mode, plain attributes of torch's own modules, and children stay; hooks of one that
        the code calls."""
        table = vars(module)
        name = self.emitter.constant(table)
        texts = [f"{name}['training'] is {module.training}"]
        if is_called:
            texts += self.entries(table, name)
        if type(module).__module__.startswith("torch.nn."):
            for key, value in table.items():
                if type(value) in (bool, int, float, str) and key != "training":
                    texts.append(f"{name}[{key!r}] == {self.emitter.expr(value)}")
                elif isinstance(value, (FunctionType, BuiltinFunctionType)):
                    texts.append(f"{name}[{key!r}] is {self.emitter.constant(value)}")
            for kind in ("_parameters", "_buffers"):
                for key in [k for k, x in table[kind].items() if x is None]:
                    texts.append(f"{name}[{kind!r}].get({key!r}) is None")
        if module._modules:
            children = self.emitter.constant(list(module._modules.values()))
            texts.append(f"list({name}['_modules'].values()) == {children}")
        self.add(" and ".join(texts), f"{type(module).__name__} keeps its mode and children")

    def entries(self, table: dict[str, Any], name: str) -> list[str]:
        """What a module runs when it is called."""
        forward = table.get("forward")
        texts = [f"'forward' not in {name}"]
        if forward is not None:
            texts = [f"{name}['forward'] is {self.emitter.constant(forward)}"]
        empty = " or ".join(f"{name}[{key!r}]" for key in _HOOKS if not table[key])
        texts += [f"not ({empty})"] if empty else []
        for key in [key for key in _HOOKS if table[key]]:
            hooks = self.emitter.constant(list(table[key].values()))
            texts.append(f"[*{name}[{key!r}].values()] == {hooks}")
        return texts

    def compile(self, file: str) -> Callable[..., bool]:
        """All conditions as one function; a missing attribute or item is no match."""
        texts = [g.text if g.quick is None else g.quick for g in self.items]
        conditions = "\n            and ".join(f"({text})" for text in texts if text) or "True"
        lines = f"""def guard(args, kwargs):
    try:
        return (
            {conditions}
        )
    except (AttributeError, LookupError, TypeError, ValueError):
        return False
"""
        return self.compiled(lines, file)

    def compiled(self, lines: str, file: str) -> Callable[..., Any]:
        from oarlock.capture.tape import runtime

        scope = {**runtime.NAMES, **KEYS, **self.emitter.names}
        exec(compile(lines, file, "exec"), scope)
        return scope["guard"]

    def now(self, guard: Guard, args: tuple, kwargs: dict[str, Any]) -> Any:
        """The size or number that a call has for ``guard``."""
        from oarlock.capture.tape import runtime

        scope = {**runtime.NAMES, **KEYS, **self.emitter.names, "args": args, "kwargs": kwargs}
        return eval(guard.at, scope)

    def failing(self, args: tuple, kwargs: dict[str, Any]) -> list[Guard]:
        """The conditions that a call does not meet; those on items of what has another structure,
        which may make them where they are asked for, are left out."""
        from oarlock.capture.tape import runtime

        scope = {**runtime.NAMES, **KEYS, **self.emitter.names, "args": args, "kwargs": kwargs}
        found: list[Guard] = []
        others: list[str] = []
        for g in self.items:
            if any(f"{place}[" in g.text for place in others) or _holds(g.text, scope):
                continue
            found.append(g)
            others += [g.at] if g.at and g.key is None else []
        return found


def _sized(x: torch.Tensor, dims: frozenset[int]) -> str:
    """That ``_t`` has the axes of ``x``, and its sizes but for ``dims``."""
    if not dims:
        return f"_t.shape == {tuple(x.shape)}"
    sizes = [f"_t.size({axis}) == {n}" for axis, n in enumerate(x.shape) if axis not in dims]
    return " and ".join([f"_t.dim() == {x.dim()}", *sizes])


def _is_zero(value: Any) -> bool:
    """A zero that has a sign."""
    return isinstance(value, (float, complex)) and not value


def _is_fixed(value: tuple) -> bool:
    return all(type(x) in (bool, int, float, complex, str, bytes, type(None)) for x in value)


def _holds(text: str, scope: dict[str, Any]) -> bool:
    try:
        return bool(eval(text, scope))
    except (AttributeError, LookupError, TypeError, ValueError):
        return False
