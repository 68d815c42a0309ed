"""One call of a model on an example, recorded."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from oarlock.capture.arrays import dtype_of, to_numpy
from oarlock.capture.functions import SymbolicCalls, symbolic_python
from oarlock.capture.owners import Attributes, forget_stand_ins, named_modules, named_tensors
from oarlock.capture.recorder import Call, Narrowed, Recorder
from oarlock.capture.structure import map_tensors, tree_of
from oarlock.capture.torch_private import (
    Exceptional,
    Shapes,
    depends_on_data,
    symbolic_kernels,
    whole_composites,
)
from oarlock.errors import UnsupportedError, UserError
from oarlock.ir import Dim, Program, Signature, Size, State, TensorType
from oarlock.ir.dim import solve_linear

REACHES = (1, 2, 0)  # sizes traced, as a multiple of the example's
TWINS = 4  # lines whose decisions on sizes are tried the other way
NARROWINGS = 16  # restarts to narrow the range of a dim


@dataclass
class Recording:
    """A program, the calls it was recorded from, and the tensors that it updates."""

    program: Program
    calls: list[Call]
    states: dict[str, torch.Tensor]
    exceptional: list[Exceptional]
    undecided: set[str] = field(default_factory=set)

    def is_same(self, twin: Recording) -> bool:
        """The same program, for which nothing more was decided."""
        mine, other = self.program, twin.program
        return (
            str(mine) == str(other)
            and all(np.array_equal(x, other.params[key]) for key, x in mine.params.items())
            and twin.undecided <= self.undecided
        )


@dataclass
class ExampleCall:
    """One call to record: examples, and the shape with dims of each tensor by its path."""

    fn: Callable[..., Any]
    args: tuple
    kwargs: dict[str, Any]
    names: list[str]
    shapes: dict[str, tuple[Size, ...]]

    @staticmethod
    def of(fn: Any, args: tuple, kwargs: dict[str, Any], dynamic: Mapping) -> ExampleCall:
        names = _argument_names(fn, len(args))
        shapes: dict[str, tuple[Size, ...]] = {}
        dims: dict[str, Dim] = {}

        def example(x: Any, name: str) -> Any:
            if hasattr(x, "example") and hasattr(x, "shape"):  # an InputSpec
                shapes[x.name or name] = tuple(
                    s if isinstance(s, int) else _shared(s, dims) for s in x.shape
                )
                return x.example()
            return x

        names = [
            getattr(x, "name", None) or n if hasattr(x, "example") else n
            for n, x in zip(names, args)
        ]
        args = tuple(example(x, n) for n, x in zip(names, args))
        kwargs = {n: example(x, n) for n, x in kwargs.items()}
        call = ExampleCall(fn, args, kwargs, names, shapes)
        call.apply(dynamic, dims)
        return call

    def apply(self, dynamic: Mapping, dims: dict[str, Dim]) -> None:
        """Give every tensor its shape; names of ``dynamic`` must exist."""
        tensors: dict[str, torch.Tensor] = {}

        def leaf(tensor: torch.Tensor, path: str) -> int:
            tensors[path] = tensor
            return len(tensors) - 1

        self.trees(leaf)
        for path in dynamic:
            if path not in tensors:
                raise UserError(
                    f"dynamic: no tensor {path!r}; the tensors are {', '.join(tensors)}"
                )
        for path, tensor in tensors.items():
            if tensor.device.type != "cpu":
                raise UserError(f"{path}: expected a tensor on the CPU, got {tensor.device}")
            shape: list[Size] = list(self.shapes.get(path, tensor.shape))
            for axis, given in dynamic.get(path, {}).items():
                if not isinstance(axis, int) or not -len(shape) <= axis < len(shape):
                    raise UserError(
                        f"dynamic: axis {axis} of {path!r}, a tensor of rank {len(shape)}"
                    )
                shape[axis] = _shared(given, dims)
            self.shapes[path] = tuple(shape)

    def trees(self, leaf: Any) -> tuple[list[Any], list[Any]]:
        args = [tree_of(x, n, leaf) for n, x in zip(self.names, self.args)]
        return args, [(n, tree_of(x, n, leaf)) for n, x in self.kwargs.items()]

    def record(self) -> Recording:
        """The program, traced at sizes just above the example's, else at others."""
        first: UnsupportedError | None = None
        shapes = self.shapes
        for reach in REACHES:
            try:
                self.shapes = shapes
                return self.record_within(reach)
            except UnsupportedError as error:
                first = first or error
            if not any(isinstance(s, Dim) for shape in shapes.values() for s in shape):
                break
        assert first is not None
        raise first

    def record_within(self, reach: int) -> Recording:
        """The program; starts again where the range of a dim must be narrower."""
        notes: list[str] = []
        decided: list[str] = []
        for _ in range(NARROWINGS):
            try:
                recording = self.record_once(reach)
            except Narrowed as found:
                notes.append(str(found))
                decided += [str(found)] if found.decided else []
                self.narrow(found.dim)
            else:
                if notes:
                    recording.program.meta["narrowed"] = notes
                for note in decided:
                    warnings.warn(f"{note}: above it, the code does something else", stacklevel=4)
                return recording
        raise UnsupportedError("the ranges of the dims become narrower without end:", notes)

    def narrow(self, dim: Dim) -> None:
        """Give every symbol of this name the range of ``dim``."""
        env = {dim.name: dim}
        self.shapes = {
            path: tuple(s.substitute(env) if isinstance(s, Dim) else s for s in shape)
            for path, shape in self.shapes.items()
        }

    def record_once(self, reach: int, flipped: str = "") -> Recording:
        """The program; with the truth that the line ``flipped`` takes as it is for other sizes."""
        shapes = Shapes(reach, flipped)
        recorder = Recorder(shapes, named_tensors(self.fn))
        paths: list[str] = []
        originals: list[torch.Tensor] = []

        def leaf(tensor: torch.Tensor, path: str) -> int:
            paths.append(path)
            originals.append(tensor)
            return len(paths) - 1

        arg_trees, kwarg_trees = self.trees(leaf)
        fakes = [self.fake(recorder, p, x) for p, x in zip(paths, originals)]
        recorder.example = (self.sizes(originals, paths), [to_numpy(x) for x in originals])
        unused = iter(fakes)
        args, kwargs = map_tensors((self.args, self.kwargs), lambda _: next(unused))
        result = self.run(recorder, args, kwargs)
        outputs: list[torch.Tensor] = []

        def output(tensor: torch.Tensor, path: str) -> int:
            outputs.append(tensor)
            return len(outputs) - 1

        tree = tree_of(result, "result", output, shapes.size)
        recorder.problems += [
            f"result {i} is complex; return torch.view_as_real(x)"
            for i, x in enumerate(outputs) if x.is_complex()
        ]  # fmt: skip
        if recorder.problems or shapes.is_fixed():
            self.refuse(recorder)
        recorder.b.origin = type(recorder.b.origin)()
        recorder.graph.outputs = [recorder.value(x) for x in outputs]
        states = recorder.states()
        recorder.graph.outputs += states.values()
        state = tuple(State(name, len(outputs) + i) for i, name in enumerate(states))
        signature = Signature(tuple(arg_trees), tuple(kwarg_trees), tree, tuple(paths))
        params = {key: to_numpy(tensor) for key, tensor in recorder.weights.items()}
        program = Program(recorder.graph, params, dict(shapes.dims), state, signature)
        written = {name: recorder.weights[name] for name in states}
        recording = Recording(program, recorder.calls, written, [], shapes.undecided())
        if not flipped:
            shapes.forget([*recorder.asserted, *self.without_effect(recording, shapes)])
            recording.exceptional = self.refuse(recorder)
            self.warn_of_updates(recorder, paths, fakes)
        return recording

    def without_effect(self, recording: Recording, shapes: Shapes) -> Iterator[str]:
        """Lines that decide on sizes, where deciding otherwise records the same program."""
        lines = shapes.untried()
        for line in lines if len(lines) <= TWINS else ():
            try:
                twin = self.record_once(shapes.reach, flipped=line)
            except (UnsupportedError, Narrowed):
                continue
            if recording.is_same(twin):
                yield line

    def sizes(self, originals: list[torch.Tensor], paths: list[str]) -> dict[str, int]:
        """The dims of the example."""
        found: dict[str, int] = {}
        for path, tensor in zip(paths, originals):
            for size, got in zip(self.shapes[path], tensor.shape):
                names = size.symbols() - found.keys() if isinstance(size, Dim) else ()
                for name in names if len(names) == 1 else ():
                    found[name] = solve_linear(size, name, found, got) or 0
        return found

    def fake(self, recorder: Recorder, path: str, tensor: torch.Tensor) -> torch.Tensor:
        shape = self.shapes[path]
        fake = recorder.shapes.fake_input(shape, tensor.dtype, tensor.shape)
        name = path.replace(".", "_")
        value = recorder.graph.input(TensorType(dtype_of(tensor.dtype), shape), name)
        recorder.bind(fake, value, f"input {path}")
        return fake

    def run(self, recorder: Recorder, args: tuple, kwargs: dict[str, Any]) -> Any:
        names = named_modules(self.fn)
        before = Attributes.of(self.fn)

        def enter(module: torch.nn.Module, _: Any) -> None:
            recorder.modules.append(names.get(id(module), type(module).__name__))

        def leave(module: torch.nn.Module, _: Any, __: Any) -> None:
            recorder.modules.pop()

        hooks = (
            torch.nn.modules.module.register_module_forward_pre_hook(enter),
            torch.nn.modules.module.register_module_forward_hook(leave),
        )
        try:
            with (
                whole_composites(),
                symbolic_kernels(),
                symbolic_python(),
                recorder.shapes.mode,
                recorder,
                SymbolicCalls(),
            ):
                result = self.fn(*args, **kwargs)
                recorder.problems += before.lost(
                    recorder.view, names, lambda x: id(x) in recorder.fakes
                )
                return result
        except Narrowed:
            raise
        except Exception as error:
            # The model itself failed on fake tensors: a problem, after those already met.
            if not (recorder.problems and depends_on_data(error)):
                where = recorder.origin_of(error)
                recorder.problems.append(f"{where}: {type(error).__name__}: {error}")
            self.refuse(recorder)
            raise
        finally:
            for hook in hooks:
                hook.remove()
            before.restore()
            forget_stand_ins()

    def refuse(self, recorder: Recorder) -> list[Exceptional]:
        """The sizes to try.  Raises: Narrowed; UnsupportedError with all problems."""
        if not recorder.problems:
            found = recorder.shapes.widest()
            limit = recorder.shapes.limit(recorder.example[0])
            if found is not None:
                raise Narrowed(*found)
            if limit is not None:
                raise Narrowed(*limit, decided=True)
        decisions, exceptional = recorder.shapes.refused()
        refuse(list(dict.fromkeys([*recorder.problems, *decisions])))
        return exceptional

    def warn_of_updates(
        self, recorder: Recorder, paths: list[str], fakes: list[torch.Tensor]
    ) -> None:
        for path, fake in zip(paths, fakes):
            memory = recorder.view(fake).memory
            if memory.version:
                line = memory.writes[0] if memory.writes else "?"
                warnings.warn(
                    f"{line}: updates the input {path!r} in place; a run of the program leaves the "
                    f"caller's array as it was, return the tensor to get its new value",
                    stacklevel=5,
                )


def refuse(problems: Sequence[str]) -> None:
    """Raises: UnsupportedError with all problems, if there are any."""
    if problems:
        raise UnsupportedError(f"{len(problems)} things cannot be captured:", problems)


def _shared(given: str | Dim, dims: dict[str, Dim]) -> Dim:
    """One Dim per name: the first that was given for it."""
    dim = Dim(given) if isinstance(given, str) else given
    if dim.is_symbol:
        return dims.setdefault(dim.name, dim)
    return dim


def _argument_names(fn: Any, count: int) -> list[str]:
    target = fn.forward if isinstance(fn, torch.nn.Module) else fn
    names: list[str] = []
    try:
        parameters = list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    rest = "arg"
    for p in parameters:
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            names.append(p.name)
        elif p.kind is p.VAR_POSITIONAL:
            rest = p.name
    given = names[:count]
    return given + [f"{rest}{i}" for i in range(count - len(given))]
