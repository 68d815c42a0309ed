"""``Executor``: runs what is fetched of a program, made once for each fetch."""

from __future__ import annotations

import itertools
import linecache
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from oarlock.capture.tape.emit import Emitter
from oarlock.capture.tape.nodes import PLAIN, Block, Val, Where, leaves
from oarlock.capture.tape.runtime import NAMES, Respecialise
from oarlock.capture.torch_private import storage_of
from oarlock.errors import ArgumentError, ArgumentTypeError, UserError
from oarlock.train.static.feeding import fed
from oarlock.train.static.program import Program, default_main_program
from oarlock.train.static.prune import has_gradients, pruned, read, writes

_SERIAL = itertools.count(1)


@dataclass(frozen=True)
class Compiled:
    """A pruned program as one Python function ``replay(feed, {}) -> results``.

    ``needed``: placeholders that it reads; ``changed``: those that it writes.
    """

    block: Block
    needed: frozenset[str]
    changed: frozenset[str]
    differentiates: bool
    source: str
    replay: Callable[..., list[Any]]
    origins: dict[int, Where]


class Executor:
    """Runs programs.  Parameters and optimizers keep what runs leave in them.

    Args: place: accepted for code that names a device; programs run where their tensors are.
    """

    def __init__(self, place: Any = None) -> None:
        self.place = place
        self.compiled: dict[tuple[Any, ...], tuple[Program, Compiled]] = {}

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
            return_numpy: arrays, else tensors.
        Raises: InputError for a feed that does not fit; UserError for unknown values; both list all.
        """
        program = default_main_program() if program is None else program
        if hasattr(program, "predictor"):
            return program.run(feed or {}, fetch_list or program.fetch_names)  # type: ignore[attr-defined]
        if not isinstance(program, Program):
            raise ArgumentTypeError(f"run: expected a static.Program, got {type(program).__name__}")
        fetch = resolved(program, fetch_list or [])
        compiled = self.compile(program, [x for x in fetch if isinstance(x, Val)])
        tensors = fed(program, feed or {}, set(compiled.needed))
        results = iter(call(compiled, tensors))
        found = [next(results) if isinstance(x, Val) else x for x in fetch]
        return [_shown(x, return_numpy) for x in found]

    def compile(self, program: Program, results: list[Val]) -> Compiled:
        """The program pruned to ``results``, made at first use."""
        key = (id(program), len(program.block.nodes), *(v.id for v in results))
        if key not in self.compiled:
            self.compiled[key] = (program, compile_block(program, results))
        return self.compiled[key][1]

    def close(self) -> None:
        """Forget what was compiled."""
        self.compiled.clear()


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


def compile_block(program: Program, results: list[Val]) -> Compiled:
    """Emit the pruned program."""
    recorder = program.recorder
    block = pruned(program.block, results, recorder)
    used, changed = read(block), writes(block, recorder)
    emitter = Emitter(PLAIN)
    names = []
    for val, source, _ in recorder.inputs:
        if val.id not in used:
            continue
        place = source.path if source.base is None else emitter.constant(source.base) + source.path
        emitter.line(f"v{val.id} = {place}")
        emitter.bind([val.id])
        names += [str(source)] * (source.base is None)
    emitter.block(block)
    emitter.switch(PLAIN)
    emitter.line(f"return [{', '.join(emitter.expr(v) for v in results)}]")
    file, header = f"<oarlock static program {next(_SERIAL)}>", "def replay(args, kwargs):"
    source = emitter.source(header)
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    with torch._C.DisableTorchFunction():
        written = {p.name for p in program.placeholders.values() if storage_of(p.value) in changed}
    return Compiled(
        block, frozenset(names), frozenset(written), has_gradients(block), source,
        emitter.compile(header, "replay", file), dict(emitter.origins),
    )  # fmt: skip


def call(compiled: Compiled, tensors: dict[str, Tensor]) -> list[Any]:
    """One run.  What was fed is left as it was."""
    tensors = {name: x.clone() if name in compiled.changed else x for name, x in tensors.items()}
    try:
        with torch.set_grad_enabled(compiled.differentiates):
            return compiled.replay(tensors, {})
    except Respecialise as error:
        raise UserError(f"the program holds for other sizes only: {error}") from None
    except BaseException as error:
        _add_line(compiled, error)
        raise
    finally:
        NAMES["modes"].restore()


def _add_line(compiled: Compiled, error: BaseException) -> None:
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code is compiled.replay.__code__ and hasattr(error, "add_note"):
            where = compiled.origins.get(trace.tb_lineno - 1)
            if where is not None:
                error.add_note(f'  File "{where.file}", line {where.line}, in {where.name}')
        trace = trace.tb_next


def _shown(x: Any, as_numpy: bool) -> Any:
    if not isinstance(x, Tensor):
        return x
    x = x.detach()
    if not as_numpy:
        return x
    x = x.resolve_conj().resolve_neg()
    return (x.float() if x.dtype is torch.bfloat16 else x).cpu().numpy().copy()
