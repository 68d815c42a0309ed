"""What ``input_spec`` says of a static function's arguments: their types, and which sizes are free."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from oarlock.capture.api import InputSpec
from oarlock.capture.arrays import torch_dtype
from oarlock.capture.tape.sources import Key, argument, key_of
from oarlock.errors import ArgumentTypeError, InputError, UserError
from oarlock.ir import Dim, bounds
from oarlock.ir.dim import evaluate_size

Sizes = dict[str, int]
Part = tuple[str, str, InputSpec, Any]  # where it is, its name, spec, value


class Specs:
    """Compares calls with ``input_spec``; one symbol is one size in the whole call."""

    def __init__(self, fn: Any, given: Any) -> None:
        self.name = getattr(fn, "__qualname__", type(fn).__name__)
        self.parameters = _parameters(fn)
        self.specs = self._named(given)
        self.dims: dict[tuple[str, int], Dim] = {}

    def _named(self, given: Any) -> dict[str, Any]:
        if isinstance(given, InputSpec):
            given = [given]
        if not isinstance(given, Mapping):
            if len(given) > len(self.parameters) > 0 and not self._takes_more():
                raise UserError(
                    f"input_spec of {self.name}: {len(given)} specs for the arguments "
                    f"{', '.join(self.parameters)}"
                )
            names = [*self.parameters, *(f"args[{i}]" for i in range(len(given)))]
            return dict(zip(names, given))
        unknown = [k for k in given if k not in self.parameters]
        if unknown:
            raise UserError(
                f"input_spec of {self.name}: no argument {', '.join(map(repr, unknown))}; "
                f"the arguments are {', '.join(self.parameters)}"
            )
        return dict(given)

    def _takes_more(self) -> bool:
        kinds = {p.kind for p in self.parameters.values()}
        return inspect.Parameter.VAR_POSITIONAL in kinds

    # ---- calls

    def parts(self, args: tuple, kwargs: dict[str, Any]) -> Iterator[Part]:
        """Every argument that has a spec.  Raises: InputError where a structure is another."""
        for i, (name, spec) in enumerate(self.specs.items()):
            place = list(self.parameters).index(name) if name in self.parameters else i
            if place < len(args):
                yield from self._inner(spec, args[place], f"args[{place}]", name)
            elif name in kwargs:
                yield from self._inner(spec, kwargs[name], f"kwargs[{name!r}]", name)

    def _inner(self, spec: Any, x: Any, path: str, name: str) -> Iterator[Part]:
        if spec is None:
            return
        if isinstance(spec, InputSpec):
            yield path, spec.name or name, spec, x
            return
        is_table = isinstance(spec, Mapping)
        keys = list(spec) if is_table else list(range(len(spec)))
        found = list(x) if isinstance(x, Mapping) else list(range(len(x))) if _is_row(x) else None
        if found is None or (set(keys) - set(found) if is_table else keys != found):
            what = f"a dict with {keys}" if is_table else f"{len(spec)} items"
            raise InputError(f"{self.name}: {name}: expected {what}, got {_shown(x)}", name)
        for key in keys:
            yield from self._inner(spec[key], x[key], f"{path}[{key!r}]", f"{name}.{key}")

    def sizes(self, args: tuple, kwargs: dict[str, Any]) -> Sizes:
        """The size of each symbol in a call.  Raises: InputError when the call does not fit."""
        env: Sizes = {}
        parts = list(self.parts(args, kwargs))
        for path, name, spec, x in parts:
            if not isinstance(x, torch.Tensor) or x.dtype is not torch_dtype(spec.dtype):
                self._refuse(name, spec, x, "")
            if x.dim() != len(spec.shape):
                self._refuse(name, spec, x, f"{x.dim()} axes")
            for axis, n in enumerate(x.shape):
                dim = self.dim(spec, path, axis)
                if isinstance(dim, Dim) and dim.is_symbol:
                    self._bind(env, dim, n, (name, spec, x, axis))
        for path, name, spec, x in parts:
            for axis, n in enumerate(x.shape):
                want = evaluate_size(self.dim(spec, path, axis), env)
                if n != want:
                    self._refuse(name, spec, x, f"axis {axis} is {n}, not {want}")
        return env

    def _bind(self, env: Sizes, dim: Dim, n: int, at: tuple[str, InputSpec, Any, int]) -> None:
        name, spec, x, axis = at
        low, high = bounds(dim)
        if n < low or (high is not None and n > high):
            span = f"{low} to {'any' if high is None else high}"
            self._refuse(name, spec, x, f"axis {axis}, {dim.name}, is {n}, not {span}")
        if env.setdefault(dim.name, n) != n:
            self._refuse(name, spec, x, f"axis {axis} is {n}, but {dim.name} is {env[dim.name]}")

    def _refuse(self, name: str, spec: InputSpec, x: Any, why: str) -> None:
        shape = ", ".join("?" if n in (None, -1) else str(n) for n in spec.shape)
        raise InputError(
            f"{self.name}: {name}: expected {torch_dtype(spec.dtype)} [{shape}], got {_shown(x)}"
            f"{': ' * bool(why)}{why}",
            name,
        )

    def dim(self, spec: InputSpec, path: str, axis: int) -> int | Dim:
        """A size of a spec; one without a name has its own symbol."""
        size = spec.shape[axis]
        if isinstance(size, str):
            return Dim(size)
        if size is None or size == -1:
            place = (path, axis)
            if place not in self.dims:
                self.dims[place] = Dim(f"free{len(self.dims)}")
            return self.dims[place]
        return size

    # ---- captures

    def symbolic(self, args: tuple, kwargs: dict[str, Any]) -> dict[Key, tuple[int, int]]:
        """The two values of every free size, for the capture of a call."""
        env = self.sizes(args, kwargs)
        others = {**env}
        for i, (name, dim) in enumerate(self.symbols(args, kwargs).items()):
            others[name] = _other(dim, env[name], i + 1)
        found = {}
        for key, dim in self.named(args, kwargs).items():
            pair = (evaluate_size(dim, env), evaluate_size(dim, others))
            if pair[0] != pair[1]:
                found[key] = pair
        return found

    def named(self, args: tuple, kwargs: dict[str, Any]) -> dict[Key, Dim]:
        """The dim of every free size, by the key of the size."""
        found = {}
        for path, _, spec, _ in self.parts(args, kwargs):
            for axis in range(len(spec.shape)):
                dim = self.dim(spec, path, axis)
                if isinstance(dim, Dim):
                    found[key_of(argument(path), axis)] = dim
        return found

    def symbols(self, args: tuple, kwargs: dict[str, Any]) -> dict[str, Dim]:
        """The bare symbols by name; one with a range in place of one without."""
        found: dict[str, Dim] = {}
        for dim in self.named(args, kwargs).values():
            if dim.is_symbol and (dim.name not in found or bounds(dim) != (1, None)):
                found[dim.name] = dim
        return found

    def examples(self) -> tuple[tuple, dict[str, Any]]:
        """Arguments that fit.  Raises: InputError for an argument with neither spec nor default."""
        values = {}
        for name, parameter in self.parameters.items():
            if self.specs.get(name) is not None:
                values[name] = self.specs[name]
            elif parameter.default is not inspect.Parameter.empty:
                break
            elif parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                why = "no spec and no default to make an example of; call the function once first"
                raise InputError(f"{self.name}: {name} has {why}", name)
        named = {k: v for k, v in self.specs.items() if k not in values and v is not None}
        args = tuple(values.values())
        env: Sizes = {}
        for i, (name, dim) in enumerate(self.symbols(args, named).items()):
            low, high = bounds(dim)
            wanted = max(low, 2) + i
            env[name] = wanted if high is None else min(wanted, high)
        made = [self._example(s, f"args[{i}]", env) for i, s in enumerate(args)]
        return tuple(made), {k: self._example(s, f"kwargs[{k!r}]", env) for k, s in named.items()}

    def _example(self, spec: Any, path: str, env: Sizes) -> Any:
        if isinstance(spec, InputSpec):
            sizes = [self.dim(spec, path, axis) for axis in range(len(spec.shape))]
            return spec.example([evaluate_size(s, env) for s in sizes])
        if isinstance(spec, Mapping):
            return {k: self._example(v, f"{path}[{k!r}]", env) for k, v in spec.items()}
        if isinstance(spec, (tuple, list)):
            items = [self._example(v, f"{path}[{i!r}]", env) for i, v in enumerate(spec)]
            return type(spec)(items)
        return None


def check_spec(given: Any, at: str = "input_spec") -> None:
    """Raises: ArgumentTypeError for what describes no arguments."""
    if given is None or isinstance(given, InputSpec):
        return
    if isinstance(given, Mapping):
        for key, one in given.items():
            check_spec(one, f"{at}[{key!r}]")
    elif _is_row(given):
        for i, one in enumerate(given):
            check_spec(one, f"{at}[{i}]")
    else:
        example = 'InputSpec(("N", 3), "float32")'
        raise ArgumentTypeError(
            f"{at}: expected an InputSpec, None, or lists and dicts of these, got {_shown(given)}; "
            f"such as {example}"
        )


def _parameters(fn: Any) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(fn).parameters)
    except (TypeError, ValueError):
        return {}


def _other(dim: Dim, n: int, step: int) -> int:
    """Another size in the range of a symbol, where there is one."""
    low, high = bounds(dim)
    if high is None or n + step <= high:
        return n + step
    return n + 1 if n + 1 <= high else max(n - 1, low)


def _is_row(x: Any) -> bool:
    return isinstance(x, (tuple, list))


def _shown(x: Any) -> str:
    if isinstance(x, torch.Tensor):
        return f"{x.dtype} {list(x.shape)}"
    if isinstance(x, Mapping):
        return f"a dict with {list(x)}"
    return f"{len(x)} items" if _is_row(x) else type(x).__name__
