"""Call an engine: numpy in, numpy out; torch in, torch out."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from oarlock.errors import InputError, UserError
from oarlock.ir.archive import PathLike
from oarlock.ir.dim import evaluate_size
from oarlock.ir.graph import Program
from oarlock.ir.parser import parse_size
from oarlock.ir.signature import rebuild
from oarlock.ir.types import decode
from oarlock.runtime import arrays, engine
from oarlock.runtime.binding import SizeCheck, bind
from oarlock.runtime.layout import Env, Port
from oarlock.runtime.report import Report
from oarlock.runtime.session import Plan, Session
from oarlock.runtime.threads import thread_count

NAN_POLICIES = ("allow", "error")
PROFILE_RUNS = 10


class Predictor:
    """A program, ready to run.

    ``predictor(*inputs, **named)`` takes what the captured function took, or its tensors in order or
    by name, and returns what it returned, newly allocated.  Arrays are used in place where they are
    dense and of the right type, converted where no value changes (see ``runtime.arrays``), else
    refused.  Calls from several threads take turns; ``clone()`` gives each thread its own.

    Args: threads: default OARLOCK_THREADS, else the cores granted to the process; nan: "error"
    refuses NaN in inputs and outputs; seed: of a program that draws random numbers, 0 by default.
    Raises: UserError when the program cannot be compiled; ToolError; InvalidModel.
    """

    def __init__(
        self,
        program_or_path: Program | PathLike,
        *,
        threads: int | None = None,
        precision: str = "float32",
        target: str | None = None,
        nan: str = "allow",
        seed: int | None = None,
    ) -> None:
        if nan not in NAN_POLICIES:
            raise UserError(f"nan={nan!r}: expected one of {', '.join(NAN_POLICIES)}")
        count = thread_count(threads)
        options = {"target": target, "precision": precision}
        self._start(_session(program_or_path, options, count), count, nan, seed)

    def _start(self, session: Any, threads: int, nan: str, seed: int | None) -> None:
        self.threads, self.nan, self.seed = threads, nan, seed
        self._session = session
        self._sow()
        layout = session.layout
        self._inputs = layout.visible_inputs
        self._names = [p.name for p in self._inputs]
        self._dtypes = [p.type.dtype.numpy for p in self._inputs]
        hidden = {s.output for s in layout.state}
        self._outputs = [p for i, p in enumerate(layout.outputs) if i not in hidden]
        self._signature = layout.signature
        leaves = [{"leaf": i} for i in range(len(self._inputs))]
        takes_tensors = list(self._signature.args) == leaves and not self._signature.kwargs
        is_plain = not self._signature.args and not self._signature.kwargs
        self._is_fast = nan == "allow" and (takes_tensors or is_plain)
        one = len(self._outputs) == 1
        self._returns_tensor = one and self._signature.result in (None, {"leaf": 0})

    def __call__(self, *inputs: Any, out: Any = None, **named: Any) -> Any:
        """Run.

        Args: out: an array, or a list of one per output, that receives the results.
        Raises: InputError naming the input; the predictor works afterwards.
        """
        if self._is_fast and out is None:
            if named and not inputs:
                inputs, named = self._in_order(named)
            if not named and len(inputs) == len(self._dtypes):
                for x, dtype in zip(inputs, self._dtypes):
                    if (
                        type(x) is not np.ndarray
                        or x.dtype is not dtype
                        or not x.flags.c_contiguous
                    ):
                        break
                else:
                    plan = self._session.plans.get(tuple([x.shape for x in inputs]))
                    if plan is not None:
                        return self._structured(self._session.run(plan, inputs), plan.env)
                dense = arrays.dense_tensors(inputs, self._dtypes)
                plan = dense and self._session.plans.get(tuple([x.shape for x in dense]))
                if dense and plan:
                    results = self._session.run(plan, dense)
                    return self._structured(self._to_torch(results), plan.env)
        return self._call_any(inputs, named, out)

    def _in_order(self, named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Named inputs in order, when all are there and no other."""
        if len(named) != len(self._names) or not all(name in named for name in self._names):
            return (), named
        return tuple([named[name] for name in self._names]), {}

    def _structured(self, results: Sequence[Any], env: Env) -> Any:
        return results[0] if self._returns_tensor else self._rebuild(results, env)

    def _to_torch(self, results: Sequence[np.ndarray]) -> list[Any]:
        return [arrays.to_torch(x, p.type.dtype) for x, p in zip(results, self._outputs)]

    def _call_any(self, inputs: Sequence[Any], named: Mapping[str, Any], out: Any) -> Any:
        """A call with arguments of any kind."""
        leaves, sizes = bind(self._signature, self._names, inputs, named)
        dense, plan = self._prepare(leaves)
        self._check_sizes(sizes, plan.env)
        given = self._check_out(out, plan, dense) if out is not None else None
        results = self._session.run(plan, dense, given)
        if self.nan == "error":
            self._refuse_nan(self._outputs, results, "output")
        if out is not None:
            return out
        if any(map(arrays.is_torch, leaves)):
            results = self._to_torch(results)
        return self._rebuild(results, plan.env)

    def _prepare(self, leaves: Sequence[Any]) -> tuple[list[np.ndarray], Plan]:
        dense = [arrays.as_dense(x, p.type, p.name) for x, p in zip(leaves, self._inputs)]
        plan = self._session.plan(tuple([x.shape for x in dense]))
        if self.nan == "error":
            self._refuse_nan(self._inputs, dense, "input")
        return dense, plan

    def _refuse_nan(self, ports: Sequence[Port], found: Sequence[np.ndarray], kind: str) -> None:
        for port, array in zip(ports, found):
            if arrays.has_nan(array, port.type.dtype):
                count = int(np.isnan(decode(array, port.type.dtype)).sum())
                raise InputError(
                    f"{kind} {port.name!r}: {count} of {array.size} values are NaN; "
                    'pass nan="allow" to let them through',
                    port.name,
                )

    def _check_sizes(self, sizes: Sequence[SizeCheck], env: Env) -> None:
        for name, text, got in sizes:
            expected = self._size(text, env)
            if isinstance(got, bool) or got != expected:
                raise InputError(f"{name}: expected {expected} ({text}), got {got!r}", name)

    def _size(self, text: str, env: Env) -> int:
        return evaluate_size(parse_size(text, self._session.layout.dims), env)

    def _rebuild(self, results: Sequence[Any], env: Env) -> Any:
        return rebuild(self._signature.result, results, lambda text: self._size(text, env))

    def _check_out(self, out: Any, plan: Plan, dense: Sequence[np.ndarray]) -> list[np.ndarray]:
        given = list(out) if isinstance(out, (list, tuple)) else [out]
        if len(given) != len(self._outputs):
            raise InputError(f"out: expected {len(self._outputs)} arrays, got {len(given)}", "out")
        found = []
        places = (plan.outputs[i] for i in self._session.visible)
        for port, x, (_, shape, dtype) in zip(self._outputs, given, places):
            array = x.numpy() if arrays.is_torch(x) else x
            why = _why_unfit(array, dtype, shape, dense)
            if why:
                expected = port.type.concrete(plan.env)
                raise InputError(
                    f"out, {port.name!r}: expected a dense {expected}, got {why}", "out"
                )
            found.append(array)
        return found

    # Beside calls

    @property
    def state(self) -> dict[str, np.ndarray]:
        """A copy of the tensors carried from one call to the next, by name."""
        return {name: array.copy() for name, array in self._session.state.items()}

    def reset(self) -> None:
        """Set the state to that of the program, its random numbers to the first of the seed."""
        self._session.reset()
        self._sow()

    def _sow(self) -> None:
        """Raises: UserError for a seed that nothing uses."""
        if self.seed is None:
            return
        from oarlock.ops.random import GENERATOR, generator

        if GENERATOR not in self._session.state:
            raise UserError(f"seed={self.seed}: the program draws no random numbers")
        self._session.state[GENERATOR] = generator(operator.index(self.seed))

    def clone(self, *, seed: int | None = None) -> Predictor:
        """A predictor that shares weights and code, with an arena, threads and a fresh state.

        Args: seed: of its random numbers, by default that of this one.
        """
        other = object.__new__(type(self))
        session = self._session.clone(self.threads)
        other._start(session, self.threads, self.nan, self.seed if seed is None else seed)
        return other

    def report(self, profile: Mapping[str, Any] | Sequence[Any] | None = None) -> Report:
        """Kernels, slow paths, memory.

        Args: profile: inputs, by name or in order, to take the time of every step with.
        """
        session = self._session
        if profile is None:
            return session.describe(session.last)
        named = profile if isinstance(profile, Mapping) else {}
        inputs = () if named or isinstance(profile, Mapping) else _as_sequence(profile)
        leaves, sizes = bind(self._signature, self._names, inputs, named)
        dense, plan = self._prepare(leaves)
        self._check_sizes(sizes, plan.env)
        session.run(plan, dense)
        return session.describe(plan, session.profile(plan, dense, PROFILE_RUNS))

    def __reduce__(self) -> Any:
        raise UserError(
            "a Predictor holds code of this process and cannot be pickled; "
            "send the .oar file and load it there, or use clone() in threads"
        )

    def __repr__(self) -> str:
        inputs = ", ".join(f"{p.name}: {p.type}" for p in self._inputs)
        outputs = ", ".join(str(p.type) for p in self._outputs)
        return f"Predictor({inputs} -> {outputs}; {self._session.engine.target})"


def _session(source: Program | PathLike, options: dict[str, Any], threads: int) -> Any:
    """A session of an engine, or of an interpreter where one engine cannot run the program."""
    try:
        return Session(engine.build(source, **options), threads)
    except engine.HasSteps as found:
        from oarlock.runtime.interpreter import Compiled, Interpreter

        def build(program: Program) -> engine.Engine:
            return engine.build(program, **options)

        return Interpreter(Compiled(found.program, build, found.target), threads)


def _as_sequence(profile: Any) -> Sequence[Any]:
    return profile if isinstance(profile, (list, tuple)) else (profile,)


def _why_unfit(
    x: Any, dtype: np.dtype, shape: tuple[int, ...], inputs: Sequence[np.ndarray]
) -> str:
    """What makes ``x`` no place for an output; empty when it is one."""
    if not isinstance(x, np.ndarray):
        return f"a {type(x).__name__}"
    if x.dtype != dtype or x.shape != shape:
        return f"{x.dtype}{list(x.shape)}"
    if not (x.flags.c_contiguous and x.flags.aligned and x.flags.writeable):
        return "an array that is strided, unaligned or read-only"
    overlaps = any(np.may_share_memory(x, other) for other in inputs)
    return "an array that shares memory with an input" if overlaps else ""
