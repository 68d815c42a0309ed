"""Compiled runs of a pruned program: one engine for each signature of the feed."""

from __future__ import annotations

import logging
import operator
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from oarlock.capture.joint.surroundings import Surroundings
from oarlock.capture.joint.trace import Uninitialised, record_step
from oarlock.capture.tape.nodes import Block, Call, Val
from oarlock.capture.tape.sources import Source
from oarlock.capture.tape.verify import Rejected, verified
from oarlock.capture.to_static import NotThisCall
from oarlock.errors import InputError, ToolError, UnsupportedError
from oarlock.runtime.session import Stopped
from oarlock.train.attach import ClipHandle
from oarlock.train.lowered import Lowered, Part
from oarlock.train.static.program import Program
from oarlock.train.static.prune import read
from oarlock.train.static.replay import Replay
from oarlock.train.static.training import optimizers_of
from oarlock.train.step import Changed, Step

_LOG = logging.getLogger("oarlock")
MANY = 16  # signatures with an engine; others are replayed


class NotCompiled(Exception):
    """Why a run is replayed."""


class NotThisRun(NotCompiled):
    """Why one run is replayed."""


class Function:
    """The replay as a function of the feed, with what it changes in reach of the recorder."""

    def __init__(self, replay: Replay, optimizers: list[Optimizer]) -> None:
        self.replay, self.optimizers = replay, optimizers

    def __call__(self, feed: dict[str, Tensor]) -> list[Any]:
        return [x.detach() if isinstance(x, Tensor) else x for x in self.replay(feed)]


@dataclass
class Verifiable:
    """What ``verified`` reads of a tape."""

    name: str
    root: Block
    inputs: list[tuple[Val | None, Source]]
    objects: list[Any] = field(default_factory=list)
    executor: Any = True


class Engines:
    """The engines of one program and fetch list.

    ``found``: by signature of the feed, a engine or the reason why there is none.
    """

    def __init__(self, program: Program, replay: Replay) -> None:
        self.program, self.replay = program, replay
        self.optimizers = optimizers_of(replay.block)
        self.function = Function(replay, self.optimizers)
        self.parameters = list(replay.tensors.values())
        self.found: dict[tuple[Any, ...], Step | Lowered | NotCompiled] = {}
        self.settings: dict[tuple[Any, ...], Callable[[], bool]] = {}
        self.always = self.refusal()

    def refusal(self) -> str:
        """Why no feed has an engine; empty where some may."""
        for name, x in self.replay.tensors.items():
            if x._backward_hooks or getattr(x, "_post_accumulate_grad_hooks", None):
                return f"{name} has hooks on its gradient"
            if x.requires_grad and not x.is_leaf and self.replay.differentiates:
                return f"{name} has a gradient that goes on outside of the program"
        is_straight = all(isinstance(node, Call) for node in self.replay.block.walk())
        if not is_straight and self.replay.differentiates:
            return "gradients through control flow that depends on data"
        self.is_straight = is_straight
        return ""

    def run(self, feed: dict[str, Tensor]) -> list[Any]:
        """One run.  Raises: NotCompiled, before anything was done."""
        if self.always:
            raise NotCompiled(self.always)
        key = self.key(feed)
        engine = self.found.get(key)
        if engine is None or not self.settings[key]():
            return self.first(key, feed)
        if isinstance(engine, NotCompiled):
            raise engine
        return self.once(engine, feed)

    def once(self, engine: Step | Lowered, feed: dict[str, Tensor]) -> list[Any]:
        """One run of an engine.  Raises: NotCompiled, before anything was done."""
        try:
            if isinstance(engine, Lowered):
                return engine(tuple(feed.values()), {})
            return engine.run(list(feed.values()))
        except (Changed, NotThisCall, Stopped) as reason:
            raise NotThisRun(str(reason)) from reason
        except InputError as error:
            if engine.recording.updates:  # type: ignore[union-attr]
                raise
            raise NotThisRun(str(error)) from error

    def key(self, feed: dict[str, Tensor]) -> tuple[Any, ...]:
        """What an engine is made for."""
        needs = tuple([x.requires_grad for x in self.parameters])
        return (torch.get_num_threads(), needs, *(x.shape for x in feed.values()))

    def first(self, key: tuple[Any, ...], feed: dict[str, Tensor]) -> list[Any]:
        """The first run of a signature, compared with the replay.  Raises: NotCompiled."""
        self.found.pop(key, None)
        if len(self.found) >= MANY:
            self.warn()
            raise NotCompiled(f"more than {MANY} signatures of the feed")
        try:
            step = self.record(feed) if self.is_straight else self.lower(feed)
            result = self.compared(step, feed)
        except Uninitialised as reason:
            raise NotThisRun(f"first step: {reason}") from reason
        except NotThisRun:
            raise
        except NotCompiled as reason:
            self.found[key], self.settings[key] = reason, lambda: True
            raise
        self.found[key] = step
        self.settings[key] = self.unchanged(step) if isinstance(step, Step) else lambda: True
        return result

    def warn(self) -> None:
        if len(self.found) == MANY and "warned" not in vars(self):
            self.warned = True
            warnings.warn(
                f"a static program was fed with more than {MANY} signatures; the others are replayed, "
                "not compiled: pad the feeds to fewer sizes",
                UserWarning,
                stacklevel=5,
            )

    def record(self, feed: dict[str, Tensor]) -> Step:
        """The engine for feeds like this.  Raises: NotCompiled; Uninitialised."""
        around = Surroundings.of(self.function, (), self.parameters)
        for name, x in self.replay.tensors.items():
            around.names.setdefault(id(x), name)
        for optimizer in self.optimizers:
            _check_hooks(optimizer)
        try:
            recording = record_step(self.function, (feed,), {}, around=around)
            return Step(recording, torch.get_num_threads())
        except Uninitialised:
            raise
        except (UnsupportedError, NotImplementedError, ToolError) as reason:
            why = "; ".join([str(reason), *getattr(reason, "problems", [])])
            raise NotCompiled(why) from reason

    def lower(self, feed: dict[str, Tensor]) -> Lowered:
        """The program of branches and loops.  Raises: NotCompiled."""
        program, results = self.program, self.replay.block.results
        at = {name: Source(None, f"args[{i}]", name) for i, name in enumerate(feed)}
        used = read(self.replay.block)
        inputs = [
            (val, source if source.base is not None else at[str(source)])
            for val, source, _ in program.recorder.inputs if val.id in used
        ]  # fmt: skip
        root = Block(None, self.replay.block.nodes, [list(results)])
        part = Part(inputs, root, [v.sample for v in results], is_copied=True)
        try:
            return Lowered(part, tuple(feed.values()), {}, list(feed), torch.get_num_threads())
        except (UnsupportedError, NotImplementedError, ToolError) as reason:
            why = "; ".join([str(reason), *getattr(reason, "problems", [])])
            raise NotCompiled(why) from reason

    def compared(self, step: Step | Lowered, feed: dict[str, Tensor]) -> list[Any]:
        """The results of a first run that does what the replay does.  Raises: NotCompiled."""
        tape = Verifiable("static program", self.replay.block, self.state())
        try:
            return verified(
                tape,
                self.function,
                (feed,),
                {},
                lambda args, _: self.once(step, args[0]),  # type: ignore[arg-type]
            )
        except Rejected as reason:
            raise NotCompiled(f"the engine differs from the replay: {reason}") from reason

    def state(self) -> list[tuple[None, Source]]:
        """Every tensor that a run may change."""
        kept = [x for _, _, x in self.kept() if isinstance(x, Tensor)]
        return [(None, Source(x, "")) for x in [*self.parameters, *kept]]

    def kept(self) -> list[tuple[dict[str, Any], str, Any]]:
        """What the optimizers keep: ``(state of a parameter, key, value)``."""
        states = [s for o in self.optimizers for s in o.state.values()]
        return [(s, name, x) for s in states for name, x in s.items()]

    def unchanged(self, step: Step) -> Callable[[], bool]:
        """Whether what the step was made for is as it was: settings, state and hooks of optimizers."""
        around = Surroundings.of(self.function)
        fixed, optimizers = around.fixed_options(), self.optimizers
        members, kept, hooks = self.members(), self.kept(), list(map(_hooks, optimizers))
        tables = [(o.state, len(o.state), o.param_groups) for o in optimizers]

        def holds() -> bool:
            now = self.members()
            return (
                all(
                    o.state is s and len(s) == n and o.param_groups is g
                    for o, (s, n, g) in zip(optimizers, tables)
                )
                and len(now) == len(members)
                and all(map(operator.is_, now, members))
                and all(s.get(name) is x for s, name, x in kept if isinstance(x, Tensor))
                and list(map(_hooks, optimizers)) == hooks
                and around.fixed_options() == fixed
                and step.holds(step.recording.read_numbers(()))
            )

        return holds

    def members(self) -> list[Tensor]:
        """The parameters of the optimizers."""
        return [p for o in self.optimizers for g in o.param_groups for p in g["params"]]

    def lines(self) -> list[str]:
        """How each signature runs."""
        if self.always:
            return [f"replayed: {self.always}"]
        shown = []
        for key, step in self.found.items():
            sizes = ", ".join(str(list(shape)) for shape in key[2:])
            how = f"replayed: {step}" if isinstance(step, NotCompiled) else _described(step)
            shown.append(f"feed {sizes or 'nothing'}: {how}")
        return shown or ["replayed so far"]


def _described(step: Step | Lowered) -> str:
    if isinstance(step, Lowered):
        return f"compiled as {step}"
    recording = step.recording
    through = recording.aten_calls
    more = f"; through PyTorch: {', '.join(through)}" if through else ""
    return f"compiled ({len(recording.program.graph.nodes)} nodes){more}"


def _hooks(optimizer: Optimizer) -> tuple[Any, ...]:
    before, after = optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks
    return (*before.values(), *after.values())


def _check_hooks(optimizer: Optimizer) -> None:
    """Raises: NotCompiled for hooks that are not those of a clip, whose Python would not run."""
    for hook in _hooks(optimizer):
        if not isinstance(getattr(hook, "__self__", None), ClipHandle):
            raise NotCompiled(f"{type(optimizer).__name__} has hooks on its step")


def note(name: str, reason: NotCompiled, known: set[str]) -> None:
    """Log why runs are replayed, once for each reason."""
    text = str(reason)
    if text not in known:
        known.add(text)
        level = logging.WARNING if text.startswith("the engine differs") else logging.INFO
        _LOG.log(level, "%s: replayed, not compiled: %s", name, text)
