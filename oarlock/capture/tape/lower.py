"""A tape to a Program: its calls are replayed on fake tensors, block by block.

Composites arrive whole, as in ``capture``; branches and loops become ``if_`` and ``while_``; numbers
become scalars, and sizes where they are used as such.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from oarlock.capture.arrays import to_numpy
from oarlock.capture.call import NARROWINGS, refuse
from oarlock.capture.lowering.attributes import Attributes, Names
from oarlock.capture.lowering.calls import without_form
from oarlock.capture.lowering.lists import Layouts
from oarlock.capture.lowering.ports import Inputs
from oarlock.capture.lowering.recorder import BlockRecorder, Refused
from oarlock.capture.lowering.replay import Lowering
from oarlock.capture.recorder import Narrowed
from oarlock.capture.torch_private import quiet_fakes
from oarlock.errors import UnsupportedError
from oarlock.ir import Dim, Program, Signature, State
from oarlock.ir.scope import bindings, graph_uses
from oarlock.ir.verify import verify


def lower(tape: Any, args: tuple, kwargs: dict[str, Any], names: Sequence[str] = ()) -> Program:
    """The program of a tape, for calls such as ``(*args, **kwargs)``.

    Args: names: of the positional arguments.
    Raises: UnsupportedError with the reasons why there is none.
    """
    return lower_with_weights(tape, args, kwargs, names)[0]


def lower_with_weights(
    tape: Any, args: tuple, kwargs: dict[str, Any], names: Sequence[str] = ()
) -> tuple[Program, dict[str, torch.Tensor]]:
    """The program, and the tensors that its params were read from, by key."""
    program, recorder, _ = lower_with_places(tape, args, kwargs, names)
    return program, recorder.weights


def lower_with_places(
    tape: Any, args: tuple, kwargs: dict[str, Any], names: Sequence[str] = ()
) -> tuple[Program, BlockRecorder, Attributes]:
    """The program, what has recorded it, and the attributes that are its state."""
    refuse(without_form(tape.root))
    ranges: dict[str, Dim] = {}
    layouts = Layouts()
    for _ in range(NARROWINGS):
        try:
            return _lower(tape, args, kwargs, names, ranges, layouts)
        except Narrowed as found:
            ranges[found.dim.name] = found.dim
        except UnsupportedError:
            if not layouts.again():
                raise
    raise UnsupportedError("the ranges of the dims become narrower without end:", list(ranges))


def _lower(
    tape: Any,
    args: tuple,
    kwargs: dict[str, Any],
    names: Sequence[str],
    ranges: Mapping[str, Dim],
    layouts: Layouts,
) -> tuple[Program, BlockRecorder, Attributes]:
    places = Names(getattr(tape, "objects", ()))
    recorder = BlockRecorder(_names(tape, places), layouts)
    recorder.is_strict = getattr(tape, "is_strict", False)
    low = Lowering(recorder)
    inputs = Inputs(recorder, tape, low.env.__setitem__, ranges)
    shown = [names[i] if i < len(names) else f"args.{i}" for i in range(len(args))]
    arg_trees = [inputs.tree(x, f"args[{i}]", n) for i, (x, n) in enumerate(zip(args, shown))]
    kwarg_trees = [(k, inputs.tree(x, f"kwargs[{k!r}]", k)) for k, x in kwargs.items()]
    changes = getattr(tape, "changes", None) or []
    attributes = Attributes(recorder, changes, places)
    inputs.bind_others(attributes)
    results, whole = low.results, ()
    with contextlib.suppress(Refused), quiet_fakes(), low.recording():
        whole = low.ends.ending(tape.root, tape.result)
    refuse(list(dict.fromkeys(recorder.problems)))
    try:
        tree = results.tree(whole, "result")
    except NotImplementedError as error:
        raise UnsupportedError("the result has no form in a program:", [str(error)]) from None
    refuse(list(dict.fromkeys([*recorder.problems, *recorder.shapes.refused()[0]])))
    try:
        states = recorder.states() | attributes.after(low.env, tape.root.results)
    except NotImplementedError as error:
        raise UnsupportedError("what calls leave in objects is no state:", [str(error)]) from None
    state = tuple(State(name, len(results.outputs) + i) for i, name in enumerate(states))
    graph = recorder.graph
    graph.outputs = [*results.outputs, *states.values()]
    signature = Signature(tuple(arg_trees), tuple(kwarg_trees), tree, tuple(inputs.names))
    params = {key: to_numpy(tensor) for key, tensor in recorder.weights.items()}
    params |= attributes.params
    low.notes += attributes.notes
    program = Program(graph, params, dict(recorder.shapes.dims), state, signature)
    for shown_, fake in inputs.fakes:
        if recorder.view(fake).memory.version:
            low.notes.append(f"input {shown_} is updated in place: the caller's stays as it is")
    if low.notes:
        program.meta["notes"] = list(dict.fromkeys(low.notes))
    return verify(_pruned(program)), recorder, attributes


def _pruned(program: Program) -> Program:
    """Without what nothing reads, and without the dims of it."""
    from oarlock.passes.dead_code import dead_code

    program = dead_code(program)
    used = graph_uses(program.graph) | set(bindings(program.graph))
    return program.replace(dims={k: d for k, d in program.dims.items() if k in used})


def _names(tape: Any, names: Names) -> dict[int, str]:
    """Names of the tensors that are read beside the arguments."""
    found: dict[int, str] = {}
    for _, source in tape.inputs:
        if source.base is not None:
            x = source.value()
            if isinstance(x, torch.Tensor):
                found[id(x)] = names.of(source)
    return found
