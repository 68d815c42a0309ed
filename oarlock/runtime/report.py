"""What a predictor is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from oarlock.runtime.session import Plan, Session


@dataclass(frozen=True)
class StepReport:
    """One step: its function, ops, where they come from, why it is slow, its time."""

    name: str
    ops: str
    origin: str
    slow: str | None
    ms: float | None


@dataclass(frozen=True)
class Report:
    """Sizes in bytes; ``live_bytes`` is the most that is alive at once: no arena can be smaller;
    ``in_place`` counts the values stored over an operand.

    ``arena_bytes`` and ``live_bytes`` are for ``dims``: those of the last call, else the smallest.
    """

    target: str
    compiler: str
    threads: int
    dims: dict[str, int]
    weight_bytes: int
    engine_bytes: int
    arena_bytes: int
    live_bytes: int
    in_place: int
    scratch_bytes: int
    nodes: tuple[StepReport, ...]

    @property
    def kernels(self) -> list[str]:
        """Names of the functions, in order."""
        return [node.name for node in self.nodes]

    @property
    def slow_paths(self) -> list[StepReport]:
        """Steps on a portable fall-back, with the reason."""
        return [node for node in self.nodes if node.slow]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data."""
        return {**asdict(self), "nodes": [asdict(node) for node in self.nodes]}

    def __str__(self) -> str:
        dims = ", ".join(f"{k}={v}" for k, v in self.dims.items())
        lines = [
            f"target {self.target}, {self.threads} threads, {self.compiler}",
            f"weights {self.weight_bytes:,} B, code {self.engine_bytes:,} B",
            f"arena {self.arena_bytes:,} B (live bound {self.live_bytes:,} B"
            f", {self.in_place} values in place), scratch {self.scratch_bytes:,} B a thread"
            + (f", at {dims}" if dims else ""),
            f"{len(self.nodes)} steps, {len(self.slow_paths)} on a slow path",
        ]
        return "\n".join(lines + [_row(node) for node in self.nodes])


def _row(node: StepReport) -> str:
    time = f"{node.ms:9.4f} ms  " if node.ms is not None else ""
    slow = f"  SLOW: {node.slow}" if node.slow else ""
    return f"  {time}{node.ops:<40.40}  {node.origin}{slow}".rstrip()


def describe(session: Session, plan: Plan, times_ns: Sequence[int] | None = None) -> Report:
    """The report of a session at the sizes of ``plan``."""
    layout = session.layout
    nodes = []
    for i, step in enumerate(layout.metadata["steps"]):
        ms = times_ns[i] / 1e6 if times_ns is not None else None
        ops = " + ".join(step["ops"])
        nodes.append(StepReport(step["name"], ops, step["origin"], step["slow"], ms))
    return Report(
        target=session.engine.target,
        compiler=layout.document["compiler"],
        threads=session.threads,
        dims=dict(plan.env),
        weight_bytes=session.engine.weights.nbytes,
        engine_bytes=session.engine.engine_bytes,
        arena_bytes=plan.arena_bytes,
        live_bytes=plan.live_bytes,
        in_place=sum("over" in (entry or ()) for entry in layout.metadata["buffers"]),
        scratch_bytes=plan.scratch_bytes,
        nodes=tuple(nodes),
    )
