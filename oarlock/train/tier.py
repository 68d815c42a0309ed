"""The compiled executor of a tape: its calls recorded under autograd as one program."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.utils._pytree as pytree

from oarlock import knobs
from oarlock.capture.joint.differentiate import record_call
from oarlock.capture.joint.numbers import is_free
from oarlock.capture.joint.outcomes import Told
from oarlock.capture.joint.recording import StepRecording
from oarlock.capture.joint.surroundings import Surroundings
from oarlock.capture.tape.arguments import is_record
from oarlock.capture.tape.capturing import Tape
from oarlock.capture.tape.deciding import is_foreseen, is_settled
from oarlock.capture.tape.higher import with_backward_hooks
from oarlock.capture.tape.nodes import Call, Val, leaves
from oarlock.capture.tape.optimizers import step_
from oarlock.capture.tape.queries import name_of
from oarlock.capture.tape.running import run
from oarlock.capture.tape.runtime import Respecialise
from oarlock.capture.tape.sources import Source
from oarlock.capture.to_static import Declined, NewProgram, NotThisCall, StaticFunction
from oarlock.capture.torch_private import is_dispatching, is_transformed, quiet_fakes
from oarlock.errors import ToolError, UnsupportedError
from oarlock.runtime.session import Stopped
from oarlock.train.differentiable import Differentiable
from oarlock.train.graphs import goes_on
from oarlock.train.step import Changed, Step
from oarlock.train.ways import Ways, told

MANY = 8  # programs of one tape, for other sizes
MOST = 5_000  # operations of a call whose loops are unrolled
_AS_A_WHOLE = (with_backward_hooks, step_)
_SKIPPED = (torch.nn.Module, torch.optim.Optimizer, type)


class CompiledTape:
    """Steps by the sizes of the arguments.  Calls raise Declined before anything was done."""

    def __init__(self, static: StaticFunction, tape: Tape) -> None:
        self.static, self.tape = static, tape
        self.renewals = 0
        self.sources = [source for _, source in tape.inputs if source.base is not None]
        calls = (node for node in tape.root.walk() if isinstance(node, Call))
        self.asks = any(name_of(call.func) in ("backward", "grad") for call in calls)
        self.bind()

    def bind(self) -> None:
        """Take the tensors that the code reads now for the state.  Raises: Declined."""
        self.steps: dict[Any, Step] = {}
        self.others: dict[Any, list[Step]] = {}  # of the same sizes, for other numbers
        self.ways = Ways()
        self.switched: dict[Any, list[tuple[torch.Tensor, bool]]] = {}  # requires_grad after a call
        self.state = [(s, x) for s in self.sources if isinstance(x := read(s), torch.Tensor)]
        self.is_same = identity(self.state)
        self.leaves = [x for _, x in self.state if x.requires_grad and x.is_leaf]
        self.storages = {x.untyped_storage()._cdata for _, x in self.state}
        self.refuse()

    def refuse(self) -> None:
        """Raises: Declined for what no program can do."""
        tape = self.tape
        is_right = is_foreseen if self.asks else is_settled
        if not tape.is_straight_line and not (self.differentiates and is_right(tape.root)):
            raise Declined("control flow that depends on data")
        if tape.has_effects:
            raise Declined("the code changes Python objects")
        if any(node.func in _AS_A_WHOLE for node in tape.root.walk() if isinstance(node, Call)):
            raise Declined(
                "hooks of modules, or steps of optimizers, that each run calls as they are"
            )
        if any(_makes_generator(node.func) for node in tape.root.walk() if isinstance(node, Call)):
            raise Declined("a generator that the code makes or seeds")
        given = {val.id for val, source in tape.inputs if source.base is None}
        if any(_switches(node, given) for node in tape.root.walk()):
            raise Declined("requires_grad of an argument is switched")
        if tape.ambient.inference:
            raise Declined("inference mode around the call")
        if self.asks and goes_on(tape):
            raise Declined("gradients of results go on beside those that it takes")
        for source, x in self.state:
            self._check_tensor(str(source), x)
            if x.requires_grad and not x.is_leaf and self.asks:
                raise Declined(f"{source} has a gradient that goes on outside of the function")
        if len(self.storages) < len({id(x) for _, x in self.state}) and tape.is_updating:
            raise Declined("tensors of the state share memory")
        if any(_is_parallel(root) for root in (self.static.fn, self.static.owner)):
            raise Declined("a distributed module, whose hooks run in the backward pass")

    @property
    def differentiates(self) -> bool:
        """Calls take gradients, or give what has some."""
        results = (x.sample for x in leaves(self.tape.root.results) if isinstance(x, Val))
        return self.asks or any(isinstance(x, torch.Tensor) and x.requires_grad for x in results)

    def _check_tensor(self, name: str, x: torch.Tensor) -> None:
        hooks = x._backward_hooks or getattr(x, "_post_accumulate_grad_hooks", None)
        if hooks and (self.asks or not x.is_leaf):
            raise Declined(f"{name} has hooks on its gradient")

    def changing(self) -> set[Any]:
        """Settings of optimizers that are read at each call."""
        found = set()
        groups = {
            id(g) for _, o in Surroundings.of(self.static.fn).optimizers for g in o.param_groups
        }
        for source in self.sources:
            x = read(source)
            if isinstance(x, torch.Tensor):
                continue
            if type(x) is not float or id(source.base) not in groups:
                raise Declined(f"{source} is read at each call")
            found.add((id(source.base), source.path))
        return found

    def around(self, tensors: list[torch.Tensor]) -> Surroundings:
        """What the code reaches.  Raises: Declined for numbers that no option of it is."""
        changing = self.changing()
        found = Surroundings.of(self.static.fn, changing, tensors)
        fixed = changing - found.places
        if fixed:
            paths = ", ".join(sorted(path for _, path in fixed))
            raise Declined(f"{paths} of an optimizer is read at each call")
        return found

    def __call__(self, args: tuple, kwargs: dict[str, Any]) -> Any:
        if is_transformed() or is_dispatching():
            return run(self.tape, args, kwargs)
        if not self.is_same():
            self.renew()
        leaves = pytree.tree_leaves((args, kwargs))
        step = self.found(leaves)
        if step is None:
            if self.count >= MANY:
                raise NotThisCall(f"more than {MANY} programs for different sizes")
            if self.tape.is_verified and knobs.CHECK.value != "off":
                raise NewProgram
            step = self.make(args, kwargs, leaves)
        if step.recording.updates:
            self.check_memory(step, leaves)
        try:
            result = step.run(leaves)
        except Changed as reason:
            raise Declined(str(reason)) from reason
        except Stopped as reason:
            if step.recording.way:
                self.ways.missed(self.steps, step)
            raise NotThisCall(str(reason)) from reason
        if step.recording.way:
            self.ways.took()
        for x, needs in self.switched.get(id(step), ()):
            x.requires_grad_(needs)
        return result

    def found(self, leaves: list[Any]) -> Step | None:
        """The program for a call: of its sizes, and of what the code asks of its numbers."""
        key = self.key(leaves)
        step = self.steps.get(key)
        if step is None or step.holds(step.recording.read_numbers(leaves)):
            return step
        others = self.others.setdefault(key, [])
        others.append(self.steps.pop(key))
        for other in others:
            if other.holds(other.recording.read_numbers(leaves)):
                others.remove(other)
                self.steps[key] = other
                return other
        return None

    @property
    def count(self) -> int:
        """Of all programs."""
        beside = (*self.others.values(), *self.ways.past.values())
        return len(self.steps) + sum(map(len, beside))

    def renew(self) -> None:
        """New programs for tensors that have taken the place of others.  Raises: Declined."""
        self.renewals += 1
        if self.renewals > MANY:
            raise Declined(f"tensors of the state were replaced more than {MANY} times")
        self.bind()

    def key(self, leaves: list[Any]) -> Any:
        """What a program is made for: sizes, and which gradients there are already."""
        sizes = (torch.get_num_threads(), *map(_kind, leaves))
        if not self.asks:
            return sizes
        given = [x for x in leaves if isinstance(x, torch.Tensor) and x.requires_grad and x.is_leaf]
        return (*sizes, *[x.grad is not None for x in (*self.leaves, *given)])

    def check_memory(self, step: Step, leaves: list[Any]) -> None:
        """Raises: Declined for arguments in the memory of what the step changes."""
        own = {i: _place(x) for i, x in enumerate(leaves) if isinstance(x, torch.Tensor)}
        changed = [own[i] for i in step.changed_arguments]
        is_apart = step.changed_storages.isdisjoint(own.values())
        if changed:
            places = list(own.values())
            is_apart &= self.storages.isdisjoint(changed)
            is_apart &= all(places.count(x) == 1 for x in changed)
        if not is_apart:
            raise Declined("arguments share memory with what the step changes")

    def make(self, args: tuple, kwargs: dict[str, Any], leaves: list[Any]) -> Step:
        """Record and compile for the sizes of a call."""
        for x in leaves:
            if isinstance(x, torch.Tensor):
                self._check_tensor("an argument", x)
            elif not isinstance(x, _SKIPPED) and is_record(x):
                raise Declined(f"an argument of class {type(x).__name__}")
        try:
            step = self.recorded(args, kwargs, leaves)
        except (UnsupportedError, NotImplementedError) as reason:
            raise Declined("; ".join([str(reason), *getattr(reason, "problems", [])])) from reason
        self.steps[self.key(leaves)] = step
        return step

    def recorded(self, args: tuple, kwargs: dict[str, Any], leaves: list[Any]) -> Step:
        tape = self.tape

        def replay(*args: Any, **kwargs: Any) -> Any:
            with torch.set_grad_enabled(tape.ambient.grad):
                return tape.replay(args, kwargs)

        replay.__name__ = self.static.name
        replay.__signature__ = _signature(self.static.fn)  # type: ignore[attr-defined]
        tensors = [x for _, x in self.state]
        around = self.around(tensors)
        needs = [(x, x.requires_grad) for x in tensors if x.is_leaf]
        most = None if tape.is_straight_line else MOST
        try:
            known = self.told(replay, args, kwargs)
            with quiet_fakes():
                recording = record_call(replay, args, kwargs, around, most, known)
            switched = [(x, x.requires_grad) for x, before in needs if x.requires_grad != before]
        except Exception as error:
            if isinstance(error, (Respecialise, UnsupportedError, NotImplementedError)):
                raise
            raise NotThisCall(repr(error)) from error  # the replay does what eager does
        finally:
            for x, before in needs:
                x.requires_grad_(before)
        threads = torch.get_num_threads()
        if isinstance(recording, StepRecording):
            numbers = recording.read_numbers(leaves)
            past = self.ways.again(self.key(leaves), recording.way, lambda x: x.holds(numbers))
            step = past or Step(recording, threads)
            self.switched[id(step)] = switched
            return step
        if switched:
            raise Declined("requires_grad is switched in a call whose gradients go on")
        spec = pytree.tree_structure((args, kwargs))
        return Differentiable(recording, tape, spec, threads)

    def told(self, replay: Any, args: tuple, kwargs: dict[str, Any]) -> Told | None:
        """What the code asks tensors for in this call, where it decides on that."""
        if self.tape.is_straight_line or is_settled(self.tape.root):
            return None
        return told(self.tape, self.static.fn, replay, args, kwargs)

    @property
    def is_pure(self) -> bool:
        """Calls change nothing: no tensor, no gradient, no state of a generator."""
        return all(type(s) is Step and s.recording.is_pure for s in self.steps.values())

    def __str__(self) -> str:
        texts = [step.describe() for step in self.steps.values()]
        calls = [c for step in self.steps.values() for c in step.aten_calls]
        through = f"; through PyTorch: {', '.join(calls)}" if calls else ""
        return f"compiled ({', '.join(texts)}){through}"


def compiled(static: StaticFunction, tape: Tape, args: tuple, kwargs: dict[str, Any]) -> Any:
    """The executor.  Raises: Declined with the reason why there is none."""
    if static.options.get("backend") == "replay":
        raise Declined("backend='replay'")
    found = CompiledTape(static, tape)
    try:
        found.make(args, kwargs, pytree.tree_leaves((args, kwargs)))
    except (ToolError, NotThisCall) as error:
        raise Declined(str(error)) from error
    return found


def read(source: Source) -> Any:
    """What is at a source outside of the arguments now."""
    return source.value()


def _signature(fn: Any) -> inspect.Signature | None:
    """For the names of arguments in messages."""
    try:
        return inspect.signature(fn)
    except (TypeError, ValueError):
        return None


def _switches(node: Any, given: set[int]) -> bool:
    """``node`` sets requires_grad of one of the arguments ``given``."""
    if not isinstance(node, Call) or name_of(node.func) not in ("requires_grad", "requires_grad_"):
        return False
    return isinstance(node.args[0], Val) and node.args[0].id in given


def _makes_generator(func: Any) -> bool:
    return func is torch.Generator or getattr(func, "__objclass__", None) is torch._C.Generator


def _place(x: torch.Tensor) -> int:
    return x.untyped_storage()._cdata


def _kind(x: Any) -> Any:
    if isinstance(x, torch.Tensor):
        return tuple(x.shape)
    return None if is_free(x) or isinstance(x, _SKIPPED) else x


def identity(state: list[tuple[Source, torch.Tensor]]) -> Callable[[], bool]:
    """Whether every source still holds its tensor."""
    scope = {f"b{i}": s.base for i, (s, _) in enumerate(state)}
    scope |= {f"t{i}": x for i, (_, x) in enumerate(state)}
    text = " and ".join(f"b{i}{s.path} is t{i}" for i, (s, _) in enumerate(state)) or "True"
    exec(
        f"def same():\n    try:\n        return {text}\n    except LookupError:\n        return False",
        scope,
    )
    return scope["same"]


def _is_parallel(x: Any) -> bool:
    return any(isinstance(m, torch.nn.parallel.DistributedDataParallel) for m in _modules(x))


def _modules(x: Any) -> Iterator[torch.nn.Module]:
    from oarlock.capture.tape.sources import modules_below

    yield from modules_below([x]) if callable(x) else ()
