"""``Executor``: runs what is fetched of a program, compiled once for each fetch and feed signature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from oarlock.capture.tape.nodes import Val, leaves
from oarlock.capture.to_static import BACKENDS
from oarlock.errors import ArgumentError, ArgumentTypeError, UnsupportedError
from oarlock.train.static.engines import Engines, NotCompiled, NotThisRun, note
from oarlock.train.static.feeding import fed
from oarlock.train.static.program import Program, default_main_program
from oarlock.train.static.replay import Replay, replay_of


class Compiled:
    """What a fetch list needs of a program: the replay, and engines by signature of the feed."""

    def __init__(self, program: Program, results: list[Val], backend: str) -> None:
        self.program, self.backend = program, backend
        self.replay: Replay = replay_of(program, results)
        self.engines = Engines(program, self.replay)
        self.known: set[str] = set()

    def __call__(self, feed: dict[str, Tensor]) -> list[Any]:
        if self.backend == "replay":
            return self.replay(feed)
        try:
            return self.engines.run(feed)
        except NotCompiled as reason:
            if self.backend == "compiled" and not isinstance(reason, NotThisRun):
                raise UnsupportedError(f"the program cannot be compiled: {reason}") from None
            note("static program", reason, self.known)
        return self.replay(feed)

    def lines(self) -> list[str]:
        return ["replayed: backend='replay'"] if self.backend == "replay" else self.engines.lines()


class Executor:
    """Runs programs.  Parameters and optimizers keep what runs leave in them.

    Args:
        place: accepted for code that names a device; programs run where their tensors are.
        backend: "auto" compiles what can be and replays the torch calls of the rest, see
            ``report()``; "compiled" refuses the rest; "replay" compiles nothing.
    """

    def __init__(self, place: Any = None, *, backend: str = "auto") -> None:
        if backend not in BACKENDS:
            raise ArgumentError(f"backend: expected one of {', '.join(BACKENDS)}, got {backend!r}")
        self.place, self.backend = place, backend
        self.compiled: dict[tuple[Any, ...], Compiled] = {}
        self.fetched: dict[tuple[Any, ...], str] = {}

    def run(
        self,
        program: Program | None = None,
        feed: Mapping[str, Any] | None = None,
        fetch_list: Sequence[Any] | None = None,
        return_numpy: bool = True,
    ) -> list[Any]:
        """The values of ``fetch_list``, after all updates of the program were made.

        Args:
            feed: arrays by the names of placeholders; those that nothing fetched depends on may be
                left out.
            fetch_list: recorded values, names, parameters; gradients of ``append_backward``.
            return_numpy: arrays, else tensors; both are copies.
        Raises: InputError for a feed that does not fit; UserError for unknown values; both list all.
        """
        program = default_main_program() if program is None else program
        if hasattr(program, "predictor"):
            return program.run(feed or {}, fetch_list or program.fetch_names)  # type: ignore[attr-defined]
        if not isinstance(program, Program):
            raise ArgumentTypeError(f"run: expected a static.Program, got {type(program).__name__}")
        fetch = resolved(program, [] if fetch_list is None else fetch_list)
        compiled = self.compile(program, [x for x in fetch if isinstance(x, Val)])
        tensors = fed(program, feed or {}, set(compiled.replay.needed))
        results = iter(compiled(tensors))
        found = [next(results) if isinstance(x, Val) else x for x in fetch]
        return [_shown(x, return_numpy) for x in found]

    def compile(self, program: Program, results: list[Val]) -> Compiled:
        """The program pruned to ``results``, made at first use."""
        key = (id(program), len(program.block.nodes), *(v.id for v in results))
        if key not in self.compiled:
            self.compiled[key] = Compiled(program, results, self.backend)
            texts = {v.id: text for text, v in program.names.items()}
            self.fetched[key] = ", ".join(texts.get(v.id, f"%{v.id}") for v in results)
        return self.compiled[key]

    def report(self) -> str:
        """Each program and fetch list, and how each signature of its feed runs."""
        lines = []
        for key, compiled in self.compiled.items():
            lines.append(f"{compiled.program!r}, fetching {self.fetched[key] or 'nothing'}:")
            lines += [f"    {line}" for line in compiled.lines()]
        return "\n".join(lines)

    def close(self) -> None:
        """Forget what was compiled."""
        self.compiled.clear()
        self.fetched.clear()


def resolved(program: Program, fetch_list: Any) -> list[Any]:
    """Values to compute, and tensors to read.  Raises: UserError for unknown ones, all at once."""
    if isinstance(fetch_list, (str, Tensor)):
        fetch_list = [fetch_list]
    parameters = program.parameters()
    here = {id(x): x for x in parameters.values()}
    alive = {v.id for node in program.block.nodes for v in _made(node)}
    alive |= {v.id for v, _, _ in program.recorder.inputs}
    found: list[Any] = []
    problems = []
    for i, x in enumerate(fetch_list):
        val = program.val_of(x)
        if val is not None and val.id in alive:
            found.append(val)
        elif isinstance(x, str) and x in parameters:
            found.append(parameters[x])
        elif id(x) in here:
            found.append(x)
        else:
            problems.append(_unknown(program, i, x, val))
    if problems:
        names = [*program.placeholders, *program.names, *parameters]
        problems.append(f"names: {', '.join(names) or 'none'}")
        raise ArgumentError("\n  ".join(["cannot fetch:", *problems]))
    return found


def _unknown(program: Program, at: int, x: Any, val: Val | None) -> str:
    if isinstance(x, str):
        return f"fetch_list[{at}]: {x!r} is no name of this program"
    if val is not None and program.is_test:
        return f"fetch_list[{at}]: depends on gradients, which a test program leaves out"
    if val is not None:
        return f"fetch_list[{at}]: is computed inside of a branch or loop; return it from there"
    return f"fetch_list[{at}]: a {type(x).__name__} that is no value of this program"


def _made(node: Any) -> list[Val]:
    trees = (getattr(node, "outs", None), getattr(node, "params", None))
    return [v for v in leaves(trees) if isinstance(v, Val)]


def _shown(x: Any, as_numpy: bool) -> Any:
    if not isinstance(x, Tensor):
        return x
    x = x.detach()
    if not as_numpy:
        return x.clone()
    x = x.resolve_conj().resolve_neg()
    return (x.float() if x.dtype is torch.bfloat16 else x).cpu().numpy().copy()
