"""Where a program parts from eager: the first call that gives something else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.utils._pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from oarlock.capture.arrays import dtype_of, to_numpy
from oarlock.capture.call import Recording
from oarlock.capture.recorder import Call, source_line
from oarlock.capture.structure import map_tensors
from oarlock.capture.torch_private import whole_composites
from oarlock.evaluate import evaluate_graph
from oarlock.ir import Value, decode

Key = tuple[str, str, int]  # overload, line, how many times this line has called it before
ROUNDINGS = 4096  # of the largest value; a mistake is rarely as small as rounding


class _Comparing(TorchDispatchMode):
    """Runs eager and compares every call with what the program gives for it."""

    def __init__(self, calls: Mapping[Key, Call], arrays: Mapping[Value, np.ndarray]) -> None:
        super().__init__()
        self.calls, self.arrays = calls, arrays
        self.seen: Counter[tuple[str, str]] = Counter()
        self.found = ""
        self.unknown = ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not self.found and func.namespace not in ("prim", "profiler"):
            where = (str(func), source_line())
            call = self.calls.get((*where, self.seen[where]))
            self.seen[where] += 1
            if call is None:
                self.unknown = self.unknown or f"{where[1]}: {where[0]}"
            else:
                self.found = self.compare(call, out)
        return out

    def compare(self, call: Call, out: Any) -> str:
        tensors = [x for x in pytree.tree_leaves(out) if isinstance(x, torch.Tensor)]
        for tensor, value in zip(tensors, call.values):
            if value not in self.arrays or tensor.is_complex():
                continue
            have, want = (
                decode(self.arrays[value], value.dtype),
                decode(to_numpy(tensor), dtype_of(tensor.dtype)),
            )
            why = _difference(have, want)
            if why:
                return f"it starts at {call.origin}, {call.name}: {why}"
        return ""


def _difference(have: np.ndarray, want: np.ndarray) -> str:
    if have.shape != want.shape:
        return f"eager gives {list(want.shape)}, the program {list(have.shape)}"
    finite = want[np.isfinite(want)]
    scale = float(np.abs(finite).max(initial=0.0)) if finite.dtype.kind == "f" else 0.0
    allowed = ROUNDINGS * 2.0**-23 * scale
    if np.allclose(have, want, rtol=0, atol=allowed, equal_nan=True):
        return ""
    error = float(np.nanmax(np.abs(have.astype(np.float64) - want.astype(np.float64))))
    return f"max abs error {error:.3e}"


def first_difference(
    recording: Recording, fn: Any, args: tuple, kwargs: dict[str, Any],
    env: Mapping[str, int], inputs: Sequence[np.ndarray],
) -> str:  # fmt: skip
    """The module, line and overload of the first call whose result differs."""
    calls: dict[Key, Call] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for call in recording.calls:
        where = (call.name, call.origin.source)
        calls[(*where, seen[where])] = call
        seen[where] += 1
    program = recording.program
    arrays: dict[Value, np.ndarray] = dict(zip(program.graph.inputs, inputs))

    def observe(node: Any, results: Sequence[np.ndarray]) -> None:
        arrays.update(zip(node.outputs, results))

    evaluate_graph(program.graph, program.params, env, inputs, observe)
    mode = _Comparing(calls, arrays)
    args, kwargs = map_tensors((args, kwargs), torch.Tensor.clone)
    with torch.no_grad(), whole_composites(), mode:
        fn(*args, **kwargs)
    if mode.found:
        return mode.found
    if mode.unknown:
        return f"eager takes another path than was captured from {mode.unknown}"
    node = program.graph.outputs[0].producer
    return f"every captured call agrees; the last is {node.origin if node else 'an input'}"
