"""``to_static``: Python functions, methods, modules and training steps as static programs."""

from __future__ import annotations

import functools
import inspect
import logging
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from oarlock import knobs
from oarlock.capture.convert.calls import call_of
from oarlock.capture.convert.modules import converting_modules
from oarlock.capture.structure import map_tensors
from oarlock.capture.tape import reporting
from oarlock.capture.tape.active import Captured, active, is_plain
from oarlock.capture.tape.capturing import Tape, trace
from oarlock.capture.tape.foreign import is_scripted, original
from oarlock.capture.tape.garbage import rare_collections
from oarlock.capture.tape.lines import shown
from oarlock.capture.tape.optimizers import is_fresh, optimizers_of
from oarlock.capture.tape.race import slower
from oarlock.capture.tape.running import run
from oarlock.capture.tape.runtime import Respecialise
from oarlock.capture.tape.signatures import defaults_of, normaliser
from oarlock.capture.tape.specs import Specs, check_spec
from oarlock.capture.tape.varying import Plan, Varying, blamed
from oarlock.capture.tape.verify import Rejected, rehearsed, undone, verified
from oarlock.capture.tape.work import is_training, work
from oarlock.capture.torch_private import (
    is_transformed,
    without_saved_hooks,
    without_transforms,
)
from oarlock.errors import ArgumentError, ArgumentTypeError, DivergenceError, UnsupportedError
from oarlock.ir import Program

_LOG = logging.getLogger("oarlock")
_ENABLED = [True]
_ALWAYS = [False]  # OARLOCK_CHECK=all, as of the last capture
Run = Callable[[tuple, dict[str, Any]], Any]
MANY = 8  # specialisations: more hide a mistake
LIMIT = 64  # specialisations: beyond, what none of them serves runs as plain Python


def enable_to_static(on: bool = True) -> None:
    """The global switch: when off, every static function runs as plain Python.

    Raises: ArgumentTypeError for what is no bool.
    """
    if not isinstance(on, bool):
        raise ArgumentTypeError(f"enable_to_static: expected a bool, got {on!r}")
    _ENABLED[0] = on


class Declined(Exception):
    """Why a compiled executor does not serve a tape; nothing was done."""


class NotThisCall(Exception):
    """Why a compiled executor does not serve one call, which is replayed; nothing was done."""


class NewProgram(Exception):
    """A compiled executor has to make one more program for a call; nothing was done."""


@dataclass(frozen=True, eq=False)
class Replayed:
    """``fn`` by its tape."""

    fn: Callable[..., Any]
    tape: Tape

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return run(self.tape, args, kwargs)


class StaticFunction(Captured):
    """A function that is captured at its first call and replayed from then on.

    ``tiers``: makers of compiled executors, ``(static, tape, args, kwargs) -> executor``, that raise
    Declined.
    """

    tiers: tuple[Callable[..., Any], ...] = ()

    def __init__(self, fn: Callable[..., Any], owner: Any = None, **options: Any) -> None:
        self.given = (fn, (), {})
        if isinstance(fn, functools.partial) and options.get("input_spec") is None:
            self.given = taken_apart(fn)
        self.whole, self.fn, self.owner, self.options = fn, self.given[0], owner, options
        self.tapes: list[Tape] = []
        self.is_warm = False
        self.starts = 0  # calls after the first one in which an optimizer made its state
        self.captures = 0
        self.varying = Varying.of(owner)
        self.normal, self.defaults = normaliser(self.fn), defaults_of(self.fn)
        functools.update_wrapper(self, fn)
        self._methods: dict[int, tuple[Any, StaticFunction]] = {}

    @property
    def name(self) -> str:
        """Of the function, of the one in a partial, or of an object's class."""
        fn = self.fn
        while isinstance(fn, functools.partial):
            fn = fn.func
        return getattr(fn, "__qualname__", type(fn).__name__)

    def __reduce__(self) -> Any:
        """Copies and pickles capture anew, as what they hold is other objects."""
        return _made_again, (type(self), self.whole, self.owner, self.options)

    def __get__(self, instance: Any, cls: Any = None) -> Any:
        if instance is None:
            return self
        found = self._methods.get(id(instance))
        if found is None or found[0] is not instance:
            bound = self.fn.__get__(instance, cls)
            found = (instance, type(self)(bound, instance, **self.options))
            self._methods[id(instance)] = found
        return found[1]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self.called(args, kwargs)
        except Exception as error:
            origins = {tape.replay.__code__.co_filename: tape.origins for tape in self.tapes}
            raise shown(error, origins)  # noqa: B904

    def called(self, args: tuple, kwargs: dict[str, Any]) -> Any:
        args, kwargs = (*self.given[1], *args), {**self.given[2], **kwargs}
        if not _ENABLED[0] or is_plain():
            return self.fn(*args, **kwargs)
        tracer = active()
        if tracer is not None:  # part of another, or of itself
            return tracer.recursive.within(self.converted)(*args, **kwargs)
        defaults, known = defaults_of(self.fn), self.defaults
        if defaults[0] is not known[0] or defaults[1] is not known[1]:
            self.normal, self.defaults = normaliser(self.fn), defaults
        args, kwargs = self.normal(*args, **kwargs)
        if self.specs is not None:
            self.specs.sizes(args, kwargs)
        for tape in self.tapes:
            if tape.guard(args, kwargs):
                if (_ALWAYS[0] or not tape.is_verified) and not is_transformed():
                    return self.checked(tape, args, kwargs)
                return self.run(tape, args, kwargs)
        if len(self.tapes) >= LIMIT:
            return self.fn(*args, **kwargs)
        if is_transformed():
            return self.transformed(args, kwargs)
        if not self.is_warm:
            self.is_warm = True
            if is_fresh(optimizers_of([self.fn, *args, *kwargs.values()])):
                return self.started(args, kwargs)
        tape = self.specialise(args, kwargs)
        if tape.makes_state and self.starts < MANY:
            self.starts += 1
            self.tapes.remove(tape)
            return self.started(args, kwargs)
        return self.checked(tape, args, kwargs)

    def transformed(self, args: tuple, kwargs: dict[str, Any]) -> Any:
        """A call under torch.func, captured from tensors of its sizes; what the tape does not serve
        runs as plain Python.  The next call outside is compared with eager."""
        with without_transforms():
            given = map_tensors(
                (args, kwargs),
                lambda x: torch.zeros(x.shape, dtype=x.dtype, requires_grad=x.requires_grad),
            )
            tape = self.specialise(*given)
        if tape.guard(args, kwargs):
            return self.run(tape, args, kwargs)
        return self.fn(*args, **kwargs)

    def started(self, args: tuple, kwargs: dict[str, Any]) -> Any:
        """The call in which an optimizer makes its state: in eager mode; the next such call is
        captured and compared with eager now."""
        result = self.fn(*args, **kwargs)
        tape = None
        try:
            tape = self.specialise(args, kwargs)
            self.rehearse(tape, args, kwargs)
        except Exception as reason:  # the next call tells
            _LOG.info("%s: %s", self.name, reason)
            if tape in self.tapes:
                self.tapes.remove(tape)
        return result

    def rehearse(self, tape: Tape, args: tuple, kwargs: dict[str, Any]) -> None:
        """What ``checked`` does, put back.  Raises: DivergenceError; UnsupportedError."""
        if tape.makes_state:
            raise UnsupportedError("another optimizer makes its state at its first step")
        tape.is_tried = True
        self.compile(tape, args, kwargs)
        if knobs.CHECK.value == "off":
            tape.is_verified = True
            return
        run = functools.partial(self.run, tape)
        try:
            rehearsed(tape, self.fn, args, kwargs, run)
        except Rejected as reason:
            self.decline(tape, str(reason), logging.WARNING)
            rehearsed(tape, self.fn, args, kwargs, run)

    def checked(
        self, tape: Tape, args: tuple, kwargs: dict[str, Any], run: Run | None = None
    ) -> Any:
        """The first call of a tape: compiled, and compared with eager where that is not off."""
        run = run or functools.partial(self.run, tape)
        if not tape.is_tried:
            tape.is_tried = True
            self.compile(tape, args, kwargs)
        check = knobs.CHECK.value
        _ALWAYS[0] = check == "all"
        if check == "off":
            tape.is_verified = True
            return run(args, kwargs)
        is_new = not tape.is_verified
        result = self.verified(tape, args, kwargs, run)
        if is_new and tape.is_verified:
            self.race(tape, args, kwargs)
        return result

    def race(self, tape: Tape, args: tuple, kwargs: dict[str, Any]) -> None:
        """Leave out an executor that is slower than the replay, where runs change nothing."""
        executor = tape.executor
        if self.options.get("backend") == "compiled" or not getattr(executor, "is_pure", False):
            return
        try:
            why = slower(lambda: executor(args, kwargs), lambda: run(tape, args, kwargs))
        except Exception as error:  # this call is one that fails
            _LOG.debug("%s: not timed: %s", self.name, error)
            return
        if why:
            self.decline(tape, why, logging.INFO)

    def verified(self, tape: Tape, args: tuple, kwargs: dict[str, Any], run: Run) -> Any:
        """The static call, compared with eager.  Raises: DivergenceError."""
        try:
            return verified(tape, self.fn, args, kwargs, run)
        except Rejected as reason:
            self.decline(tape, str(reason), logging.WARNING)
        return verified(tape, self.fn, args, kwargs, run)

    def compile(self, tape: Tape, args: tuple, kwargs: dict[str, Any]) -> None:
        """Give the tape a compiled executor, or the reasons why it has none.

        Raises: UnsupportedError with ``backend="compiled"``.
        """
        reasons = []
        if type(self).tiers and self.options.get("backend") == "auto" and self.is_small(tape):
            return
        for tier in type(self).tiers:
            try:
                tape.executor = tier(self, tape, args, kwargs)
                return
            except Declined as reason:
                reasons += [str(reason)] if str(reason) else []
        if reasons:
            self.decline(tape, "; ".join(reasons), logging.INFO)

    def is_small(self, tape: Tape) -> bool:
        """An engine would not pay for its compilation: the tape is replayed."""
        done, least = work(tape.root), knobs.LEAST_WORK.value
        if done >= least or is_training(tape.root):
            return False
        self.decline(
            tape,
            f"a call makes about {done} multiplications, {least} would pay for compilation; "
            f"backend='compiled' compiles it",
            logging.DEBUG,
        )
        return True

    def decline(self, tape: Tape, reason: str, level: int) -> None:
        tape.executor, tape.reason = None, reason
        if self.options.get("backend") == "compiled":
            raise UnsupportedError(f"{self.name} cannot be compiled: {reason}")
        _LOG.log(level, "%s: replayed, not compiled: %s", self.name, reason)

    def report(self) -> str:
        """Each specialisation: its arguments (``?``: a size that calls may change), what was
        recorded, and the executor that runs it or why it is replayed."""
        return reporting.report(self.name, self.tapes, self.captures)

    def run(self, tape: Tape, args: tuple, kwargs: dict[str, Any]) -> Any:
        if not tape.has_checks:
            return self.attempt(tape, args, kwargs)
        state = torch.get_rng_state()
        try:
            return self.attempt(tape, args, kwargs)
        except Respecialise as failed:
            reason = str(failed)
        _LOG.info("%s: %s", self.name, reason)
        for other in [t for t in self.tapes if t is not tape and t.guard(args, kwargs)]:
            torch.set_rng_state(state)
            try:
                result = self.attempt(other, args, kwargs)
            except Respecialise:
                continue
            self.tapes = [other, *(t for t in self.tapes if t is not other)]
            return result
        torch.set_rng_state(state)
        return self.respecialised(tape, reason, args, kwargs)

    def attempt(self, tape: Tape, args: tuple, kwargs: dict[str, Any]) -> Any:
        """The call by its tape, compiled where it is.

        Raises: Respecialise, with nothing done.
        """
        reason = tape.foresight(args, kwargs) if tape.foresight is not None else ""
        if reason:
            raise Respecialise(reason)
        if tape.executor is not None:
            try:
                return tape.executor(args, kwargs)
            except NewProgram:
                return self.extended(tape, args, kwargs)
            except NotThisCall as why:
                _LOG.debug("%s: a call is replayed: %s", self.name, why)
            except Declined as why:
                self.decline(tape, str(why), logging.WARNING)
        with undone(tape, self.fn, args, kwargs) if reason is None else nullcontext():
            return run(tape, args, kwargs)

    def respecialised(self, tape: Tape, reason: str, args: tuple, kwargs: dict[str, Any]) -> Any:
        """A call that does not meet an assumption of its tape, by another tape: one that assumes
        less, or one for the sizes of this call.  Raises: UnsupportedError where none holds."""
        narrow = {k: v for k, v in tape.symbolic.items() if k not in blamed(tape, reason)}
        for symbolic in (tape.symbolic, narrow) if tape.symbolic else ():
            if len(self.tapes) >= LIMIT:
                return self.fn(*args, **kwargs)
            try:
                made = self.add(self.trace(args, kwargs, symbolic))
            except UnsupportedError as refusal:
                _LOG.info("%s: %s", self.name, refusal)
                continue
            try:
                result = self.first(made, args, kwargs)
            except Respecialise as again:
                reason = str(again)
                self.tapes.remove(made)
                continue
            if made.symbolic.keys() == tape.symbolic.keys() and made.assumed < tape.assumed:
                self.tapes = [t for t in self.tapes if t is not tape]
            return result
        raise UnsupportedError(
            f"{reason}: does not hold for this call; give the function an argument of its own for "
            f"what it decides on"
        ) from None

    def first(self, tape: Tape, args: tuple, kwargs: dict[str, Any]) -> Any:
        """The call that a tape was made for, compared with eager.  Raises: Respecialise where data
        refute what it assumes; DivergenceError."""
        failed: list[Respecialise] = []

        def attempt(args: tuple, kwargs: dict[str, Any]) -> Any:
            try:
                return self.attempt(tape, args, kwargs)
            except Respecialise as again:
                failed.append(again)
                raise

        try:
            return self.checked(tape, args, kwargs, attempt)
        except DivergenceError:
            if failed:
                raise failed[0] from None
            raise

    def extended(self, tape: Tape, args: tuple, kwargs: dict[str, Any]) -> Any:
        """A call for which one more program is made: compared with the replay, which does what eager
        does, as the first call has shown."""
        tape.is_verified = False
        try:
            return verified(
                tape, Replayed(self.fn, tape), args, kwargs, functools.partial(self.attempt, tape)
            )
        except Rejected as reason:
            self.decline(tape, str(reason), logging.WARNING)
        tape.is_verified = True
        return self.attempt(tape, args, kwargs)

    def specialise(self, args: tuple, kwargs: dict[str, Any]) -> Tape:
        """Capture a tape that serves a call: in place of one that differs in sizes and numbers only."""
        named = self.specs.symbolic(args, kwargs) if self.specs is not None else {}
        plan = self.varying.plan(self.tapes, args, kwargs, named)
        for symbolic in plan.choices[:-1]:
            try:
                made = self.trace(args, kwargs, symbolic, False)
            except UnsupportedError as reason:
                _LOG.info("%s: %s", self.name, reason)
                plan.refused.add(frozenset(symbolic))
                continue
            if not made.root.raises:  # else for these sizes; others may be right
                return self.placed(made, plan)
        try:
            return self.placed(self.trace(args, kwargs, plan.choices[-1]), plan)
        except UnsupportedError:
            if not plan.has_skipped:
                raise
        for tape, _ in plan.near:  # may not be plain: they may be free beside others
            tape.refused.clear()
        return self.specialise(args, kwargs)

    def placed(self, made: Tape, plan: Plan) -> Tape:
        """In place of the tapes that it serves for as well, or beside the others."""
        made.refused = plan.refused
        if made.is_narrow and plan.near:
            return self.add(made, len(self.tapes))  # those that serve it are asked before
        served = [] if made.root.raises else plan.served(made)
        if not served:
            return self.add(made)
        self.tapes[self.tapes.index(served[0])] = made
        self.tapes = [tape for tape in self.tapes if tape not in served]
        return made

    @functools.cached_property
    def specs(self) -> Specs | None:
        """What ``input_spec`` says."""
        given = self.options.get("input_spec")
        return Specs(self.fn, given) if given is not None else None

    def prepare(self) -> None:
        """Capture what ``input_spec`` describes, where no call has been captured."""
        if not self.tapes and self.specs is not None:
            self.specialise(*self.specs.examples())

    def trace(
        self, args: tuple, kwargs: dict[str, Any], symbolic: dict[Any, Any], lists_all: bool = True
    ) -> Tape:
        name = self.name
        with without_saved_hooks(), converting_modules(), rare_collections():
            tape = trace(
                self.converted, args, kwargs, roots=[self.fn], name=name, symbolic=symbolic,
                lists_all=lists_all,
            )  # fmt: skip
        tape.fn, tape.call = self.fn, detached((args, kwargs))
        self.captures += 1
        if self.specs is not None:
            named = self.specs.named(args, kwargs)
            tape.dims = {key: dim for key, dim in named.items() if key in tape.symbolic}
        return tape

    def add(self, tape: Tape, at: int = 0) -> Tape:
        self.tapes.insert(at, tape)
        if len(self.tapes) > 1:
            _LOG.info("%s: specialisation %d", self.name, len(self.tapes))
        if len(self.tapes) == MANY + 1:
            warnings.warn(
                f"{self.name} has more than {MANY} specialisations; pass what differs as "
                f"a tensor, or give a symbol in input_spec",
                UserWarning,
                stacklevel=4,
            )
        if len(self.tapes) == LIMIT:
            warnings.warn(
                f"{self.name} has {LIMIT} specialisations: other calls run as plain Python",
                UserWarning,
                stacklevel=4,
            )
        return tape

    @property
    def programs(self) -> Sequence[Program]:
        """The program of each specialisation, lowered when it is asked for: ``programs[0]`` raises
        UnsupportedError where there is none, DivergenceError where it does not agree with eager."""
        from oarlock.capture.tape.programs import Programs

        return Programs(self)

    @property
    def code(self) -> str:
        """The converted source, each line with the user's."""
        from oarlock.capture.convert import source_of

        return source_of(self.fn)

    def save(self, path: Any) -> None:
        """Write the program to an ``.oar`` file.  Raises: UnsupportedError; DivergenceError."""
        from oarlock.capture.tape.programs import save

        save(self, path)

    @functools.cached_property
    def converted(self) -> Callable[..., Any]:
        from oarlock.capture.convert import convert

        return convert(self.fn)


def taken_apart(fn: functools.partial[Any]) -> tuple[Callable[..., Any], tuple, dict[str, Any]]:
    """The function of a partial and what it gives, where calls may change that; else as it is."""
    given = (*fn.args, *fn.keywords.values())
    if any(isinstance(x, (list, dict, set)) for x in given):
        return fn.func, fn.args, fn.keywords
    return fn, (), {}


def detached(call: tuple[tuple, dict[str, Any]]) -> tuple[tuple, dict[str, Any]]:
    """The same values without the graphs that made them, which would stay in memory."""
    return map_tensors(call, lambda x: x.detach().requires_grad_(x.requires_grad))


def _made_again(
    kind: type[StaticFunction], fn: Callable[..., Any], owner: Any, options: dict[str, Any]
) -> StaticFunction:
    return kind(fn, owner, **options)


def to_static(obj: Any = None, *, input_spec: Any = None, backend: str = "auto") -> Any:
    """Convert a function, method, module or training step to a static program.

    Python control flow on tensors becomes part of the program; what a call gives, gradients and
    side effects included, is what plain Python gives.

    Args:
        obj: the callable; a module stays a module, with a static ``forward``.
        input_spec: an InputSpec or None for each argument, in a list or by name; a size that is a
            name, a Dim, None or -1 may differ between calls.  Calls that do not fit are refused.
        backend: "replay" makes the torch calls again; "compiled" runs Oarlock's engine, and raises
            where it can't; "auto" compiles what it can and replays the rest, see ``report()``.
    """
    if obj is None:
        return functools.partial(to_static, input_spec=input_spec, backend=backend)
    return made(StaticFunction, obj, input_spec=input_spec, backend=backend)


BACKENDS = ("auto", "compiled", "replay")


def made(kind: type[StaticFunction], obj: Any, **options: Any) -> Any:
    """The static function of a callable; a module gets a static ``forward``.

    Raises: ArgumentTypeError, ArgumentError for what is no such callable or option.
    """
    _check_options(**options)
    if isinstance(obj, (staticmethod, classmethod)):
        return type(obj)(made(kind, obj.__func__, **options))
    obj = original(obj)
    if isinstance(obj, torch.nn.Module) and not is_scripted(obj):
        obj.forward = kind(obj.forward, obj, **options)
        return obj
    _check_callable(obj)
    if not isinstance(obj, StaticFunction) and inspect.isfunction(call_of(type(obj))):
        obj = obj.__call__  # of an object, whose state belongs to the function
    if inspect.ismethod(obj):
        return kind(obj, obj.__self__, **options)
    return kind(obj, **options)


def _check_options(input_spec: Any = None, backend: str = "auto") -> None:
    if backend not in BACKENDS:
        raise ArgumentError(
            f"to_static: backend: expected one of {', '.join(BACKENDS)}, got {backend!r}"
        )
    check_spec(input_spec)


def _check_callable(obj: Any) -> None:
    if isinstance(obj, type):
        how = (
            f"decorate its forward, or make an instance first: to_static({obj.__name__}(...))"
            if issubclass(obj, torch.nn.Module)
            else "decorate its methods"
        )
        raise ArgumentTypeError(f"to_static: {obj.__name__} is a class; {how}")
    if isinstance(obj, property):
        raise ArgumentTypeError("to_static: got a property; put @property above @to_static")
    if is_scripted(obj):
        raise ArgumentTypeError(
            "to_static: got TorchScript; pass the Python function or module that it was made of"
        )
    if not callable(obj):
        raise ArgumentTypeError(
            f"to_static: expected a function, method, module or other callable, got "
            f"{type(obj).__name__}; options go by name: to_static(fn, input_spec=...)"
        )
