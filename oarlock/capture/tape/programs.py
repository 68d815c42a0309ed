"""Programs of a static function: its tapes lowered, each compared with eager on the call it is from."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from oarlock.capture.arrays import to_numpy
from oarlock.capture.check import bound
from oarlock.capture.lowering.attributes import Place
from oarlock.capture.lowering.draws import eager_draws
from oarlock.capture.owners import Attributes, forget_stand_ins
from oarlock.capture.structure import fields_of, map_tensors
from oarlock.capture.tape.journal import content, put
from oarlock.capture.tape.lower import lower_with_places
from oarlock.capture.tape.queries import changes_list
from oarlock.errors import DivergenceError, ModelError, UnsupportedError
from oarlock.evaluate import evaluate, evaluate_graph, match_inputs, solve_dims
from oarlock.ir import DType, Program, Signature, decode
from oarlock.ir.signature import Tree
from oarlock.ops.random import GENERATOR, Draw


class Programs(Sequence[Program]):
    """The program of each specialisation, lowered and compared with eager when it is asked for.

    Raises: UnsupportedError where there is none; DivergenceError.
    """

    def __init__(self, static: Any) -> None:
        static.prepare()
        self.static, self.tapes = static, list(static.tapes)

    def __len__(self) -> int:
        return len(self.tapes)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [program_of(self.static, tape) for tape in self.tapes[index]]
        return program_of(self.static, self.tapes[index])

    def __repr__(self) -> str:
        return f"<{len(self)} programs of {_name(self.static)}>"


def program_of(static: Any, tape: Any) -> Program:
    """The program of one tape.  Raises: UnsupportedError; DivergenceError."""
    if (tape.has_effects and tape.changes is None) or changes_lists(tape):
        raise UnsupportedError(
            f"{_name(static)} has no program:",
            [
                "each call changes Python objects, which a program does not keep; keep what the next "
                "call needs in an attribute or a buffer"
            ],
        )
    args, kwargs = tape.call
    program, recorder, attributes = lower_with_places(tape, args, kwargs, _names(static))
    state = State(
        tape, recorder.weights, attributes.places, list(recorder.generators.outer.values())
    )
    check(program, static.fn, args, kwargs, state)
    return program


@dataclass
class State:
    """The state of a program as eager code has it, in weights and attributes."""

    tape: Any
    weights: Mapping[str, torch.Tensor]
    places: Mapping[str, Place]
    generators: Sequence[torch.Generator] = ()  # for which the program has its own

    def now(self, program: Program) -> list[Any]:
        """Copies, in the order of the program's state; None where a program keeps more."""
        return [self.value(s.name) for s in program.state]

    def value(self, name: str) -> Any:
        found = self.places[name].now() if name in self.places else self.weights[name]
        return found.detach().clone() if isinstance(found, torch.Tensor) else found

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Put back what objects hold."""
        before = [(x, content(x)) for x in self.tape.objects]
        try:
            yield
        finally:
            for obj, old in before:
                put(obj, old)


def changes_lists(tape: Any) -> bool:
    """Some call changes a list from outside of the function."""
    outer = {val.id for val, _ in tape.inputs if not isinstance(val.sample, torch.Tensor)}
    return any(changes_list(node) and node.args[0].id in outer for node in tape.root.walk())


def distinct(programs: Iterable[Program]) -> list[Program]:
    """Each program once."""
    found: list[Program] = []
    for program in programs:
        if not any(program == other and program.same_weights(other) for other in found):
            found.append(program)
    return found


def _name(static: Any) -> str:
    return static.name


def save(static: Any, path: Any) -> None:
    """Write the program of a function that has one.  Raises: UnsupportedError."""
    name, every = _name(static), Programs(static)
    every.tapes = [t for t in every.tapes if t.guard(*t.call)] or every.tapes
    if not every:
        raise UnsupportedError(
            f"{name} cannot be saved:", ["call it once first, or give input_spec"]
        )
    programs = distinct(every)
    if len(programs) > 1:
        why = f"it has {len(programs)} programs; save one of `programs`, or give symbols in input_spec"
        raise UnsupportedError(f"{name} cannot be saved:", [why])
    programs[0].save(path)


def check(
    program: Program, fn: Callable[..., Any], args: tuple, kwargs: dict[str, Any], state: State
) -> None:
    """Compare the program with eager on a call, which draws the same numbers.

    Raises: DivergenceError.
    """
    draws = any(isinstance(node.op, Draw) for node in program.graph.walk())
    values = [_array(x) for x in _inputs(program.signature, args, kwargs)]
    try:
        with eager_draws(state.generators) if draws else contextlib.nullcontext():
            expected, left = _eager(program, fn, args, kwargs, state)
    except Exception as error:
        _check_error(program, values, error)
        return
    try:
        got, after = _evaluated(program, values)
    except ModelError as error:
        if error.kind != "Respecialise":
            raise
        raise UnsupportedError(
            "the program is not for a call that was made:", [str(error)]
        ) from None
    wants, haves = list(_leaves(expected)), list(_leaves(got))
    if len(wants) != len(haves):
        raise DivergenceError(f"eager gives {len(wants)} values, the program {len(haves)}")
    coarse = _coarsest(program)
    for i, (want, have) in enumerate(zip(wants, haves)):
        _compare(f"result {i}", want, have, coarse)
    for entry, want, have in zip(program.state, left, after):
        if entry.name != GENERATOR:
            _compare(entry.name, want, have, coarse)


def _inputs(signature: Signature, args: tuple, kwargs: dict[str, Any]) -> list[Any]:
    """The tensors and numbers among the arguments that a program takes, in its order."""
    found: dict[int, Any] = {}
    for tree, x in (*zip(signature.args, args), *((t, kwargs[k]) for k, t in signature.kwargs)):
        _gather(tree, x, found)
    return [found[i] for i in sorted(found)]


def _gather(tree: Tree, x: Any, found: dict[int, Any]) -> None:
    if "leaf" in tree:
        found[tree["leaf"]] = x
    elif "record" in tree:
        held = dict(fields_of(x) or ())
        for key, inner in tree["fields"]:
            _gather(inner, held[key], found)
    elif "dict" in tree:
        for key, inner in tree["dict"]:
            _gather(inner, x[key], found)
    elif "const" not in tree:
        for inner, item in zip(*tree.values(), x):
            _gather(inner, item, found)


def _check_error(program: Program, values: Sequence[np.ndarray], error: Exception) -> None:
    """The program must fail where the code does.  Raises: DivergenceError."""
    try:
        evaluate(program, *values)
    except ModelError as found:
        if found.kind == type(error).__name__:
            return
        raise DivergenceError(
            f"eager raises {type(error).__name__}, the program {found}"
        ) from error
    raise DivergenceError(f"eager raises {type(error).__name__}: {error}; the program does not")


def _evaluated(program: Program, values: Sequence[np.ndarray]) -> tuple[Any, list[np.ndarray]]:
    """The structure that the program gives, and its state after the run."""
    arrays = match_inputs(program, values, {})
    env = solve_dims(program, arrays)
    outputs = evaluate_graph(program.graph, program.params, env, arrays)
    return evaluate(program, *values), [outputs[s.output] for s in program.state]


def _eager(
    program: Program, fn: Any, args: tuple, kwargs: dict[str, Any], state: State
) -> tuple[Any, list[Any]]:
    """What eager gives, and the state it leaves; all else stays as it was."""
    before = Attributes.of(fn)
    copies = map_tensors((args, kwargs), torch.Tensor.clone)
    tensors = {id(t): t for m, _ in before.held for t in [*m.parameters(), *m.buffers()]}
    tensors |= {id(t): t for t in state.weights.values()}
    kept = [(t, t.detach().clone()) for t in tensors.values()]
    try:
        with torch.no_grad(), state.kept():
            return fn(*copies[0], **copies[1]), state.now(program)
    finally:
        before.restore()
        forget_stand_ins(of_all=False)
        with torch.no_grad():
            for tensor, old in kept:
                tensor.data.copy_(old)


def _leaves(x: Any) -> Iterator[Any]:
    """Tensors, arrays and numbers of a structure, in order."""
    if isinstance(x, (torch.Tensor, np.ndarray, np.generic, bool, int, float)):
        yield x
    elif isinstance(x, Mapping):
        for item in x.values():
            yield from _leaves(item)
    elif isinstance(x, (tuple, list)):
        for item in x:
            yield from _leaves(item)
    elif x is not None and not isinstance(x, str):
        for _, item in fields_of(x) or ():
            yield from _leaves(item)


def _array(x: Any) -> np.ndarray:
    return to_numpy(x) if isinstance(x, torch.Tensor) else np.asarray(x)


def _coarsest(program: Program) -> DType:
    """The float type with the fewest bits in a program: a Python number may come from it."""
    values = (v for node in program.graph.walk() for v in node.outputs)
    found = {v.dtype.name for v in values if v.dtype.is_float}
    return DType.all[next((x for x in ("bf16", "f16", "f32") if x in found), "f64")]


def _compare(what: str, want: Any, have: Any, coarse: DType) -> None:
    is_bf16 = isinstance(want, torch.Tensor) and want.dtype is torch.bfloat16
    a, b = _array(want), _array(have)
    dtype = DType.all["bf16"] if is_bf16 else coarse if type(want) is float else DType.of(a.dtype)
    if a.shape != b.shape:
        raise DivergenceError(f"{what}: eager gives {list(a.shape)}, the program {list(b.shape)}")
    if type(want) is not float:
        a, b = decode(a, dtype), decode(b.astype(a.dtype, copy=False), dtype)
    allowed = bound(a, None, dtype)
    if not np.allclose(b, a, rtol=0, atol=allowed, equal_nan=True):
        error = float(np.nanmax(np.abs(b.astype(np.float64) - a.astype(np.float64))))
        raise DivergenceError(
            f"{what} differs from eager: max abs error {error:.3e}, expected at most {allowed:.3e}"
        )


def _names(static: Any) -> list[str]:
    """Names of the positional arguments."""
    fn = static.fn
    function = getattr(fn, "__func__", fn)
    code = getattr(function, "__code__", None)
    names = list(code.co_varnames[: code.co_argcount]) if code else []
    names = names[1:] if hasattr(fn, "__func__") else names
    given = static.specs.specs if static.specs is not None else {}
    return [getattr(given.get(name), "name", None) or name for name in names]
