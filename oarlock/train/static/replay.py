"""A pruned program as one Python function: its torch calls in order, the meaning of every run."""

from __future__ import annotations

import itertools
import linecache
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from oarlock.capture.tape.emit import Emitter
from oarlock.capture.tape.nodes import PLAIN, Block, Val, Where
from oarlock.capture.tape.runtime import NAMES, Respecialise
from oarlock.capture.torch_private import storage_of
from oarlock.errors import UserError
from oarlock.train.static.program import Program
from oarlock.train.static.prune import has_gradients, pruned, read, writes

_SERIAL = itertools.count(1)


@dataclass(frozen=True, eq=False)
class Replay:
    """``replay(feed) -> results``.  What is fed stays as it is.

    ``needed``: placeholders that it reads; ``changed``: those that it writes; ``tensors``: from
    outside, by name; ``function(feed, {})``: the code of ``source``.
    """

    block: Block
    needed: frozenset[str]
    changed: frozenset[str]
    tensors: dict[str, Tensor]
    differentiates: bool
    source: str
    function: Callable[..., list[Any]]
    origins: dict[int, Where]

    def __call__(self, feed: dict[str, Tensor]) -> list[Any]:
        feed = {name: x.clone() if name in self.changed else x for name, x in feed.items()}
        try:
            with torch.set_grad_enabled(self.differentiates):
                return self.function(feed, {})
        except Respecialise as error:
            raise UserError(f"the program holds for other sizes only: {error}") from None
        except BaseException as error:
            self._add_line(error)
            raise
        finally:
            NAMES["modes"].restore()

    def _add_line(self, error: BaseException) -> None:
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code is self.function.__code__ and hasattr(error, "add_note"):
                where = self.origins.get(trace.tb_lineno - 1)
                if where is not None:
                    error.add_note(f'  File "{where.file}", line {where.line}, in {where.name}')
            trace = trace.tb_next


def replay_of(program: Program, results: list[Val]) -> Replay:
    """The program pruned to ``results`` and lasting effects, as code."""
    recorder = program.recorder
    block = pruned(program.block, results, recorder)
    used, changed = read(block), writes(block, recorder)
    emitter = Emitter(PLAIN)
    names, tensors = [], {}
    for val, source, real in recorder.inputs:
        if val.id not in used:
            continue
        place = source.path if source.base is None else emitter.constant(source.base) + source.path
        emitter.line(f"v{val.id} = {place}")
        emitter.bind([val.id])
        if source.base is None:
            names.append(str(source))
        elif isinstance(real, Tensor):
            name = recorder.name_of_tensor(real) or f"tensor_{len(tensors)}"
            tensors[name if name not in tensors else f"{name}_{len(tensors)}"] = real
    emitter.block(block)
    emitter.switch(PLAIN)
    emitter.line(f"return [{', '.join(emitter.expr(v) for v in results)}]")
    file, header = f"<oarlock static program {next(_SERIAL)}>", "def replay(args, kwargs):"
    source = emitter.source(header)
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    with torch._C.DisableTorchFunction():
        written = {p.name for p in program.placeholders.values() if storage_of(p.value) in changed}
    return Replay(
        block, frozenset(names), frozenset(written), tensors, has_gradients(block), source,
        emitter.compile(header, "replay", file), dict(emitter.origins),
    )  # fmt: skip
