"""Record a training step: forward, backward and update as one program."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.utils._pytree as pytree

from oarlock.capture import constants
from oarlock.capture.aliases import Memory, View
from oarlock.capture.arrays import dtype_of, to_numpy, torch_dtype
from oarlock.capture.indices import inputs_of, require_ranges
from oarlock.capture.joint.chance import Chance
from oarlock.capture.joint.drawn import DRAWN
from oarlock.capture.joint.fused import FUSED
from oarlock.capture.joint.numbers import (
    DataDependent,
    Number,
    Scope,
    is_free,
    number_of,
    plain,
    settled,
    sizes_of,
    symbolic,
)
from oarlock.capture.joint.outcomes import Told
from oarlock.capture.joint.recording import Draw, Gradient, Port, Slot, StepRecording
from oarlock.capture.joint.results import flatten
from oarlock.capture.joint.surroundings import Surroundings
from oarlock.capture.joint.whole import WholeFunctions
from oarlock.capture.owners import named_modules
from oarlock.capture.recorder import Recorder, Spoiled
from oarlock.capture.tape.arguments import holds_tensor
from oarlock.capture.torch_private import Shapes, is_fake, outside_modes
from oarlock.errors import UnsupportedError
from oarlock.ir import Program, Signature, TensorType, Value, bool_, f64, i64

_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
_MUTABLE = (dict, list, set)
_FRESH = ("aten.lift_fresh.default", "aten.lift_fresh_copy.default")


class StepRecorder(Recorder):
    """Records under autograd: every real tensor is an input; random draws and numbers are too."""

    def __init__(self, shapes: Shapes, names: dict[int, str]) -> None:
        super().__init__(shapes, names)
        self.ports: list[Port] = []
        self.draws: list[Draw] = []
        self.captured: dict[int, int] = {}  # port by id of a real tensor
        self.fresh: set[int] = set()  # ids of tensors that the code makes of Python numbers
        self.scope = Scope(self.b, [], lambda: str(self.origin()), require=self.require_sound)
        self.sound: set[int] = set()  # ids of an optimizer's tensors, whose arithmetic is sound
        self.ranges: set[Any] = set()  # of indices that are checked
        self.chance = Chance()
        self.most: int | None = None  # operations
        self.told: Told | None = None  # what the code is told where it asks tensors
        self.grad_of: dict[int, torch.Tensor] = {}  # the parameter by id of its gradient

    # Inputs

    def port(self, kind: str, name: str, type: TensorType, **facts: Any) -> Value:
        """A new input."""
        taken = {p.name for p in self.ports}
        while name in taken:
            name += "_"
        self.ports.append(Port(kind, name, **facts))
        return self.graph.input(type, name)

    def number(self, name: str, index: int, hint: Any) -> Any:
        """A number that the caller gives at each call."""
        value = self.port("number", name, TensorType(f64, ()), index=index)

        def make() -> Value:
            return value if type(hint) is float else self.b.cast(value, dtype=i64)

        return symbolic(Number(self.scope, hint, make, lambda given: given[index]))

    def weight(self, tensor: torch.Tensor) -> tuple[Memory, Value]:
        if id(tensor) in self.fresh:
            return super().weight(tensor)
        if tensor.is_complex():
            raise NotImplementedError("a complex tensor of a training step")
        if id(tensor) in self.chance.states:
            raise NotImplementedError("the state of the generator as a tensor")
        owner = self.grad_of.get(id(tensor))
        if owner is not None:
            self.view(owner)
        name = self.names.get(id(owner if owner is not None else tensor), "tensor")
        type = TensorType(dtype_of(tensor.dtype), tuple(tensor.shape))
        self.captured[id(tensor)] = len(self.ports)
        if owner is not None:
            value = self.port("gradient", f"{name}.grad", type, tensor=owner)
        else:
            value = self.port("tensor", name, type, tensor=tensor)
        return Memory(source=f"input {len(self.ports) - 1}"), value

    # Calls

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if str(func) in _FRESH and not is_fake(args[0]):
            self.fresh.add(id(args[0]))
            self.alive.append(args[0])
        if str(func) in FUSED:
            with self:
                return FUSED[str(func)](*args, **(kwargs or {}))
        if str(func) in DRAWN:
            with self:
                found = DRAWN[str(func)](self.require, *args, **(kwargs or {}))
            if found is not NotImplemented:
                return found
        for x in sizes_of(func, args, kwargs or {}):
            x.guard_int()
        return super().__torch_dispatch__(func, types, args, kwargs)

    def fake(self, x: Any) -> Any:
        return super().fake(plain(x))

    def operand(self, x: Any) -> Any:
        number = number_of(x)
        return super().operand(x) if number is None else self.typed(number).value

    def typed(self, number: Number) -> Number:
        """Raises: DataDependent for an int or float, as data decide."""
        if number.is_mixed:
            raise DataDependent(
                f"{self.origin()}: data decide whether a number is an int or a float"
            )
        return number

    def record(self, func: Any, args: tuple, kwargs: dict[str, Any], out: Any) -> list[View]:
        if self.most is not None and len(self.graph.nodes) > self.most:
            raise UnsupportedError(f"loops of more than {self.most} operations")
        if torch.Tag.nondeterministic_seeded in func.tags:
            found = self.drawn(func, args, kwargs, out)
            if found is not None:
                return found
        require_ranges(self, str(func), args)
        if str(func) in SIDE_EFFECTS:
            SIDE_EFFECTS[str(func)](self, args, kwargs)
        return super().record(func, args, kwargs, out)

    def drawn(self, func: Any, args: tuple, kwargs: dict[str, Any], out: Any) -> list[View] | None:
        """The random tensor as an input, when its numbers depend on no tensor; else None."""
        first, rest = (args[0], args[1:]) if args else (None, ())
        takes_self = isinstance(first, torch.Tensor)
        name = func._schema.name
        if any(isinstance(x, torch.Tensor) for x in pytree.tree_leaves((rest, kwargs))):
            return None
        if takes_self and not (name.endswith(("_like", "_"))):
            return None
        args, rest, kwargs = pytree.tree_map(settled, (args, rest, kwargs))
        like = None
        if takes_self:
            fake = self.fake(first)
            like = (tuple(fake.shape), tuple(fake.stride()), fake.dtype)
        kept = {k: v for k, v in kwargs.items() if k not in ("device", "layout", "pin_memory")}
        (tensor,) = [x for x in pytree.tree_leaves(out) if isinstance(x, torch.Tensor)]
        draw = Draw(func, rest if takes_self else args, kept, like)
        value = self.numbers_of(draw, self.type_of(tensor))
        if func._schema.is_mutable:
            self.write(first, value)
            return [self.view(first)]
        view = View(Memory(), value)
        self.bind_view(tensor, view)
        return [view]

    def numbers_of(self, draw: Draw, type: TensorType) -> Value:
        """What ``draw`` gives: other numbers than before, unless the code has put back the state."""
        value = self.chance.again(draw)
        if value is None:
            self.draws.append(draw)
            index = len(self.draws) - 1
            value = self.port("draw", f"draw{index}", type, index=index)
            self.chance.add(draw, value)
        return value

    def to_python(self, func: Any, args: tuple) -> Any:
        value = self.value(args[0])
        answer = None if self.told is None else self.told.next()
        with outside_modes():
            params = {k: to_numpy(t) for k, t in self.weights.items()}
            known = constants.always(self.graph, value, params)
        if known is not None and "equal" not in str(func):
            number = known.reshape(-1)[0].item()
            return bool(number) if "nonzero" in str(func) else number
        if "nonzero" in str(func) or "equal" in str(func) or value.dtype.is_bool:
            if answer is None or "equal" in str(func):
                raise DataDependent(
                    f"{self.origin()}: the code decides on a tensor's value, known at run time only"
                )
            flat = value if not value.shape else self.b.reshape(value, shape=())
            return self.decide(self.b.to(flat, bool_), bool(answer))
        is_int = value.dtype.is_int
        wanted = i64 if is_int else f64

        def make() -> Value:
            flat = value if not value.shape else self.b.reshape(value, shape=())
            return flat if flat.dtype is wanted else self.b.cast(flat, dtype=wanted)

        made = make()  # now: the tensor may be written to later
        hint = (3 if is_int else 0.75) if answer is None else answer
        return symbolic(Number(self.scope, hint, lambda: made, None))

    def decide(self, truth: Value, taken: bool) -> bool:
        """The way that the code takes, which a run that takes another ends at.

        Raises: DataDependent where it is not known.
        """
        assert self.told is not None
        self.told.way.append(taken)
        self.b.require(truth if taken else self.b.logical_not(truth))
        return taken

    def require_sound(self, truth: Value) -> None:
        """End a run in which a number that Python takes does not hold ``truth``."""
        ports = dict(zip(self.graph.inputs, self.ports))
        if any(id(ports[x].tensor) not in self.sound for x in inputs_of(truth)):
            self.b.require(truth)

    def require(self, truth: torch.Tensor) -> None:
        """End a run in which ``truth`` does not hold."""
        self.b.require(self.value(truth))

    def write(self, target: torch.Tensor, value: Value) -> None:
        super().write(target, value)
        if not is_fake(target):
            self.view(target)

    def tensor_of(self, value: Value) -> torch.Tensor:
        """A new tensor of the recording that is ``value``."""
        with outside_modes(), self.shapes.mode:
            tensor = torch.empty(value.shape, dtype=torch_dtype(value.dtype))
        self.bind(tensor, value)
        return tensor

    def updates(self) -> dict[int, Value]:
        """The ports whose tensors were written to, and what they hold at the end."""
        found: dict[int, Value] = {}
        for view in [*self.real.values(), *self.arguments]:
            source = view.memory.source
            if view.memory.version and source.startswith("input ") and view.parent is None:
                found[int(source.removeprefix("input "))] = view.read()
        return found

    @property
    def arguments(self) -> list[View]:
        return self._arguments

    _arguments: list[View] = []


def _running_stats(recorder: StepRecorder, args: tuple, kwargs: dict[str, Any]) -> None:
    """``native_batch_norm`` in training updates the running statistics, which its schema hides."""
    x, _, _, mean, var, training, momentum, _ = args
    if not training or mean is None:
        return
    b, value = recorder.b, recorder.value(x)
    axes = tuple(i for i in range(value.rank) if i != 1)
    count = value.type.size // value.shape[1]
    step = recorder.operand(momentum)
    for target, new in (
        (mean, b.mean(value, axes=axes)),
        (var, b.var(value, axes=axes, correction=1.0 if count != 1 else 0.0)),
    ):
        old = recorder.value(target)
        rate = b.to(step, old.dtype)
        kept = b.mul(old, b.sub(b.const(1.0, old.dtype), rate))
        recorder.write(target, b.add(b.mul(b.to(new, old.dtype), rate), kept))


SIDE_EFFECTS: dict[str, Callable[[StepRecorder, tuple, dict[str, Any]], None]] = {
    "aten.native_batch_norm.default": _running_stats,
}


def record_step(
    fn: Callable[..., Any], args: tuple = (), kwargs: Any = None, changing: Collection[str] = (),
    around: Surroundings | None = None,
) -> StepRecording:  # fmt: skip
    """The program of one call of ``fn``, under autograd, with what it changes as outputs.

    Tensors among the arguments, and every other tensor met, are inputs, bound at each call; floats
    among the arguments, learning rates of optimizers that ``fn`` reaches and their options named in
    ``changing`` are numbers.
    ``around``: what the code reaches, when ``fn`` does not show it.
    Nothing keeps what the recording did: parameters, ``.grad`` and the optimizers are put back.
    Raises: UnsupportedError with all that cannot be recorded; DataDependent.
    """
    return Recording(fn, args, kwargs or {}, around or Surroundings.of(fn, changing)).run()


class Uninitialised(UnsupportedError):
    """The step makes state of the optimizer: run it once in eager mode first."""


class Recording:
    """One call, from its arguments to its program."""

    def __init__(
        self, fn: Callable[..., Any], args: tuple, kwargs: dict[str, Any], around: Surroundings,
        most: int | None = None, told: Told | None = None,
    ) -> None:  # fmt: skip
        self.fn, self.around = fn, around
        self.shapes = Shapes()
        self.recorder = StepRecorder(self.shapes, self.around.names)
        self.recorder._arguments = []
        self.recorder.most, self.recorder.told = most, told
        if told is not None:
            self.recorder.scope.decide = self.recorder.decide
        states = [s for _, o in self.around.optimizers for s in o.state.values()]
        self.recorder.sound = {id(x) for s in states for x in s.values()}
        self.recorder.grad_of = {id(g): p for p, g in self.around.grads if g is not None}
        self.leaves, self.arg_spec = pytree.tree_flatten((args, kwargs))
        self.names = _names(fn, args, kwargs)
        self.backward = [0]
        self.memories: set[int] = set()  # of results
        self.arg_grads: list[tuple[torch.Tensor, int, torch.Tensor | None]] = []

    def run(self) -> StepRecording:
        try:
            with self._modes():
                leaves = [self._argument(i, x) for i, x in enumerate(self.leaves)]
                self.around.replace_options(self._options())
                args, kwargs = pytree.tree_unflatten(leaves, self.arg_spec)
                with self._recording():
                    result = self.fn(*args, **kwargs)
                    self._differentiate(result)
            self._check(self.around.is_new_state())
            return self._finish(result)
        except Spoiled:
            self._check(False)  # tells what was refused
            raise
        finally:
            self.around.restore()

    # Before

    def _argument(self, i: int, x: Any) -> Any:
        recorder, name = self.recorder, self.names[i]
        if is_free(x):
            return recorder.number(name, self._number(), x)
        if not isinstance(x, torch.Tensor):
            return x
        fake = self.shapes.fake_constant(x.detach())
        if x.requires_grad:
            fake.requires_grad_()
        type_ = TensorType(dtype_of(x.dtype), tuple(x.shape))
        value = recorder.port("argument", name, type_, index=i)
        port = len(recorder.ports) - 1
        recorder._arguments.append(recorder.bind(fake, value, f"input {port}"))
        recorder.captured[id(fake)] = port
        if x.requires_grad:
            self._gradient(fake, port, name, x)
        return fake

    def _gradient(self, fake: torch.Tensor, port: int, name: str, x: torch.Tensor) -> None:
        """The gradient that an argument has already."""
        grad = x.grad if x.is_leaf else None
        if grad is not None:
            given = self.shapes.fake_constant(grad.detach())
            type_ = TensorType(dtype_of(grad.dtype), tuple(grad.shape))
            value = self.recorder.port("gradient", f"{name}.grad", type_, index=port)
            at = len(self.recorder.ports) - 1
            self.recorder._arguments.append(self.recorder.bind(given, value, f"input {at}"))
            fake.grad = given
        self.arg_grads.append((fake, port, fake.grad))

    def _number(self) -> int:
        return sum(p.kind == "number" for p in self.recorder.ports)

    def _options(self) -> list[Any]:
        given = zip(self.around.options, self.around.read_options())
        return [self.recorder.number(name, self._number(), x) for (name, _), x in given]

    @contextmanager
    def _modes(self) -> Iterator[None]:
        names = named_modules(self.around.fn)
        modules = self.recorder.modules

        def enter(module: torch.nn.Module, _: Any) -> None:
            modules.append(names.get(id(module), type(module).__name__))

        def leave(module: torch.nn.Module, _: Any, __: Any) -> None:
            modules.pop()

        hooks = (
            torch.nn.modules.module.register_module_forward_pre_hook(enter),
            torch.nn.modules.module.register_module_forward_hook(leave),
        )
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @contextmanager
    def _recording(self) -> Iterator[None]:
        recorder = self.recorder
        with (
            recorder.chance.watched(),
            torch.enable_grad(),
            self.shapes.mode,
            recorder,
            WholeFunctions(recorder, self.backward),
        ):
            yield

    def _differentiate(self, result: Any) -> None:
        """What is recorded beside the call itself."""

    # After

    def _check(self, is_new: bool) -> None:
        recorder = self.recorder
        if recorder.draws and recorder.chance.is_elsewhere:
            recorder.problems.append(
                "random draws after the code has set the state of the generator"
            )
        if recorder.problems:
            problems = list(dict.fromkeys(recorder.problems))
            raise UnsupportedError(f"{len(problems)} things cannot be compiled:", problems)
        if is_new:
            raise Uninitialised("the optimizer has no state yet; run the step once")

    def _finish(self, result: Any) -> StepRecording:
        recorder, graph = self.recorder, self.recorder.graph
        outputs: list[Value] = []

        def output(value: Value) -> int:
            outputs.append(value)
            return len(outputs) - 1

        leaves, spec = flatten(result)
        made: dict[int, Slot] = {}
        slots = [self._slot(x, output, made) for x in leaves]
        gradients = list(self._gradients(output, made))
        updates = [(port, output(value)) for port, value in recorder.updates().items()]
        graph.outputs = outputs
        names = tuple(p.name for p in recorder.ports)
        params = {key: to_numpy(tensor) for key, tensor in recorder.weights.items()}
        program = Program(graph, params, {}, (), Signature(names=names))
        options, floats = self.around, [i for i, x in enumerate(self.leaves) if is_free(x)]

        def numbers(leaves: Sequence[Any]) -> list[Any]:
            return [*(leaves[i] for i in floats), *options.read_options()]

        return StepRecording(
            program, recorder.ports, slots, spec, updates, gradients, recorder.draws,
            recorder.scope.guards, numbers, self.backward[0] > 0,
            () if recorder.told is None else tuple(recorder.told.way),
        )  # fmt: skip

    def _slot(self, x: Any, output: Callable[[Value], int], made: dict[int, Slot]) -> Slot:
        number, recorder = number_of(x), self.recorder
        if number is not None:
            return Slot("number", output(recorder.typed(number).value), type(number.hint))
        if not isinstance(x, torch.Tensor):
            if isinstance(x, _MUTABLE) or holds_tensor(x):
                raise UnsupportedError(f"the result holds an object of class {type(x).__name__}")
            return Slot("constant", value=x)
        if not is_fake(x):
            recorder.view(x)  # a tensor from outside, which nothing else may have read
        if id(x) in recorder.captured:
            return Slot("port", recorder.captured[id(x)])
        if id(x) not in made:
            self._check_alias(x)
            made[id(x)] = Slot(
                "output", output(recorder.value(x)), (tuple(x.shape), x.dtype), x.requires_grad,
                None if x.is_contiguous() else tuple(x.stride()),
            )  # fmt: skip
        return made[id(x)]

    def _check_alias(self, x: torch.Tensor) -> None:
        """Raises: UnsupportedError for a result that shares memory with a tensor outside."""
        memory = self.recorder.view(x).memory
        if memory.source.startswith("input "):
            name = self.recorder.ports[int(memory.source.removeprefix("input "))].name
            raise UnsupportedError(f"the result is a view of {name}, return a clone of it")
        if id(memory) in self.memories:
            raise UnsupportedError("results share memory, return a clone of one")
        self.memories.add(id(memory))

    def _gradients(
        self, output: Callable[[Value], int], made: dict[int, Slot]
    ) -> Iterator[Gradient]:
        """What is left in ``.grad``, where it is another than before."""
        recorder = self.recorder
        for p, old in self.around.grads:
            if p.grad is not old:
                recorder.view(p)  # which nothing else may have read
        pairs = [
            (p, recorder.captured[id(p)], old)
            for p, old in self.around.grads if id(p) in recorder.captured
        ]  # fmt: skip
        for p, port, old in [*pairs, *self.arg_grads]:
            new = p.grad
            if new is old:
                continue
            self._check_leaf(recorder.ports[port])
            if id(new) in made:  # a result too
                yield Gradient(port, made[id(new)].index)
            else:
                yield Gradient(port, None if new is None else output(recorder.value(new)))

    def _check_leaf(self, port: Port) -> None:
        """Raises: UnsupportedError for an argument that eager code has computed."""
        if port.kind == "argument" and not self.leaves[port.index].is_leaf:
            raise UnsupportedError(
                f"{port.name} has a gradient that goes on outside of the function"
            )


def _names(fn: Any, args: tuple, kwargs: dict[str, Any]) -> list[str]:
    """A name for every leaf of the arguments."""
    target = fn.forward if isinstance(fn, torch.nn.Module) else fn
    try:
        parameters = list(inspect.signature(target).parameters)
    except (TypeError, ValueError):
        parameters = []
    found = []
    for i, x in enumerate(args):
        name = parameters[i] if i < len(parameters) else f"arg{i}"
        found += _leaf_names(name, x)
    for name, x in kwargs.items():
        found += _leaf_names(name, x)
    return found


def _leaf_names(name: str, x: Any) -> list[str]:
    paths = pytree.tree_flatten_with_path(x)[0]
    return [name + pytree.keystr(path) for path, _ in paths]
