"""Runs of an engine on dense arrays: plans for fixed sizes, the arena, the pool, the state."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from oarlock.codegen.plan import plan as plan_buffers
from oarlock.errors import CompilerBug, InputError, ModelError, OarlockError
from oarlock.ir.dim import evaluate_size
from oarlock.runtime import arrays
from oarlock.runtime.engine import Engine
from oarlock.runtime.layout import Env, Layout
from oarlock.runtime.pool import Call, Pool, library

MAX_PLANS = 64
INDEX, DIM, STOPPED = 1, 2, 4  # ol status codes
_REASONS = {INDEX: "an index is out of range", DIM: "these sizes do not fit together"}


class Stopped(ModelError):
    """A run came to data that the program is not for, before anything of the caller was changed."""

    def __init__(self) -> None:
        super().__init__("RuntimeError", "data are other than what the program is for")


Shapes = tuple[tuple[int, ...], ...]


class Plan:
    """A call with fixed sizes: where the buffers are in the arena, the shapes of the outputs."""

    def __init__(self, layout: Layout, engine: Engine, env: Env, threads: int) -> None:
        self.env = env
        placed = plan_buffers(layout.metadata, env)
        self.offsets, self.arena_bytes = placed.offsets, placed.arena_bytes
        self.live_bytes = placed.live_bytes
        scratch = evaluate_size(layout.size(layout.metadata["scratch_bytes"]), env)
        self.scratch_bytes = -(-scratch // 64) * 64
        self.total_bytes = self.arena_bytes + self.scratch_bytes * threads
        self.dims = (ctypes.c_int64 * max(len(layout.dims), 1))(*(env[d] for d in layout.dims))
        self.pointers = (ctypes.c_void_p * max(len(self.offsets), 1))()
        self.outputs = [
            (p.buffer, p.type.concrete(env).shape, p.type.dtype.numpy) for p in layout.outputs
        ]
        self.call = Call(
            run=engine.run,
            buf=ctypes.addressof(self.pointers),
            weights=arrays.address(engine.weights),
            dims=ctypes.addressof(self.dims),
            scratch_bytes=self.scratch_bytes,
            last_step=len(layout.metadata["steps"]),
        )
        self.call_address = ctypes.addressof(self.call)
        self.stamp: object = None

    def place(self, arena: int, pool: int | None, stamp: object) -> None:
        """Point the buffers into the arena at this address."""
        for i, offset in enumerate(self.offsets):
            if offset is not None:
                self.pointers[i] = arena + offset
        self.call.scratch = arena + self.arena_bytes
        self.call.pool = pool
        self.stamp = stamp


class Session:
    """An engine with an arena, a pool and a state of its own; calls take turns.

    The arena is shared by all sizes and as large as the largest needs.
    """

    def __init__(self, engine: Engine, threads: int, pool: Pool | None = None) -> None:
        self.engine, self.layout, self.threads = engine, engine.layout, threads
        self.pool = pool or Pool(engine.pool, threads)
        self.plans: OrderedDict[tuple, Plan] = OrderedDict()
        self.last: Plan | None = None
        self._invoke = library(engine.pool).ol_invoke
        self._arena = arrays.aligned_empty(0)
        ports, hidden = self.layout.visible_inputs, {s.output for s in self.layout.state}
        self._inputs = [(p.buffer, p.type.dtype.bytes) for p in ports]
        self._hosts = {h["step"]: h for h in self.layout.metadata["host"]}
        self.visible = [i for i in range(len(self.layout.outputs)) if i not in hidden]
        self.state: dict[str, np.ndarray] = {}
        self.reset()
        self.renew()
        _sessions.add(self)

    def renew(self) -> None:
        """Forget what does not survive a fork: the lock's owner and the pool's workers."""
        self._lock = threading.Lock()
        self._stamp = object()

    def reset(self) -> None:
        """Set the state to that of the program."""
        self.state = {k: np.array(v) for k, v in self.engine.initial_state.items()}

    def plan(self, shapes: Shapes) -> Plan:
        """The plan for these shapes of the visible inputs.  Raises: InputError."""
        plan = self.plans.get(shapes)
        return self._add(shapes, self.layout.solve(shapes)) if plan is None else plan

    def plan_at(self, env: Env) -> Plan:
        """The plan for these sizes, others among them.  Raises: InputError."""
        key = tuple([env[name] for name in self.layout.dims])
        plan = self.plans.get(key)
        if plan is None:
            plan = self._add(key, {name: env[name] for name in self.layout.dims})
        return plan

    def smallest_plan(self) -> Plan:
        """A plan for the least sizes."""
        return Plan(self.layout, self.engine, self.layout.smallest(), self.threads)

    def _add(self, key: tuple, env: Env) -> Plan:
        self.layout.check_limits(env)
        plan = self.plans[key] = Plan(self.layout, self.engine, env, self.threads)
        while len(self.plans) > MAX_PLANS:
            self.plans.popitem(last=False)
        return plan

    def describe(self, plan: Plan | None = None, times_ns: Sequence[int] | None = None) -> Any:
        """The report at the sizes of ``plan``, else at the least."""
        from oarlock.runtime.report import describe

        return describe(self, plan or self.smallest_plan(), times_ns)

    def clone(self, threads: int) -> Session:
        """A session of the same engine."""
        return Session(self.engine, threads)

    def run(
        self, plan: Plan, inputs: Sequence[np.ndarray], out: Sequence[np.ndarray] | None = None
    ) -> list[np.ndarray]:
        """The visible outputs, newly allocated unless given.

        Args: inputs: dense arrays of the right types and shapes.
        Raises: InputError when the values do not fit, such as an index out of range.
        """
        with self._lock:
            inputs = self._set_inputs(plan, inputs)
            results = self._set_outputs(plan, out)
            if plan.stamp is not self._stamp:
                self._place(plan)
            status = self._run_steps(plan) if self._hosts else self._invoke(plan.call_address)
            if status:
                raise self._failure(plan, status)
            self.last = plan
            if not self.layout.state:
                return results
            self.state = {s.name: results[s.output] for s in self.layout.state}
            return [results[i] for i in self.visible]

    def call(self, plan: Plan) -> None:
        """Run on the memory that ``plan.pointers`` has for inputs and outputs, by buffer.

        The caller keeps that memory alive and lets others change it between calls only.
        Raises: InputError when the values do not fit, such as an index out of range.
        """
        with self._lock:
            if plan.stamp is not self._stamp:
                self._place(plan)
            status = self._run_steps(plan) if self._hosts else self._invoke(plan.call_address)
            if status:
                raise self._failure(plan, status)
            self.last = plan

    def _set_inputs(self, plan: Plan, inputs: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        """Point the input buffers at the arrays; what must stay alive during the run."""
        pointers, address = plan.pointers, arrays.address
        for x, (buffer, size) in zip(inputs, self._inputs):
            at = address(x if x.nbytes else arrays.NOTHING)
            if at % size:
                x = x.copy()
                at = address(x)
                inputs = (*inputs, x)
            pointers[buffer] = at
        for port in self.layout.state:
            pointers[self.layout.inputs[port.input].buffer] = address(self.state[port.name])
        return inputs

    def _set_outputs(self, plan: Plan, out: Sequence[np.ndarray] | None) -> list[np.ndarray]:
        pointers, address = plan.pointers, arrays.address
        given = dict(zip(self.visible, out)) if out is not None else None
        results = []
        for i, (buffer, shape, dtype) in enumerate(plan.outputs):
            result = given[i] if given and i in given else np.empty(shape, dtype)
            pointers[buffer] = address(result if result.nbytes else arrays.NOTHING)
            results.append(result)
        return results

    def _place(self, plan: Plan) -> None:
        if plan.total_bytes > self._arena.nbytes:
            self._arena = arrays.aligned_empty(plan.total_bytes)
            self._stamp = object()
        plan.place(arrays.address(self._arena), self.pool.handle, self._stamp)

    def _run_steps(self, plan: Plan) -> int:
        """Run from one step of the host to the next."""
        position, count = 0, len(self.layout.metadata["steps"])
        for step in [*sorted(self._hosts), count]:
            status = self._run_range(plan, position, step)
            if status:
                return status
            if step < count:
                self._run_host(plan, self._hosts[step])
            position = step + 1
        return 0

    def _run_range(self, plan: Plan, first: int, last: int) -> int:
        if first >= last:
            return 0
        call = plan.call
        call.first_step, call.last_step = first, last
        try:
            return self._invoke(plan.call_address)
        finally:
            call.first_step, call.last_step = 0, len(self.layout.metadata["steps"])

    def _run_host(self, plan: Plan, host: dict[str, Any]) -> None:
        from oarlock.ops.aten import call_aten

        inputs = [self._view(plan, entry) for entry in host["inputs"]]
        outputs = [self._view(plan, entry) for entry in host["outputs"]]
        call_aten(host["target"], host["template"], inputs, outputs)

    def _view(self, plan: Plan, entry: dict[str, Any]) -> tuple[np.ndarray, str]:
        """The array in a buffer, and its element type."""
        from oarlock.ir.types import DType

        dtype = DType.parse(entry["dtype"])
        shape = tuple(evaluate_size(self.layout.size(s), plan.env) for s in entry["shape"])
        size = int(np.prod(shape, dtype=np.int64)) * dtype.bytes
        start = plan.pointers[entry["buffer"]] or 0
        raw = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(start))
        return raw.view(dtype.numpy).reshape(shape), dtype.name

    def _failure(self, plan: Plan, status: int) -> OarlockError:
        """The error of a status; the steps are run one by one to find the one that gives it."""
        if status == STOPPED:
            return Stopped()
        steps = self.layout.metadata["steps"]
        for i, step in enumerate(steps):
            if i in self._hosts:
                self._run_host(plan, self._hosts[i])
            elif self._run_range(plan, i, i + 1):
                where = f"{' + '.join(step['ops'])}  {step['origin']}".strip()
                break
        else:
            where = "the program"
        if status in _REASONS:
            return InputError(f"{where}: {_REASONS[status]}; check the values of the inputs")
        return CompilerBug(f"{where}: the engine stopped with status {status}")

    def profile(self, plan: Plan, inputs: Sequence[np.ndarray], runs: int) -> list[int]:
        """The least time of every step over some runs, nanoseconds; the state stays as it is."""
        count = len(self.layout.metadata["steps"])
        slots = (ctypes.c_int64 * max(count, 1))()
        best: list[int] = []
        state = self.state
        for _ in range(runs):
            ctypes.memset(slots, 0, ctypes.sizeof(slots))
            plan.call.profile_ns = ctypes.addressof(slots)
            try:
                self.run(plan, inputs)
            finally:
                plan.call.profile_ns = None
                self.state = state
            times = list(slots)[:count]
            best = times if not best else [min(a, b) for a, b in zip(best, times)]
        return best


_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


def _renew_all() -> None:
    for session in list(_sessions):
        session.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
